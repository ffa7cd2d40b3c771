"""Real persons as they go wrong: turned, mirrored, cut, the other leg; and batches of results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from monai.data import decollate_batch, list_data_collate
from monai.data.meta_tensor import MetaTensor

from medfuse.imaging.grid import Grid
from medfuse.imaging.reader import load
from medfuse.registration.result import Registration, register
from medfuse.transforms.facts import collatable
from tests._helpers.motions import error_mm, moved, rigid, volume


@pytest.fixture(scope="module")
def thigh(shared_data: Path) -> tuple[MetaTensor, MetaTensor]:
    """CT and PET of one scanner."""
    folder = shared_data / "volumes" / "sts-patients" / "STS_042"
    ct = load(folder / "ct.nii.gz", modality="CT", values_in="HU")
    return ct, load(folder / "pet-suv.nii.gz", modality="PET", values_in="SUVbw")


@pytest.fixture(scope="module")
def turned(thigh: tuple[MetaTensor, MetaTensor]) -> tuple[Registration, np.ndarray]:
    """The PET turned about head-feet, as a wrong patient position does it, and the truth."""
    ct, pet = thigh
    truth = rigid((0.0, 0.0, 180.0), (6.0, -9.0, 4.0), about=Grid.from_volume(pet).centre)
    return register(fixed=ct, moving=moved(pet, truth), preset="fast"), truth


def like(of: MetaTensor, values: np.ndarray, affine: np.ndarray) -> MetaTensor:
    """Other voxels at another place, with the facts of an image."""
    return volume(values, affine, **{k: v for k, v in of.meta.items() if k != "affine"})


def signs(found: Registration) -> dict[str, tuple[float, str]]:
    return {sign.name: (sign.value, sign.verdict) for sign in found.signs}


def points(of: MetaTensor) -> np.ndarray:
    """Corners of the inner half of a volume."""
    grid = Grid.from_volume(of)
    return grid.centre + (grid.corners() - grid.centre) / 2.0


def test_a_half_turn_is_found_and_somebody_has_to_look(thigh, turned):
    found, truth = turned
    assert error_mm(found.matrix, truth, points(thigh[0])).mean() < 6.0
    assert signs(found)["turn against the headers"] == (1.0, "look")
    assert found.verdict == "look"
    assert "half a turn about the head-feet axis" in " ".join(found.reasons)
    headers = next(a for a in found.alternatives if a.name == "headers")
    assert headers.metric < found.metric_after


def test_a_batch_of_registrations_is_collated_and_taken_apart_again(turned):
    found, _ = turned
    cases = [{"registration": collatable(found.to_dict())} for _ in range(2)]
    parts = decollate_batch(list_data_collate(cases))
    assert len(parts) == 2
    for part in parts:
        back = Registration.from_dict(part["registration"])
        assert signs(back) == signs(found)
        assert [a.name for a in back.alternatives] == [a.name for a in found.alternatives]
        np.testing.assert_array_equal(back.matrix, found.matrix)
        assert back.verdict == found.verdict
        np.testing.assert_allclose(
            back.error_within_mm(np.zeros((1, 3))), found.error_within_mm(np.zeros((1, 3)))
        )


def test_a_mirrored_image_is_never_good(thigh):
    ct, pet = thigh
    flipped = like(pet, np.asarray(pet)[0][::-1], np.asarray(pet.affine))
    found = register(fixed=ct, moving=flipped, preset="fast", method="identity")
    assert signs(found)["mirrored copy"][1] == "look"
    assert found.verdict != "good"
    assert "left is left" in " ".join(found.reasons)


def test_a_small_field_of_view_is_placed_or_doubted(thigh):
    ct, pet = thigh
    n = pet.shape[-1]
    affine = np.asarray(pet.affine) @ rigid((0, 0, 0), (0, 0, n // 3))
    part = like(pet, np.asarray(pet)[0][..., n // 3 : 2 * n // 3], affine)
    motion = rigid((6.0, -4.0, 9.0), (15.0, -20.0, 30.0), about=Grid.from_volume(part).centre)
    found = register(fixed=ct, moving=moved(part, motion), preset="fast")
    middle = Grid.from_volume(part).centre[None]
    assert error_mm(found.matrix, motion, middle).max() < 8.0 or found.verdict != "good"


@pytest.mark.parametrize("leg", ["right", "wrong"])
def test_the_other_leg_is_told_from_the_right_one(thigh, leg):
    """A CT of one thigh in a PET of two."""
    ct, pet = thigh
    array, affine = np.asarray(pet)[0], np.asarray(pet.affine, dtype=float)
    both = like(pet, np.concatenate([array, array[::-1]]), affine)
    step = len(array) * affine[:3, 0]
    start = rigid((0, 0, 0), tuple(step) if leg == "wrong" else (0, 0, 0))
    found = register(fixed=ct, moving=both, preset="fast", method="identity", initial=start)
    value, verdict = signs(found)["other side of the body"]
    assert verdict == ("good" if leg == "right" else "look")
    assert value < 0.75 if leg == "right" else value > 1.2
    assert found.verdict != "good" or leg == "right"
