"""Registration: known motions on real data, determinism, resampling, files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.meta_tensor import MetaTensor

from medfuse.errors import UsageError
from medfuse.imaging.grid import Grid, coverage, from_sitk, to_sitk, transform_points
from medfuse.imaging.reader import load
from medfuse.registration.geometry import rotation_angle
from medfuse.registration.result import Registration, register
from tests._helpers.motions import (
    HEAD,
    MOTION,
    OBLIQUE,
    bad,
    error_mm,
    moved,
    registration,
    rigid,
    shifts,
    vectors,
    volume,
)


def test_known_motion_of_a_brain_is_found_without_a_start(found: Registration) -> None:
    # The templates themselves agree to 2-3 mm only.
    assert error_mm(found.matrix, MOTION, HEAD).max() < 5.0
    assert found.verdict == "good"
    assert found.metric_after > 1.5 * found.metric_before
    assert found.overlap > 0.95
    assert found.iterations > 0
    assert found.rotation_deg == pytest.approx(rotation_angle(MOTION), abs=3.0)


def test_same_inputs_give_the_same_bits_watched_or_not(
    brain: tuple[MetaTensor, MetaTensor], found: Registration
) -> None:
    fixed, moving = brain
    again = register(fixed=fixed, moving=moved(moving, MOTION), preset="fast")
    assert json.dumps(again.to_dict()) == json.dumps(found.to_dict())


def test_truth_of_a_simulated_brain_is_met_to_half_a_millimetre(sample_data: Path) -> None:
    folder = sample_data / "study" / "simulated-brain"
    truth = json.loads((sample_data / "truth" / "simulated-brain.json").read_text())
    result = register(
        fixed=load(folder / "t1.nii.gz", modality="MRI"),
        moving=load(folder / "simulated-pet.nii.gz", modality="PET", values_in="SUVbw"),
    )
    assert error_mm(result.matrix, np.array(truth["moving_from_fixed_ras_mm"]), HEAD).max() < 0.5
    assert result.verdict == "good"


def sampled_one_by_one(
    values: np.ndarray, moving: Grid, to: Grid, matrix: np.ndarray
) -> np.ndarray:
    """Naive oracle: trilinear, edge voxels reach half a voxel out, 0 beyond."""
    to_index = np.linalg.inv(moving.affine) @ matrix @ to.affine
    result = np.zeros(to.shape)
    last = np.array(moving.shape) - 1
    for index in np.ndindex(to.shape):
        at = transform_points(to_index, index)
        if (at < -0.5).any() or (at > last + 0.5).any():
            continue
        at = np.clip(at, 0, last)
        low = np.minimum(at.astype(int), np.maximum(last - 1, 0))
        part = at - low
        for corner in np.ndindex(2, 2, 2):
            weight = np.prod(np.where(corner, part, 1 - part))
            result[index] += weight * values[tuple(np.minimum(low + corner, last))]
    return result


def test_resampling_is_trilinear_and_never_extrapolates() -> None:
    rng = np.random.default_rng(0)
    values = rng.uniform(1, 2, (6, 7, 5))
    fixed, moving_affine = Grid((8, 7, 6), OBLIQUE), np.diag([2.0, 2.5, 3.5, 1.0])
    moving = volume(values, moving_affine, modality="PET", unit="SUVbw", notes=["kept"])
    matrix = rigid((-8.0, 12.0, -20.0), (1.0, 6.0, 2.0))
    result = registration(matrix, fixed).resample(moving)
    expected = sampled_one_by_one(values, Grid.from_volume(moving), fixed, matrix)
    np.testing.assert_allclose(np.asarray(result)[0], expected, atol=1e-5)
    inside = coverage(fixed, Grid.from_volume(moving), matrix)
    assert 0 < inside.sum() < inside.size
    np.testing.assert_array_equal(np.asarray(result)[0] > 0, inside)


def test_resampled_volume_keeps_its_facts_and_says_where_it_knows_something() -> None:
    moving = volume(np.ones((4, 5, 6)), np.diag([2.0, 3.0, 4.0, 1.0]), unit="SUVbw", notes=["n"])
    fixed = Grid((3, 4, 5), OBLIQUE)
    result = registration(np.eye(4), fixed).resample(moving, interpolation="nearest")
    assert result.shape == (1, 3, 4, 5)
    assert result.dtype == torch.float32
    np.testing.assert_allclose(np.asarray(result.affine), OBLIQUE)
    assert (result.meta["unit"], result.meta["notes"]) == ("SUVbw", ["n"])
    assert result.meta["spacing"] == pytest.approx([1.5, 2.0, 3.0])
    field = json.loads(json.dumps(result.meta["field_of_view"]))
    source = Grid(tuple(field["shape"]), np.array(field["affine"]))
    inside = coverage(fixed, source, field["moving_from_fixed"])
    np.testing.assert_array_equal(np.asarray(result)[0] == 1.0, inside)


def test_several_channels_are_resampled_alike() -> None:
    fixed = Grid((5, 4, 6), np.diag([1.0, 2.0, 1.5, 1.0]))
    one = volume(np.random.default_rng(1).uniform(size=(5, 6, 7)), np.diag([1.2, 1.0, 1.3, 1.0]))
    two = MetaTensor(torch.cat([one, 2 * one]), affine=one.affine, meta=dict(one.meta))
    result = registration(rigid((3, 4, 5), (0.3, 0.2, 0.1)), fixed)
    np.testing.assert_allclose(result.resample(two)[1], 2 * result.resample(one)[0], rtol=1e-6)


def test_resampling_refuses_what_would_overshoot() -> None:
    moving = volume(np.ones((4, 5, 6)), np.eye(4))
    with pytest.raises(UsageError, match="linear, nearest"):
        registration(np.eye(4), Grid((3, 4, 5), np.eye(4))).resample(moving, interpolation="cubic")


points = st.lists(st.tuples(*[st.floats(-500, 500)] * 3), min_size=1, max_size=5)


@given(vectors, shifts, points)
@settings(max_examples=40)
def test_itk_reads_the_written_transform_as_the_same_map(
    tmp_path_factory: pytest.TempPathFactory, turn: tuple, shift: tuple, asked: list
) -> None:
    matrix = rigid(turn, shift)
    path = tmp_path_factory.mktemp("tfm") / "transform.tfm"
    registration(matrix, Grid((3, 4, 5), np.eye(4))).write_tfm(path)
    transform = sitk.ReadTransform(str(path))
    flip = np.array([-1.0, -1.0, 1.0])
    for point in np.array(asked):
        lps = transform.TransformPoint((point * flip).tolist())
        np.testing.assert_allclose(np.array(lps) * flip, transform_points(matrix, point), atol=1e-6)


def test_itk_resampling_with_the_file_gives_the_resampled_volume(tmp_path: Path) -> None:
    moving = volume(np.random.default_rng(2).uniform(1, 2, (9, 8, 7)), OBLIQUE)
    result = registration(rigid((5, -4, 8), (2, 1, -3)), Grid((6, 7, 8), np.diag([2.0, 1, 1.5, 1])))
    result.write_tfm(tmp_path / "t.tfm")
    onto = to_sitk(np.zeros(result.fixed_grid.shape, np.float32), result.fixed_grid.affine)
    image = to_sitk(np.asarray(moving)[0], np.asarray(moving.affine))
    transform = sitk.ReadTransform(str(tmp_path / "t.tfm"))
    by_itk, _ = from_sitk(sitk.Resample(image, onto, transform, sitk.sitkLinear, 0.0))
    np.testing.assert_allclose(np.asarray(result.resample(moving))[0], by_itk, atol=1e-5)


def test_registration_survives_json_to_the_bit(found: Registration) -> None:
    back = Registration.from_dict(json.loads(json.dumps(found.to_dict())))
    assert json.dumps(back.to_dict()) == json.dumps(found.to_dict())
    np.testing.assert_array_equal(back.matrix, found.matrix)
    np.testing.assert_allclose(back.matrix @ back.inverse, np.eye(4), atol=1e-9)


def test_of_a_stored_registration_only_the_sharpness_may_be_missing(found: Registration) -> None:
    stored = found.to_dict()
    older = {name: value for name, value in stored.items() if name != "sharpness"}
    assert Registration.from_dict(older).to_dict() == {**stored, "sharpness": None}
    for name in ("metric_before", "verdict", "seed"):
        less = {key: value for key, value in stored.items() if key != name}
        with pytest.raises(KeyError, match=name):
            Registration.from_dict(less)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "elastic"}, "unknown method"),
        ({"preset": "best"}, "unknown preset"),
        ({"seed": -1}, "seed"),
        ({"initial": np.eye(3)}, "4x4"),
        ({"initial": np.diag([1.1, 1.0, 1.0, 1.0])}, "not rigid"),
        ({"initial": np.diag([-1.0, 1.0, 1.0, 1.0])}, "mirrors"),
        ({"initial": np.diag([-1.0, 1.0, 1.0, 1.0]), "method": "affine"}, "mirrors"),
    ],
)
def test_wrong_settings_are_named(options: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        register(fixed=bad("none"), moving=bad("none"), **options)
