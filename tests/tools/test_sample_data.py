"""The sample data: small, attributed, unchanged where it says so, and with a truth that is true."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest

import medfuse
from medfuse.imaging.nifti.facts import find_facts

RAW = "volumes/sts001-pet-mr-dicom"
ALIGNED = "volumes/sts001-aligned-pet-ct-mr"
MAX_BYTES = 12_000_000
DISK_BLOCK = 4096


@pytest.fixture
def simulate_brain(monkeypatch: pytest.MonkeyPatch, sample_data: Path) -> Any:
    monkeypatch.syspath_prepend(sample_data.parent / "tools")
    return importlib.import_module("simulate_brain")


@pytest.fixture(scope="module")
def sts001_truth(sample_data: Path) -> dict[str, Any]:
    return json.loads((sample_data / "truth/sts001-pet-mr.json").read_text())


@pytest.fixture(scope="module")
def brain_truth(sample_data: Path) -> dict[str, Any]:
    return json.loads((sample_data / "truth/simulated-brain.json").read_text())


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def nearest(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points[:, None] - others[None], axis=-1).min(axis=1)


def test_it_is_smaller_than_12_mb_on_any_disk(sample_data: Path) -> None:
    sizes = [path.stat().st_size for path in sample_data.rglob("*") if path.is_file()]
    assert sum(sizes) > MAX_BYTES / 2
    assert sum(-(-size // DISK_BLOCK) * DISK_BLOCK for size in sizes) < MAX_BYTES


def test_sources_licences_and_citations_are_named(sample_data: Path) -> None:
    text = (sample_data / "ATTRIBUTION.md").read_text()
    for words in (
        "10.7937/K9/TCIA.2015.7GO2GSKS",
        "Vallières",
        "Clark",
        "creativecommons.org/licenses/by/3.0",
        "CIT168",
        "creativecommons.org/licenses/by/4.0",
        "Changes made here",
    ):
        assert words in text
    readme = (sample_data / "README.md").read_text()
    assert "medfuse batch sample_data/study --out demo_out" in readme


def test_whatever_is_simulated_says_so_in_its_name_and_inside(
    sample_data: Path, brain_truth: dict[str, Any]
) -> None:
    pet = sample_data / "study/simulated-brain/simulated-pet.nii.gz"
    sidecar = json.loads(pet.with_name("simulated-pet.json").read_text())
    assert sidecar["Simulated"] is True
    assert sidecar["Description"].startswith("SIMULATED")
    assert brain_truth["simulated"] is True
    assert find_facts(pet).modality == "PET"
    assert find_facts(pet).unit == "SUVbw"


@pytest.mark.parametrize(
    ("series", "unit", "maximum", "mean"),
    [
        ("sts001/pet-fdg", "SUVbw", 66.5215, None),
        ("sts001-aligned/pet-suv-dicom", "SUVbw", 25.41230, 0.669975),
    ],
)
def test_known_suv_is_met_to_one_in_ten_thousand(
    sample_data: Path, series: str, unit: str, maximum: float, mean: float | None
) -> None:
    volume = medfuse.load(sample_data / "study" / series)
    assert volume.meta["unit"] == unit
    assert float(volume.max()) == pytest.approx(maximum, rel=1e-4)
    if mean is not None:
        assert float(volume.mean()) == pytest.approx(mean, rel=1e-4)


def test_both_pets_of_the_person_agree_where_both_are(sample_data: Path) -> None:
    raw = medfuse.load(sample_data / "study/sts001/pet-fdg")
    block = medfuse.load(sample_data / "study/sts001-aligned/pet-suv-dicom")
    start = np.linalg.inv(np.asarray(raw.affine)) @ np.asarray(block.affine)[:, 3]
    i, j, k = np.rint(start[:3]).astype(int)
    x, y, z = block.shape[1:]
    same = np.asarray(raw)[0, i : i + x, j : j + y, k : k + z]
    np.testing.assert_allclose(same, np.asarray(block)[0], rtol=2e-4, atol=2e-3)


def test_the_mr_holds_the_tumour_with_a_margin(
    sample_data: Path, sts001_truth: dict[str, Any]
) -> None:
    mr = medfuse.load(sample_data / "study/sts001/mr-t2")
    tumour = np.array(sts001_truth["contours_ras_mm"]["mr-t2"]["GTV_Mass"])
    index = apply(np.linalg.inv(np.asarray(mr.affine)), tumour)
    assert mr.shape == (1, 384, 384, 24)
    assert (index.min(axis=0) > 1).all()
    assert (index.max(axis=0) < np.array(mr.shape[1:]) - 2).all()


def test_the_reference_transform_brings_the_contours_together(
    sts001_truth: dict[str, Any],
) -> None:
    matrix = np.array(sts001_truth["moving_from_fixed_ras_mm"])
    contours = sts001_truth["contours_ras_mm"]
    for name in ("GTV_Mass", "GTV_Edema"):
        mr, pet = (np.array(contours[frame][name]) for frame in ("mr-t2", "pet-fdg"))
        shifted = mr + pet.mean(axis=0) - mr.mean(axis=0)
        registered = nearest(apply(matrix, mr), pet).mean()
        assert registered < 4.0
        assert nearest(shifted, pet).mean() > 1.5 * registered
    np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-6)


def test_the_start_of_the_raw_pair_is_rough_but_rigid_and_near(
    sample_data: Path, sts001_truth: dict[str, Any]
) -> None:
    start = np.loadtxt(sample_data / "study/sts001/start.txt")
    truth = np.array(sts001_truth["moving_from_fixed_ras_mm"])
    tumour = np.array(sts001_truth["contours_ras_mm"]["mr-t2"]["GTV_Mass"])
    off = np.linalg.norm(apply(start, tumour) - apply(truth, tumour), axis=1)
    assert 1 < np.median(off) < 8
    np.testing.assert_allclose(start[:3, :3] @ start[:3, :3].T, np.eye(3), atol=1e-6)


def test_packed_dicom_differs_from_its_source_in_nothing_but_the_packing(
    sample_data: Path, shared_data: Path
) -> None:
    for folder in ("pet-fdg", "mr-t2"):
        files = sorted((sample_data / "study/sts001" / folder).iterdir())
        for path in (files[0], files[len(files) // 2], files[-1]):
            ours, theirs = (
                pydicom.dcmread(path),
                pydicom.dcmread(shared_data / RAW / folder / path.name),
            )
            np.testing.assert_array_equal(ours.pixel_array, theirs.pixel_array)
            del ours.PixelData, theirs.PixelData
            assert ours == theirs


def test_cropped_nifti_keeps_values_and_world_positions(
    sample_data: Path, shared_data: Path
) -> None:
    for name in ("ct.nii.gz", "mr-t1.nii.gz"):
        ours = nib.load(sample_data / "study/sts001-aligned" / name)
        theirs = nib.load(shared_data / ALIGNED / name)
        first = int(np.rint((np.linalg.inv(theirs.affine) @ ours.affine[:, 3])[2]))
        cut = theirs.dataobj[..., first : first + ours.shape[2]]
        np.testing.assert_array_equal(np.asarray(ours.dataobj), cut)
        np.testing.assert_allclose(ours.affine[:, :3], theirs.affine[:, :3])


def test_the_lesions_lie_where_the_truth_says_and_only_on_their_side(
    sample_data: Path, brain_truth: dict[str, Any]
) -> None:
    pet = nib.load(sample_data / "truth/simulated-pet-noise-free.nii.gz")
    values, index_from_pet = np.asarray(pet.dataobj), np.linalg.inv(pet.affine)
    matrix = np.array(brain_truth["moving_from_fixed_ras_mm"])
    suv = {}
    for lesion in brain_truth["lesions"]:
        for side in (1, -1):
            centre = np.array(lesion["centre_mm"]) * [side, 1, 1]
            i, j, k = np.rint(apply(index_from_pet, apply(matrix, centre))).astype(int)
            suv[lesion["name"], side] = values[i - 1 : i + 2, j - 1 : j + 2, k - 1 : k + 2].mean()
    assert suv["hot", 1] > 0.85 * brain_truth["lesions"][0]["uptake_suv"]
    assert suv["hot", -1] < 6
    assert suv["cold", 1] == pytest.approx(brain_truth["lesions"][1]["uptake_suv"], abs=0.3)
    assert suv["cold", -1] > 4


def test_grey_takes_up_about_four_times_as_much_as_white(
    sample_data: Path, simulate_brain: Any
) -> None:
    image = nib.load(sample_data / "study/simulated-brain/t1.nii.gz")
    t1 = np.asarray(image.dataobj, dtype=float)
    fractions = simulate_brain.tissue_fractions(t1)
    np.testing.assert_allclose(fractions.sum(axis=0), t1 > 0, atol=1e-9)
    uptake = simulate_brain.uptake_map(t1, image.affine, simulate_brain.Simulation())
    csf, grey, white = (uptake[f > 0.95].mean() for f in fractions)
    assert grey / white == pytest.approx(4, rel=0.1)
    assert csf < 0.1
    assert 0.5 < (fractions[1].sum() / fractions.sum()) < 0.6


def test_the_simulation_follows_its_seed_and_its_noise_its_number(simulate_brain: Any) -> None:
    shape, plan = (60, 60, 50), simulate_brain.Simulation(lesions=())
    distance = np.linalg.norm(np.moveaxis(np.indices(shape), 0, -1) - [30, 30, 25], axis=-1)
    classes = np.select([distance < 12, distance < 20, distance < 24], [192.0, 138.0, 40.0])
    spread = np.random.default_rng(0).normal(0, 6, shape)
    t1 = np.where(classes > 0, classes + spread, 0).clip(0)
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    settings = replace(plan, shape=shape)
    noisy, clean, _, matrix = simulate_brain.simulate(t1, affine, settings)
    again = simulate_brain.simulate(t1, affine, settings)[0]
    other = simulate_brain.simulate(t1, affine, replace(settings, seed=1))[0]
    np.testing.assert_array_equal(noisy, again)
    assert not np.array_equal(noisy, other)
    grey = clean > 7.8
    assert (noisy - clean)[grey].std() == pytest.approx(settings.noise_at_grey_suv, rel=0.1)
    np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)


def test_the_blur_has_the_width_it_is_given(simulate_brain: Any) -> None:
    point = np.zeros((41, 31, 21))
    point[20, 15, 10] = 1
    spacing = np.array([1.0, 1.5, 2.0])
    blurred = simulate_brain.blur(point, spacing, 6.0)
    assert blurred.sum() == pytest.approx(1, abs=1e-3)
    for axis in range(3):
        profile = blurred.sum(axis=tuple(a for a in range(3) if a != axis))
        place = np.arange(len(profile)) * spacing[axis]
        mean = (profile * place).sum() / profile.sum()
        sigma = np.sqrt((profile * (place - mean) ** 2).sum() / profile.sum())
        assert sigma * simulate_brain.FWHM_PER_SIGMA == pytest.approx(6.0, rel=0.05)


@pytest.mark.slow
def test_the_stored_pet_is_what_the_generator_makes(
    sample_data: Path, simulate_brain: Any, tmp_path: Path
) -> None:
    t1 = sample_data / "study/simulated-brain/t1.nii.gz"
    simulate_brain.write_case(t1, tmp_path, tmp_path / "truth", simulate_brain.Simulation())
    for new, stored in (
        (tmp_path, sample_data / "study/simulated-brain"),
        (tmp_path / "truth", sample_data / "truth"),
    ):
        for path in new.glob("*simulated*.nii.gz"):
            ours, theirs = nib.load(path), nib.load(stored / path.name)
            quantum = theirs.dataobj.slope
            np.testing.assert_allclose(ours.dataobj, theirs.dataobj, atol=1.5 * quantum)
            np.testing.assert_array_equal(ours.affine, theirs.affine)
        for path in new.glob("*.json"):
            # What is stored names the script where it was then; a new text would change its hash.
            made = path.read_text().replace("tools/simulate", "workflows/simulate")
            assert json.loads(made) == json.loads((stored / path.name).read_text())
