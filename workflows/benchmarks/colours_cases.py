"""The sample cases of colours.py with their tissue classes; CT over MRI by local energy."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import torch
from matplotlib.path import Path as Outline
from monai.data import MetaTensor
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

import medfuse
from medfuse.evaluation.images import gaussian, smooth
from medfuse.fusion.sources import coverage_of
from medfuse.imaging.grid import DisplayOrder, Grid
from medfuse.imaging.windows import apply_window, default_window

ROOT = Path(__file__).resolve().parents[2]
STUDY, TRUTH = ROOT / "sample_data/study", ROOT / "sample_data/truth"
sys.path.insert(0, str(ROOT / "tools"))
from simulate_brain import tissue_fractions, world_points  # noqa: E402

KEY = "moving_from_fixed_ras_mm"
BODY = 0.05  # of either window; what is darker in both is air
LEVELS, SLOPE = 4, 4.0
BONE = (0.7, 0.9)  # 120 to 200 HU in the window -160 to 240
CLEAR = 0.8  # posterior from which a voxel of the brain counts to a tissue
STEP = 3  # every third slice


@dataclass(frozen=True)
class Case:
    """Slices (S, 1, R, K) of both sources in their windows, 0 outside the field of view."""

    name: str
    uptake: Tensor
    anatomy: Tensor
    body: Tensor
    classes: dict[str, Tensor] = field(default_factory=dict)

    @property
    def hottest(self) -> int:
        """The slice with the most uptake."""
        return int(self.uptake.flatten(1).sum(1).argmax())


@dataclass(frozen=True)
class _Pair:
    """A registered pair in slice order, raw values too."""

    fixed: MetaTensor
    moving: MetaTensor
    cut: Callable[[NDArray], Tensor]
    kept: list[int]

    def case(self, name: str, classes: dict[str, Tensor] | None = None) -> Case:
        inside = self.cut(coverage_of(self.moving, self.fixed)[None].numpy())
        uptake, anatomy = (
            self.cut(np.asarray(apply_window(image, default_window(image))))
            for image in (self.moving, self.fixed)
        )
        uptake = uptake * inside
        body = ((uptake > BODY) | (anatomy > BODY)) & inside
        return Case(name, uptake, anatomy, body, classes or {})


def brain() -> Case:
    """Simulated brain: grey and white matter, CSF and both lesions."""
    pair = _pair("simulated-brain/t1.nii.gz", "simulated-brain/simulated-pet.nii.gz", "PET",
                 truth="simulated-brain.json", values_in="SUVbw")  # fmt: skip
    t1, affine = np.asarray(pair.fixed)[0].astype(float), pair.fixed.affine.numpy()
    tissue = tissue_fractions(t1) > CLEAR
    places, lesions = world_points(t1.shape, affine), {}
    for lesion in json.loads((TRUTH / "simulated-brain.json").read_text())["lesions"]:
        away = np.linalg.norm(places - np.array(lesion["centre_mm"]), axis=-1)
        lesions[f"{lesion['name']} lesion"] = (away <= lesion["radius_mm"]) & (t1 > 0)
    elsewhere = ~np.any(list(lesions.values()), axis=0)
    names = ("CSF", "grey matter", "white matter")
    masks = dict(zip(names, tissue & elsewhere, strict=True)) | lesions
    return pair.case("simulated brain", {n: pair.cut(mask[None]) for n, mask in masks.items()})


def sarcoma_t2() -> Case:
    """The raw sarcoma pair: T2 and FDG PET."""
    return _pair("sts001/mr-t2", "sts001/pet-fdg", "PET", truth="sts001-pet-mr.json").case(
        "sarcoma, T2 and PET"
    )


def sarcoma_ct() -> Case:
    """The aligned sarcoma: CT and FDG PET."""
    pair = _pair("sts001-aligned/ct.nii.gz", "sts001-aligned/pet-suv-dicom", "PET", fixed="CT")
    return pair.case("sarcoma, CT and PET")


def ct_over_mri() -> Case:
    """The aligned sarcoma, CT over T1: tissues by HU, tumour by contour."""
    pair = _pair("sts001-aligned/mr-t1.nii.gz", "sts001-aligned/ct.nii.gz", "CT")
    inside = pair.cut(coverage_of(pair.moving, pair.fixed)[None].numpy())
    hu, mri = pair.cut(np.asarray(pair.moving)), pair.cut(np.asarray(pair.fixed))
    return pair.case(
        "sarcoma, CT over T1", ct_classes(hu, mri, pair.cut(_tumour(pair.fixed)), inside)
    )


def ct_classes(hu: Tensor, mri: Tensor, tumour: Tensor, inside: Tensor) -> dict[str, Tensor]:
    """Air, fat, bone, tumour, and the darkest and brightest third of soft tissue in the MRI."""
    soft = inside & (hu > -10) & (hu < 110) & ~tumour
    dark, bright = np.quantile(mri[soft].numpy(), (1 / 3, 2 / 3))
    return {
        "air": inside & (hu < -300),
        "fat": inside & (hu > -150) & (hu < -30) & ~tumour,
        "dark soft tissue": soft & (mri < dark),
        "bright soft tissue": soft & (mri > bright),
        "bone": inside & (hu > 200),
        "tumour": inside & tumour,
    }


def detail_kept(
    picture: Tensor, a: Tensor, b: Tensor, between: tuple[float, float]
) -> tuple[float, float]:
    """Least squares of the picture's fine part on that of A and B, where A lies in a range."""
    where = (a > between[0]) & (a < between[1]) & (b > 25 / 255)
    fine = [(x - _blurred(x, 3.0))[where].double() for x in (a, b, picture)]
    kept = torch.linalg.lstsq(torch.stack(fine[:2], 1), fine[2][:, None]).solution[:, 0]
    return float(kept[0]), float(kept[1])


