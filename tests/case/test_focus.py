"""The region that a case must get right: read from any file, told by name, replayed."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medfuse.case.focus import read_region
from medfuse.case.pipeline import case_key, run_case
from medfuse.errors import InputError, MedfuseError
from medfuse.imaging.reader import load
from medfuse.registration.result import Registration
from medfuse.settings import CaseSettings
from medfuse.study.manifest import read_cases
from medfuse.verification.verify import verify
from tests._helpers.make import SeriesPlan, phantom, write_series
from tests._helpers.regions import FRAMES, image, segmentation, square, structure_set

ANATOMICAL, FUNCTIONAL = (1.0, 1.0, 2.0), (4.0, 4.0, 3.0)


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(1)
    mri = image(rng.random((60, 60, 30)), ANATOMICAL, modality="MRI", role="anatomical")
    return mri, image(rng.random((20, 20, 25)), FUNCTIONAL)


def rings(low: float, high: float) -> list[np.ndarray]:
    return [square(z, -high, -low) for z in (9.0, 12.0, 15.0)]


@pytest.fixture(scope="module")
def structures(tmp_path_factory) -> Path:
    """Two structures of the functional image, in LPS."""
    path = tmp_path_factory.mktemp("rt") / "rtstruct.dcm"
    return structure_set(path, {"GTV": rings(20, 32), "liver": rings(40, 60)})


def label_map(path: Path) -> Path:
    values = np.zeros((60, 60, 30), np.int16)
    values[10:20, 10:20, 5:10], values[30:50, 30:50, 10:20] = 1, 2
    nib.save(nib.Nifti1Image(values, np.diag([*ANATOMICAL, 1.0])), path)
    return path


@pytest.mark.parametrize("name", ["GTV", "gtv", "1"])
def test_one_structure_of_several_is_told_by_name_or_number(pair, structures, name):
    region = read_region(f"{name}={structures}", *pair)
    assert region.of == "moving"
    assert region.to_dict()["volume_ml"] == pytest.approx(12 * 12 * 9 / 1000, rel=0.1)
    np.testing.assert_allclose(region.points(np.eye(4)).mean(axis=0), (26, 26, 12), atol=1.0)


def test_a_segmentation_is_read_in_its_frame_of_reference(tmp_path, pair):
    values = phantom((16, 16, 10))
    series = tmp_path / "pet"
    write_series(series, SeriesPlan(values=values, modality="MR", orientation=(1, 0, 0, 0, 1, 0)))
    mri = load(series)
    masks = {name: np.zeros((10, 16, 16), bool) for name in ("tumor", "brain")}
    masks["tumor"][3:6, 4:9, 5:8], masks["brain"][2:9, 2:14, 2:14] = True, True
    path = segmentation(tmp_path / "seg.dcm", series, masks)
    region = read_region(f"tumor={path}", mri, pair[1], allow_patient_mismatch=True)
    assert (region.of, int(region.inside.sum())) == ("fixed", 3 * 5 * 3)


def test_a_label_map_needs_a_name_and_a_mask_takes_any(tmp_path, pair):
    path = label_map(tmp_path / "organs.nii.gz")
    (tmp_path / "organs.json").write_text(json.dumps({"1": "pons", "2": "liver"}))
    assert read_region(f"pons={path}", *pair).inside.sum() == 500
    assert read_region(f"2={path}", *pair).inside.sum() == 4000
    mask = tmp_path / "mask.nii.gz"
    values = (np.asanyarray(nib.load(path).dataobj) == 1).astype(np.uint8)
    nib.save(nib.Nifti1Image(values, np.diag([*ANATOMICAL, 1.0])), mask)
    assert read_region(mask, *pair).of == "fixed"
    assert read_region(f"tumor={mask}", *pair).inside.sum() == 500


@pytest.mark.parametrize(
    ("name", "words", "remedy"),
    [
        ("", "it holds 2 structures (GTV, liver)", "Name one of them with region=NAME=FILE"),
        ("spleen=", "it holds no structure 'spleen', but GTV, liver", "Name one of them"),
    ],
)
def test_a_name_that_does_not_decide_lists_the_names(pair, structures, name, words, remedy):
    with pytest.raises(InputError, match=r"\[E_REGION\]") as raised:
        read_region(f"{name}{structures}", *pair)
    assert (words in raised.value.cause, remedy in raised.value.remedy) == (True, True)
    assert "\n" not in str(raised.value)


def test_two_structures_of_one_name_are_told_by_number(tmp_path, pair):
    path = structure_set(tmp_path / "two.dcm", {"GTV": rings(20, 32), "gtv": rings(40, 60)})
    with pytest.raises(InputError, match=r"called 'Gtv' \(numbers 1, 2\).*NUMBER=FILE"):
        read_region(f"Gtv={path}", *pair)
    assert read_region(f"gtv={path}", *pair).to_dict()["volume_ml"] == pytest.approx(3.6, rel=0.1)


@pytest.mark.parametrize(
    ("made", "code", "words"),
    [
        ({"frame": "9.9.9"}, "E_REGION", "frame of reference that is that of neither image"),
        ({"PatientID": "other"}, "E_MIXED_PATIENT", "two different patients"),
        ({"kind": "POINT"}, "E_REGION", "none of its 1 voxels is 0.5 or more"),
    ],
)
def test_structures_of_another_world_or_person_are_refused(tmp_path, pair, made, code, words):
    given = {"frame": FRAMES["functional"], **made}
    path = structure_set(tmp_path / "other.dcm", {"GTV": rings(20, 32)}, **given)
    with pytest.raises(MedfuseError) as raised:
        read_region(path, *pair)
    assert raised.value.code == code
    assert words in raised.value.cause
    assert "drawn_on" not in str(raised.value)  # there is no such setting of a case


def test_a_manifest_names_a_structure_of_a_file_beside_it(tmp_path):
    for name in ("t1.nii.gz", "pet.nii.gz", "rt.dcm"):
        (tmp_path / name).touch()
    sheet = tmp_path / "cases.csv"
    head = "case,anatomical,functional,region\n"
    sheet.write_text(f"{head}a,t1.nii.gz,pet.nii.gz,GTV=rt.dcm\nb,t1.nii.gz,pet.nii.gz,no.dcm\n")
    found, missing = read_cases(sheet)
    assert found.overrides == {"region": f"GTV={tmp_path / 'rt.dcm'}"}
    assert "the region file or folder is not there" in missing.reason


def test_another_structure_of_the_same_file_is_another_case(sample_data, tmp_path, structures):
    study = sample_data / "study" / "simulated-brain"
    images = study / "t1.nii.gz", study / "simulated-pet.nii.gz"
    keys = {case_key(*images, CaseSettings(region=f"{n}{structures}")) for n in ("GTV=", "1=", "")}
    assert len(keys) == 3


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
