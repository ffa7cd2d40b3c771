"""Train a guide on the pairs of a study, starting from the shipped weights. Copy and change.

    python workflows/train_in_domain.py STUDY -o my_guide.safetensors --minutes 30
    medfuse fuse t1.nii.gz pet_dicom/ -o fused --method my_guide.safetensors

Registers every case, shows the guide what it would see when fusing, and lets ``medfuse train`` do
the rest. The pictures stay in a temporary folder; the weights and their card hold no patient data.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from monai.data import MetaTensor
from PIL import Image
from torch import Tensor

from medfuse.errors import MedfuseError
from medfuse.fusion import fuse
from medfuse.imaging.export import to_bytes
from medfuse.imaging.grid import DisplayOrder, Grid
from medfuse.pipeline import CaseSettings, align, load_pair
from medfuse.study import Case, discover
from medfuse.training.loop import run_training

CONTRAST = 8  # of 255; slices with less in either image teach nothing
DIGITS = 3  # of the slice number at the end of names; what stands before is the case


def write_slices(case: Case, settings: CaseSettings, folder: Path) -> int:
    """Register a case and write both luminances slice by slice; returns the number of slices."""
    settings = settings.model_copy(update=case.overrides)
    anatomical, functional = load_pair(case.anatomical, case.functional, settings)
    on_grid = align(anatomical, functional, settings).resample(functional)
    # "mean" needs no network; what counts here is how windows and colours prepare both images.
    seen = fuse(functional=on_grid, anatomical=anatomical, method="mean")
    a, b = (slices(image, anatomical) for image in (seen.functional_luminance, seen.anatomical))
    kept = [k for k in range(len(a)) if min(np.ptp(a[k]), np.ptp(b[k])) >= CONTRAST]
    for name, images in (("a", a), ("b", b)):
        for k in kept:
            Image.fromarray(images[k]).save(folder / name / f"{case.name}{k:0{DIGITS}d}.png")
    return len(kept)


def slices(image: Tensor, grid: MetaTensor) -> np.ndarray:
    """(1, X, Y, Z) in [0, 1] -> (S, R, C) uint8 in display order."""
    order = DisplayOrder.from_grid(Grid.from_volume(grid))
    return np.ascontiguousarray(order.apply(to_bytes(np.asarray(image)[0])))


def main(arguments: list[str] | None = None) -> int:
    """Train on a study; returns the exit code."""
    options = _parse(arguments)
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for part in ("a", "b"):
                (folder / part).mkdir()
            for case in discover(options.study).cases:
                try:
                    count = write_slices(case, CaseSettings(preset=options.preset), folder)
                    print(f"{case.name}: {count} slices")
                except MedfuseError as error:
                    print(f"{case.name}: left out. {error}", file=sys.stderr)
            result = run_training(
                a=folder / "a",
                b=folder / "b",
                out=options.out,
                init=options.init,
                minutes=options.minutes,
                steps=options.steps,
                group_digits=DIGITS,  # hold out whole cases, not slices
                data_name=options.name,
                command="workflows/train_in_domain.py",
            )
    except MedfuseError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{result.steps} steps, loss {result.first_loss:.4f} -> {result.last_loss:.4f}")
    print(f"weights in {result.weights}, card in {result.card}")
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("study", type=Path, help="folder, BIDS data set, or CSV of cases")
    parser.add_argument("-o", "--out", type=Path, required=True, help=".safetensors to write")
    parser.add_argument("--init", default="swift-msrs", help="weights to start from")
    parser.add_argument("--name", default="own study", help="what the card calls the data")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--preset", choices=["fast", "default", "thorough"], default="default")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
