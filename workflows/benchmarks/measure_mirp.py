"""SUV of tumor contours beside MIRP, an independent implementation of the IBSI standard.

    python workflows/benchmarks/measure_mirp.py DATA --mirp ENV/bin/python

DATA holds a folder for each person of the STS collection with ``pet-suv.nii.gz`` and the contour
``pet-gtv.nii.gz`` (github.com/theibsi/data_sets, ibsi_validation). MIRP (``pip install mirp``)
lives in an environment of its own, whose interpreter is named. Both measure the same voxels; no
image is interpolated.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from medfuse import load
from medfuse.measurement.files import Images, read_regions
from medfuse.measurement.measure import measure
from medfuse.measurement.peak import RADIUS_MM

MIRP = """
import json, sys
from mirp import extract_features
found = {}
for folder in sys.argv[1:]:
    (table,) = extract_features(
        image=folder + "/pet-suv.nii.gz", mask=folder + "/pet-gtv.nii.gz", image_modality="pet",
        base_feature_families=["statistics", "local_intensity", "morphology"],
    )
    row = table.iloc[0]
    found[folder] = {
        "volume_ml": row["morph_vol_approx"] / 1000, "max": row["stat_max"],
        "mean": row["stat_mean"], "sd": row["stat_var"] ** 0.5, "peak": row["loc_peak_glob"],
    }
print("\\\\n" + json.dumps({f: {k: float(v) for k, v in r.items()} for f, r in found.items()}))
"""
NUMBERS = {"volume_ml": 2, "max": 3, "mean": 3, "sd": 3, "peak": 3}
REACH = 8  # voxels; more than the sphere has on any axis


def ours(folder: Path) -> dict[str, float]:
    """The row of the contour of a person."""
    pet = load(folder / "pet-suv.nii.gz", modality="PET", unit="SUVbw")
    regions = read_regions(folder / "pet-gtv.nii.gz", Images.of(pet, None), drawn_on="functional")
    row = measure(pet, regions)[0]
    peak = whole_voxels(pet, load(folder / "pet-gtv.nii.gz").numpy()[0] > 0)
    return {name: float(getattr(row, name)) for name in NUMBERS} | {"whole voxels": peak}


def whole_voxels(pet: Any, mask: np.ndarray) -> float:
    """The peak as IBSI has it: voxels count wholly if their centers lie in the sphere of 1 ml."""
    steps = np.stack(np.meshgrid(*[np.arange(-REACH, REACH + 1)] * 3, indexing="ij"), -1)
    distance = np.linalg.norm(steps @ np.asarray(pet.affine)[:3, :3].T, axis=-1)
    ball = steps[distance <= RADIUS_MM]
    values = np.pad(pet.numpy()[0], REACH, constant_values=np.nan)
    at = np.argwhere(mask)[:, None] + REACH + ball
    return float(np.nanmean(values[tuple(np.moveaxis(at, -1, 0))], axis=1).max())


def theirs(folders: list[Path], python: Path) -> dict[str, dict[str, float]]:
    """The same numbers by MIRP, for each folder."""
    command = [str(python), "-c", MIRP.replace("\\\\n", "\\n"), *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--mirp", type=Path, required=True, help="interpreter that has MIRP")
    options = parser.parse_args()
    folders = sorted(p.parent for p in options.data.glob("*/pet-gtv.nii.gz"))
    other = theirs(folders, options.mirp)
    print("| person | " + " | ".join(NUMBERS) + " | peak of whole voxels |")
    print("|---|" + "---|" * (len(NUMBERS) + 1))
    for folder in folders:
        own, their = ours(folder), other[str(folder)]
        cells = (
            f"{own[name]:.{digits}f} / {their[name]:.{digits}f}" for name, digits in NUMBERS.items()
        )
        print(f"| {folder.name} | " + " | ".join(cells) + f" | {own['whole voxels']:.3f} |")


if __name__ == "__main__":
    main()
