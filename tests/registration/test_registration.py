"""Registration: known motions on real data, determinism, verdicts, files, refusals."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.meta_tensor import MetaTensor

from medfuse.errors import RegistrationError, UsageError
from medfuse.imaging.grid import Grid, coverage, from_sitk, to_sitk, transform_points
from medfuse.imaging.reader import load
from medfuse.registration.inputs import at_resolution, foreground, prepare
from medfuse.registration.progress import Meter, single_threaded_itk
from medfuse.registration.quality import gap_mm, judge
from medfuse.registration.refine import euler_transform, nearest_rotation, ras_matrix
from medfuse.registration.result import Registration, register
from medfuse.registration.search import rotation_ball, rotation_matrix, search
from medfuse.registration.start import read_matrix
from medfuse.registration.strategy import Outcome, rotation_angle


def rigid(vector_deg: tuple[float, ...], shift: tuple[float, ...], about=(0, 0, 0)) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation_matrix(np.array(vector_deg, dtype=float))
    matrix[:3, 3] = np.array(about) - matrix[:3, :3] @ np.array(about) + np.array(shift)
    return matrix


def volume(values: np.ndarray, affine: np.ndarray, **meta: object) -> MetaTensor:
    facts = {
        "modality": "MRI",
        "unit": "a.u.",
        "spacing": np.linalg.norm(affine[:3, :3], axis=0).tolist(),
        "source": {"frame_of_reference": None},
        "suv": None,
        "notes": [],
        **meta,
    }
    tensor = torch.from_numpy(np.ascontiguousarray(values[None], dtype=np.float32))
    return MetaTensor(tensor, affine=torch.from_numpy(np.array(affine)), meta=facts)


def moved(moving: MetaTensor, motion: np.ndarray) -> MetaTensor:
    """The same voxels, said to lie elsewhere: the truth fixed -> moving becomes `motion`."""
    meta = {k: v for k, v in moving.meta.items() if k != "affine"}
    return volume(np.asarray(moving)[0], motion @ np.asarray(moving.affine), **meta)


def error_mm(found: np.ndarray, truth: np.ndarray, points: np.ndarray) -> np.ndarray:
    gap = transform_points(found, points) - transform_points(truth, points)
    return np.linalg.norm(gap, axis=1)


HEAD = np.array([[x, y, z] for x in (-60, 60) for y in (-90, 60) for z in (-40, 70)], dtype=float)
MOTION = rigid((9.0, -12.0, 6.0), (14.0, -22.0, 18.0), about=(0, -15, 15))


@pytest.fixture(scope="module")
def brain(shared_data: Path) -> tuple[MetaTensor, MetaTensor]:
    """T1 and blood-flow PET templates: left-handed storage, 2 mm, aligned to a few mm."""
    folder = shared_data / "volumes" / "mni-templates"
    fixed = load(folder / "spm-t1-avg.nii.gz", modality="MRI")
    return fixed, load(folder / "spm-pet.nii.gz", modality="PET", values_in="a.u.")


@pytest.fixture(scope="module")
def told() -> list[tuple[float, str]]:
    """What the progress callback of `found` was told."""
    return []


@pytest.fixture(scope="module")
def found(brain: tuple[MetaTensor, MetaTensor], told: list) -> Registration:
    fixed, moving = brain
    return register(
        fixed=fixed,
        moving=moved(moving, MOTION),
        preset="fast",
        progress=lambda fraction, text: told.append((fraction, text)),
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


@pytest.fixture(scope="module")
def stretched(sample_data: Path) -> tuple[MetaTensor, MetaTensor, np.ndarray]:
    """The simulated brain, its PET turned, shifted and scaled by +6, -4 and +4 %; the truth."""
    folder = sample_data / "study" / "simulated-brain"
    truth = json.loads((sample_data / "truth" / "simulated-brain.json").read_text())
    fixed = load(folder / "t1.nii.gz", modality="MRI")
    pet = load(folder / "simulated-pet.nii.gz", modality="PET", values_in="SUVbw")
    motion = MOTION @ np.diag([1.06, 0.96, 1.04, 1.0])
    return fixed, moved(pet, motion), motion @ np.array(truth["moving_from_fixed_ras_mm"])


def test_known_affine_map_is_found_where_a_rigid_one_cannot_fit(
    stretched: tuple[MetaTensor, MetaTensor, np.ndarray], tmp_path: Path
) -> None:
    fixed, moving, truth = stretched
    result = register(fixed=fixed, moving=moving, method="affine", preset="fast")
    assert error_mm(result.matrix, truth, HEAD).max() < 1.0
    turned = truth.copy()
    turned[:3, :3] = nearest_rotation(truth[:3, :3])
    assert error_mm(turned, truth, HEAD).max() > 5.0
    assert result.method == "affine"
    assert result.verdict == "good"
    assert "lengths of the functional image changed by" in result.reasons[0]
    result.write_tfm(tmp_path / "affine.tfm")
    np.testing.assert_allclose(read_matrix(tmp_path / "affine.tfm"), result.matrix, atol=1e-9)


def test_affine_start_is_refined_without_a_search_or_kept(
    stretched: tuple[MetaTensor, MetaTensor, np.ndarray],
) -> None:
    fixed, moving, truth = stretched
    start = rigid((2.0, 0.0, -1.0), (3.0, -2.0, 2.0)) @ truth
    refined = register(fixed=fixed, moving=moving, method="affine", initial=start, preset="fast")
    assert error_mm(refined.matrix, truth, HEAD).max() < 1.0
    kept = register(fixed=fixed, moving=moving, method="identity", initial=truth, preset="fast")
    np.testing.assert_array_equal(kept.matrix, truth)
    assert kept.metric_after == pytest.approx(refined.metric_after, rel=0.02)


def test_thigh_is_found_780_mm_and_35_degrees_away(sample_data: Path) -> None:
    """Real PET and MR in two frames; the reference is a clinical fusion that is itself 5-8 mm
    away from where the hot rim of the tumour meets its outline in the MR."""
    study = sample_data / "study" / "sts001"
    truth = json.loads((sample_data / "truth" / "sts001-pet-mr.json").read_text())
    tumour = np.array(truth["contours_ras_mm"]["mr-t2"]["GTV_Mass"]).reshape(-1, 3)
    result = register(fixed=load(study / "mr-t2"), moving=load(study / "pet-fdg"), preset="fast")
    reference = np.array(truth["moving_from_fixed_ras_mm"])
    assert error_mm(result.matrix, reference, tumour).mean() < 12.0
    assert result.shift_mm > 700.0


def test_start_is_followed_and_improved(brain: tuple[MetaTensor, MetaTensor]) -> None:
    fixed, moving = brain
    truth = rigid((0.0, 0.0, 100.0), (200.0, 0.0, -50.0))  # out of reach without a start
    start = rigid((7.0, 5.0, -4.0), (12.0, -9.0, 8.0)) @ truth
    result = register(fixed=fixed, moving=moved(moving, truth), initial=start, preset="fast")
    assert error_mm(result.matrix, truth, HEAD).max() < 5.0
    assert error_mm(start, truth, HEAD).max() > 15.0


def test_shared_frame_of_reference_is_kept_where_images_agree(
    brain: tuple[MetaTensor, MetaTensor],
) -> None:
    same = {"source": {"frame_of_reference": "0123456789abcdef"}}
    fixed, moving = (moved(v, np.eye(4)) for v in brain)
    for v in (fixed, moving):
        v.meta.update(same)
    result = register(fixed=fixed, moving=moving, preset="fast")
    assert result.method == "identity"
    np.testing.assert_array_equal(result.matrix, np.eye(4))
    assert result.verdict == "good"
    assert "headers were kept" in result.reasons[0]


def test_shared_frame_that_the_images_contradict_is_suspect(
    brain: tuple[MetaTensor, MetaTensor],
) -> None:
    fixed, moving = (moved(v, np.eye(4)) for v in brain)
    shifted = moved(moving, rigid((0, 0, 0), (0.0, 18.0, 0.0)))
    for v in (fixed, shifted):
        v.meta["source"] = {"frame_of_reference": "0123456789abcdef"}
    result = register(fixed=fixed, moving=shifted, preset="fast")
    assert result.verdict == "suspect"
    assert "did the patient move" in result.reasons[0]
    assert result.matrix[1, 3] == pytest.approx(18.0, abs=4.0)


def test_identity_optimises_nothing_but_measures(brain: tuple[MetaTensor, MetaTensor]) -> None:
    fixed, moving = brain
    aligned = register(fixed=fixed, moving=moving, method="identity")
    apart = register(fixed=fixed, moving=moved(moving, MOTION), method="identity")
    np.testing.assert_array_equal(apart.matrix, np.eye(4))
    assert aligned.metric_before == aligned.metric_after > 1.5 * apart.metric_after
    assert (aligned.iterations, aligned.shift_mm, aligned.rotation_deg) == (0, 0.0, 0.0)
    assert "trusted" in aligned.reasons[0]
    assert len(aligned.reasons) == 1
    assert "nothing in the images confirms the position" in apart.reasons[1]


def test_identity_is_doubted_where_the_images_fit_much_better_near_by(
    brain: tuple[MetaTensor, MetaTensor],
) -> None:
    fixed, moving = brain
    apart = moved(moving, rigid((0, 0, 0), (12.0, -16.0, 0.0)))
    found = register(fixed=fixed, moving=apart, method="identity")
    assert found.verdict == "suspect"
    assert "nothing was moved, as asked, but the images fit" in found.reasons[0]


def test_headers_of_one_frame_of_reference_are_not_doubted_for_dull_images() -> None:
    kept = dataclasses.replace(FINE, method="identity", shares_frame=True, sharpness=1.0)
    verdict, reasons = judge(dataclasses.replace(kept, change_mm=1.0, change_deg=1.0))
    assert verdict == "good"
    assert "nothing in the images confirms the position" in reasons[-1]


def test_head_on_thigh_is_noticed(brain: tuple[MetaTensor, MetaTensor], sample_data: Path) -> None:
    thigh = load(
        sample_data / "study" / "sts001-aligned" / "ct.nii.gz", modality="CT", values_in="HU"
    )
    found = register(fixed=thigh, moving=brain[1])
    assert found.verdict == "suspect"
    assert "different things" in found.reasons[0]


def test_given_start_can_be_trusted_as_it_is_even_for_three_slices() -> None:
    thin = bad("thin")
    start = rigid((0, 0, 10), (1.0, 2.0, 0.0))
    result = register(fixed=thin, moving=bad("none"), method="identity", initial=start)
    np.testing.assert_allclose(result.matrix, start, atol=1e-12)
    assert (result.method, result.iterations) == ("identity", 0)


def test_progress_goes_forward_to_one_and_follows_the_optimiser(
    found: Registration, told: list[tuple[float, str]]
) -> None:
    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert sum(text == "fine refinement" for _, text in told) >= found.iterations / 4


@pytest.mark.parametrize("stage", ["searching for a start", "coarse refinement"])
def test_progress_that_raises_cancels_with_its_own_exception(
    brain: tuple[MetaTensor, MetaTensor], stage: str
) -> None:
    class CancelledByUserError(Exception):
        pass

    def stop(fraction: float, text: str) -> None:
        if text == stage:
            raise CancelledByUserError(text)

    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    fixed, moving = brain
    with pytest.raises(CancelledByUserError, match=stage):
        register(fixed=fixed, moving=moving, preset="fast", progress=stop)
    assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == threads


def test_itk_threads_are_restored_when_the_last_user_leaves() -> None:
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(3)
    try:
        first, second = single_threaded_itk(), single_threaded_itk()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == 1
        second.__exit__(None, None, None)
        assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == 3
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


# The result: resampling and files.

OBLIQUE = rigid((11.0, -7.0, 23.0), (3.0, -2.0, 4.0)) @ np.diag([1.5, -2.0, 3.0, 1.0])


def registration(matrix: np.ndarray, grid: Grid) -> Registration:
    return Registration(
        matrix=matrix,
        fixed_grid=grid,
        method="rigid",
        verdict="good",
        reasons=("a remark",),
        metric_before=0.1,
        metric_after=1.0 / 3.0,
        iterations=12,
        stop_reason="converged",
        overlap=0.9,
        shift_mm=1.0,
        rotation_deg=2.0,
        seed=0,
    )


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


vectors = st.tuples(*[st.floats(-170, 170)] * 3).filter(lambda v: np.linalg.norm(v) < 175)
shifts = st.tuples(*[st.floats(-800, 800)] * 3)
points = st.lists(st.tuples(*[st.floats(-500, 500)] * 3), min_size=1, max_size=5)


@given(vectors, shifts, points)
@settings(max_examples=40, deadline=None)
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


# The parts.


@given(vectors.filter(lambda v: np.linalg.norm(v) <= 45))
@settings(max_examples=60, deadline=None)
def test_every_rotation_within_the_limit_is_near_one_that_is_tried(vector: tuple) -> None:
    near = min(
        rotation_angle(rigid(vector, (0, 0, 0))[:3, :3].T @ tried)
        for tried in rotation_ball(step_deg=24.0, limit_deg=60.0)
    )
    assert near <= 0.56 * 24.0


@given(vectors, shifts)
@settings(max_examples=40, deadline=None)
def test_rigid_map_survives_itk_and_its_angle_is_the_vectors_length(
    vector: tuple, shift: tuple
) -> None:
    matrix = rigid(vector, shift)
    np.testing.assert_allclose(ras_matrix(euler_transform(matrix, (4, 5, 6))), matrix, atol=1e-8)
    assert rotation_angle(matrix) == pytest.approx(np.linalg.norm(vector), abs=1e-6)


def two_balls(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A large and a small bright ball, asymmetric, smooth; world coordinates."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    world = transform_points(affine, index)

    def ball(centre: tuple[float, ...], radius: float) -> np.ndarray:
        return 1.0 / (1.0 + np.exp(np.linalg.norm(world - centre, axis=-1) - radius))

    return 100.0 * ball((0, 0, 0), 40.0) + 80.0 * ball((12, 18, -9), 12.0)


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


def test_search_finds_a_far_turned_object_within_its_voxel() -> None:
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = (-75, -75, -75)
    still = volume(two_balls(affine, (50, 50, 50)), affine)
    turned = rigid((0.0, 24.0, 0.0), (300.0, -200.0, 700.0))
    found = search(
        prepare(still, base_mm=2.0),
        prepare(moved(still, turned), base_mm=2.0),
        rotations=rotation_ball(step_deg=24.0, limit_deg=30.0),
        step_mm=10.0,
        meter=Meter(None),
    )
    assert np.linalg.norm(found[0].matrix[:3, 3] - turned[:3, 3]) < 10.0
    assert rotation_angle(found[0].matrix @ np.linalg.inv(turned)) < 1.0
    assert found[0].score > 1.1 * found[-1].score


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


# Verdicts and refusals.

FINE = Outcome(
    matrix=np.eye(4),
    method="rigid",
    metric_before=0.1,
    metric_after=0.5,
    overlap=0.9,
    iterations=10,
    stop_reason="converged",
    shares_frame=False,
    given=False,
    change_mm=700.0,
    change_deg=30.0,
    rival=0.5,
    gain=4.0,
    sharpness=1.3,
)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"overlap": 0.2}, "20 % of the anatomical foreground"),
        ({"metric_after": 0.01}, "almost no information"),
        ({"sharpness": 1.04}, "only 1.04 times better here than 8 mm or 8 degrees away"),
        ({"method": "identity", "gain": 0.6, "change_mm": 12.0}, "1.6 times better 12 mm"),
        ({"rival": 0.99}, "nearly as well (score 0.99 times that of the position kept)"),
        ({"rival": 1.03}, "images better (score 1.03 times"),
        ({"matrix": np.diag([1.0, 0.8, 1.0, 1.0])}, "by +0.0 % to +25.0 %"),
        ({"matrix": np.diag([1.12, 1.12, 1.12, 1.0])}, "its volume by -28.8 %"),
        ({"given": True}, "700.0 mm and 30.0 degrees away"),
        ({"given": True, "change_mm": 3.0, "change_deg": 50.0}, "50.0 degrees"),
        ({"shares_frame": True, "change_mm": 6.0, "change_deg": 0.0}, "one frame of reference"),
    ],
)
def test_each_rule_alone_makes_a_result_suspect_and_says_why(change: dict, words: str) -> None:
    assert judge(FINE) == ("good", ())
    verdict, reasons = judge(dataclasses.replace(FINE, **change))
    assert verdict == "suspect"
    assert len(reasons) == 1
    assert words in reasons[0]


def test_fields_of_view_that_do_not_meet_are_refused_with_their_distance(
    brain: tuple[MetaTensor, MetaTensor],
) -> None:
    fixed, moving = brain
    far = moved(moving, rigid((0, 0, 0), (0.0, 0.0, 182.0 + 300.0)))
    with pytest.raises(RegistrationError, match=r"300 mm apart.*E_NO_OVERLAP"):
        register(fixed=fixed, moving=far, method="identity")


@given(vectors, shifts)
@settings(max_examples=40, deadline=None)
def test_distance_of_two_boxes_is_never_more_than_that_of_their_corners(
    turn: tuple, shift: tuple
) -> None:
    one, two = Grid((5, 6, 7), OBLIQUE), Grid((9, 4, 3), np.diag([5.0, 6.0, 7.0, 1.0]))
    matrix = rigid(turn, shift)
    mapped = transform_points(matrix, one.corners())
    between = np.linalg.norm(mapped[:, None] - two.corners()[None], axis=-1).min()
    centres = np.linalg.norm(transform_points(matrix, one.centre) - two.centre)
    gap = gap_mm(one, two, matrix)
    assert gap <= between + 1e-6
    radii = [np.ptp(g.corners(), axis=0) @ np.ptp(g.corners(), axis=0) for g in (one, two)]
    assert gap >= centres - sum(0.5 * np.sqrt(r) for r in radii) - 1e-6
    if coverage(one, two, matrix).any():
        assert gap == 0.0


def bad(kind: str) -> MetaTensor:
    values = np.random.default_rng(0).uniform(size=(8, 9, 10))
    if kind == "constant":
        values[:] = 3.0
    elif kind == "nan":
        values[:2] = np.nan
    elif kind == "thin":
        values = values[..., :3]
    return volume(values, np.diag([2.0, 2.0, 2.0, 1.0]))


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
    ("options", "words"),
    [
        ({"method": "deformable"}, "unknown method"),
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
