"""How long commands take as whole processes, beside what Python and PyTorch alone take.

    python workflows/benchmarks/startup.py [--runs 3] [--json OUT] [--no-cases]

Commands and baselines run in turn, so that a change of the machine's speed meets all of them. The
median of each is printed: seconds by the clock, seconds of processor, and peak memory in GiB, with
the ratio of the processor's seconds to the baseline. Modules are compiled before the counted runs,
as pip does, also where PYTHONDONTWRITEBYTECODE is set.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

STUDY = Path(__file__).resolve().parents[2] / "sample_data" / "study"
MEDFUSE = (sys.executable, "-m", "medfuse.cli")
BASES = {
    "python -c pass": (sys.executable, "-c", "pass"),
    "python -c 'import torch'": (sys.executable, "-c", "import torch"),
}
START = "all that `medfuse fuse` imports"


@dataclass(frozen=True)
class Run:
    """One process: seconds by the clock and of the processor, peak memory in GiB, exit code."""

    wall: float
    cpu: float
    peak_gib: float
    code: int


def commands(out: Path) -> dict[str, tuple[tuple[str, ...], str]]:
    """Command lines by name, each with the name of its baseline ("" for none)."""
    brain, thigh = STUDY / "simulated-brain", STUDY / "sts001"
    missing = str(out / "no-such-file.nii.gz")
    pair = (str(brain / "t1.nii.gz"), str(brain / "simulated-pet.nii.gz"))
    start = "from medfuse.kernel.cores import importing, keep_imported\n"
    start += "with importing(): import medfuse.case.early\n"
    start += "medfuse.case.early.import_the_rest(); keep_imported()"
    return {
        "medfuse --help": ((*MEDFUSE, "--help"), "python -c pass"),
        "medfuse fuse --help": ((*MEDFUSE, "fuse", "--help"), "python -c pass"),
        "medfuse info MISSING": ((*MEDFUSE, "info", missing), "python -c pass"),
        "medfuse fuse MISSING": (
            (*MEDFUSE, "fuse", pair[0], missing, "-o", str(out / "x")),
            "medfuse info MISSING",
        ),
        START: ((sys.executable, "-c", start), "python -c 'import torch'"),
        "medfuse fuse, brain": ((*MEDFUSE, "fuse", *pair, "-o", str(out / "brain")), ""),
        "medfuse fuse, STS_001": (
            (*MEDFUSE, "fuse", str(thigh / "mr-t2"), str(thigh / "pet-fdg"), "-o",
             str(out / "sts"), "--initial", str(thigh / "start.txt")),
            "",
        ),
    }  # fmt: skip


def measure(command: tuple[str, ...], compiled: str) -> Run:
    """Run one process to its end; the system says what it used."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment = kept | {"PYTHONPYCACHEPREFIX": compiled}
    begun = time.perf_counter()
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=quiet, stderr=quiet, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - begun
    scale = 1 if sys.platform == "darwin" else 1024
    cpu = usage.ru_utime + usage.ru_stime
    return Run(wall, cpu, usage.ru_maxrss * scale / 2**30, process.returncode)


def main() -> None:
    """Measure all commands in turn and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3, help="counted runs, after one that warms up")
    parser.add_argument("--json", type=Path, help="also write all runs to a file")
    parser.add_argument("--no-cases", action="store_true", help="start-up alone")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asked = commands(Path(folder))
        if options.no_cases:
            asked = {name: line for name, line in asked.items() if line[1]}
        lines = BASES | {name: line for name, (line, _) in asked.items()}
        runs: dict[str, list[Run]] = {name: [] for name in lines}
        for turn in range(options.runs + 1):
            for name, line in lines.items():
                run = measure(line, f"{folder}/compiled")
                if turn:  # the first run fills the caches of the disk
                    runs[name].append(run)
    print(f"{'process':36} {'clock s':>8} {'CPU s':>8} {'GiB':>6} {'ratio':>6}  exit code")
    for name, found in runs.items():
        base = asked[name][1] if name in asked else ""
        pairs = zip(found, runs[base], strict=True) if base else ()
        ratios = [own.cpu / other.cpu for own, other in pairs]
        print(
            f"{name:36} {_median(r.wall for r in found):8.2f} {_median(r.cpu for r in found):8.2f}"
            f" {_median(r.peak_gib for r in found):6.2f}"
            f" {f'{_median(ratios):6.2f}' if ratios else '      '}  {found[-1].code}"
            f"{f'   (beside {base})' if base else ''}"
        )
    if options.json:
        content = {name: [asdict(run) for run in found] for name, found in runs.items()}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _median(values: object) -> float:
    return statistics.median(values)  # type: ignore[call-overload, no-any-return]


if __name__ == "__main__":
    main()
