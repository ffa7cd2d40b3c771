"""The unit check: the true reason, and an alarm only where a reader has to look."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medfuse.case.record import unit_check
from medfuse.imaging.pet.header import NO_UNIT_STATED
from medfuse.imaging.reader import load
from tests._helpers import make
from tests._helpers.series import set_tags


def _nifti(folder: Path, **sidecar: object) -> Path:
    make.write_nifti(folder / "pet.nii.gz", edit=lambda h: h.__setitem__("xyzt_units", 0))
    if sidecar:
        (folder / "pet.json").write_text(json.dumps(sidecar))
    return folder / "pet.nii.gz"


def test_a_nifti_pet_without_unit_is_a_remark_with_the_way_out(tmp_path: Path) -> None:
    check = unit_check(load(_nifti(tmp_path)))
    assert (check.verdict, check.value) == ("pass", 0.0)
    assert NO_UNIT_STATED in check.text
    assert "xyzt_units" not in check.text


@pytest.mark.parametrize(
    ("sidecar", "words"),
    [
        ({"Units": "Bq/ml"}, "SUVbw was not available: InjectionStart is missing"),
        ({"Units": "spoons"}, "SUVbw was not available: the Units of the sidecar are not known"),
        ({"Units": "counts"}, "SUVbw was not available: unit counts is that of the sidecar"),
    ],
)
def test_a_unit_that_was_stated_and_is_none_of_suv_is_looked_at(
    tmp_path: Path, sidecar: dict[str, object], words: str
) -> None:
    full = sidecar | {"ImageDecayCorrected": True, "AttenuationCorrection": "CT"}
    full |= {"InjectedRadioactivity": "300 MBq", "TracerRadionuclide": "F18", "PatientWeight": 70}
    check = unit_check(load(_nifti(tmp_path, **full)))
    assert check.verdict == "look"
    assert words in check.text


def test_the_refusal_of_a_dicom_header_is_the_reason(tmp_path: Path) -> None:
    make.write_series(tmp_path, make.SeriesPlan(modality="PT"))
    for k in range(make.SHAPE[2]):
        set_tags(k, PatientWeight=None)(tmp_path)
    check = unit_check(load(tmp_path))
    assert check.verdict == "look"
    assert check.text.endswith("not available: PatientWeight (0010,1030) is missing or unreadable")


def test_proportions_that_were_asked_for_are_a_unit_of_pet(tmp_path: Path) -> None:
    make.write_series(tmp_path, make.SeriesPlan(modality="PT"))
    assert unit_check(load(tmp_path, unit="proportion")).verdict == "pass"
