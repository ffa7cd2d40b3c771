"""Registration on data with a known truth, beside the usual notebook recipe, in the same run.

    python workflows/benchmarks/registration.py [--seeds 20] [--json bench.json] [--only sarcoma]

* sarcoma: raw PET and T2 MR of the sample study. The reference transform (a clinical fusion, a
  silver standard) is displaced by random offsets up to 15 degrees and 30 mm about the tumour and
  given as the start. Error: mean distance to the reference at the contour points of the tumour.
* brain: T1 and simulated PET (truth known). The PET's header is moved by up to 20 degrees and
  40 mm; no start is given. Error: largest distance to the truth at the corners of the brain.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from monai.data import MetaTensor

import medfuse
from medfuse.errors import MedfuseError
from medfuse.imaging.grid import Grid, to_sitk, transform_points
from medfuse.imaging.registration_refine import euler_transform, ras_matrix
from medfuse.imaging.registration_search import rotation_matrix

ROOT = Path(__file__).resolve().parents[2] / "sample_data"


@dataclass(frozen=True)
class Trial:
    """One registration with a known answer: `start` is None where nothing is given."""

    fixed: MetaTensor
    moving: MetaTensor
    start: np.ndarray | None
    truth: np.ndarray
    points: np.ndarray


def _facts(volume: MetaTensor) -> dict:
    """What is known of a volume but its place."""
    return {key: value for key, value in volume.meta.items() if key != "affine"}


def random_move(
    rng: np.random.Generator, centre: np.ndarray, degrees: float, millimetres: float
) -> np.ndarray:
    """Rigid move about a point: direction uniform, size uniform up to the limits."""

    def vector(limit: float) -> np.ndarray:
        direction = rng.normal(size=3)
        return direction / np.linalg.norm(direction) * rng.uniform(0, limit)

    move = np.eye(4)
    move[:3, :3] = rotation_matrix(vector(degrees))
    move[:3, 3] = centre - move[:3, :3] @ centre + vector(millimetres)
    return move


def sarcoma(seed: int) -> Trial:
    """The raw pair with a displaced reference as start."""
    study = ROOT / "study" / "sts001"
    truth = json.loads((ROOT / "truth" / "sts001-pet-mr.json").read_text())
    reference = np.array(truth["moving_from_fixed_ras_mm"])
    points = np.array(truth["contours_ras_mm"]["mr-t2"]["GTV_Mass"]).reshape(-1, 3)
    move = random_move(np.random.default_rng(seed), points.mean(0), 15, 30)
    fixed, moving = medfuse.load(study / "mr-t2"), medfuse.load(study / "pet-fdg")
    return Trial(fixed, moving, reference @ move, reference, points)


def brain(seed: int) -> Trial:
    """The simulated brain with its header moved; the search has to find it."""
    study = ROOT / "study" / "simulated-brain"
    truth = json.loads((ROOT / "truth" / "simulated-brain.json").read_text())
    fixed = medfuse.load(study / "t1.nii.gz", modality="MRI")
    pet = medfuse.load(study / "simulated-pet.nii.gz", modality="PET", values_in="SUVbw")
    move = random_move(np.random.default_rng(seed), Grid.from_volume(pet).centre, 20, 40)
    moved = MetaTensor(pet.as_tensor(), affine=move @ np.asarray(pet.affine), meta=_facts(pet))
    corners = np.array([[x, y, z] for x in (-60, 60) for y in (-90, 60) for z in (-40, 70)])
    return Trial(fixed, moved, None, move @ np.array(truth["moving_from_fixed_ras_mm"]), corners)


def ours(trial: Trial) -> np.ndarray:
    """medfuse.register, default preset."""
    return medfuse.register(fixed=trial.fixed, moving=trial.moving, initial=trial.start).matrix


def notebook(trial: Trial) -> np.ndarray:
    """The recipe of the SimpleITK notebooks: centred start, 1 % random samples, descent."""
    fixed, moving = (
        to_sitk(np.asarray(v)[0], np.asarray(v.affine)) for v in (trial.fixed, trial.moving)
    )
    if trial.start is None:
        start = sitk.CenteredTransformInitializer(
            fixed,
            moving,
            sitk.Euler3DTransform(),
            sitk.CenteredTransformInitializerFilter.GEOMETRY,
        )
        start = sitk.Euler3DTransform(start)
    else:
        start = euler_transform(trial.start, (0.0, 0.0, 0.0))
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(50)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.01, 1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsGradientDescent(1.0, 100, 1e-6, 10)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2, 1, 0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(start, inPlace=True)
    method.Execute(fixed, moving)
    return ras_matrix(start)


def measure(run: Callable[[Trial], np.ndarray], trials: list[Trial], *, worst: bool) -> dict:
    """Errors and seconds of one method over trials; a refusal counts as infinite error."""
    errors, seconds = [], []
    for trial in trials:
        start = time.perf_counter()
        try:
            found = run(trial)
        except (MedfuseError, RuntimeError):
            errors.append(float("inf"))
        else:
            gap = transform_points(found, trial.points) - transform_points(
                trial.truth, trial.points
            )
            gap = np.linalg.norm(gap, axis=1)
            errors.append(float(gap.max() if worst else gap.mean()))
        seconds.append(time.perf_counter() - start)
    return {
        "median_error_mm": float(np.median(errors)),
        "worst_error_mm": float(np.max(errors)),
        "share_under_3_mm": float(np.mean(np.array(errors) < 3)),
        "share_under_4_mm": float(np.mean(np.array(errors) < 4)),
        "share_under_10_mm": float(np.mean(np.array(errors) < 10)),
        "median_seconds": float(np.median(seconds)),
        "errors_mm": [round(e, 2) for e in errors],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--only", choices=("sarcoma", "brain"))
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    sets = {"sarcoma": (sarcoma, False), "brain": (brain, True)}
    table: dict[str, dict[str, dict]] = {}
    for name, (make, worst) in sets.items():
        if options.only not in (None, name):
            continue
        trials = [make(seed) for seed in range(options.seeds)]
        rows = {"medfuse": ours, "notebook": notebook}
        table[name] = {row: measure(run, trials, worst=worst) for row, run in rows.items()}
        print(f"\n{name}, {options.seeds} random starts")
        for row, figures in table[name].items():
            shown = "  ".join(f"{k} {v:.2f}" for k, v in figures.items() if k != "errors_mm")
            print(f"  {row:9} {shown}")
    if options.json:
        options.json.write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    main()
