"""SUV arithmetic: known values of real series, the QIBA rules, and refusals that name the tag."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, time, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from medfuse.errors import SuvUnavailable, UnitError
from medfuse.imaging.dicom.series import read_dicom
from medfuse.imaging.pet.header import DIFFERS, PetHeader
from medfuse.imaging.pet.nuclides import find_nuclide
from medfuse.imaging.pet.suv import compute_suv_scale, describe_steps
from medfuse.imaging.reader import read_volume
from tests._helpers import make

NOON = datetime(2024, 3, 5, 12, 0, 0)
HEADER = PetHeader(
    units="BQML",
    corrected_image=("ATTN", "DECY"),
    decay_correction="START",
    weight_kg=80.0,
    dose_bq=370e6,
    half_life_s=6586.2,
    nuclide="F-18",
    injection_time=time(11, 0, 0),
    series_start=NOON,
    first_acquisition=NOON,
)


def naive_factor(seconds: float) -> float:
    """The textbook formula for HEADER: 80 kg, 370 MBq, F-18."""
    return 80.0 * 1000 / (370e6 * math.exp(-math.log(2) * seconds / 6586.2))


@pytest.mark.parametrize(
    ("folder", "modality", "factor", "maximum", "mean"),
    [
        ("sts001-pet-mr-dicom/pet-fdg", "PET", 2.42902977e-4, 66.5215, None),
        ("qin-hn-brain-pet-dicom/pet-fdg", "PET", 4.01664014e-4, 20.83431, 0.244450),
        ("lu177-spect-dicom/spect", "SPECT", 1.28961874e-5, 18.00695, None),
        ("sts001-aligned-pet-ct-mr/pet-suv-dicom", "PET", 1.0, 25.41230, 0.669975),
    ],
)
def test_known_suv_of_real_series_is_met(
    shared_data: Path,
    folder: str,
    modality: str,
    factor: float,
    maximum: float,
    mean: float | None,
) -> None:
    volume = read_dicom(shared_data / "volumes" / folder)
    assert (volume.meta["unit"], volume.meta["modality"]) == ("SUVbw", modality)
    assert volume.meta["suv"]["factor"] == pytest.approx(factor, rel=1e-6)
    assert float(volume.values.max()) == pytest.approx(maximum, rel=1e-4)
    if mean is not None:
        assert float(volume.values.mean(dtype="f8")) == pytest.approx(mean, rel=1e-4)


def test_real_maximum_lies_at_its_known_place(shared_data: Path) -> None:
    volume = read_dicom(shared_data / "volumes/qin-hn-brain-pet-dicom/pet-fdg")
    column, row, k = divmod_index(volume.values.argmax(), volume.values.shape)
    assert (row, column) == (71, 83)
    assert (volume.affine @ [column, row, k, 1])[2] == pytest.approx(-982.382, abs=0.01)


def divmod_index(flat: int, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Unravel by hand."""
    rest, k = divmod(int(flat), shape[2])
    i, j = divmod(rest, shape[1])
    return i, j, k


def test_the_independent_suv_series_agrees_with_our_conversion(shared_data: Path) -> None:
    ours = read_dicom(shared_data / "volumes/sts001-pet-mr-dicom/pet-fdg").values
    theirs = read_dicom(shared_data / "volumes/sts001-aligned-pet-ct-mr/pet-suv-dicom").values
    block = ours[59:100, 45:88, :59]  # the sub-block that SOURCE.md names
    hot = theirs > 1
    assert abs(block[hot] / theirs[hot] - 1).max() < 1e-3


def test_decay_runs_from_injection_to_series_time() -> None:
    scale = compute_suv_scale(HEADER)
    assert scale.unit == "SUVbw"
    assert scale.factor == pytest.approx(naive_factor(3600), rel=1e-12)
    assert scale.record["decay_s"] == 3600
    assert scale.record["reference_rule"].startswith("SeriesTime")


def test_admin_means_no_decay() -> None:
    header = replace(HEADER, decay_correction="ADMIN", injection_time=None, half_life_s=None)
    assert compute_suv_scale(header).factor == pytest.approx(80e3 / 370e6)


