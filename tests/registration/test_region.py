"""A region that must fit: whose it is, what is refused, what it changes, how it is replayed."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medfuse.case.pipeline import run_case
from medfuse.errors import InputError
from medfuse.imaging.grid import transform_points
from medfuse.imaging.reader import load
from medfuse.registration.region import read_region
from medfuse.registration.result import Registration
from medfuse.settings import CaseSettings
from medfuse.verification.verify import verify
from tests._helpers.motions import volume

FIXED = np.diag([2.0, 2.0, 3.0, 1.0])
MOVING = np.diag([4.0, 4.0, 4.0, 1.0])
SHAPE, OTHER = (30, 32, 20), (20, 20, 18)


def mask(path: Path, shape: tuple[int, ...], affine: np.ndarray, *, filled=slice(5, 9)) -> Path:
    values = np.zeros(shape, np.uint8)
    values[filled, filled, filled] = 3
    nib.save(nib.Nifti1Image(values, affine), path)
    return path


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    return volume(rng.random(SHAPE), FIXED), volume(rng.random(OTHER), MOVING)


def test_a_mask_lies_in_the_world_of_the_image_whose_grid_it_has(tmp_path, pair):
    drawn = {
        "fixed": mask(tmp_path / "a.nii.gz", SHAPE, FIXED),
        "moving": mask(tmp_path / "b.nii.gz", OTHER, MOVING),
    }
    shift = np.eye(4)
    shift[:3, 3] = (10.0, -4.0, 6.0)
    for of, path in drawn.items():
        region = read_region(path, *pair)
        assert region.of == of
        assert region.inside.sum() == 64
        centre = region.points(shift).mean(axis=0)
        world = transform_points(region.affine, np.full(3, 6.5))
        expected = world if of == "fixed" else world - shift[:3, 3]
        np.testing.assert_allclose(centre, expected, atol=1e-5)
        np.testing.assert_allclose(
            region.exchanged().points(np.linalg.inv(shift)).mean(axis=0),
            transform_points(shift, centre),
            atol=1e-5,
        )


def test_a_mask_cut_out_of_the_anatomical_image_is_read_there(tmp_path, pair):
    affine = FIXED.copy()
    affine[:3, 3] = (8.0, 8.0, 9.0)
    assert read_region(mask(tmp_path / "c.nii.gz", (12, 12, 12), affine), *pair).of == "fixed"


@pytest.mark.parametrize(
    ("away", "filled", "words"),
    [
        (0.0, slice(0, 0), "same value"),
        (500.0, slice(5, 9), "0 % of it lie in the field of view"),
    ],
)
def test_what_is_no_region_of_this_pair_is_refused(tmp_path, pair, away, filled, words):
    affine = FIXED.copy()
    affine[0, 3] = away
    path = mask(tmp_path / "m.nii.gz", SHAPE, affine, filled=filled)
    with pytest.raises(InputError, match=r"\[E_REGION\]") as raised:
        read_region(path, *pair)
    assert words in raised.value.cause


def test_a_case_with_a_region_tells_the_error_there_and_is_replayed(sample_data, tmp_path):
    study = sample_data / "study" / "simulated-brain"
    t1 = load(study / "t1.nii.gz", modality="MRI")
    image = nib.load(study / "t1.nii.gz")
    middle = np.array(image.shape) // 2
    values = np.zeros(image.shape, np.uint8)
    values[tuple(slice(m - 8, m + 8) for m in middle)] = 1
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    drawn = inputs / "tumor.nii.gz"
    nib.save(nib.Nifti1Image(values, image.affine), drawn)
    settings = CaseSettings(
        preset="fast", method="mean", region=str(drawn), functional_unit="SUVbw",
        anatomical_modality="MRI", functional_modality="PET",
    )  # fmt: skip
    out = tmp_path / "brain"
    run_case(study / "t1.nii.gz", study / "simulated-pet.nii.gz", out, settings, case="brain")
    found = Registration.from_dict(json.loads((out / "transform.json").read_text()))
    assert found.places[0].name == "the region"
    assert found.expected.witnesses[0].name == "the whole body"
    region = read_region(drawn, t1, t1)
    within = found.error_within_mm(region.points(found.matrix))
    assert found.places[0].within_mm == pytest.approx(within.max(), abs=1e-9)
    signs = {sign.name: sign for sign in found.signs}
    assert signs["expected error"].value == pytest.approx(within.mean())
    assert signs["overlap of the region"].value == 1.0
    record = json.loads((out / "provenance.json").read_text())
    told = next(s for s in record["steps"] if s["name"] == "register")["parameters"]["region"]
    assert told["in_the_world_of"] == "anatomical"
    assert "tumor" not in (out / "provenance.json").read_text()
    drawn.unlink()  # the result holds what a replay needs
    findings = {f.what: f for f in verify(out, inputs=study)}
    assert not [f for f in findings.values() if f.ok is False]
    assert findings["registration"].ok
