"""What `medfuse audit` says of pictures that other tools, or vandals, make of the sample study.

    python workflows/benchmarks/foreign_pictures.py

Prints the table of docs/audit.md: the PET and the CT of STS_001 (SUV 0 to 6), fused in ten ways.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from scipy.ndimage import gaussian_filter

import medfuse
from medfuse.imaging.windows import apply_window, default_window
from medfuse.results.export import write_nifti
from medfuse.verification.foreign import Options, audit_picture

STUDY = Path(__file__).resolve().parents[2] / "sample_data" / "study" / "sts001-aligned"
WINDOW = (0.0, 6.0)


def pictures(pet: np.ndarray, grey: np.ndarray, own: np.ndarray, spacing: np.ndarray) -> dict:
    """Fused pictures (3, X, Y, Z) or (1, X, Y, Z) in [0, 1] by what was done; True: of ours."""
    uptake = np.clip(pet / WINDOW[1], 0, 1)
    hot, jet = (np.moveaxis(colormaps[name](uptake)[..., :3], -1, 0) for name in ("hot", "jet"))
    overlay = 0.5 * grey + 0.5 * hot

    def distance(place: tuple[int, ...]) -> np.ndarray:
        axes = [(np.arange(n) - p) * mm for n, p, mm in zip(pet.shape, place, spacing, strict=True)]
        return np.sqrt(sum(np.square(a) for a in np.meshgrid(*axes, indexing="ij")))

    lesion = distance(np.unravel_index(pet.argmax(), pet.shape))
    erased = own.copy()
    erased[:, lesion < 12] = np.median(own[:, (lesion > 16) & (lesion < 22)], axis=1)[:, None]
    spot = 0.35 * np.exp(-np.square(distance((100, 60, 20))) / (2 * 8**2))
    sharp = 2 * own - gaussian_filter(own, (0, 1.5, 1.5, 0))
    return {
        "half CT, half PET in `hot` (matplotlib)": (overlay, False),
        "PET in `jet` above SUV 0.6": (
            np.where(uptake > 0.1, 0.4 * grey + 0.6 * jet, grey.repeat(3, axis=0)), False
        ),
        "mirrored": (overlay[:, ::-1], False),
        "shifted by 3 voxels": (np.roll(overlay, 3, axis=1), False),
        "hottest lesion replaced by its surround": (erased, True),
        "a bright spot painted in": (own + spot, True),
        "sharpened": (sharp, True),
        "grey, 60 % CT and 40 % PET": (0.6 * grey + 0.4 * uptake, False),
        "the CT alone": (grey, False),
    }  # fmt: skip


PET = {"functional_modality": "PET", "functional_unit": "SUVbw", "window": WINDOW}


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    ct, pet = medfuse.load(STUDY / "ct.nii.gz"), medfuse.load(STUDY / "pet-suv-dicom")
    pet = medfuse.register(fixed=ct, moving=pet, method="identity").resample(pet)
    fused = medfuse.fuse(functional=pet, anatomical=ct, window=WINDOW)
    grey = np.asarray(apply_window(ct, default_window(ct)))
    affine = np.asarray(ct.affine)
    made = pictures(
        np.asarray(pet)[0], grey, np.asarray(fused.rgb), np.linalg.norm(affine[:3, :3], axis=0)
    )
    stated = Options.of(**PET)
    ours = Options.of(**PET, colormap=fused.colormap)
    print("| picture | verdict | by |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [folder / "ct.nii.gz", folder / "pet.nii.gz"]
        for path, volume in zip(paths, (ct, pet), strict=True):
            write_nifti(path, np.asarray(volume)[0], affine)
        made = {"medfuse's own, with its colour map": (np.asarray(fused.rgb), True), **made}
        for text, (picture, is_ours) in made.items():
            values = np.clip(picture, 0, 1).astype(np.float32)
            path = folder / "fused.nii.gz"
            write_nifti(path, values if len(values) == 3 else values[0], affine)
            audit = audit_picture(*paths, path, ours if is_ours else stated).audit
            by = ", ".join(f"`{c.id}` {c.value:.3g}" for c in audit.checks if c.verdict != "pass")
            print(f"| {text} | {audit.verdict} | {by} |")


if __name__ == "__main__":
    main()