def test_gml_is_suv_already_and_is_not_converted_twice() -> None:
    assert compute_suv_scale(replace(HEADER, units="GML", suv_type="BW")).factor == 1.0
    untyped = compute_suv_scale(replace(HEADER, units="GML"))
    assert untyped.factor == 1.0
    assert "body weight is assumed" in untyped.record["remarks"][0]


def test_start_date_time_is_preferred_to_start_time() -> None:
    header = replace(HEADER, injection=NOON - timedelta(minutes=30))
    assert compute_suv_scale(header).factor == pytest.approx(naive_factor(1800))


def test_injection_before_midnight_belongs_to_the_day_before() -> None:
    after = datetime(2024, 3, 6, 0, 20, 0)
    header = replace(
        HEADER, injection_time=time(23, 30), series_start=after, first_acquisition=after
    )
    scale = compute_suv_scale(header)
    assert scale.record["decay_s"] == 50 * 60
    assert any("day before" in remark for remark in scale.record["remarks"])


def test_a_series_time_of_post_processing_gives_way_to_the_ge_scan_time() -> None:
    header = replace(
        HEADER,
        series_start=NOON + timedelta(hours=5),
        first_acquisition=NOON + timedelta(minutes=1),
        ge_scan_start=NOON,
    )
    scale = compute_suv_scale(header)
    assert scale.factor == pytest.approx(naive_factor(3600))
    assert "GE" in scale.record["reference_rule"]


def test_without_ge_tag_the_scan_start_is_taken_back_from_the_first_frame() -> None:
    duration = 180.0
    rate = math.log(2) / 6586.2
    mean_count_time = math.log(rate * duration / (1 - math.exp(-rate * duration))) / rate
    header = replace(
        HEADER,
        series_start=NOON + timedelta(hours=5),
        first_acquisition=NOON + timedelta(seconds=200),
        first_frame_reference_s=200 + mean_count_time,
        first_frame_duration_s=duration,
    )
    assert compute_suv_scale(header).factor == pytest.approx(naive_factor(3600), rel=1e-9)


def test_an_explicit_decay_correction_time_wins() -> None:
    header = replace(HEADER, decay_corrected_to=NOON - timedelta(minutes=15))
    assert compute_suv_scale(header).factor == pytest.approx(naive_factor(2700))


def test_philips_counts_become_suv_or_activity_by_private_factors() -> None:
    counts = replace(HEADER, units="CNTS", philips_activity_factor=2.0)
    assert compute_suv_scale(counts).factor == pytest.approx(2 * naive_factor(3600))
    direct = compute_suv_scale(replace(counts, philips_suv_factor=3e-4, weight_kg=None))
    assert (direct.factor, direct.unit) == (3e-4, "SUVbw")
    refused = compute_suv_scale(replace(counts, weight_kg=None))
    assert (refused.factor, refused.unit) == (2.0, "Bq/ml")


@given(
    weight=st.floats(2, 390),
    dose=st.floats(2e6, 1.9e9),
    minutes=st.floats(0, 350),
)
def test_suv_of_an_evenly_spread_dose_is_one(weight: float, dose: float, minutes: float) -> None:
    injected = NOON - timedelta(minutes=minutes)
    header = replace(HEADER, weight_kg=weight, dose_bq=dose, injection=injected)
    even_bq_per_ml = dose * 2 ** (-minutes * 60 / 6586.2) / (weight * 1000)
    assert even_bq_per_ml * compute_suv_scale(header).factor == pytest.approx(1, rel=1e-6)


