"""Cases an hour, and plans of long studies.

    python workflows/benchmarks/studies.py [--json studies.json] [--copies 4] [--planned 100000]

First table: the brain of the sample study several times over, as a batch of 1 and of 2 workers and
on 2 Dask workers; the baseline is a plain loop of ``medfuse fuse`` commands in the same run. Peak
memory is the largest of any process. Second table: discovery of a BIDS data set of empty files,
its memory, and the size of the ledger. Nothing of medfuse is replaced: only the images are empty.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
BRAIN = ROOT / "sample_data" / "study" / "simulated-brain"
IMAGES = {"anat/{}_T1w": "t1", "pet/{}_pet": "simulated-pet"}
LEDGER_LINES = 2000

PLAN = """
import json, resource, sys, time
from pathlib import Path
from medfuse.study import discover
begun = time.perf_counter()
study = discover(Path(sys.argv[1]))
found = time.perf_counter()
listed = sum(1 for case in study.cases)
print(json.dumps({"cases": listed, "discover_s": found - begun,
    "list_s": time.perf_counter() - found,
    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def make_study(root: Path, subjects: int, *, empty: bool) -> None:
    """A BIDS data set of the sample brain, or of files without a byte."""
    for number in range(1, subjects + 1):
        subject = f"sub-{number:07d}"
        for name, image in IMAGES.items():
            path = root / subject / name.format(subject)
            path.parent.mkdir(parents=True)
            if empty:
                Path(f"{path}.nii.gz").touch()
                continue
            for suffix in (".nii.gz", ".json"):
                source = BRAIN / f"{image}{suffix}"
                if source.exists():
                    shutil.copy(source, f"{path}{suffix}")


class PeakMemory:
    """Largest resident memory of a process tree while a command runs, in MB."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self.one = self.all = 0.0
        self._thread = threading.Thread(target=self._look)

    def wait(self) -> float:
        """Return the seconds that it took."""
        begun = time.perf_counter()
        self._thread.start()
        code = self.process.wait()
        self._thread.join()
        if code:
            raise SystemExit(f"{self.process.args} ended with {code}")
        return time.perf_counter() - begun

    def _look(self) -> None:
        while self.process.poll() is None:
            sizes = []
            try:
                tree = psutil.Process(self.process.pid)
                for process in [tree, *tree.children(recursive=True)]:
                    sizes.append(process.memory_info().rss / 1e6)
            except psutil.Error:
                pass
            self.one = max([self.one, *sizes])
            self.all = max(self.all, sum(sizes))
            time.sleep(0.2)


def throughput(copies: int) -> list[dict[str, float | str]]:
    """Seconds, cases an hour and memory of each way to do the same study."""
    medfuse = [sys.executable, "-m", "medfuse.cli"]
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        make_study(root / "in", copies, empty=False)
        loop = " && ".join(
            f"{sys.executable} -m medfuse.cli fuse {s}/anat/{s.name}_T1w.nii.gz "
            f"{s}/pet/{s.name}_pet.nii.gz -o {root}/loop/{s.name}"
            for s in sorted((root / "in").iterdir())
        )
        batch = [*medfuse, "batch", "--study", str(root / "in")]
        ways = {
            "medfuse fuse, one after the other": ["sh", "-c", loop],
            "medfuse batch --workers 1": [*batch, "-o", f"{root}/one", "--workers", "1"],
            "medfuse batch --workers 2": [*batch, "-o", f"{root}/two", "--workers", "2"],
            "medfuse batch --cluster local --workers 2": [
                *(*batch, "-o", f"{root}/dask", "--cluster", "local", "--workers", "2")
            ],
        }
        rows: list[dict[str, float | str]] = []
        for way, command in ways.items():
            watched = PeakMemory(command)
            seconds = watched.wait()
            rows.append(
                {
                    "way": way,
                    "seconds": round(seconds, 1),
                    "cases_per_hour": round(3600 * copies / seconds),
                    "peak_mb_of_a_process": round(watched.one),
                    "peak_mb_of_all": round(watched.all),
                }
            )
        return rows


def planning(cases: int) -> dict[str, float]:
    """Find the cases of a long study; ledger bytes and time from a sample of real lines."""
    from medfuse.batch.ledger import Ledger, result_fields
    from medfuse.case import CaseResult

    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        make_study(root / "in", cases, empty=True)
        command = [sys.executable, "-c", PLAN, str(root / "in")]
        plan = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        result = CaseResult("sub-0000001", "done", verdict="pass", seconds=9.9, notes=("a note",))
        begun = time.perf_counter()
        with Ledger(root) as ledger:
            for _ in range(LEDGER_LINES):
                ledger.write({"event": "case-start", "case": result.case})
                ledger.write({"event": "case-end", **result_fields(result)})
        seconds = time.perf_counter() - begun
        size = (root / "batch.jsonl").stat().st_size
    return {
        "cases": plan["cases"],
        "discover_s": round(plan["discover_s"], 1),
        "list_s": round(plan["list_s"], 1),
        "peak_mb": round(plan["peak_mb"]),
        "ledger_mb": round(size / LEDGER_LINES * cases / 1e6, 1),
        "ledger_ms_a_case": round(1000 * seconds / LEDGER_LINES, 2),
    }


def table(rows: list[dict[str, float | str]] | list[dict[str, float]]) -> str:
    """Markdown."""
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([row[key] for key in head] for row in rows)]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--copies", type=int, default=4, help="cases of the throughput table")
    parser.add_argument("--planned", type=int, nargs="*", default=[1000, 100_000])
    options = parser.parse_args()
    found = {"throughput": throughput(options.copies) if options.copies else []}
    if found["throughput"]:
        print(table(found["throughput"]), end="\n\n")
    found["planning"] = [planning(cases) for cases in options.planned]
    if found["planning"]:
        print(table(found["planning"]))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
