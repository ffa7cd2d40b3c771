"""Slices of registered CT and MR volumes as pictures: training data of the guide ``both-ctmr``.

    python workflows/ct_mr_slices.py --volumes DATA/volumes/sts-patients --out SLICES

Writes SLICES/sts/CT-MRI/train/{CT,MRI}/PERSONnnn.png: CT resampled to the grid of the MR by the
headers, each in the window that medfuse shows it in. A slice with less than half of its MR in the
CT's field of view, or without contrast, is left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image
from scipy.ndimage import affine_transform

from medfuse.imaging.windows import HU_WINDOW

AIR = -1000.0
_SEEN = 0.5  # share of a slice that both scanners saw
_CONTRAST = 8  # grey levels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--volumes", type=Path, required=True, help="a folder per person")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    root = options.out / "sts" / "CT-MRI" / "train"
    for folder in sorted(options.volumes.glob("STS_*")):
        person = folder.name.replace("_", "")
        for k, (ct, mr) in enumerate(slices(folder)):
            if min(np.ptp(ct), np.ptp(mr)) < _CONTRAST:
                continue
            for side, image in (("CT", ct), ("MRI", mr)):
                (root / side).mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(root / side / f"{person}{k:03d}.png")


def slices(folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """CT and MR of a person, 8 bit, axial slices that both saw."""
    hu, mr = on_one_grid(folder / "ct.nii.gz", folder / "mr-t1.nii.gz")
    low, high = _foreground_range(mr)
    images = (_grey(hu, *HU_WINDOW), _grey(mr, low, high))
    seen = np.isfinite(hu).mean(axis=(0, 1)) >= _SEEN
    return [(images[0][:, :, k].T, images[1][:, :, k].T) for k in np.flatnonzero(seen)]


def on_one_grid(ct: Path, mr: Path) -> tuple[np.ndarray, np.ndarray]:
    """HU and MR on the grid of the MR; HU are NaN where the CT did not look."""
    moving, fixed = (nibabel.as_closest_canonical(nibabel.load(path)) for path in (ct, mr))
    across = np.linalg.inv(moving.affine) @ fixed.affine
    hu = affine_transform(
        np.asarray(moving.dataobj, dtype=np.float32),
        across[:3, :3],
        across[:3, 3],
        output_shape=fixed.shape,
        order=1,
        cval=np.nan,
    )
    return hu, np.asarray(fixed.dataobj, dtype=np.float32)


def _grey(volume: np.ndarray, low: float, high: float) -> np.ndarray:
    filled = np.nan_to_num(volume, nan=AIR)
    return (255 * ((filled - low) / (high - low)).clip(0, 1)).round().astype(np.uint8)


def _foreground_range(values: np.ndarray) -> tuple[float, float]:
    """As medfuse.imaging.windows chooses the window of an MR image."""
    bottom, top = np.percentile(values, (0.1, 99.9))
    low, high = np.percentile(values[values > bottom + 0.05 * (top - bottom)], (0.5, 99.5))
    return float(low), float(high)


if __name__ == "__main__":
    main()