REFUSALS: list[tuple[PetHeader, str, str]] = [
    (replace(HEADER, units=None), "Units (0054,1001) is missing", "a.u."),
    (replace(HEADER, units="CNTS"), "Philips SUV Scale Factor (7053,1000) is missing", "counts"),
    (replace(HEADER, units="CM2ML"), "Units (0054,1001) is CM2ML", "a.u."),
    (replace(HEADER, units="GML", suv_type="LBM"), "SUVType (0054,1006) is LBM", "a.u."),
    (replace(HEADER, corrected_image=()), "CorrectedImage (0028,0051) is missing", "Bq/ml"),
    (replace(HEADER, corrected_image=("DECY",)), "not corrected for attenuation", "Bq/ml"),
    (replace(HEADER, corrected_image=("ATTN",)), "not corrected for decay", "Bq/ml"),
    (replace(HEADER, decay_correction=None), "DecayCorrection (0054,1102) is missing", "Bq/ml"),
    (replace(HEADER, decay_correction="NONE"), "DecayCorrection (0054,1102) is NONE", "Bq/ml"),
    (replace(HEADER, weight_kg=None), "PatientWeight (0010,1030) is missing", "Bq/ml"),
    (replace(HEADER, weight_kg=0.0), "PatientWeight (0010,1030) is 0 kg", "Bq/ml"),
    (replace(HEADER, weight_kg=70000.0), "PatientWeight (0010,1030) is 70000 kg", "Bq/ml"),
    (
        replace(HEADER, weight_kg=math.nan),
        "PatientWeight (0010,1030) is missing or unreadable",
        "Bq/ml",
    ),
    (replace(HEADER, dose_bq=None), "RadionuclideTotalDose (0018,1074) is missing", "Bq/ml"),
    (replace(HEADER, dose_bq=370.0), "RadionuclideTotalDose (0018,1074) is 370 Bq", "Bq/ml"),
    (replace(HEADER, dose_bq=7e9), "RadionuclideTotalDose (0018,1074) is 7e+09 Bq", "Bq/ml"),
    (replace(HEADER, half_life_s=None), "RadionuclideHalfLife (0018,1075) is missing", "Bq/ml"),
    (replace(HEADER, half_life_s=109.77), "F-18 has 6586.2 s", "Bq/ml"),
    (replace(HEADER, half_life_s=109.77, nuclide=None), "fits no known nuclide", "Bq/ml"),
    (replace(HEADER, injection_time=None), "StartTime (0018,1072) is missing", "Bq/ml"),
    (
        replace(HEADER, injection_time=time(13, 0)),
        "lies 60.0 min after the reference time 12:00:00",
        "Bq/ml",
    ),
    (
        replace(HEADER, injection=NOON + timedelta(minutes=5)),
        "lies 5.0 min after the reference time",
        "Bq/ml",
    ),
    (replace(HEADER, first_acquisition=None), "AcquisitionTime (0008,0022/0032)", "Bq/ml"),
    (
        replace(HEADER, series_start=NOON + timedelta(hours=1)),
        "FrameReferenceTime (0054,1300) is missing",
        "Bq/ml",
    ),
    (
        replace(HEADER, series_start=NOON + timedelta(hours=1), first_frame_reference_s=1.0),
        "ActualFrameDuration (0018,1242) is missing",
        "Bq/ml",
    ),
    (
        replace(HEADER, problems={"weight_kg": DIFFERS}),
        "PatientWeight (0010,1030) differs between the slices",
        "Bq/ml",
    ),
]


@pytest.mark.parametrize(("header", "words", "unit"), REFUSALS, ids=[r[1] for r in REFUSALS])
def test_suv_is_refused_with_the_name_of_the_tag(header: PetHeader, words: str, unit: str) -> None:
    scale = compute_suv_scale(header)
    assert scale.refusal is not None
    assert words in scale.refusal
    assert (scale.unit, scale.factor) == (unit, 1.0)
    assert scale.record["available"] is False
    assert f"refused: {scale.refusal}" in describe_steps(scale.record)


def test_the_record_holds_every_number_and_is_json() -> None:
    record = json.loads(json.dumps(compute_suv_scale(HEADER).record))
    numbers = [record[k] for k in ("weight_kg", "dose_bq", "half_life_s", "decay_s", "factor")]
    weight, dose, half_life, decay, factor = numbers
    assert factor == pytest.approx(weight * 1000 / (dose * 2 ** (-decay / half_life)))
    steps = "\n".join(describe_steps(record))
    for words in ("weight [kg] = 80", "injection = 11:00:00", "reference time = 12:00:00"):
        assert words in steps


