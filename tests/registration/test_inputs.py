"""What registration looks at: coarser volumes, the foreground; and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from medfuse.errors import RegistrationError, SeriesError, UsageError
from medfuse.imaging.grid import from_sitk, to_sitk, transform_points
from medfuse.registration.inputs import at_resolution, foreground
from medfuse.registration.result import register
from tests._helpers.motions import bad, two_balls


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5])
def test_coarser_volumes_stay_at_their_place(factor: int) -> None:
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = (-60, -61, -62)
    shape = (122, 125, 128)
    image = to_sitk(two_balls(affine, shape).astype(np.float32), affine)
    values, coarse = from_sitk(at_resolution(image, step_mm=float(factor), sigma_mm=1.5 * factor))
    index = np.stack(np.meshgrid(*map(np.arange, values.shape), indexing="ij"), axis=-1)
    fine_index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    original = from_sitk(image)[0]
    expected = np.average(
        transform_points(affine, fine_index).reshape(-1, 3), axis=0, weights=original.ravel()
    )
    centre = np.average(
        transform_points(coarse, index).reshape(-1, 3), axis=0, weights=values.ravel()
    )
    np.testing.assert_allclose(centre, expected, atol=0.05)


def test_foreground_keeps_muscle_beside_a_tumour_ten_times_as_bright() -> None:
    affine = np.eye(4)
    affine[:3, 3] = (-50, -50, -50)
    index = np.stack(np.meshgrid(*[np.arange(100)] * 3, indexing="ij"), axis=-1)
    radius = np.linalg.norm(transform_points(affine, index), axis=-1)
    values = np.random.default_rng(0).normal(0, 2, radius.shape) + 40.0 * (radius < 40)
    values += 400.0 * (np.linalg.norm(index - [60, 60, 50], axis=-1) < 15)
    mask, _ = from_sitk(foreground(to_sitk(np.abs(values).astype(np.float32), affine)))
    assert mask[radius < 36].mean() > 0.99
    assert mask[radius > 44].mean() < 0.01


@pytest.mark.parametrize(
    ("kind", "code", "words"),
    [
        ("constant", "E_CONSTANT", "every voxel has the value 3"),
        ("nan", "E_NONFINITE", "25.00 %"),
        ("thin", "E_TOO_FEW_SLICES", "3 voxels along one axis"),
    ],
)
@pytest.mark.parametrize("role", ["fixed", "moving"])
def test_impossible_volume_is_refused_before_itk_sees_it(
    kind: str, code: str, words: str, role: str
) -> None:
    pair = {"fixed": bad("none"), "moving": bad("none")} | {role: bad(kind)}
    with pytest.raises(RegistrationError, match=f"{role}.*{words}") as caught:
        register(**pair)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("modalities", "allowed", "code"),
    [
        (("PET", "MRI"), {}, "E_ROLES"),
        (("CT", "MRI"), {}, "E_ROLES"),
        (("CT", "MRI"), {"accept_pair": "roles"}, None),
        (("MRI", "PET"), {}, None),
    ],
)
def test_a_pair_whose_modalities_contradict_the_roles_is_refused(
    modalities: tuple[str, str], allowed: dict, code: str | None
) -> None:
    fixed, moving = bad("none"), bad("thin")
    for volume, modality in zip((fixed, moving), modalities, strict=True):
        volume.meta["modality"] = modality
    try:
        register(fixed=fixed, moving=moving, method="identity", **allowed)
        refused = None
    except UsageError as error:
        refused = error.code
    assert refused == code


def test_one_image_twice_and_two_persons_are_refused() -> None:
    one = bad("none")
    with pytest.raises(UsageError, match="E_SAME_IMAGE"):
        register(fixed=one, moving=one, method="identity")
    other = bad("thin")
    one.meta["source"] = {"patient": "a"}
    other.meta["source"] = {"patient": "b"}
    with pytest.raises(SeriesError, match="E_MIXED_PATIENT"):
        register(fixed=one, moving=other, method="identity")
    assert register(fixed=one, moving=other, method="identity", allow_patient_mismatch=True)
