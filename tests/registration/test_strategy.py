"""What is tried: rigid, affine, a start that is given, headers that are trusted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from monai.data.meta_tensor import MetaTensor

from medfuse.imaging.reader import load
from medfuse.registration.refine import nearest_rotation
from medfuse.registration.result import register
from medfuse.registration.start import read_matrix
from tests._helpers.motions import HEAD, MOTION, bad, error_mm, moved, rigid


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


def test_headers_of_one_frame_are_kept_and_doubted_where_the_images_contradict(
    brain: tuple[MetaTensor, MetaTensor],
) -> None:
    fixed, moving = (moved(v, np.eye(4)) for v in brain)
    shifted = moved(moving, rigid((0, 0, 0), (0.0, 18.0, 0.0)))
    for v in (fixed, shifted):
        v.meta["source"] = {"frame_of_reference": "0123456789abcdef"}
    result = register(fixed=fixed, moving=shifted, preset="fast")
    assert result.verdict == "look"
    assert "did the patient move" in result.reasons[0]
    np.testing.assert_array_equal(result.matrix, np.eye(4))
    headers, search = result.alternatives
    assert (headers.name, search.name) == ("headers", "search")
    assert search.matrix[1, 3] == pytest.approx(18.0, abs=4.0)
    chosen = register(fixed=fixed, moving=shifted, preset="fast", choose="search")
    np.testing.assert_array_equal(chosen.matrix, search.matrix)
    assert "chosen by hand: search" in chosen.reasons[-1]


def test_identity_optimises_nothing_but_measures(brain: tuple[MetaTensor, MetaTensor]) -> None:
    fixed, moving = brain
    aligned = register(fixed=fixed, moving=moving, method="identity")
    apart = register(fixed=fixed, moving=moved(moving, MOTION), method="identity")
    np.testing.assert_array_equal(apart.matrix, np.eye(4))
    assert aligned.metric_before == aligned.metric_after > 1.5 * apart.metric_after
    assert (aligned.iterations, aligned.shift_mm, aligned.rotation_deg) == (0, 0.0, 0.0)
    assert "trusted" in aligned.reasons[0]
    assert len(aligned.reasons) == 1
    assert apart.verdict != "good"
    assert (apart.error_within_mm(HEAD) > 10.0).all()


def test_identity_is_doubted_where_the_images_fit_much_better_near_by(
    brain: tuple[MetaTensor, MetaTensor],
) -> None:
    fixed, moving = brain
    apart = moved(moving, rigid((0, 0, 0), (12.0, -16.0, 0.0)))
    found = register(fixed=fixed, moving=apart, method="identity")
    assert found.verdict == "suspect"
    assert "nothing was moved, as asked, but the images fit" in found.reasons[0]


def test_given_start_can_be_trusted_as_it_is_even_for_three_slices() -> None:
    thin = bad("thin")
    start = rigid((0, 0, 10), (1.0, 2.0, 0.0))
    result = register(fixed=thin, moving=bad("none"), method="identity", initial=start)
    np.testing.assert_allclose(result.matrix, start, atol=1e-12)
    assert (result.method, result.iterations) == ("identity", 0)
