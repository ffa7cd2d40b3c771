"""Peak memory of whole cases, with and without --max-memory.

    python workflows/benchmarks/memory.py --shape 256 256 200 --max-memory 1.5
    python workflows/benchmarks/memory.py --shape 512 512 600 --max-memory 6 --only disk

The T1 of the sample brain and its simulated PET are resampled to the shape and written as NIfTI;
then `medfuse fuse` runs on the files in a process of its own, once as it is and once with
--max-memory. "peak GB" is the largest resident set that the system saw (ru_maxrss), which counts
pages of files that are mapped; "of its own GB" is what cannot be written to disk instead (RssAnon,
sampled twenty times a second, on Linux); GB are 2**30 bytes, as for the option. The last line
names the files that differ between both, but for those that hold the command and the time.
Options that are not known here go to `medfuse fuse`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pipeline import on_shape

import medfuse
from medfuse.results.export import write_nifti

BRAIN = Path(__file__).resolve().parents[2] / "sample_data" / "study" / "simulated-brain"
NAMES = ("t1.nii.gz", "simulated-pet.nii.gz", "simulated-pet.json")
OWN = ("provenance.json", "provenance.prov.json", "manifest.json", "report.html")


def make_pair(shape: tuple[int, int, int], folder: Path) -> None:
    """Write both images of the sample brain with `shape` voxels over the same extent."""
    for name in NAMES[:2]:
        write_nifti(folder / name, *on_shape(medfuse.load(BRAIN / name), shape))
    (folder / NAMES[2]).write_bytes((BRAIN / NAMES[2]).read_bytes())


def measure(folder: Path, out: Path, options: list[str]) -> dict[str, float]:
    """Peaks and seconds of one `medfuse fuse`."""
    pair = [str(folder / name) for name in NAMES[:2]]
    command = [sys.executable, "-m", "medfuse.cli", "fuse", *pair, "-o", str(out), *options]
    start, own = time.perf_counter(), 0.0
    process = subprocess.Popen([*command, "--accept-suspect", "--json"], stdout=subprocess.DEVNULL)
    status = Path(f"/proc/{process.pid}/status")
    while True:
        done, code, usage = os.wait4(process.pid, os.WNOHANG)
        if done:
            break
        lines = status.read_text().splitlines() if status.exists() else []
        own = max([own, *(int(line.split()[1]) / 2**20 for line in lines if "RssAnon" in line)])
        time.sleep(0.05)
    if code:
        raise SystemExit(f"medfuse fuse ended with {os.waitstatus_to_exitcode(code)}")
    return {
        "seconds": time.perf_counter() - start,
        "processor s": usage.ru_utime + usage.ru_stime,
        "peak GB": usage.ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20),
        "of its own GB": own,
    }


def contents(folder: Path) -> dict[str, bytes]:
    """What two equal results have in common."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.name not in OWN)
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", type=int, nargs=3, default=(256, 256, 200))
    parser.add_argument("--max-memory", type=float, default=1.5, metavar="GB")
    parser.add_argument("--only", choices=("memory", "disk"), help="one of both runs")
    parser.add_argument("--folder", type=Path, help="work here, on a disk [default: temporary]")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options, more = parser.parse_known_args()
    rows: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        folder, found = Path(place), []
        make_pair(tuple(options.shape), folder)
        for name in ("memory", "disk"):
            if options.only in (None, name):
                chosen = ["--max-memory", str(options.max_memory)] if name == "disk" else []
                out = folder / name / "case"
                rows[name] = measure(folder, out, [*more, *chosen])
                found.append(contents(out))
    voxels = " x ".join(map(str, options.shape))
    print(f"| voxels | --max-memory | {' | '.join(next(iter(rows.values())))} |")
    for name, row in rows.items():
        limit = f"{options.max_memory:g}" if name == "disk" else "-"
        print(f"| {voxels} | {limit} | {' | '.join(f'{x:.2f}' for x in row.values())} |")
    if len(found) == 2:
        names = sorted({*found[0], *found[1]})
        differ = [name for name in names if found[0].get(name) != found[1].get(name)]
        print("differ:", ", ".join(differ) or f"none of {len(names)} files")
    if options.json:
        options.json.write_text(json.dumps({"shape": options.shape, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
