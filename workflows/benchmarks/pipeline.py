"""Seconds and peak memory by stage: the hybrid guide beside the paper's 17.26 M U-Net.

    python workflows/benchmarks/pipeline.py [--json bench.json] [--case sts001-pet-mr]

Every row runs in a process of its own, so that peak memory is its own. The volume is the T1 brain
of the sample study resampled to 256 x 256 x 180, with its simulated PET; a row is a guide and a
mode of medfuse.fuse. The last table times whole cases of the sample study, files in, report out.
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
from medfuse.imaging.grid import Grid, from_sitk, to_sitk
from medfuse.methods.base import get_method
from medfuse.methods.unet import UnetGuide
from medfuse.pipeline import CaseSettings, run_case
from medfuse.study import discover

ROOT = Path(__file__).resolve().parents[2]
STUDY = ROOT / "sample_data" / "study"
SHAPE = (256, 256, 180)
ROWS = ("swift, slices", "swift, volume", "swift+bf16, volume", "mean, slices", "unet-64, slices")
CASES = ("simulated-brain-pet-mr", "sts001-pet-mr")
STAGES = ("colour", "guide", "kernel", "picture", "audit")


def volumes() -> tuple[MetaTensor, MetaTensor]:
    """Brain MRI on a 256 x 256 x 180 grid, and its PET resampled onto it."""
    case = next(c for c in discover(STUDY).cases if "brain" in c.name)
    mri = medfuse.load(case.anatomical)
    grid = Grid.from_volume(mri)
    size = np.array(grid.shape) * np.array(grid.spacing)
    affine = np.array(grid.affine)
    affine[:3, :3] = affine[:3, :3] / grid.spacing * (size / SHAPE)
    reference = to_sitk(np.zeros(SHAPE, np.float32), affine)
    array, affine = from_sitk(sitk.Resample(to_sitk(np.asarray(mri)[0], grid.affine), reference))
    fixed = MetaTensor(array[None].astype(np.float32), affine=affine, meta=_facts(mri))
    pet = medfuse.load(case.functional)
    return fixed, medfuse.register(fixed=fixed, moving=pet, method="identity").resample(pet)


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


def whole_case(name: str) -> dict[str, float]:
    """One case of the sample study, DICOM or NIfTI in, report out, in this fresh process."""
    case = next(c for c in discover(STUDY).cases if c.name == name)
    with tempfile.TemporaryDirectory() as folder:
        result = run_case(
            case.anatomical,
            case.functional,
            Path(folder) / name,
            CaseSettings(**{"accept_suspect": True, **case.overrides}),
            case=name,
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


def show(title: str, rows: dict[str, dict[str, float]]) -> None:
    """Print a table of seconds."""
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    print(f"\n{title}")
    print(f"{'':24}" + "".join(f"{c:>12}" for c in columns))
    for name, row in rows.items():
        print(f"{name:24}" + "".join(f"{row.get(c, float('nan')):12.2f}" for c in columns))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--case", action="append", help="whole cases to time [brain, sts001]")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        kind, name = options.child
        found = measure(*name.split(", ")) if kind == "fuse" else whole_case(name)
        print(json.dumps(found))
        return
    fused = {row: child("fuse", row) for row in ROWS}
    show(f"Fusion of {SHAPE[0]} x {SHAPE[1]} x {SHAPE[2]}, seconds by stage", fused)
    ratio = fused["unet-64, slices"]["total"] / fused["swift, slices"]["total"]
    print(f"swift is {ratio:.1f} times faster than the 17.26 M U-Net in this run")
    cases = {name: child("case", name) for name in options.case or CASES}
    show("Whole cases, seconds by stage", cases)
    if options.json:
        options.json.write_text(
            json.dumps({"fusion": fused, "ratio": ratio, "cases": cases}, indent=2)
        )


if __name__ == "__main__":
    main()
