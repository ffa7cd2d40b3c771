"""A head is told from a limb by its size and by where it ends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from monai.data.meta_tensor import MetaTensor

from medfuse.imaging.reader import load
from medfuse.registration.inputs import prepare
from medfuse.registration.kinds import kind_of, shows_head

SHAPE, STEP = (60, 70, 60), 4.0
#: Half axes of a head and its middle, mm, on a field of view of 240 x 280 x 240 mm.
HEAD, MIDDLE = np.array([78.0, 98.0, 100.0]), np.array([120.0, 140.0, 70.0])


def volume(inside: np.ndarray, affine: np.ndarray | None = None) -> MetaTensor:
    values = np.where(inside, 100.0, 0.0) + np.random.default_rng(0).normal(0, 2, inside.shape)
    there = np.diag([STEP, STEP, STEP, 1.0]) if affine is None else affine
    return MetaTensor(values[None].astype(np.float32), affine=there, meta={"modality": "MRI"})


def points(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    return np.stack(np.indices(shape), axis=-1) * STEP


def head() -> np.ndarray:
    """An ellipsoid that the lower end of the field of view cuts off, as at the neck."""
    return (((points() - MIDDLE) / HEAD) ** 2).sum(axis=-1) <= 1


def test_a_head_ends_above_and_aside_within_the_field_of_view() -> None:
    assert shows_head(prepare(volume(head()), base_mm=2.0))


def test_the_orientation_in_memory_does_not_matter() -> None:
    flipped = np.diag([-STEP, STEP, -STEP, 1.0])
    flipped[[0, 2], 3] = 240.0
    turned = flipped[:, [2, 0, 1, 3]]
    there = np.moveaxis(head()[::-1, :, ::-1], 2, 0)
    assert shows_head(prepare(volume(there, turned), base_mm=2.0))
    upside_down = np.moveaxis(head()[::-1], 2, 0)
    assert not shows_head(prepare(volume(upside_down, turned), base_mm=2.0))


@pytest.mark.parametrize("part", ["a limb", "without vertex", "cut at a side", "a child's hand"])
def test_all_else_is_no_head(part: str) -> None:
    across = (((points()[..., :2] - MIDDLE[:2]) / HEAD[:2]) ** 2).sum(axis=-1) <= 1
    made = {
        "a limb": across,
        "without vertex": head()[:, :, :35],
        "cut at a side": head()[25:],
        "a child's hand": (((points() - 140.0) / [40.0, 20.0, 70.0]) ** 2).sum(axis=-1) <= 1,
    }[part]
    assert not shows_head(prepare(volume(made), base_mm=2.0))


def test_kinds_of_pairs() -> None:
    limb = prepare(volume(np.ones(SHAPE, bool)), base_mm=2.0)
    ct, mri, pet = {"modality": "CT"}, {"modality": "MRI"}, {"modality": "PET"}
    assert kind_of(limb, ct, pet) == "one session"
    assert kind_of(limb, mri, pet) == kind_of(limb, ct, mri) == "two sessions"
    assert kind_of(prepare(volume(head()), base_mm=2.0), ct, pet) == "head"


def test_real_images(brain: tuple[MetaTensor, MetaTensor], shared_data: Path) -> None:
    assert all(shows_head(prepare(volume, base_mm=2.0)) for volume in brain)
    for name in ("STS_019", "STS_047"):  # the MR of both ends above, within the limb
        thigh = load(shared_data / f"volumes/sts-patients/{name}/mr-t1.nii.gz", modality="MRI")
        assert not shows_head(prepare(thigh, base_mm=2.0))
