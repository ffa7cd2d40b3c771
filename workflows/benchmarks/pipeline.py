"""Seconds and peak memory by stage: the hybrid guide beside the paper's 17.26 M U-Net.

    python workflows/benchmarks/pipeline.py [--json bench.json] [--case sts001-pet-mr]
    python workflows/benchmarks/pipeline.py --against workflows/benchmarks/pipeline.json

Every row runs in a process of its own, so that peak memory is its own. The volume is the T1 brain
of the sample study resampled to 256 x 256 x 180, with its simulated PET; a row is a guide and a
mode of medfuse.fuse. Then whole cases, files in, report out: two of the sample study, and the
brain on that grid with registration preset fast. The last table is what a user waits for before
anything happens. `--against` sets the figures of an earlier release beside each of these.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from monai.data import MetaTensor

import medfuse
from medfuse.case.pipeline import CaseSettings, run_case
from medfuse.imaging.grid import Grid, from_sitk, to_sitk
from medfuse.imaging.windows import default_window
from medfuse.methods.registry import get_method
from medfuse.methods.unet import UnetGuide
from medfuse.results.export import write_nifti
from medfuse.study import discover

ROOT = Path(__file__).resolve().parents[2]
STUDY = ROOT / "sample_data" / "study"
SHAPE = (256, 256, 180)
ROWS = ("swift, slices", "swift, volume", "swift+bf16, volume", "mean, slices", "unet-64, slices")
PICTURES = ("auto", "swift", "mean")
LARGE = "brain-256x256x180-fast"
CASES = ("simulated-brain-pet-mr", "sts001-pet-mr", LARGE)
STARTS = {
    "python -c pass": ["-c", "pass"],
    "medfuse --help": ["-m", "medfuse.cli", "--help"],
    "import medfuse": ["-c", "import medfuse"],
    "import medfuse.batch": ["-c", "import medfuse.batch"],
    "import medfuse.case.pipeline": ["-c", "import medfuse.case.pipeline"],
}
Table = dict[str, dict[str, float]]
STAGES = ("colour", "guide", "kernel", "picture", "audit")


def volumes() -> tuple[MetaTensor, MetaTensor]:
    """Brain MRI on a 256 x 256 x 180 grid, and its PET resampled onto it."""
    case = next(c for c in discover(STUDY).cases if "brain" in c.name)
    mri = medfuse.load(case.anatomical)
    array, affine = on_shape(mri, SHAPE)
    fixed = MetaTensor(array[None], affine=affine, meta=_facts(mri))
    pet = medfuse.load(case.functional)
    return fixed, medfuse.register(fixed=fixed, moving=pet, method="identity").resample(pet)


def on_shape(volume: MetaTensor, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Values and affine with `shape` voxels over the same extent."""
    grid = Grid.from_volume(volume)
    affine = np.array(grid.affine)
    affine[:3, :3] *= np.array(grid.shape) / shape
    onto = to_sitk(np.zeros(shape, np.uint8), affine)
    image = to_sitk(np.asarray(volume, np.float32)[0], grid.affine)
    return from_sitk(sitk.Resample(image, onto))


def _facts(volume: MetaTensor) -> dict:
    """What is known of a volume but its place."""
    return {key: value for key, value in volume.meta.items() if key != "affine"}


