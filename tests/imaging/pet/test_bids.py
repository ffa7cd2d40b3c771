"""SUV of BIDS PET: the arithmetic of the sidecar, and refusals in its own words."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfuse.case.pipeline import CaseSettings, case_key
from medfuse.errors import SuvUnavailable
from medfuse.imaging.pet.bids import suv_of_sidecar
from medfuse.imaging.pet.body_weight import Weight, find_weight
from medfuse.imaging.pet.suv import SuvScale, describe_steps
from medfuse.imaging.reader import describe, read_volume
from tests._helpers import make

SIDECAR: dict[str, Any] = {
    "Modality": "PET", "Units": "Bq/mL", "TracerRadionuclide": "F18", "InjectedRadioactivity": 370,
    "InjectedRadioactivityUnits": "MBq", "InjectionStart": -3600, "ScanStart": 0,
    "ImageDecayCorrected": True, "ImageDecayCorrectionTime": 0,
    "AttenuationCorrection": "CT-based",
}  # fmt: skip
FACTOR = 80 * 1000 / (370e6 * 2 ** (-3600 / 6586.2))


def write_subject(root: Path, weight: str = "80", **changes: object) -> Path:
    (root / "sub-01" / "pet").mkdir(parents=True, exist_ok=True)
    participants = f"participant_id\tage\tweight\nsub-02\t4\t9\nsub-01\t50\t{weight}\n"
    (root / "participants.tsv").write_text(participants)
    path = root / "sub-01" / "pet" / "sub-01_pet.nii.gz"
    make.write_nifti(path)
    path.with_name("sub-01_pet.json").write_text(json.dumps(SIDECAR | changes))
    return path


def test_activity_becomes_suv_by_sidecar_and_weight(tmp_path: Path) -> None:
    path = write_subject(tmp_path)
    volume = read_volume(path, unit="suv")
    assert volume.meta["unit"] == "SUVbw"
    np.testing.assert_allclose(volume.values, make.phantom() * FACTOR, rtol=1e-4)
    steps = " ".join(describe(path)[0]["suv_steps"])
    assert "weight [kg] = 80" in steps
    assert "reference rule = ImageDecayCorrectionTime" in steps


def test_kilobecquerel_are_converted_before(tmp_path: Path) -> None:
    volume = read_volume(write_subject(tmp_path, Units="kBq/mL"))
    np.testing.assert_allclose(volume.values, make.phantom() * 1e3 * FACTOR, rtol=1e-4)


@pytest.mark.parametrize(
    ("weight", "changes", "words"),
    [
        ("n/a", {}, "weight of participants.tsv is missing"),
        ("80000", {}, "weight of participants.tsv is 80000 kg"),
        ("80", {"InjectedRadioactivity": "n/a"}, "InjectedRadioactivity is missing"),
        ("80", {"InjectedRadioactivityUnits": "drops"}, "InjectedRadioactivity has no unit"),
        ("80", {"TracerRadionuclide": "X99"}, "TracerRadionuclide is missing"),
        ("80", {"ImageDecayCorrected": False}, "ImageDecayCorrected is not true"),
        ("80", {"AttenuationCorrection": "none"}, "AttenuationCorrection is missing or none"),
        ("80", {"InjectionStart": 100}, "InjectionStart .* lies 100 s after the reference time"),
        ("80", {"InjectionStart": "soon"}, "InjectionStart is no number of seconds"),
        ("80", {"ImageDecayCorrectionTime": None}, "ImageDecayCorrectionTime is missing"),
    ],
)
def test_what_is_missing_is_named_and_the_unit_stays(
    tmp_path: Path, weight: str, changes: dict[str, object], words: str
) -> None:
    path = write_subject(tmp_path, weight, **changes)
    volume = read_volume(path)
    assert volume.meta["unit"] == "Bq/ml"
    assert any(re.match(f"SUV not available: {words}", note) for note in volume.meta["notes"])
    with pytest.raises(SuvUnavailable, match=words):
        read_volume(path, unit="suv")


def test_a_corrected_weight_makes_a_case_anew(tmp_path: Path) -> None:
    keys, hashes = set(), set()
    make.write_nifti(tmp_path / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    for weight in ("80", "81"):
        path = write_subject(tmp_path, weight)
        keys.add(case_key(tmp_path / "sub-01/anat/sub-01_T1w.nii.gz", path, CaseSettings()))
        hashes.add(read_volume(path).meta["source"]["sha256"])
    assert (len(keys), len(hashes)) == (2, 2)


def test_the_real_sidecar_gives_its_suv(shared_data: Path) -> None:
    """573 MBq of C-11 at time zero, to which the image is decay-corrected; 21 kg (as it says)."""
    folder = shared_data / "volumes/bids-pet-layout/pet001/sub-01/ses-01/pet"
    sidecar = json.loads((folder / "sub-01_ses-01_trc-CIMBI36_pet.json").read_text())
    assert find_weight(folder / "x.nii").kg == 21
    scale = suv_of_sidecar(sidecar, Weight(21))
    assert scale.refusal is None
    assert scale.factor == pytest.approx(21e3 / 573e6)


# --- dialects -------------------------------------------------------------------------------

#: As dcm2niix writes it with -ba n; with -ba y the weight is not in it.
DCM2NIIX: dict[str, Any] = {
    "Modality": "PT", "Manufacturer": "Siemens", "PatientWeight": 80, "Units": "BQML",
    "Radiopharmaceutical": "FDG -- fluorodeoxyglucose", "RadionuclideTotalDose": 3.7e8,
    "RadionuclideHalfLife": 6586.2, "DecayCorrection": "START",
    "AttenuationCorrectionMethod": "measured,AC_CT", "FrameTimesStart": [0],
    "FrameDuration": [300], "DecayFactor": [1.0159], "AcquisitionTime": "11:00:00.000000",
}  # fmt: skip
#: As PET2BIDS completes it: both dialects side by side.
PET2BIDS: dict[str, Any] = DCM2NIIX | {
    "Units": "Bq/mL", "TracerRadionuclide": "F18", "TracerName": "FDG", "TimeZero": "11:00:00",
    "InjectedRadioactivity": 370, "InjectedRadioactivityUnits": "MBq", "InjectionStart": -3600,
    "ScanStart": 0, "ImageDecayCorrected": True, "ImageDecayCorrectionTime": 0,
    "AttenuationCorrection": "measured,AC_CT", "DecayCorrectionFactor": [1.0159],
}  # fmt: skip
NOBODY = Weight()


def scale_with(base: dict[str, Any], weight: Weight = NOBODY, **changes: Any) -> SuvScale:
    sidecar = {name: value for name, value in (base | changes).items() if value != "absent"}
    return suv_of_sidecar(sidecar, weight)


def test_dcm2niix_has_no_time_of_injection() -> None:
    scale = scale_with(DCM2NIIX)
    assert (scale.unit, scale.factor) == ("Bq/ml", 1.0)
    assert (scale.refusal or "").startswith("InjectionStart is missing")
    assert scale.record["dose_bq"] == 3.7e8


def test_dcm2niix_of_an_image_corrected_to_the_injection_needs_none() -> None:
    scale = scale_with(DCM2NIIX, DecayCorrection="ADMIN")
    assert scale.factor == pytest.approx(80e3 / 3.7e8)
    anonymous = scale_with(DCM2NIIX, DecayCorrection="ADMIN", PatientWeight="absent")
    assert (anonymous.refusal or "").startswith("weight of participants.tsv is missing")


def test_dcm2niix_with_the_injection_added_by_hand() -> None:
    scale = scale_with(DCM2NIIX, ScanStart=0, InjectionStart="-3600")
    assert scale.factor == pytest.approx(FACTOR)
    assert scale.record["reference_rule"] == "ScanStart (DecayCorrection START)"


def test_pet2bids_has_everything_twice_and_agrees() -> None:
    scale = scale_with(PET2BIDS, Weight(80, "weight of sessions.tsv"))
    assert scale.factor == pytest.approx(FACTOR)
    assert scale.record["remarks"] == []
    steps = " | ".join(describe_steps(scale.record))
    for words in (
        "dose [Bq] = 370000000, from InjectedRadioactivity",
        "weight [kg] = 80, from PatientWeight",
        "half-life [s] = 6586.2, from RadionuclideHalfLife",
        "injection from = InjectionStart",
        "reference rule = ImageDecayCorrectionTime",
    ):
        assert words in steps


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"RadionuclideTotalDose": 3e8}, "disagrees with RadionuclideTotalDose"),
        ({"InjectedRadioactivity": [370, 200]}, "InjectedRadioactivity is no single number"),
        ({"InjectedRadioactivity": "370 MBq", "InjectedRadioactivityUnits": "mCi"}, "no unit"),
        ({"InjectedRadioactivityUnits": "absent"}, "InjectedRadioactivity has no unit"),
        ({"InjectedRadioactivityUnits": "Bq", "RadionuclideTotalDose": "absent"}, "is 370 Bq"),
        ({"TracerRadionuclide": "C11"}, "TracerRadionuclide and the tracer name C-11 and F-18"),
        ({"TracerName": "[11C]PIB"}, "name C-11 and F-18"),
        ({"RadionuclideHalfLife": 1223.4}, "RadionuclideHalfLife is 1223.4 s, F-18 has"),
        ({"DecayCorrection": "NONE"}, "DecayCorrection disagrees with ImageDecayCorrected"),
        ({"ImageDecayCorrected": False}, "DecayCorrection disagrees with ImageDecayCorrected"),
        ({"DecayCorrection": "ADMIN"}, "is ADMIN, but ImageDecayCorrectionTime lies 60.0 min"),
        ({"ScanStart": 1800}, "disagrees with DecayCorrection START and ScanStart"),
        ({"DecayCorrection": "absent", "ScanStart": -600}, "after the first acquisition"),
        ({"DecayCorrectionFactor": [1.46]}, "DecayCorrectionFactor is 1.46"),
        ({"AttenuationCorrectionMethod": "NONE"}, "disagrees with AttenuationCorrectionMethod"),
        ({"AttenuationCorrection": "not applied", "AttenuationCorrectionMethod": "absent"},
         "AttenuationCorrection is missing or none"),
        ({"InjectionStart": "10:00:00"}, "InjectionStart is no number of seconds"),
        ({"InjectionStart": -3600000}, "lies 41.7 days before the reference time"),
        ({"PatientWeight": "absent"}, "weight of participants.tsv is missing"),
        ({"PatientWeight": "176 lb"}, "PatientWeight is no number in its unit"),
        ({"RadionuclideHalfLife": "109.77 min"}, "RadionuclideHalfLife is no number of seconds"),
        ({"RadionuclideTotalDose": "370 MBq"}, "RadionuclideTotalDose is no number in its unit"),
    ],
)  # fmt: skip
def test_what_a_sidecar_says_twice_must_agree(changes: dict[str, Any], words: str) -> None:
    scale = scale_with(PET2BIDS, **changes)
    assert scale.unit == "Bq/ml"
    assert words in (scale.refusal or "")


@pytest.mark.parametrize(
    "changes",
    [
        {"InjectedRadioactivity": "370,0"},
        {"InjectedRadioactivity": 10, "InjectedRadioactivityUnits": "mCi"},
        {"InjectedRadioactivity": "370 MBq"},
        {"InjectedRadioactivity": 3.7e8, "InjectedRadioactivityUnits": "Bq"},
        {"RadionuclideTotalDose": 370},  # in MBq, as some write it
        {"ImageDecayCorrected": "true"},
        {"DecayCorrection": "absent", "ImageDecayCorrected": 1},
        {"AttenuationCorrection": True},
        {"AttenuationCorrection": "[137Cs]transmission scan-based"},
        {"AttenuationCorrection": "Nonlinear CT-based"},
        {"TimeZero": "absent"},
        {"PatientWeight": "80,0 kg"},
        {"FrameTimesStart": "absent", "FrameDuration": "absent"},
    ],
)
def test_one_thing_is_written_in_many_ways(changes: dict[str, Any]) -> None:
    scale = scale_with(PET2BIDS, **changes)
    assert scale.refusal is None
    assert scale.factor == pytest.approx(FACTOR)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"InjectionStart": 0}, "the uptake time is 0.0 min, which is usual for F-18 only in a"),
        ({"AcquisitionTime": "12:00:00"}, "TimeZero with ScanStart lies 60.0 min before Acquis"),
        ({"FrameTimesStart": [3600]}, "FrameTimesStart begins at 3600 s, ScanStart is 0 s"),
        ({"InjectionEnd": -3000}, "the injection took 10.0 min"),
        ({"InjectionStart": 60, "FrameTimesStart": [0, 300], "FrameDuration": [300, 600]},
         "the injection was given while the scan was running"),
    ],
)  # fmt: skip
def test_what_is_odd_in_a_sidecar_is_remarked(changes: dict[str, Any], words: str) -> None:
    scale = scale_with(PET2BIDS, **changes)
    assert scale.refusal is None
    assert words in " | ".join(scale.record["remarks"])


def test_the_weight_of_the_scan_goes_before_that_of_the_subject_but_not_of_the_session() -> None:
    of_subject = scale_with(PET2BIDS, Weight(95, "weight of participants.tsv"))
    assert of_subject.factor == pytest.approx(FACTOR)
    assert "the one of the scan was taken" in " ".join(of_subject.record["remarks"])
    of_session = scale_with(PET2BIDS, Weight(95, "weight of sessions.tsv"))
    assert "weight of sessions.tsv disagrees with PatientWeight" in (of_session.refusal or "")


@pytest.mark.parametrize("name", ["Units", "InjectionStart", "ScanStart", "DecayCorrection"])
def test_fields_on_which_sidecars_disagree_are_not_used(name: str) -> None:
    sidecar = {key: value for key, value in PET2BIDS.items() if key != name}
    scale = suv_of_sidecar(sidecar, Weight(), {name})
    assert f"two sidecars of one folder disagree on {name}" in (scale.refusal or "")


def test_a_real_dynamic_sidecar_agrees_with_its_decay_factors(shared_data: Path) -> None:
    folder = shared_data / "volumes/bids-pet-layout/pet005/sub-01/ses-baseline/pet"
    sidecar = json.loads((folder / "sub-01_ses-baseline_pet.json").read_text())
    scale = suv_of_sidecar(sidecar, find_weight(folder / "sub-01_ses-baseline_pet.nii.gz"))
    assert scale.refusal is None
    assert scale.factor == pytest.approx(62e3 / 462e6)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8)
    | st.sampled_from(["n/a", "370 MBq", "START", "ADMIN", "F18", "kBq", "10:00:00", 1e300, -1e12]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=3,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(sorted(PET2BIDS)), JSON, max_size=4))
def test_any_content_of_a_sidecar_gives_a_factor_or_a_reason(changes: dict[str, Any]) -> None:
    scale = scale_with(PET2BIDS | changes)
    assert (scale.unit == "SUVbw") == (scale.refusal is None)
    assert describe_steps(json.loads(json.dumps(scale.record, allow_nan=True)))
