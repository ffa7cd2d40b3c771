"""Cases an hour, and plans of long studies.

    python workflows/benchmarks/studies.py [--copies 4] [--planned 10000] [--reported 10000]

First table: the brain of the sample study several times over, as a batch of 1 and of 2 workers and
on 2 Dask workers; the baseline is a plain loop of ``medfuse fuse`` commands in the same run.
Efficiency is cases an hour for each worker, 1 for one worker; peak memory is the largest of any
process. Seconds of a stage are those of a case, from the provenance of its result. Second table:
discovery of a BIDS data set of empty files, its memory, and the size of the ledger. Third table:
tables, study.html and the rest beside a folder of results: links to one real result, each with a
table of regions of its own. Nothing of medfuse is replaced: only the images are empty.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import fmean

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

REPORTED = (
    *("manifest.json", "audit.json", "provenance.json", "transform.json", "report.html"),
    "figures/thumbnail.png",
)
#: What a batch writes beside its results, each by a process of its own.
PARTS = {
    "libraries": "lambda out: None",
    "summary.csv": "write_summary",
    "tables": "write_tables",
    "study.html": "write_study_report",
    "ro-crate": "write_crate",
}
REPORT = """
import json, resource, sys
from pathlib import Path
from medfuse.batch.crate import write_crate
from medfuse.batch.ledger import write_summary
from medfuse.batch.tables import write_tables
from medfuse.report.study import write_study_report
begun = resource.getrusage(resource.RUSAGE_SELF)
({part})(Path(sys.argv[1]))
ended = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({{"processor_s": round(ended.ru_utime + ended.ru_stime - begun.ru_utime
    - begun.ru_stime, 1), "peak_mb": round(ended.ru_maxrss / 1024)}}))
"""
REGIONS = 12
SHIFTED = ("volume_ml", "max", "mean", "sd", "peak", "mtv_ml", "tlg")


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
            f"medfuse batch {options}": (
                int(options[-1]), out, [*batch, "-o", f"{root}/{out}", *options.split()]
            )
            for out, options in (
                ("one", "--workers 1"),
                ("two", "--workers 2"),
                ("dask", "--cluster local --workers 2"),
            )
        }  # fmt: skip
        ways["medfuse fuse, one after the other"] = (1, "loop", ["sh", "-c", loop])
        rows: list[dict[str, float | str]] = []
        for way, (workers, out, command) in ways.items():
            watched = PeakMemory(command)
            seconds = watched.wait()
            one = float(rows[0]["seconds"]) if rows else seconds
            rows.append(
                {
                    "way": way,
                    "seconds": round(seconds, 1),
                    "cases_per_hour": round(3600 * copies / seconds),
                    "efficiency": round(one / seconds / workers, 2),
                    **stages(root / out),
                    "peak_mb_of_a_process": round(watched.one),
                    "peak_mb_of_all": round(watched.all),
                }
            )
        return rows


def stages(out: Path) -> dict[str, float | str]:
    """Mean seconds of a case by stage, from the ledger; a plain loop has none."""
    from medfuse.batch import read_ledger

    found = [event["timing"] for event in read_ledger(out) if event.get("status") == "done"]
    return {
        f"{stage}_s": round(fmean(t[stage] for t in found), 1) if found else "-"
        for stage in ("load", "register", "fuse", "write")
    }


def planning(cases: int) -> dict[str, float]:
    """Find the cases of a long study; ledger bytes and time from a sample of real lines."""
    from medfuse.batch.ledger import Ledger, result_fields
    from medfuse.settings import CaseResult

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


def reporting(cases: int) -> list[dict[str, float | str]]:
    """Processor seconds, memory and size of what lies beside the results of a study.

    Each case is a result folder: links to the files of a real one, and a table of its own with
    `REGIONS` regions; the ledger has its lines.
    """
    rows: list[dict[str, float | str]] = []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        fuse = [sys.executable, "-m", "medfuse.cli", "fuse", "--registration", "identity"]
        images = [str(BRAIN / f"{image}.nii.gz") for image in IMAGES.values()]
        subprocess.run(
            [*fuse, "--accept-suspect", "--method", "mean", *images, "-o", f"{root}/one"],
            check=True, capture_output=True,
        )  # fmt: skip
        make_results(root / "out", root / "one", cases)
        for part, call in PARTS.items():
            command = [sys.executable, "-c", REPORT.format(part=call), str(root / "out")]
            found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
            stem = "measurements.tsv" if part == "tables" else part
            files = [p for p in (root / "out").glob(f"{stem}*") if p.is_file()]
            size = sum(p.stat().st_size for p in files) / 1e6
            rows.append({"cases": cases, "part": part, **found, "file_mb": round(size, 1)})
    return rows


def make_results(out: Path, one: Path, cases: int) -> None:
    """A folder of results with tables of regions and a ledger, of links to a real result."""
    import numpy as np

    from medfuse.batch.ledger import Ledger, result_fields
    from medfuse.measurement.table import RegionTable, Row
    from medfuse.settings import CaseResult

    random = np.random.default_rng(0)
    out.mkdir()
    RegionTable(()).write(one / "measurements.tsv")
    with Ledger(out) as ledger:
        for number in range(cases):
            folder = out / f"sub-{number:07d}"
            (folder / "figures").mkdir(parents=True)
            for file in (*REPORTED, "measurements.json"):
                os.link(one / file, folder / file)
            values = random.lognormal(1.0, 0.3, (REGIONS, len(SHIFTED)))
            rows = tuple(
                Row(region=f"region {n}", unit="SUVbw", **dict(zip(SHIFTED, line, strict=True)))
                for n, line in enumerate(values.tolist())
            )
            text = RegionTable(rows).to_tsv()
            (folder / "measurements.tsv").write_text(text, encoding="utf-8")
            result = CaseResult(folder.name, "done", folder, verdict="pass", seconds=9.9)
            ledger.write({"event": "case-end", **result_fields(result)})


def table(rows: list[dict[str, float | str]] | list[dict[str, float]]) -> str:
    """Markdown."""
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([row[key] for key in head] for row in rows)]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--copies", type=int, default=4, help="cases of the throughput table")
    parser.add_argument("--planned", type=int, nargs="*", default=[1000, 10_000])
    parser.add_argument("--reported", type=int, nargs="*", default=[1000, 10_000])
    options = parser.parse_args()
    found = {"throughput": throughput(options.copies) if options.copies else []}
    if found["throughput"]:
        print(table(found["throughput"]), end="\n\n")
    found["planning"] = [planning(cases) for cases in options.planned]
    if found["planning"]:
        print(table(found["planning"]), end="\n\n")
    found["reporting"] = [row for cases in options.reported for row in reporting(cases)]
    if found["reporting"]:
        print(table(found["reporting"]))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