@pytest.mark.parametrize(
    ("code", "meaning", "half_life", "name"),
    [
        ("C-111A1", None, None, "F-18"),
        ("77004003", None, None, "F-18"),
        (None, "F^18^[^18^Fluorine]", None, "F-18"),
        (None, "18F", None, "F-18"),
        (None, "^68^Gallium", None, "Ga-68"),
        (None, "177 Lutetium", None, "Lu-177"),
        (None, "Tc-99m", None, "Tc-99m"),
        (None, "FDG -- fluorodeoxyglucose", 6588.0, "F-18"),
        (None, "ZZPHI 19460507", None, None),
        (None, None, 282000.0, None),  # Zr-89 and Ga-67 alike: not decided
        (None, None, None, None),
    ],
)
def test_nuclides_are_named_by_code_meaning_or_unique_half_life(
    code: str | None, meaning: str | None, half_life: float | None, name: str | None
) -> None:
    assert find_nuclide(code, meaning, half_life) == name


# --- through files ----------------------------------------------------------------------------


def _series(folder: Path, edit: Callable[[Dataset], None] | None = None) -> Path:
    def each(dataset: Dataset, k: int) -> None:
        dataset.RescaleSlope = 1.5 + k
        if edit:
            edit(dataset)

    make.write_series(folder, make.SeriesPlan(modality="PT", edit=each))
    return folder


def test_a_generated_pet_series_has_the_suv_of_the_naive_formula(tmp_path: Path) -> None:
    volume = read_dicom(_series(tmp_path))
    dose = 3e8 * 2 ** (-3600 / 6586.2)
    for i, j, k in [(0, 0, 0), (10, 7, 5), (4, 2, 3)]:
        activity = make.phantom()[i, j, k] * (1.5 + k)
        assert volume.values[i, j, k] == pytest.approx(activity * 75e3 / dose, rel=1e-5)


def test_ge_private_scan_time_is_read_from_the_file(tmp_path: Path) -> None:
    def edit(dataset: Dataset) -> None:
        dataset.SeriesTime = "150000"
        block = dataset.private_block(0x0009, "GEMS_PETD_01", create=True)
        block.add_new(0x0D, "DT", "20240305103000.00")

    volume = read_dicom(_series(tmp_path, edit))
    assert volume.meta["suv"]["decay_s"] == 30 * 60


def test_philips_private_suv_factor_is_read_from_the_file(tmp_path: Path) -> None:
    def edit(dataset: Dataset) -> None:
        dataset.Units = "CNTS"
        block = dataset.private_block(0x7053, "Philips PET Private Group", create=True)
        block.add_new(0x00, "DS", "0.00025")

    volume = read_dicom(_series(tmp_path, edit))
    assert volume.meta["unit"] == "SUVbw"
    assert volume.values[0, 0, 0] == pytest.approx(1 * 1.5 * 0.00025)


def test_a_missing_weight_keeps_bq_and_says_so_loudly(tmp_path: Path) -> None:
    volume = read_dicom(_series(tmp_path, lambda d: delattr(d, "PatientWeight")))
    assert volume.meta["unit"] == "Bq/ml"
    assert volume.values[0, 0, 0] == 1.5
    note = next(n for n in volume.meta["notes"] if n.startswith("SUV not available"))
    assert "PatientWeight (0010,1030)" in note
    assert "Bq/ml" in note


def test_unit_suv_turns_the_refusal_into_an_error_that_names_the_tag(tmp_path: Path) -> None:
    folder = _series(
        tmp_path / "pet_x", lambda d: setattr(make.isotope_of(d), "RadionuclideTotalDose", 300)
    )
    with pytest.raises(SuvUnavailable) as caught:
        read_volume(folder, unit="suv")
    assert caught.value.code == "E_SUV"
    text = str(caught.value)
    for words in ("pet_x", "RadionuclideTotalDose (0018,1074) is 300 Bq", "unit=auto"):
        assert words in text


def test_a_weight_that_differs_between_slices_is_no_weight(tmp_path: Path) -> None:
    _series(tmp_path)
    make.edit_file(tmp_path / make.file_name(2), lambda d: setattr(d, "PatientWeight", 60))
    volume = read_dicom(tmp_path)
    assert volume.meta["unit"] == "Bq/ml"
    assert "differs between the slices" in volume.meta["suv"]["refusal"]


def test_a_stated_unit_is_believed_and_not_converted(tmp_path: Path) -> None:
    volume = read_dicom(_series(tmp_path), values_in="SUVbw")
    assert (volume.meta["unit"], volume.meta["suv"]) == ("SUVbw", None)
    assert volume.values[0, 0, 0] == 1.5
    assert any("stated by the user" in note for note in volume.meta["notes"])