class StageClock:
    """A progress callback that adds up seconds by stage."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.stage, self.since = "", time.perf_counter()

    def __call__(self, fraction: float, text: str) -> None:
        now = time.perf_counter()
        if self.stage in self.seconds:
            self.seconds[self.stage] += now - self.since
        self.stage, self.since = text, now


def measure(method: str, mode: str) -> dict[str, float]:
    """Stages of the best of three fusions and the peak of the process; the U-Net runs once."""
    guide = UnetGuide(base=64, seed=0) if method == "unet-64" else get_method(method)
    fixed, moving = volumes()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    runs = 1 if method == "unet-64" else 3
    best: dict[str, float] = {}
    for _ in range(runs):
        clock, cpu = StageClock(), time.process_time()
        medfuse.fuse(functional=moving, anatomical=fixed, method=guide, mode=mode, progress=clock)
        total = sum(clock.seconds.values())
        cpu = time.process_time() - cpu  # with OMP_NUM_THREADS=1 the figure of a busy machine
        if not best or cpu < best["cpu"]:
            best = {**clock.seconds, "total": total, "cpu": cpu}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {**best, "peak_gb": peak / 1e6, "before_gb": before / 1e6}


def measure_picture(method: str) -> dict[str, float]:
    """Processor milliseconds of one slice of 256 x 256 in the map glow, mean of ten."""
    fixed, moving = volumes()
    window = default_window(moving)
    pet = (moving.as_tensor()[..., 90] / window.high).clamp(0, 1)
    mri = fixed.as_tensor()[..., 90]
    mri = (mri / mri.max()).clamp(0, 1)
    found = {}
    for name, audit in (("with audit", True), ("without", False)):
        for count in (1, 10):  # the first warms up
            begun = time.process_time()
            for _ in range(count):
                medfuse.fuse(functional=pet, anatomical=mri, method=method, audit=audit)
            found[name] = 1000 * (time.process_time() - begun) / count
    return found


def whole_case(name: str) -> dict[str, float]:
    """One case of the sample study, DICOM or NIfTI in, report out, in this fresh process."""
    wanted = "simulated-brain-pet-mr" if name == LARGE else name
    case = next(c for c in discover(STUDY).cases if c.name == wanted)
    anatomical, chosen = case.anatomical, {"accept_suspect": True, **case.overrides}
    with tempfile.TemporaryDirectory() as folder:
        if name == LARGE:
            fixed = volumes()[0]
            anatomical, chosen["preset"] = Path(folder) / "t1.nii.gz", "fast"
            write_nifti(anatomical, np.asarray(fixed)[0], np.asarray(fixed.affine))
        result = run_case(
            anatomical, case.functional, Path(folder) / name, CaseSettings(**chosen), case=name
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {**result.timing, "total": result.seconds, "peak_gb": peak}


def child(kind: str, name: str) -> dict[str, float]:
    """Run one measurement in a process of its own."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, __file__, "--child", kind, name],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    answer = json.loads(done.stdout.splitlines()[-1])
    return {**answer, "process_s": time.perf_counter() - start}


def start(arguments: list[str]) -> dict[str, float]:
    """Best of five processes."""
    seconds = []
    for _ in range(5):
        begun = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - begun)
    return {"seconds": min(seconds)}


def show(title: str, rows: Table, earlier: Table) -> None:
    """Print a table of seconds, below every row that of an earlier release."""
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    print(f"\n{title}")
    print(f"{'':24}" + "".join(f"{c:>12}" for c in columns))
    for name, row in rows.items():
        for label, numbers in ((name, row), ("  earlier", earlier.get(name))):
            if numbers:
                cells = (f"{numbers.get(c, float('nan')):12.2f}" for c in columns)
                print(f"{label:24}" + "".join(cells))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--against", type=Path, help="figures of an earlier release")
    parser.add_argument("--case", action="append", help="whole cases to time [brain, sts001]")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        kind, name = options.child
        if kind == "fuse":
            print(json.dumps(measure(*name.split(", "))))
        else:
            print(json.dumps((whole_case if kind == "case" else measure_picture)(name)))
        return
    earlier = json.loads(options.against.read_text()) if options.against else {}
    fused = {row: child("fuse", row) for row in ROWS}
    title = f"Fusion of {SHAPE[0]} x {SHAPE[1]} x {SHAPE[2]}, seconds by stage"
    show(title, fused, earlier.get("fusion", {}))
    ratio = fused["unet-64, slices"]["total"] / fused["swift, slices"]["total"]
    print(f"swift is {ratio:.1f} times faster than the 17.26 M U-Net in this run")
    pictures = {name: child("picture", name) for name in PICTURES}
    show("One picture of 256 x 256, processor ms", pictures, earlier.get("pictures", {}))
    cases = {name: child("case", name) for name in options.case or CASES}
    show("Whole cases, seconds by stage", cases, earlier.get("cases", {}))
    starts = {name: start(arguments) for name, arguments in STARTS.items()}
    show("Before anything happens", starts, earlier.get("starts", {}))
    if options.json:
        found = {
            "fusion": fused,
            "ratio": ratio,
            "pictures": pictures,
            "cases": cases,
            "starts": starts,
        }
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
