"""Registration on data with a known answer, beside other recipes in the same run.

    python workflows/benchmarks/registration.py [--seeds 20] [--json F] [--only NAME ...]
        [--preset default] [--data DIR]

Beside medfuse run the usual SimpleITK notebook recipe and, where it is installed (pip install
"medfuse[benchmark]"), elastix with its own rigid parameter map. The capture range of the package is
`--seeds 50 --only brain hybrid sarcoma`: success is `under_3_mm`, and `repeat_under_3_mm` where the
truth is rough.

* sarcoma: raw PET and T2 MR of one person. The reference transform (a clinical fusion, a silver
  standard) displaced by up to 15 degrees and 30 mm about the tumour is given as the start.
  `surface_mm` judges without the reference: mean distance of the expert's tumour contour in the MR
  to the surface of SUV 2 in the PET; `reference_surface_mm` is what the reference itself reaches.
* sarcoma-auto: the same without any start (once; there is nothing random).
* brain: T1 and simulated PET, truth known. Header moved by up to 20 degrees and 40 mm, no start.
* hybrid: PET and CT of STS_001 from one scanner, moved likewise. The scanner's own alignment is the
  reference.
* ct-mr, pet-mr (thigh) and templates (T1-PET, T1-SPECT, T1-CT): only where further data is
  found (--data, MEDFUSE_SHARED or ../shared); headers moved likewise. Their truth is rough: group
  templates agree to 2-3 mm, and between that CT and MR the tumour moved against the bone by more
  than 10 mm.

`repeat_mm` compares with the method's own result from unmoved headers (or from the reference): what
is left where the truth is rough.

Errors are means over the tumour contour, or over points in the anatomical foreground. A refusal
counts as infinite. Seconds are wall clock and depend on what else the machine does, `cpu` less so.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from monai.data.meta_tensor import MetaTensor
from peers import elastix_rigid

import medfuse
from medfuse.errors import MedfuseError
from medfuse.imaging.grid import Grid, from_sitk, to_sitk, transform_points
from medfuse.registration.geometry import distance_mm
from medfuse.registration.inputs import prepare
from medfuse.registration.plan import PRESETS
from medfuse.registration.refine import euler_transform, ras_matrix
from medfuse.registration.search import rotation_matrix

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "sample_data"
SHARED = Path(os.environ.get("MEDFUSE_SHARED", ROOT.parent / "shared")) / "data" / "volumes"
Matrix = np.ndarray
Method = Callable[[MetaTensor, MetaTensor, Matrix | None], Matrix]


@dataclass(frozen=True)
class Trial:
    """One registration with a known answer.

    `start` is None where nothing is given; `move` is what was done to the moving header.
    """

    fixed: MetaTensor
    moving: MetaTensor
    start: Matrix | None
    truth: Matrix
    points: np.ndarray
    move: Matrix = field(default_factory=lambda: np.eye(4))


@dataclass(frozen=True)
class Volumes:
    """Two volumes in one world, so that the truth is the identity (or `truth`)."""

    fixed: MetaTensor
    moving: MetaTensor
    truth: Matrix
    rough: bool = True


def random_move(
    rng: np.random.Generator, centre: np.ndarray, degrees: float, millimetres: float
) -> Matrix:
    """Rigid move about a point: direction uniform, size uniform up to the limits."""

    def vector(limit: float) -> np.ndarray:
        direction = rng.normal(size=3)
        return direction / np.linalg.norm(direction) * rng.uniform(0, limit)

    move = np.eye(4)
    move[:3, :3] = rotation_matrix(vector(degrees))
    move[:3, 3] = centre - move[:3, :3] @ centre + vector(millimetres)
    return move


class Sarcoma:
    """The raw pair of the sample study, its reference and its tumour contour."""

    def __init__(self) -> None:
        study = SAMPLE / "study" / "sts001"
        truth = json.loads((SAMPLE / "truth" / "sts001-pet-mr.json").read_text())
        self.reference = np.array(truth["moving_from_fixed_ras_mm"])
        self.points = np.array(truth["contours_ras_mm"]["mr-t2"]["GTV_Mass"]).reshape(-1, 3)
        self.fixed, self.moving = medfuse.load(study / "mr-t2"), medfuse.load(study / "pet-fdg")
        self._distance = self._to_surface_of_suv_2()

    def trial(self, seed: int | None) -> Trial:
        """Displace the reference for a start; no start for None."""
        start = None
        if seed is not None:
            rng = np.random.default_rng(seed)
            start = self.reference @ random_move(rng, self.points.mean(axis=0), 15, 30)
        return Trial(self.fixed, self.moving, start, self.reference, self.points)

    def surface_mm(self, matrix: Matrix) -> float:
        """Mean distance of the MR contour to the surface of SUV 2 around the tumour."""
        lps = transform_points(matrix, self.points) * [-1, -1, 1]
        outside = [self._distance.EvaluateAtPhysicalPoint(p.tolist()) for p in lps]
        return float(np.mean(np.abs(outside)))

    def _to_surface_of_suv_2(self) -> sitk.Image:
        image = to_sitk(np.asarray(self.moving)[0], np.asarray(self.moving.affine))
        parts = sitk.ConnectedComponent(sitk.DiscreteGaussian(image, 5.0) > 2.0)
        middle = transform_points(self.reference, self.points) * [-1, -1, 1]
        labels = [parts[parts.TransformPhysicalPointToIndex(p.tolist())] for p in middle]
        tumour = sitk.BinaryMorphologicalClosing(
            parts == int(np.bincount([v for v in labels if v]).argmax()), [4, 4, 5]
        )
        return sitk.SignedMaurerDistanceMap(
            sitk.BinaryFillhole(tumour), squaredDistance=False, useImageSpacing=True
        )


def simulated_brain() -> Volumes:
    study = SAMPLE / "study" / "simulated-brain"
    truth = json.loads((SAMPLE / "truth" / "simulated-brain.json").read_text())
    fixed = medfuse.load(study / "t1.nii.gz", modality="MRI")
    moving = medfuse.load(study / "simulated-pet.nii.gz", modality="PET", values_in="SUVbw")
    return Volumes(fixed, moving, np.array(truth["moving_from_fixed_ras_mm"]), rough=False)


def hybrid() -> Volumes:
    """PET and CT that one scanner made of STS_001, frames of reference not named."""
    study = SAMPLE / "study" / "sts001-aligned"
    fixed = medfuse.load(study / "ct.nii.gz", modality="CT", values_in="HU")
    return Volumes(fixed, medfuse.load(study / "pet-suv-dicom"), np.eye(4))


def shared_pairs(data: Path) -> Iterator[tuple[str, Volumes]]:
    """Aligned pairs that users of the package do not have."""
    thigh, brains = data / "sts001-aligned-pet-ct-mr", data / "mni-templates"
    ct = medfuse.load(thigh / "ct.nii.gz", modality="CT", values_in="HU")
    mr = medfuse.load(thigh / "mr-t1.nii.gz", modality="MRI")
    pet = medfuse.load(thigh / "pet-suv-dicom")
    t1 = medfuse.load(brains / "cit168-t1-brain.nii.gz", modality="MRI")
    head = medfuse.load(brains / "spm-single-subject-t1.nii.gz", modality="MRI")
    flow = medfuse.load(brains / "spm-pet.nii.gz", modality="PET", values_in="a.u.")
    skull = medfuse.load(
        brains / "clinical-ct-older-adults.nii.gz", modality="CT", values_in="a.u."
    )
    dat = medfuse.load(
        data / "juspace-nuclear-maps" / "dat-spect.nii.gz", modality="SPECT", values_in="a.u."
    )
    pairs = {"ct-mr": (mr, ct), "pet-mr": (mr, pet)}
    pairs |= {"t1-pet": (t1, flow), "t1-spect": (t1, dat), "t1-ct": (head, skull)}
    for name, (fixed, moving) in pairs.items():
        yield name, Volumes(fixed, moving, np.eye(4))


def moved(pair: Volumes, seed: int) -> Trial:
    """Move the moving header; the search has to find it without a start."""
    move = random_move(np.random.default_rng(seed), Grid.from_volume(pair.moving).centre, 20, 40)
    meta = {k: v for k, v in pair.moving.meta.items() if k != "affine"}
    affine = move @ np.asarray(pair.moving.affine)
    moving = MetaTensor(pair.moving.as_tensor(), affine=affine, meta=meta)
    return Trial(pair.fixed, moving, None, move @ pair.truth, foreground(pair.fixed), move)


def foreground(volume: MetaTensor) -> np.ndarray:
    """(N, 3) points spread over the foreground, RAS mm."""
    mask, affine = from_sitk(prepare(volume, base_mm=4.0).mask)
    index = np.argwhere(mask > 0)
    return transform_points(affine, index[:: max(1, len(index) // 2000)])


def ours(preset: str) -> Method:
    """medfuse.register, headers not trusted."""
    return partial(_register, preset)


def _register(preset: str, fixed: MetaTensor, moving: MetaTensor, start: Matrix | None) -> Matrix:
    found = medfuse.register(
        fixed=fixed,
        moving=moving,
        initial=start,
        method="rigid",
        preset=preset,
        accept_pair="roles",  # also CT <- MR
    )
    return found.matrix


def notebook(fixed: MetaTensor, moving: MetaTensor, start: Matrix | None) -> Matrix:
    """The recipe of the SimpleITK notebooks: centred start, 1 % random samples, descent."""
    still, other = (to_sitk(np.asarray(v)[0], np.asarray(v.affine)) for v in (fixed, moving))
    if start is None:
        centred = sitk.CenteredTransformInitializerFilter.GEOMETRY
        transform = sitk.Euler3DTransform(
            sitk.CenteredTransformInitializer(still, other, sitk.Euler3DTransform(), centred)
        )
    else:
        middle = still.TransformContinuousIndexToPhysicalPoint([n / 2 for n in still.GetSize()])
        transform = euler_transform(start, middle)
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
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(still, other)
    return ras_matrix(transform)


def measure(method: Method, trials: list[Trial], home: Matrix | None) -> tuple[dict, list[Matrix]]:
    """Figures of one method over trials; `home` is its result from unmoved headers."""
    errors, repeats, seconds, cpu, found = [], [], [], [], []
    for trial in trials:
        wall, busy = time.perf_counter(), time.process_time()
        try:
            matrix = method(trial.fixed, trial.moving, trial.start)
        except (MedfuseError, RuntimeError):
            errors.append(float("inf"))
        else:
            found.append(matrix)
            errors.append(distance_mm(matrix, trial.truth, trial.points))
            if home is not None:
                repeats.append(distance_mm(matrix, trial.move @ home, trial.points))
        seconds.append(time.perf_counter() - wall)
        cpu.append(time.process_time() - busy)
    figures = {
        "median_mm": float(np.median(errors)),
        "worst_mm": float(np.max(errors)),
        "under_3_mm": float(np.mean(np.array(errors) < 3)),
        "under_4_mm": float(np.mean(np.array(errors) < 4)),
        "under_10_mm": float(np.mean(np.array(errors) < 10)),
        "seconds": float(np.median(seconds)),
        "cpu": float(np.median(cpu)),
        "errors_mm": [round(e, 2) for e in errors],
    }
    if repeats:
        figures["repeat_mm"] = float(np.median(repeats))
        figures["repeat_under_3_mm"] = sum(r < 3 for r in repeats) / len(trials)
    return figures, found


METHODS: dict[str, Method] = {"medfuse": ours("default"), "notebook": notebook}
if importlib.util.find_spec("itk") is not None:
    METHODS["elastix"] = elastix_rigid


def run_sarcoma(seeds: list[int | None]) -> dict[str, dict]:
    """All methods on the raw pair, judged by the reference and by the PET's own surface."""
    case = Sarcoma()
    rows = {}
    for name, method in METHODS.items():
        home = method(case.fixed, case.moving, case.reference)
        rows[name], found = measure(method, [case.trial(s) for s in seeds], home)
        if found:
            rows[name]["surface_mm"] = float(np.median([case.surface_mm(m) for m in found]))
        rows[name]["reference_surface_mm"] = case.surface_mm(case.reference)
    return rows