def _blurred(x: Tensor, sigma: float) -> Tensor:
    half = min(round(4 * sigma), *(side - 1 for side in x.shape[2:]))
    taps = gaussian(2 * half + 1, sigma)
    return smooth(pad(x, (half,) * 4, mode="reflect"), taps) if half else x


def _pair(
    anatomical: str,
    functional: str,
    kind: str,
    *,
    truth: str = "",
    fixed: str = "MRI",
    **facts: str,
) -> _Pair:
    image = medfuse.load(STUDY / anatomical, modality=fixed)
    moving = medfuse.load(STUDY / functional, modality=kind, **facts)
    matrix = np.array(json.loads((TRUTH / truth).read_text())[KEY]) if truth else None
    found = medfuse.register(fixed=image, moving=moving, method="identity", initial=matrix)
    moved = found.resample(moving)
    order = DisplayOrder.from_grid(Grid.from_volume(image))
    kept = _slices(moved, order)

    def cut(volume: NDArray) -> Tensor:
        planes = np.ascontiguousarray(order.apply(volume).swapaxes(0, 1)[kept])
        return torch.from_numpy(planes)

    return _Pair(image, moved, cut, kept)


def _slices(moved: MetaTensor, order: DisplayOrder) -> list[int]:
    """Every third slice, counted from the one with the most uptake, where there is any."""
    values = np.asarray(apply_window(moved, default_window(moved)))
    planes = order.apply(values)[0]
    total = planes.reshape(len(planes), -1).sum(1)
    first = int(total.argmax()) % STEP
    used = (planes > 0.02).reshape(len(planes), -1).mean(1) > 0.02
    return [k for k in range(first, len(planes), STEP) if used[k]]


@cache
def _outlines() -> dict[float, list[NDArray]]:
    """Contour points (n, 2) of the tumour by the height of their plane, frame of PET and CT."""
    found = json.loads((TRUTH / "sts001-pet-mr.json").read_text())["contours_ras_mm"]["pet-fdg"]
    points = np.array(found["GTV_Mass"])
    return {z: points[points[:, 2] == z][:, :2] for z in np.unique(points[:, 2])}


def _tumour(image: MetaTensor) -> NDArray[np.bool_]:
    """(1, X, Y, Z) mask: the planes of the contours, voxel centres inside the outline."""
    places = world_points(tuple(image.shape[1:]), image.affine.numpy())
    mask = np.zeros(image.shape, dtype=bool)
    for z, outline in _outlines().items():
        k = int(np.abs(places[0, 0, :, 2] - z).argmin())
        if abs(places[0, 0, k, 2] - z) < 1.0 and len(outline) > 2:
            flat = places[:, :, k, :2].reshape(-1, 2)
            mask[0, :, :, k] |= Outline(outline).contains_points(flat).reshape(mask.shape[1:3])
    return mask
