"""SUVbw from what a PET header says: pure arithmetic, every step of it on record.

The rules are those of the QIBA vendor-neutral pseudocode; where a tag is missing or implausible
there is no SUV, and the record names the tag.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any

from medfuse.errors import SuvUnavailable, option
from medfuse.imaging.pet.nuclides import HALF_LIVES_S, THERAPY, fitting_nuclides

FORMULA = (
    "SUVbw = activity [Bq/ml] * weight [kg] * 1000 / (dose [Bq] * 2^(-decay [s] / half-life [s]))"
)
WEIGHT_KG = (1.0, 400.0)
HEIGHT_M = (0.3, 2.5)
DOSE_BQ = (1e6, 2e9)
THERAPY_DOSE_BQ = (1e6, 5e10)
HALF_LIFE_TOLERANCE = 0.02
MAX_UPTAKE_S = 6 * 3600.0
#: Header clocks are rounded to whole seconds at places.
CLOCK_TOLERANCE = timedelta(seconds=1)

_TAGS = {
    "units": "Units (0054,1001)",
    "suv_type": "SUVType (0054,1006)",
    "corrected_image": "CorrectedImage (0028,0051)",
    "decay_correction": "DecayCorrection (0054,1102)",
    "weight_kg": "PatientWeight (0010,1030)",
    "height_m": "PatientSize (0010,1020)",
    "sex": "PatientSex (0010,0040)",
    "dose_bq": "RadionuclideTotalDose (0018,1074)",
    "half_life_s": "RadionuclideHalfLife (0018,1075)",
    "injection": "RadiopharmaceuticalStartDateTime (0018,1078)",
    "injection_time": "RadiopharmaceuticalStartTime (0018,1072)",
    "series_start": "SeriesDate/SeriesTime (0008,0021/0031)",
    "first_acquisition": "AcquisitionDate/AcquisitionTime (0008,0022/0032)",
    "first_frame_reference_s": "FrameReferenceTime (0054,1300)",
    "first_frame_duration_s": "ActualFrameDuration (0018,1242)",
    "philips_suv_factor": "Philips SUV Scale Factor (7053,1000)",
}


#: What SUV is normalised to, and the unit that it then has: body weight, lean mass, surface.
SUV_UNITS = {"suv": "SUVbw", "sul": "SUL", "suvbsa": "SUVbsa"}


@dataclass(frozen=True)
class PetHeader:
    """What the headers of one PET or SPECT series say about its values.

    Times are local and without zone, as DICOM stores them. None means that the tag is missing or
    unreadable; `conflicts` names fields whose value differs between the slices.

    Attributes
    ----------
    first_acquisition, first_frame_reference_s, first_frame_duration_s
        Of the slice that was acquired first.
    ge_scan_start
        GE private scan date and time, (0009,xx0D) of GEMS_PETD_01.
    decay_corrected_to
        DecayCorrectionDateTime (0018,9701), of enhanced PET.
    dates_modified
        De-identification has shifted or removed dates (0028,0303).
    """

    units: str | None = None
    suv_type: str | None = None
    corrected_image: tuple[str, ...] = ()
    decay_correction: str | None = None
    weight_kg: float | None = None
    height_m: float | None = None
    sex: str | None = None
    dose_bq: float | None = None
    half_life_s: float | None = None
    nuclide: str | None = None
    injection: datetime | None = None
    injection_time: time | None = None
    series_start: datetime | None = None
    first_acquisition: datetime | None = None
    first_frame_reference_s: float | None = None
    first_frame_duration_s: float | None = None
    ge_scan_start: datetime | None = None
    decay_corrected_to: datetime | None = None
    philips_suv_factor: float | None = None
    philips_activity_factor: float | None = None
    dates_modified: bool = False
    conflicts: tuple[str, ...] = ()


@dataclass(frozen=True)
class SuvScale:
    """How rescaled values become values in a known unit.

    Attributes
    ----------
    factor : float
        ``values * factor`` is in `unit`.
    unit : str
        One of `SUV_UNITS`, or where SUV is refused "Bq/ml", "counts" or "a.u.".
    record : dict
        JSON-able: formula, every input value, reference-time rule, factor, remarks, and
        ``refusal`` (None where SUV is available).
    """

    factor: float
    unit: str
    record: dict[str, Any]

    @property
    def refusal(self) -> str | None:
        """Why there is no SUV; names the tag."""
        refusal: str | None = self.record["refusal"]
        return refusal


def suv_unavailable(
    cause: str, *, what: str = "SUV not available", where: str = ""
) -> SuvUnavailable:
    """Make the error that `unit="suv"` raises."""
    return SuvUnavailable(
        "E_SUV",
        what=what,
        where=where,
        cause=cause,
        remedy=f"Correct the header at the source, or go on without SUV: {option('unit', 'auto')}",
    )


def compute_suv_scale(header: PetHeader, kind: str = "suv") -> SuvScale:
    """Find the factor from rescaled stored values to SUV, or the reason why there is none.

    Never raises: a refusal is part of the record, and `unit` then says what the values are.

    Parameters
    ----------
    header : PetHeader
    kind : str
        A key of `SUV_UNITS`: g/ml by body weight or lean mass, cm2/ml by surface.

    Returns
    -------
    SuvScale

    References
    ----------
    Lean mass: Janmahasatian et al. 2005, Clin Pharmacokinet 44:1051. Surface: Du Bois and Du Bois
    1916, Arch Intern Med 17:863.
    QIBA FDG-PET/CT profile, "Vendor-neutral pseudo-code for SUV calculation";
    DICOM PS3.3 C.8.9.1 (PET Series) and C.8.9.4 (PET Image).
    """
    record = _inputs(header)
    try:
        factor = _factor(header, record)
        if kind != "suv":
            factor *= _body_ratio(header, record, kind)
    except SuvUnavailable as error:
        record["refusal"] = error.cause
        factor, unit = _without_suv(header)
        return SuvScale(factor, unit, record)
    record["available"] = True
    record["factor"] = factor
    return SuvScale(factor, SUV_UNITS[kind], record)


def describe_steps(record: dict[str, Any]) -> list[str]:
    """Spell the arithmetic of a record out, one line a step, as ``medfuse info`` prints it."""
    names = {
        "units": "Units",
        "decay_correction": "DecayCorrection",
        "corrected_image": "CorrectedImage",
        "nuclide": "nuclide",
        "weight_kg": "weight [kg]",
        "dose_bq": "dose [Bq]",
        "half_life_s": "half-life [s]",
        "injection_time": "injection",
        "injection_from": "injection from",
        "reference_time": "reference time",
        "reference_rule": "reference rule",
        "decay_s": "decay [s]",
        "decayed_dose_bq": "decayed dose [Bq]",
        "height_m": "height [m]",
        "lean_mass_kg": "lean mass (Janmahasatian) [kg]",
        "surface_cm2": "surface (Du Bois) [cm2]",
        "factor": "factor",
    }
    lines = [record["formula"]]
    for key, name in names.items():
        value = record.get(key)
        if value not in (None, []):
            shown = f"{value:.9g}" if isinstance(value, float) else value
            lines.append(f"{name} = {' '.join(shown) if isinstance(shown, list) else shown}")
    lines += record["remarks"]
    return [*lines, f"refused: {record['refusal']}"] if record["refusal"] else lines


def _inputs(header: PetHeader) -> dict[str, Any]:
    return {
        "available": False,
        "formula": FORMULA,
        "units": header.units,
        "suv_type": header.suv_type,
        "decay_correction": header.decay_correction,
        "corrected_image": list(header.corrected_image),
        "nuclide": header.nuclide,
        "weight_kg": header.weight_kg,
        "dose_bq": header.dose_bq,
        "half_life_s": header.half_life_s,
        "factor": None,
        "refusal": None,
        "remarks": [],
    }


def _without_suv(header: PetHeader) -> tuple[float, str]:
    if header.units == "BQML":
        return 1.0, "Bq/ml"
    if header.units == "CNTS" and header.philips_activity_factor:
        return header.philips_activity_factor, "Bq/ml"
    return 1.0, "counts" if header.units in ("CNTS", "CPS", "PROPCPS", "PROPCNTS") else "a.u."


def _factor(header: PetHeader, record: dict[str, Any]) -> float:
    if header.units is None:
        raise _missing("units")
    _require_agreement(header, "units", "suv_type")
    if header.units == "GML":
        return _already_suv(header, record)
    _require_corrections(header)
    activity = 1.0
    if header.units == "CNTS":
        if header.philips_suv_factor:
            record["formula"] = f"SUVbw = counts * {_TAGS['philips_suv_factor']}"
            return header.philips_suv_factor
        if not header.philips_activity_factor:
            raise suv_unavailable(
                f"{_TAGS['units']} is CNTS and {_TAGS['philips_suv_factor']} is missing"
            )
        activity = header.philips_activity_factor
        record["remarks"].append(f"counts become Bq/ml by (7053,1009) = {activity:.9g}")
    elif header.units != "BQML":
        raise suv_unavailable(f"{_TAGS['units']} is {header.units}, expected BQML, GML or CNTS")
    return activity * _activity_factor(header, record)


def _already_suv(header: PetHeader, record: dict[str, Any]) -> float:
    if header.suv_type not in (None, "BW"):
        raise suv_unavailable(f"{_TAGS['suv_type']} is {header.suv_type}, expected BW")
    if header.suv_type is None:
        record["remarks"].append(f"{_TAGS['suv_type']} is absent: body weight is assumed")
    record["formula"] = "SUVbw = rescaled value (Units GML: the series holds SUV already)"
    return 1.0


def _require_corrections(header: PetHeader) -> None:
    _require_agreement(header, "corrected_image", "decay_correction")
    if not header.corrected_image:
        raise _missing("corrected_image")
    for need, name in (("ATTN", "attenuation"), ("DECY", "decay")):
        if need not in header.corrected_image:
            raise suv_unavailable(
                f"{_TAGS['corrected_image']} has no {need}: not corrected for {name}"
            )
    if header.decay_correction is None:
        raise _missing("decay_correction")
    if header.decay_correction not in ("START", "ADMIN"):
        raise suv_unavailable(
            f"{_TAGS['decay_correction']} is {header.decay_correction}, expected START or ADMIN"
        )


def _activity_factor(header: PetHeader, record: dict[str, Any]) -> float:
    """SUVbw per Bq/ml."""
    weight = _plausible(header, "weight_kg", WEIGHT_KG, "kg")
    dose_range = THERAPY_DOSE_BQ if header.nuclide in THERAPY else DOSE_BQ
    dose = _plausible(header, "dose_bq", dose_range, "Bq")
    if header.decay_correction == "ADMIN":
        record["reference_rule"] = "DecayCorrection ADMIN: voxels are decayed to the injection"
        record["decay_s"], record["decayed_dose_bq"] = 0.0, dose
        return weight * 1000 / dose
    half_life = _half_life(header)
    decay = decay_seconds(header, half_life, record)
    record["decay_s"] = decay
    record["decayed_dose_bq"] = dose * 2 ** (-decay / half_life)
    return float(weight * 1000 / record["decayed_dose_bq"])


def _body_ratio(header: PetHeader, record: dict[str, Any], kind: str) -> float:
    """Lean mass or surface per body weight: what turns SUVbw into `kind`."""
    weight = _plausible(header, "weight_kg", WEIGHT_KG, "kg")
    height = _plausible(header, "height_m", HEIGHT_M, "m")
    record["height_m"] = height
    if kind == "suvbsa":
        surface: float = 71.84 * weight**0.425 * (100 * height) ** 0.725
        record["surface_cm2"] = surface
        record["formula"] += "; SUVbsa = SUVbw * surface [cm2] / (weight [kg] * 1000)"
        return surface / (1000 * weight)
    _require_agreement(header, "sex")
    if header.sex not in ("M", "F"):
        raise suv_unavailable(f"{_TAGS['sex']} is neither M nor F")
    index = weight / height**2
    of_sex = 6680 + 216 * index if header.sex == "M" else 8780 + 244 * index
    record["lean_mass_kg"] = 9270 * weight / of_sex
    record["formula"] += "; SUL = SUVbw * lean mass [kg] / weight [kg]"
    return float(record["lean_mass_kg"] / weight)


def decay_seconds(header: PetHeader, half_life_s: float, record: dict[str, Any]) -> float:
    """Seconds from injection to the time to which the voxels are decay-corrected.

    Writes the times and the rules that gave them to `record` (times of day only).

    Raises
    ------
    SuvUnavailable
        A time is missing, lies before the injection, or is implausibly late.
    """
    if header.dates_modified:
        record["remarks"].append(
            "dates were modified by de-identification: decay rests on the shifted times"
        )
    reference = _reference_time(header, half_life_s, record)
    injection = _injection(header, reference, record)
    record["injection_time"] = injection.time().isoformat()
    record["reference_time"] = reference.time().isoformat()
    seconds = (reference - injection).total_seconds()
    longest = max(MAX_UPTAKE_S, 10 * half_life_s if half_life_s > 4 * 3600 else 0.0)
    if not 0 <= seconds <= longest:
        raise suv_unavailable(
            f"{record['injection_from']} lies {seconds / 60:.1f} min before the reference time, "
            f"expected 0 to {longest / 60:.0f} min"
        )
    return seconds


def _injection(header: PetHeader, reference: datetime, record: dict[str, Any]) -> datetime:
    _require_agreement(header, "injection", "injection_time")
    if header.injection is not None:
        record["injection_from"] = _TAGS["injection"]
        return header.injection
    if header.injection_time is None:
        raise _missing("injection_time")
    record["injection_from"] = _TAGS["injection_time"]
    injection = datetime.combine(reference.date(), header.injection_time)
    if injection > reference:
        injection -= timedelta(days=1)
        record["remarks"].append("injection is taken as the day before (the scan is past midnight)")
    return injection


def _reference_time(header: PetHeader, half_life_s: float, record: dict[str, Any]) -> datetime:
    """Time to which DecayCorrection START refers (QIBA: series time unless it is a later one)."""
    if header.decay_corrected_to is not None:
        record["reference_rule"] = "DecayCorrectionDateTime (0018,9701)"
        return header.decay_corrected_to
    series, first = header.series_start, header.first_acquisition
    if first is None:
        raise _missing("first_acquisition")
    if series is not None and series <= first + CLOCK_TOLERANCE:
        record["reference_rule"] = "SeriesTime (not after the earliest acquisition)"
        return series
    if header.ge_scan_start is not None:
        record["reference_rule"] = "GE scan time (0009,xx0D): the series is a post-processed one"
        return header.ge_scan_start
    record["reference_rule"] = (
        "earliest acquisition taken back by FrameReferenceTime: the series is a post-processed one"
    )
    return _scan_start_from_frame(header, first, half_life_s)


def _scan_start_from_frame(header: PetHeader, first: datetime, half_life_s: float) -> datetime:
    """Scan start = acquisition - frame reference time + time of the mean count rate (QIBA)."""
    for name in ("first_frame_reference_s", "first_frame_duration_s"):
        if getattr(header, name) is None:
            raise _missing(name)
    assert header.first_frame_reference_s is not None
    assert header.first_frame_duration_s is not None
    decay = math.log(2) / half_life_s
    in_frame = decay * header.first_frame_duration_s
    mean = math.log(in_frame / -math.expm1(-in_frame)) / decay if in_frame > 0 else 0.0
    return first + timedelta(seconds=mean - header.first_frame_reference_s)


def _half_life(header: PetHeader) -> float:
    half_life = _plausible(header, "half_life_s", (1.0, 1e8), "s")
    fitting = fitting_nuclides(half_life, HALF_LIFE_TOLERANCE)
    if header.nuclide is not None and header.nuclide not in fitting:
        raise suv_unavailable(
            f"{_TAGS['half_life_s']} is {half_life:g} s, {header.nuclide} has "
            f"{HALF_LIVES_S[header.nuclide]:g} s"
        )
    if not fitting:
        raise suv_unavailable(
            f"{_TAGS['half_life_s']} is {half_life:g} s, which fits no known nuclide, and the "
            "header names none"
        )
    return half_life


def _plausible(header: PetHeader, name: str, limits: tuple[float, float], unit: str) -> float:
    _require_agreement(header, name)
    value = getattr(header, name)
    if value is None:
        raise _missing(name)
    if not limits[0] <= value <= limits[1]:
        raise suv_unavailable(
            f"{_TAGS[name]} is {value:g} {unit}, plausible are {limits[0]:g} to {limits[1]:g}"
        )
    return float(value)


def _require_agreement(header: PetHeader, *names: str) -> None:
    for name in names:
        if name in header.conflicts:
            raise suv_unavailable(f"{_TAGS[name]} differs between the slices")


def _missing(name: str) -> SuvUnavailable:
    return suv_unavailable(f"{_TAGS[name]} is missing or unreadable")
