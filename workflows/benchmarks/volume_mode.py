"""Slice mode beside volume mode on isotropic volumes: flicker, metrics, seconds, memory.

    python workflows/benchmarks/volume_mode.py [--json f.json] [--picture f.png]

Slice mode asks the guide slice by slice and blends each slice alone; volume mode averages the
guide over the three axes and blends in 3-D. Flicker is the root mean square of second differences
across slices, divided by that within slices, over the anatomical foreground: a volume that looks
alike from all sides has 1, ``mri`` is what the anatomy itself has, and ``pet`` is what the
functional image contributed. Metrics (profile
reference) are means over every fourth axial, coronal and sagittal slice. Every row runs in a
process of its own, so that peak memory is its own; seconds are processor time of one fusion.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor
from PIL import Image

import medfuse
from medfuse.evaluation.metrics import compute
from medfuse.fusion import FusionResult
from medfuse.imaging.grid import DisplayOrder, Grid
from medfuse.kernel.color import rgb_to_ycbcr

ROOT = Path(__file__).resolve().parents[2]
BRAIN = ROOT / "sample_data" / "study" / "simulated-brain"
TEMPLATES = ROOT.parent / "shared" / "data" / "volumes" / "mni-templates"
MODES = ("slices", "volume")
FOREGROUND = 0.05


def cases() -> dict[str, tuple[Path, Path, str]]:
    """Anatomical file, functional file and its modality; templates where they are at hand."""
    found = {"simulated brain, 1 mm": (BRAIN / "t1.nii.gz", BRAIN / "simulated-pet.nii.gz", "PET")}
    t1 = TEMPLATES / "spm-single-subject-t1.nii.gz"
    if t1.is_file():
        found["template PET, 2 mm"] = (t1, TEMPLATES / "spm-pet.nii.gz", "PET")
        found["template SPECT, 2 mm"] = (t1, TEMPLATES / "spm-spect.nii.gz", "SPECT")
    return found


def load_case(name: str) -> tuple[MetaTensor, MetaTensor]:
    """MRI, and PET or SPECT on its grid; the brain by its known alignment."""
    fixed_path, moving_path, modality = cases()[name]
    fixed = medfuse.load(fixed_path, modality="MRI")
    moving = medfuse.load(moving_path, modality=modality)
    initial = None
    if fixed_path.parent == BRAIN:
        truth = json.loads((ROOT / "sample_data" / "truth" / "simulated-brain.json").read_text())
        initial = np.array(truth["moving_from_fixed_ras_mm"])
    found = medfuse.register(fixed=fixed, moving=moving, method="identity", initial=initial)
    return fixed, found.resample(moving)


def slice_order(volume: MetaTensor, plane: str) -> DisplayOrder:
    grid = Grid.from_volume(volume)
    orders = [DisplayOrder.from_grid(grid, axis=axis) for axis in range(3)]
    return next(order for order in orders if order.plane == plane)


def flicker(volume: np.ndarray, inside: np.ndarray) -> float:
    """Second differences across slices (axis 0) by those within slices, inside a mask."""
    size = [
        np.sqrt(np.mean(np.diff(volume, n=2, axis=k)[np.take(inside, _inner(inside, k), k)] ** 2))
        for k in range(3)
    ]
    return float(size[0] / np.sqrt((size[1] ** 2 + size[2] ** 2) / 2))


def _inner(array: np.ndarray, axis: int) -> range:
    return range(1, array.shape[axis] - 1)


def measure(name: str, mode: str, method: str) -> dict[str, float]:
    """One row of the table."""
    mri, pet = load_case(name)
    start = time.process_time()
    result = medfuse.fuse(functional=pet, anatomical=mri, method=method, mode=mode)
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    row = {"cpu_s": seconds, "peak_gb": peak, **_flicker_of(result)}
    for plane in ("axial", "coronal", "sagittal"):
        row |= {f"{plane}_{key}": value for key, value in judge(result, plane).items()}
    return row


def _flicker_of(result: FusionResult) -> dict[str, float]:
    order = slice_order(result.anatomical, "axial")
    volumes = {
        "weights": result.weights,
        "pet": result.from_functional,
        "fused": rgb_to_ycbcr(torch.as_tensor(result.rgb)[None])[0, :1],
        "mri": result.anatomical,
    }
    planes = {key: np.asarray(order.apply(np.asarray(v)[0])) for key, v in volumes.items()}
    inside = planes["mri"] > FOREGROUND
    return {f"flicker_{key}": flicker(v, inside) for key, v in planes.items()}


def judge(result: FusionResult, plane: str) -> dict[str, float]:
    """Metrics of every fourth slice with anatomy, as seen in one plane."""
    order = slice_order(result.anatomical, plane)

    def slices(volume: torch.Tensor) -> torch.Tensor:
        shown = order.apply(np.asarray(volume)).swapaxes(0, 1)[::4]
        return torch.from_numpy(np.ascontiguousarray(shown))

    a, b = slices(result.functional_luminance), slices(result.anatomical)
    rgb = slices(result.rgb)
    full = ((b > FOREGROUND).float().mean(dim=(1, 2, 3)) > 0.2).nonzero()[:, 0]
    names = ["VIF", "Qabf", "uptake_correlation"]
    values = compute(a[full], b[full], rgb[full], profile="reference", only=names)
    return {key: float(value.nanmean()) for key, value in values.items()}


def child(*arguments: str) -> dict[str, float]:
    """Measure in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--child", *arguments],
        check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def picture(path: Path, method: str) -> None:
    """Sagittal weights and fused picture of the brain: slice mode left, volume mode right."""
    mri, pet = load_case(next(iter(cases())))
    order, rows = slice_order(mri, "sagittal"), []
    for mode in MODES:
        result = medfuse.fuse(functional=pet, anatomical=mri, method=method, mode=mode)
        weights, rgb = (order.apply(np.asarray(v)) for v in (result.weights, result.rgb))
        at = int(weights.shape[1] * 0.4)
        rows.append(np.concatenate([np.repeat(weights[:, at], 3, 0), rgb[:, at]], axis=1))
    image = np.concatenate(rows, axis=2).transpose(1, 2, 0)
    Image.fromarray((image * 255).round().astype(np.uint8)).save(path)


def show(table: dict[str, dict[str, dict[str, float]]]) -> None:
    """Print one Markdown table."""
    columns = [
        "cpu_s", "peak_gb", "flicker_weights", "flicker_pet", "flicker_fused", "flicker_mri",
        *(f"{p}_{m}" for m in ("VIF_A", "VIF_B", "Qabf", "uptake_correlation")
          for p in ("axial", "sagittal")),
    ]  # fmt: skip
    print("| volume, mode | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for case, rows in table.items():
        for mode, row in rows.items():
            print(f"| {case}, {mode} | " + " | ".join(f"{row[c]:.3f}" for c in columns) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--method", default="swift")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--picture", type=Path, help="write sagittal weights and colours here")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(*options.child)))
        return
    table = {c: {m: child(c, m, options.method) for m in MODES} for c in cases()}
    show(table)
    if options.json:
        options.json.write_text(json.dumps(table, indent=1) + "\n")
    if options.picture:
        picture(options.picture, options.method)


if __name__ == "__main__":
    main()