def test_a_single_photon_nuclide_makes_spect_of_pet(tmp_path: Path) -> None:
    def edit(dataset: Dataset) -> None:
        code = make.isotope_of(dataset).RadionuclideCodeSequence[0]
        code.CodeValue, code.CodeMeaning = "C-163A8", "^99m^Technetium"
        make.isotope_of(dataset).RadionuclideHalfLife = 21624

    volume = read_dicom(_series(tmp_path, edit))
    assert volume.meta["modality"] == "SPECT"
    assert any("Tc-99m emits no positrons" in note for note in volume.meta["notes"])


@pytest.mark.parametrize(
    ("sex", "kind", "ratio"),
    [
        # 80 kg and 1.80 m: lean mass 61.426 and 50.546 kg, surface 19965 cm2
        ("M", "sul", 9270 * 80 / (6680 + 216 * 80 / 1.8**2) / 80),
        ("F", "sul", 9270 * 80 / (8780 + 244 * 80 / 1.8**2) / 80),
        ("F", "suvbsa", 0.007184 * 80**0.425 * 180**0.725 * 1e4 / 80000),
        ("M", "suv", 1.0),
    ],
)
def test_suv_by_lean_mass_and_by_surface(sex: str, kind: str, ratio: float) -> None:
    scale = compute_suv_scale(replace(HEADER, height_m=1.8, sex=sex), kind)
    assert scale.refusal is None
    assert scale.unit == {"suv": "SUVbw", "sul": "SUL", "suvbsa": "SUVbsa"}[kind]
    assert scale.factor == pytest.approx(naive_factor(3600) * ratio, rel=1e-9)
    steps = " ".join(describe_steps(scale.record))
    assert ("SUL = SUVbw" in steps, "SUVbsa = SUVbw" in steps) == (kind == "sul", kind == "suvbsa")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"height_m": None}, r"PatientSize \(0010,1020\) is missing"),
        ({"height_m": 180.0}, r"PatientSize .* is 180 m, plausible are 0.3 to 2.5"),
        ({"sex": None}, r"PatientSex \(0010,0040\) is neither M nor F"),
        ({"problems": {"height_m": DIFFERS}}, "PatientSize .* differs between the slices"),
    ],
)
def test_sul_without_height_or_sex_is_refused_with_the_tag(change: dict, words: str) -> None:
    header = replace(replace(HEADER, height_m=1.8, sex="M"), **change)
    assert re.search(words, compute_suv_scale(header, "sul").refusal or "")


def test_sul_is_read_from_dicom_or_refused(tmp_path: Path) -> None:
    def of_a_man(dataset: Dataset, _: int) -> None:
        dataset.PatientSize, dataset.PatientSex = 1.8, "M"

    make.write_series(tmp_path / "man", make.SeriesPlan(modality="PT", edit=of_a_man))
    make.write_series(tmp_path / "unknown", make.SeriesPlan(modality="PT"))
    body, lean = (read_volume(tmp_path / "man", unit=unit) for unit in ("suv", "sul"))
    assert (body.meta["unit"], lean.meta["unit"]) == ("SUVbw", "SUL")
    ratio = 9270 / (6680 + 216 * 75 / 1.8**2)
    assert float(lean.values.max() / body.values.max()) == pytest.approx(ratio, rel=1e-5)
    with pytest.raises(SuvUnavailable, match=r"PatientSize \(0010,1020\).*\[E_SUV\]"):
        read_volume(tmp_path / "unknown", unit="sul")


def test_counts_become_proportions_of_all_counts(tmp_path: Path) -> None:
    make.write_nm(tmp_path / "spect.dcm", make.SeriesPlan(modality="NM"))
    volume = read_volume(tmp_path / "spect.dcm", unit="proportion")
    stored = make.phantom().astype(float)
    assert volume.meta["unit"] == "ppm"
    assert volume.values == pytest.approx(1e6 * stored / stored.sum(), rel=1e-5)
    assert any("parts per million" in note for note in volume.meta["notes"])
    make.write_series(tmp_path / "mr")
    with pytest.raises(UnitError, match=r"MRI .*\[E_UNIT\]"):
        read_volume(tmp_path / "mr", unit="proportion")
