"""Time and memory of measuring 100 regions, beside a plain implementation of the same numbers.

The regions fill a brain-sized ellipsoid on a grid of 256 x 256 x 180 voxels of 1 mm; the
functional image lies turned to it. The plain way resamples each whole mask onto the functional
grid and asks scipy for mean, maximum and percentiles: no parts of voxels, no peak, no range.

    python workflows/benchmarks/measure.py --json measure.json
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from monai.data import MetaTensor

from medfuse.imaging.grid import Grid, to_sitk
from medfuse.measurement.measure import measure
from medfuse.measurement.nifti_regions import LabelFile, regions_of
from medfuse.registration import Registration
from medfuse.registration.expected import ExpectedError, Witness
from medfuse.registration.refine import itk_transform

SHAPE = (256, 256, 180)


def main() -> None:
    """Run the benchmark and print its rows."""
    options = _options()
    labels, affine = make_labels(options.regions)
    report: list[dict[str, Any]] = []
    begun = (time.perf_counter(), time.process_time())
    regions = regions_of(
        LabelFile(labels, Grid(SHAPE, affine), {}), "anatomical", name=None, where=""
    )
    _tell(report, "cut the label map", begun, regions=len(regions))
    registration = make_registration(affine)
    for step in options.voxels:
        pet = make_pet(step)
        mri = _tensor(np.ones(SHAPE, np.float32), affine, "a.u.", "MRI")
        begun = (time.perf_counter(), time.process_time())
        table = measure(pet, regions, anatomical=mri, registration=registration, share=mri)
        _tell(report, f"medfuse.measure, voxels of {step:g} mm", begun, regions=len(table))
        begun = (time.perf_counter(), time.process_time())
        plain(pet, labels, affine, registration, options.plain)
        _tell(report, f"plain, voxels of {step:g} mm", begun, regions=options.plain)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def make_labels(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Cells about random points in an ellipsoid of 1.9 l."""
    rng = np.random.default_rng(0)
    middle, half = np.array([128, 128, 90]), np.array([75, 95, 65])
    points = rng.uniform(-1, 1, (8 * count, 3))
    points = points[(points**2).sum(axis=1) < 1][:count] * half + middle
    labels, nearest = np.zeros(SHAPE, np.int32), np.full(SHAPE, np.inf, np.float32)
    axes = np.meshgrid(*[np.arange(n, dtype=np.float32) for n in SHAPE], indexing="ij", sparse=True)
    for label, point in enumerate(points, start=1):
        away = sum((a - np.float32(p)) ** 2 for a, p in zip(axes, point, strict=True))
        closer = away < nearest
        nearest[closer], labels[closer] = away[closer], label
    outside = sum(((a - m) / h) ** 2 for a, m, h in zip(axes, middle, half, strict=True)) > 1
    labels[np.broadcast_to(outside, SHAPE)] = 0
    affine = np.eye(4)
    affine[:3, 3] = -middle
    return labels, affine


def make_registration(affine: np.ndarray) -> Registration:
    """A turn of six degrees whose expected error is 4.6 mm."""
    matrix = np.eye(4)
    cos, sin = np.cos(0.1), np.sin(0.1)
    matrix[:2, :2], matrix[:3, 3] = [[cos, -sin], [sin, cos]], [3, 5, -4]
    other = matrix.copy()
    other[:3, 3] += 2
    expected = ExpectedError(matrix, (Witness("w", other),), 3.0, 1.0)
    return replace(Registration.given(matrix, Grid(SHAPE, affine)), expected=expected)


def make_pet(step: float) -> MetaTensor:
    """Noise on a grid of the same field of view."""
    shape = [int(n / step) for n in SHAPE]
    affine = np.diag([step, step, step, 1.0])
    affine[:3, 3] = -np.array(shape) * step / 2
    values = np.random.default_rng(1).random(shape, dtype=np.float32)
    return _tensor(values, affine, "SUVbw", "PET")


def plain(
    pet: MetaTensor, labels: np.ndarray, affine: np.ndarray, registration: Registration, count: int
) -> list[tuple[float, ...]]:
    """Numbers of `count` regions by resampling each mask, as a short script does it."""
    onto = to_sitk(pet.numpy()[0], pet.affine)
    values, found = pet.numpy()[0], []
    for label in range(1, count + 1):
        mask = to_sitk((labels == label).astype(np.uint8), affine)
        transform = itk_transform(registration.inverse)
        moved = sitk.Resample(mask, onto, transform, sitk.sitkNearestNeighbor, 0)
        inside = values[sitk.GetArrayViewFromImage(moved).transpose(2, 1, 0) > 0]
        found.append(
            (inside.max(), inside.mean(), inside.std(), *np.percentile(inside, [5, 50, 95]))
        )
    return found


def _tensor(values: np.ndarray, affine: np.ndarray, unit: str, modality: str) -> MetaTensor:
    meta = {"unit": unit, "modality": modality}
    return MetaTensor(torch.from_numpy(values[None]), affine=torch.from_numpy(affine), meta=meta)


def _tell(
    report: list[dict[str, Any]], what: str, begun: tuple[float, float], *, regions: int
) -> None:
    row = {
        "what": what,
        "regions": regions,
        "seconds": time.perf_counter() - begun[0],
        "processor_s": time.process_time() - begun[1],
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "threads": torch.get_num_threads(),
    }
    report.append(row)
    print(
        f"{what:36} {regions:4} regions {row['seconds']:6.2f} s, processor "
        f"{row['processor_s']:6.2f} s, "
        f"process at most {row['peak_gb']:.2f} GB",
        flush=True,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--regions", type=int, default=100)
    parser.add_argument("--voxels", type=float, nargs="+", default=[1.0, 2.0, 4.0], help="mm")
    parser.add_argument("--plain", type=int, default=10, help="regions of the plain way")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
