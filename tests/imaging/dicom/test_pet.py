"""SUV facts of a series: no file and no item first, every time with its semantics."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from medfuse.errors import MedfuseError
from medfuse.imaging.dicom.header import DicomFile
from medfuse.imaging.dicom.pet import read_pet_header
from medfuse.imaging.dicom.series import read_dicom
from medfuse.imaging.pet.suv import SuvScale, compute_suv_scale, describe_steps
from tests._helpers import make
from tests._helpers.pet_headers import code, enhanced, factor, header, scale_of
from tests._helpers.series import assert_says, set_tags

ZR89 = {
    "RadionuclideCodeSequence": [code("C-168A4", "^89^Zirconium")],
    "RadionuclideHalfLife": 282276,
    "RadionuclideTotalDose": 74e6,
}
C11 = {"RadionuclideCodeSequence": [code("C-105A1", "^11^Carbon")], "RadionuclideHalfLife": 1223.4}


def _said(scale: SuvScale) -> str:
    return " | ".join([scale.refusal or "", *scale.record["remarks"]])


def test_units_that_differ_between_slices_are_refused(tmp_path: Path) -> None:
    make.write_series(tmp_path, make.SeriesPlan(modality="PT"))
    set_tags(2, Units="GML")(tmp_path)
    with pytest.raises(MedfuseError) as caught:
        read_dicom(tmp_path)
    assert_says(caught.value, "E_UNIT_MIXED", ["units", "PET series 4"])


def test_the_published_factors_of_eight_series_are_met(shared_data: Path) -> None:
    published = json.loads((shared_data / "suv-factors/factors.json").read_text())
    assert len(published) == 8
    for name, series in published.items():
        headers = [_published(series[which]) for which in ("first", "last")]
        files = [DicomFile(Path(f"{n}"), f"{n}", h, 9) for n, h in enumerate(headers)]
        scale = compute_suv_scale(read_pet_header(files))
        assert scale.unit == "SUVbw", name
        assert scale.factor == pytest.approx(series["suvbw_factor"], rel=1e-6), name


def _published(facts: dict[str, Any]) -> Dataset:
    dataset, isotope = Dataset(), Dataset()
    private = facts.pop("PhilipsPETPrivateGroup")
    for name, value in facts.items():
        of_isotope = name.startswith(("Radionuclide", "Radiopharmaceutical"))
        setattr(isotope if of_isotope else dataset, name, value)
    dataset.RadiopharmaceuticalInformationSequence = [isotope]
    if private:
        block = dataset.private_block(0x7053, "Philips PET Private Group", create=True)
        elements = {"SUVScaleFactor": 0x00, "ActivityConcentrationScaleFactor": 0x09}
        for name, value in private.items():
            block.add_new(elements[name], "DS", value)
    return dataset


# --- sequences and files: the first does not decide -----------------------------------------


def _two_items(dataset: Dataset, **changes: object) -> Dataset:
    items = dataset.RadiopharmaceuticalInformationSequence
    items.append(copy.deepcopy(items[0]))
    for name, value in changes.items():
        setattr(items[1], name, value)
    return dataset


@pytest.mark.parametrize("change", [{}, {"RadionuclideTotalDose": 2e8}])
def test_two_radiopharmaceutical_items_are_no_dose(change: dict[str, object]) -> None:
    for headers in (
        [_two_items(header(), **change)],
        [header(), _two_items(header(), **change)],
    ):
        scale = scale_of(*headers)
        assert "2 items of RadiopharmaceuticalInformationSequence (0054,0016)" in _said(scale)
        assert scale.unit == "Bq/ml"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RadionuclideTotalDose", 2e8),
        ("RadionuclideHalfLife", 6588),
        ("RadiopharmaceuticalStartTime", "101000"),
        ("RadiopharmaceuticalStartDateTime", "20240305101000"),
        ("PatientWeight", 60),
        ("CorrectedImage", ["DECY", "SCAT"]),
        ("SeriesTime", "104500"),
    ],
)
@pytest.mark.parametrize("odd", [0, 2])
def test_what_differs_in_one_file_is_refused(name: str, value: object, odd: int) -> None:
    headers = [header(**({name: value} if n == odd else {})) for n in range(3)]
    if name == "RadiopharmaceuticalStartDateTime":
        headers = [header(**{name: value if n == odd else "20240305100000"}) for n in range(3)]
    said = _said(scale_of(*headers))
    assert "differs between the slices" in said or "disagrees with" in said


@pytest.mark.parametrize("lacking", [0, 2])
def test_what_is_missing_in_one_file_is_that_of_the_others(lacking: int) -> None:
    headers = [header(**({"PatientWeight": None} if n == lacking else {})) for n in range(3)]
    scale = scale_of(*headers)
    assert scale.factor == pytest.approx(factor(3600))
    assert "PatientWeight (0010,1030) is missing in 1 of 3 files" in _said(scale)


@pytest.mark.parametrize("factors", [["0.0002", "0.0003"], [None, "0.0003"], ["0.0002", None]])
def test_private_factors_of_philips_are_asked_of_every_file(factors: list[str | None]) -> None:
    headers = []
    for value in factors:
        dataset = header(Units="CNTS")
        if value:
            block = dataset.private_block(0x7053, "Philips PET Private Group", create=True)
            block.add_new(0x00, "DS", value)
        headers.append(dataset)
    scale = scale_of(*headers)
    assert (scale.unit, scale.factor) == ("counts", 1.0)
    assert "(7053,1000) differs between the slices" in _said(scale)


@pytest.mark.parametrize(("direct", "words"), [("0.00073", ""), ("0.00050", "(7053,1000) is")])
def test_a_factor_of_philips_must_fit_dose_weight_and_times(direct: str, words: str) -> None:
    dataset = header(Units="CNTS")
    block = dataset.private_block(0x7053, "Philips PET Private Group", create=True)
    block.add_new(0x00, "DS", direct)
    block.add_new(0x09, "DS", "2.0")  # 2 Bq/ml a count: 0.000730 SUVbw
    scale = scale_of(dataset)
    assert words in _said(scale)
    assert (scale.unit == "SUVbw") == (words == "")


@pytest.mark.parametrize(
    "tags",
    [
        {"RadionuclideCodeSequence": [code("C-111A1", "F"), code("C-131A3", "Ga")]},
        {"RadionuclideCodeSequence": [code("C-111A1", "^68^Gallium")]},
        {"Radiopharmaceutical": "Ga-68 PSMA-11"},
        {"RadiopharmaceuticalCodeSequence": [code("X", "Pittsburgh compound B C^11^")]},
    ],
)
def test_nuclides_that_disagree_are_refused(tags: dict[str, Any]) -> None:
    said = _said(scale_of(header(**tags)))
    assert said.startswith("RadionuclideCodeSequence (0054,0300) and the texts beside it name")
    assert "F-18" in said


def test_a_scanner_default_half_life_does_not_pass_for_the_tracer() -> None:
    said = _said(scale_of(header(RadionuclideCodeSequence=None, Radiopharmaceutical="Cu-61 X")))
    assert "RadionuclideHalfLife (0018,1075) is 6586.2 s, Cu-61 has" in said


@pytest.mark.parametrize("units", [["BQML", "GML"], "Bq per ml", "KBQML"])
def test_several_or_unknown_units_are_none(units: object) -> None:
    scale = scale_of(header(Units=units))
    assert scale.unit == "a.u."
    assert "Units (0054,1001) is no known code" in _said(scale)


@pytest.mark.parametrize("kind", ["GML", "SUV", "cnts"])
def test_a_rescale_type_of_another_unit_contradicts(kind: str) -> None:
    scale = scale_of(header(RescaleType=kind))
    assert scale.unit == "a.u."
    assert "RescaleType (0028,1054) speaks of" in _said(scale)
    assert scale_of(header(RescaleType="US")).unit == "SUVbw"


# --- injection ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "zone", "clock", "seconds"),
    [
        ("20240305100000", None, "100000", 3600),
        ("20240305090000+0000", "+0100", "100000", 3600),
        ("20240305090000+0000", "+0100", None, 3600),
        ("20240305143000+0530", "+0100", None, 3600),
        ("20240305043000-0530", "+0100", "110000", 0),
        ("20240304230000-1100", "+0000", None, 3600),
        ("20240305100000+0100", None, "100000", 3600),  # the clock tells the zone
        ("20240305090000+0000", None, "100000", 3600),
        ("20240305", None, "100000", 3600),  # a date alone, and the time of day
        ("2024030510", None, "100500", 3300),
        ("202403", None, "100000", 3600),
        ("rubbish", None, "100000", 3600),
        ("20240305100000.25", None, "100000", 3599.75),
    ],
)
def test_the_injection_is_read_with_its_offset(
    start: str, zone: str | None, clock: str | None, seconds: float
) -> None:
    scale = scale_of(
        header(
            RadiopharmaceuticalStartDateTime=start,
            RadiopharmaceuticalStartTime=clock,
            TimezoneOffsetFromUTC=zone,
        )
    )
    assert scale.refusal is None
    assert scale.factor == pytest.approx(factor(seconds), rel=2e-4)


@pytest.mark.parametrize(
    ("start", "zone", "clock", "words"),
    [
        ("20240305090000+0000", None, None, "TimezoneOffsetFromUTC (0008,0201) is missing"),
        ("20240305090000+0000", "CET", None, "(0018,1078) has an offset from UTC"),
        ("20240305090000+0000", None, "100700", "(0018,1078) disagrees with"),
        ("20240305090000+0000", "+0100", "090000", "(0018,1078) disagrees with"),
        ("20240305100000", None, "101500", "disagrees with RadiopharmaceuticalStartTime"),
        ("20240305", None, None, "is written to the day only"),
        (None, None, "10", "is written to the hour only: SUV would be uncertain by 46 %"),
        ("19000101100000", None, "100000", "days before the reference time"),
        ("20240306100000", None, "100000", "after the reference time 11:00:00"),
        (None, None, None, "(0018,1072) is missing or unreadable"),
        (None, None, "240000", "(0018,1072) is missing or unreadable"),
    ],
)
def test_an_injection_with_two_readings_is_refused(
    start: str | None, zone: str | None, clock: str | None, words: str
) -> None:
    scale = scale_of(
        header(
            RadiopharmaceuticalStartDateTime=start,
            RadiopharmaceuticalStartTime=clock,
            TimezoneOffsetFromUTC=zone,
        )
    )
    assert scale.unit == "Bq/ml"
    assert words in (scale.refusal or "")


def test_zones_that_differ_between_files_are_no_zone() -> None:
    tags = {
        "RadiopharmaceuticalStartDateTime": "20240305090000+0000",
        "RadiopharmaceuticalStartTime": None,
    }
    zones = ("+0100", "+0200")
    said = _said(scale_of(*(header(**tags, TimezoneOffsetFromUTC=zone) for zone in zones)))
    assert "TimezoneOffsetFromUTC (0008,0201) is missing or not one" in said


@pytest.mark.parametrize(
    ("tags", "clock", "accepted"),
    [
        ({}, "1000", True),  # 60 s of F-18: 0.6 %
        (C11, "1055", False),  # 60 s of C-11: 3.5 %
    ],
)
def test_a_time_to_the_minute_is_enough_where_the_suv_is(
    tags: dict[str, Any], clock: str, accepted: bool
) -> None:
    scale = scale_of(header(**tags, RadiopharmaceuticalStartTime=clock))
    assert (scale.refusal is None) == accepted
    assert "(0018,1072) is written to the minute only" in _said(scale)


def test_a_long_lived_nuclide_needs_the_date_of_injection() -> None:
    of_days = header(**ZR89)
    assert "gives a time of day without a date" in _said(scale_of(of_days))
    dated = header(**ZR89, RadiopharmaceuticalStartDateTime="20240301100000")
    four_days = factor(4 * 86400 + 3600, half_life_s=282276, dose_bq=74e6)
    assert scale_of(dated).factor == pytest.approx(four_days)
    block = of_days.private_block(0x0009, "GEMS_PETD_01", create=True)
    block.add_new(0x3B, "DT", "20240301100000.00")
    scale = scale_of(of_days)
    assert scale.factor == pytest.approx(four_days)
    assert scale.record["injection_from"] == "GE administration time (0009,xx3B)"


def test_times_that_deidentification_zeroed_are_no_times() -> None:
    zero = {"SeriesTime": "000000", "AcquisitionTime": "000000"}
    scale = scale_of(header(**zero, RadiopharmaceuticalStartTime="000000"))
    assert "are all 00:00:00" in _said(scale)


def test_two_clocks_are_named_and_not_midnight() -> None:
    said = _said(scale_of(header(RadiopharmaceuticalStartTime="110200")))
    assert "(0018,1072) (11:02:00) lies 2.0 min after the reference time 11:00:00" in said
    assert "clocks of dose calibrator and scanner" in said
    assert "day before" not in said


def test_a_long_infusion_is_remarked() -> None:
    said = _said(scale_of(header(RadiopharmaceuticalStopTime="101500")))
    assert said == " | the injection took 15.0 min: decay is counted from its start"


# --- reference time -------------------------------------------------------------------------

POST_PROCESSED = {"SeriesTime": "150000", "ActualFrameDuration": 600000}


@pytest.mark.parametrize(
    ("tags", "seconds"),
    [
        ({"FrameReferenceTime": 0}, 3600),  # a filler: the acquisition itself
        ({"FrameReferenceTime": 120000}, 3600 - 120),  # shorter than the mean: start of the frame
        ({"FrameReferenceTime": 898424.05}, 3000),  # 600 s before, and 298.42 s of mean count rate
        ({"FrameReferenceTime": 0, "DecayFactor": 1.0319}, 3600),
        ({"FrameReferenceTime": 0, "DecayFactor": 1.0}, 3600),  # a filler too
        ({"SeriesTime": None, "SeriesDate": None, "FrameReferenceTime": 0}, 3600),
    ],
)
def test_a_post_processed_series_is_corrected_to_the_scan(
    tags: dict[str, Any], seconds: float
) -> None:
    scale = scale_of(header(**{**POST_PROCESSED, **tags}))
    assert scale.refusal is None
    assert scale.factor == pytest.approx(factor(seconds), rel=1e-4)
    assert scale.record["reference_time"] <= "11:00:01"


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"FrameReferenceTime": None}, "FrameReferenceTime (0054,1300) is missing"),
        ({"FrameReferenceTime": "1E30"}, "FrameReferenceTime (0054,1300) is missing"),
        ({"ActualFrameDuration": "9" * 12, "FrameReferenceTime": 5}, "ActualFrameDuration"),
        ({"FrameReferenceTime": ["0", "5"]}, "FrameReferenceTime (0054,1300) is missing"),
        ({"FrameReferenceTime": 0, "DecayFactor": 1.25}, "DecayFactor (0054,1321) is 1.25"),
        ({"FrameReferenceTime": 900000, "DecayFactor": 1.0316}, "DecayFactor (0054,1321) is"),
        ({"AcquisitionDate": None}, "AcquisitionDate/AcquisitionTime"),
        ({"AcquisitionTime": "10"}, "AcquisitionTime (0008,0022/0032) is written to the hour"),
    ],
)
def test_a_post_processed_series_without_a_start_is_refused(
    tags: dict[str, Any], words: str
) -> None:
    scale = scale_of(header(**{**POST_PROCESSED, **tags}))
    assert words in (scale.refusal or "")


@pytest.mark.parametrize(
    ("when", "words"),
    [("20240305110500.00", "lies 5.0 min after the first acquisition"), ("20240303", "missing")],
)
def test_a_ge_scan_time_must_lie_before_the_acquisition(when: str, words: str) -> None:
    dataset = header(**{**POST_PROCESSED, "FrameReferenceTime": None})
    block = dataset.private_block(0x0009, "GEMS_PETD_01", create=True)
    block.add_new(0x0D, "DT", when)
    assert words in _said(scale_of(dataset))


def test_the_decay_correction_time_of_siemens_goes_before_the_rule() -> None:
    dataset = header(SeriesTime="105500")
    block = dataset.private_block(0x0071, "SIEMENS MED PT", create=True)
    block.add_new(0x22, "DT", "20240305105000.000000")
    scale = scale_of(dataset)
    assert scale.factor == pytest.approx(factor(50 * 60))
    assert scale.record["reference_rule"] == "Siemens decay correction time (0071,xx22)"
    assert "puts the reference time 5.0 min later" in _said(scale)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"DecayCorrectionDateTime": "20240305113000"}, "after the first acquisition"),
        ({"DecayCorrectionDateTime": "20240305110000+0100"}, "(0018,9701) has an offset"),
        ({"AcquisitionDateTime": "20240305113000"}, "disagrees with AcquisitionDateTime"),
        ({"SeriesDate": "20240304"}, "lies 24.0 h before the first acquisition"),
        (
            {"DecayCorrection": "ADMIN", "DecayCorrectionDateTime": "20240305110000",
             "RadiopharmaceuticalStartDateTime": "20240305100000"},
            "DecayCorrection (0054,1102) is ADMIN, but DecayCorrectionDateTime",
        ),
    ],
)  # fmt: skip
def test_times_of_the_scan_that_contradict_are_refused(tags: dict[str, Any], words: str) -> None:
    assert words in (scale_of(header(**tags)).refusal or "")


def test_another_start_by_frame_reference_time_is_remarked() -> None:
    scale = scale_of(header(FrameReferenceTime=1260000, ActualFrameDuration=120000))
    assert scale.factor == pytest.approx(factor(3600))
    assert "FrameReferenceTime (0054,1300) puts the reference time 20.0 min earlier" in _said(scale)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"DecayFactor": 1.25}, "DecayFactor (0054,1321) puts the reference time 34.3 min earlier"),
        (
            {"DecayFactor": 1.0063, "DecayCorrection": "ADMIN",
             "RadiopharmaceuticalStartDateTime": "20240305100000"},
            "DecayFactor (0054,1321) is 1.0063, which does not fit DecayCorrection (0054,1102) ADM",
        ),
    ],
)  # fmt: skip
def test_a_decay_factor_that_does_not_fit_is_remarked(tags: dict[str, Any], words: str) -> None:
    scale = scale_of(header(**tags))
    assert scale.refusal is None
    assert words in _said(scale)


def test_the_earliest_image_decides_in_any_order_of_files() -> None:
    beds = [
        header(AcquisitionTime=f"11{n:02d}00", FrameReferenceTime=1000 * (60 * n + 60))
        for n in (20, 0, 10)
    ]
    for dataset in beds:
        dataset.SeriesTime = "150000"
    assert scale_of(*beds).factor == pytest.approx(factor(3600), rel=1e-3)


# --- plausibility ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"RadionuclideTotalDose": 300}, "is 300 Bq, plausible are 1e+06 to 2e+09; as MBq"),
        ({"RadionuclideTotalDose": 3e5}, "as kBq it would be plausible"),
        ({"PatientWeight": 75000}, "is 75000 kg, plausible are 1 to 400; as g"),
        ({"PatientWeight": ["75", "80"]}, "PatientWeight (0010,1030) is missing or unreadable"),
        ({"RadionuclideHalfLife": 109.77}, "F-18 has 6586.2 s"),
    ],
)
def test_another_unit_is_named_and_not_guessed(tags: dict[str, Any], words: str) -> None:
    assert words in (scale_of(header(**tags)).refusal or "")


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"RadionuclideTotalDose": 1.5e9}, "(0018,1074) is unusual for F-18: 1500 MBq"),
        ({"RadionuclideTotalDose": 2e6}, "(0018,1074) is unusual for F-18: 2 MBq"),
        ({"PatientWeight": 154, "PatientSize": 1.4}, "body mass index 78.6"),
        ({"PatientWeight": 300}, "(0010,1030) is unusual: 300 kg"),
        ({"RadiopharmaceuticalStartTime": "063000"}, "uptake time is unusual for F-18: 270 min"),
        ({"RadiopharmaceuticalStartTime": "105900"}, "uptake time is 1.0 min"),
    ],
)
def test_what_is_unusual_is_remarked_and_converted(tags: dict[str, Any], words: str) -> None:
    scale = scale_of(header(**tags))
    assert scale.unit == "SUVbw"
    assert words in " ".join(scale.record["remarks"])


def test_a_usual_series_has_no_remark() -> None:
    assert scale_of(header(PatientSize=1.75)).record["remarks"] == []


# --- enhanced PET ---------------------------------------------------------------------------


def test_enhanced_pet_has_its_dose_in_megabecquerel() -> None:
    scale = scale_of(enhanced())
    assert scale.refusal is None
    assert scale.factor == pytest.approx(factor(3600))
    steps = " | ".join(describe_steps(scale.record))
    assert "reference rule = DecayCorrectionDateTime (0018,9701)" in steps
    assert "from RealWorldValueMappingSequence (0040,9096)" in steps


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"DecayCorrected": "NO"}, "DecayCorrected (0018,9758) is not YES"),
        ({"AttenuationCorrected": "NO"}, "AttenuationCorrected (0018,9759) is not YES"),
        ({"RadionuclideTotalDose": 3e8}, "RadionuclideTotalDose (0018,1074) is 3e+14 Bq"),
        ({"DecayCorrectionDateTime": "20240305110500"}, "after the first acquisition"),
        ({"DecayCorrectionDateTime": None}, "FrameReferenceTime (0054,1300) is missing"),
        ({"RadiopharmaceuticalStartDateTime": "20240305100000+0100"}, "has an offset from UTC"),
    ],
)
def test_enhanced_pet_is_refused_by_its_own_attributes(tags: dict[str, Any], words: str) -> None:
    assert words in (scale_of(enhanced(**tags)).refusal or "")


def test_enhanced_pet_with_offsets_everywhere_is_one_clock() -> None:
    scale = scale_of(
        enhanced(
            frames=("20240305110000+0100", "20240305111000+0100"),
            DecayCorrectionDateTime="20240305100000+0000",
            RadiopharmaceuticalStartDateTime="20240305090000.5+0000",
        )
    )
    assert scale.factor == pytest.approx(factor(3599.5))


@pytest.mark.parametrize("what", ["slope", "unit"])
def test_a_mapping_of_one_frame_that_differs_leaves_no_unit(what: str) -> None:
    dataset = enhanced()
    mapping = dataset.PerFrameFunctionalGroupsSequence[1].RealWorldValueMappingSequence[0]
    if what == "slope":
        mapping.RealWorldValueSlope = 7.0
    else:
        mapping.MeasurementUnitsCodeSequence = [code("g/ml{SUVbw}", "SUV")]
    scale = scale_of(dataset)
    assert scale.unit == "a.u."
    assert "RealWorldValueMappingSequence (0040,9096)" in (scale.refusal or "")


NUMBERS = st.sampled_from(["0", "1E30", "-1E30", "-5", "1E-30", "100000", None])
TIMES = st.sampled_from(
    ["10", "235960.999999", "20240305", "00010101", "99991231235959.999999-1200", "+1400",
     "20240305100000+1400", "x", "000000", None]
)  # fmt: skip
ODD = {
    **dict.fromkeys(["FrameReferenceTime", "ActualFrameDuration", "DecayFactor"], NUMBERS),
    **dict.fromkeys(["PatientWeight", "RadionuclideTotalDose", "RadionuclideHalfLife"], NUMBERS),
    **dict.fromkeys(["SeriesTime", "SeriesDate", "AcquisitionTime", "AcquisitionDate"], TIMES),
    **dict.fromkeys(["RadiopharmaceuticalStartTime", "RadiopharmaceuticalStartDateTime"], TIMES),
    **dict.fromkeys(["AcquisitionDateTime", "DecayCorrectionDateTime"], TIMES),
    "TimezoneOffsetFromUTC": TIMES,
}


@pytest.mark.filterwarnings("ignore")
@given(st.fixed_dictionaries({}, optional=ODD))
def test_any_header_gives_a_factor_or_a_reason(tags: dict[str, Any]) -> None:
    scale = scale_of(header(**tags))
    assert (scale.unit == "SUVbw") == (scale.refusal is None)
    assert describe_steps(scale.record)