def run_moved(pair: Volumes, seeds: int) -> dict[str, dict]:
    """All methods on a pair whose moving header is moved."""
    trials = [moved(pair, seed) for seed in range(seeds)]
    rows = {}
    for name, method in METHODS.items():
        home = method(pair.fixed, pair.moving, None) if pair.rough else None
        rows[name], _ = measure(method, trials, home)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--only", nargs="+", help="sets by name")
    parser.add_argument("--preset", choices=list(PRESETS), default="default")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--data", type=Path, default=SHARED, help="folder of the further volumes")
    options = parser.parse_args()
    METHODS["medfuse"] = ours(options.preset)
    sets: dict[str, Callable[[], dict]] = {
        "sarcoma": lambda: run_sarcoma(list(range(options.seeds))),
        "sarcoma-auto": lambda: run_sarcoma([None]),
        "brain": lambda: run_moved(simulated_brain(), options.seeds),
        "hybrid": lambda: run_moved(hybrid(), options.seeds),
    }
    if options.data.is_dir():
        for name, pair in shared_pairs(options.data):
            sets[name] = lambda pair=pair: run_moved(pair, options.seeds)
    else:
        print("further volumes are not here: only the sample data is measured")
    table = {}
    for name in options.only or sets:
        table[name] = sets[name]()
        print(f"\n{name}")
        for row, figures in table[name].items():
            shown = "  ".join(f"{k} {v:.2f}" for k, v in figures.items() if k != "errors_mm")
            print(f"  {row:9} {shown}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    main()
