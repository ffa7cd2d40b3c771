"""SUVbw from what a PET header says: pure arithmetic, every step of it on record.

The rules are those of the QIBA vendor-neutral pseudocode; where an attribute is missing,
contradicted or implausible there is no SUV, and the record names the attribute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from medfuse.errors import SuvUnavailable
from medfuse.imaging.pet.decay import decay_seconds
from medfuse.imaging.pet.header import PetHeader, suv_unavailable
from medfuse.imaging.pet.plausible import (
    HEIGHT_M,
    dose_of,
    half_life_of,
    plausible,
    unusual,
    weight_of,
)
from medfuse.imaging.pet.reference import SAME_SUV, change_of_suv, starts_by_decay_factor

FORMULA = (
    "SUVbw = activity [Bq/ml] * weight [kg] * 1000 / (dose [Bq] * 2^(-decay [s] / half-life [s]))"
)
#: What SUV is normalised to, and the unit that it then has: body weight, lean mass, surface.
SUV_UNITS = {"suv": "SUVbw", "sul": "SUL", "suvbsa": "SUVbsa"}
#: Factors of a vendor are rounded, to three digits at times.
_VENDOR_TOLERANCE = 0.05
_INPUTS = ("units", "suv_type", "decay_correction", "corrected_image", "nuclide")
_NUMBERS = ("weight_kg", "dose_bq", "half_life_s")


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
        JSON-able: formula, every input value and the attribute that it was read from,
        reference-time rule, factor, remarks, and ``refusal`` (None where SUV is available).
    """

    factor: float
    unit: str
    record: dict[str, Any]

    @property
    def refusal(self) -> str | None:
        """Why there is no SUV; names the attribute."""
        refusal: str | None = self.record["refusal"]
        return refusal


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
    sources = record.get("attributes") or {}
    lines = [record["formula"]]
    for key, name in names.items():
        value = record.get(key)
        if value not in (None, []):
            shown = f"{value:.9g}" if isinstance(value, float) else value
            shown = " ".join(shown) if isinstance(shown, list) else shown
            source = f", from {sources[key]}" if key in sources else ""
            lines.append(f"{name} = {shown}{source}")
    lines += record["remarks"]
    return [*lines, f"refused: {record['refusal']}"] if record["refusal"] else lines


def _inputs(header: PetHeader) -> dict[str, Any]:
    values = {name: getattr(header, name) for name in (*_INPUTS, *_NUMBERS)}
    values["corrected_image"] = list(header.corrected_image)
    return {
        "available": False,
        "formula": FORMULA,
        **values,
        "attributes": {name: header.name(name) for name in values},
        "factor": None,
        "refusal": None,
        "remarks": list(header.remarks),
    }


def _without_suv(header: PetHeader) -> tuple[float, str]:
    if "units" in header.problems:
        return 1.0, "a.u."
    if header.units == "BQML":
        return 1.0, "Bq/ml"
    activity = header.philips_activity_factor
    if header.units == "CNTS" and activity and "philips_activity_factor" not in header.problems:
        return activity, "Bq/ml"
    return 1.0, "counts" if header.units in ("CNTS", "CPS", "PROPCPS", "PROPCNTS") else "a.u."


def _factor(header: PetHeader, record: dict[str, Any]) -> float:
    header.require_sound("units", "suv_type")
    if header.units is None:
        raise header.missing("units")
    if header.units == "GML":
        return _already_suv(header, record)
    _require_corrections(header)
    if header.units == "CNTS":
        return _factor_of_counts(header, record)
    if header.units != "BQML":
        known = "no known code" if header.units == "other" else header.units
        raise suv_unavailable(f"{header.name('units')} is {known}, expected BQML, GML or CNTS")
    factor = _activity_factor(header, record)
    if header.philips_suv_factor and header.philips_activity_factor:
        vendors = header.philips_suv_factor / header.philips_activity_factor
        if abs(vendors / factor - 1) > _VENDOR_TOLERANCE:
            record["remarks"].append(
                f"the private factors of Philips give {vendors:.6g} SUVbw per Bq/ml, the header "
                f"{factor:.6g}, which was taken"
            )
    return factor


def _already_suv(header: PetHeader, record: dict[str, Any]) -> float:
    if header.suv_type not in (None, "BW"):
        known = "no known code" if header.suv_type == "other" else header.suv_type
        raise suv_unavailable(f"{header.name('suv_type')} is {known}, expected BW")
    if header.suv_type is None:
        record["remarks"].append(f"{header.name('suv_type')} is absent: body weight is assumed")
    record["formula"] = "SUVbw = rescaled value (Units GML: the series holds SUV already)"
    return 1.0


def _factor_of_counts(header: PetHeader, record: dict[str, Any]) -> float:
    """SUVbw per count of a Philips scanner, by its private factors."""
    header.require_sound("philips_suv_factor", "philips_activity_factor")
    direct, activity = header.philips_suv_factor, header.philips_activity_factor
    if not direct and not activity:
        raise suv_unavailable(
            f"{header.name('units')} is CNTS and {header.name('philips_suv_factor')} is missing"
        )
    if direct:
        record["formula"] = f"SUVbw = counts * {header.name('philips_suv_factor')}"
        if activity:
            _compare_philips(header, direct, activity)
        return direct
    assert activity is not None
    record["remarks"].append(f"counts become Bq/ml by (7053,1009) = {activity:.9g}")
    return activity * _activity_factor(header, record)


def _compare_philips(header: PetHeader, direct: float, activity: float) -> None:
    """Refuse a private factor that dose, weight and times contradict, where they are complete."""
    try:
        by_header = activity * _activity_factor(header, _inputs(header))
    except SuvUnavailable:
        return
    if abs(direct / by_header - 1) > _VENDOR_TOLERANCE:
        raise suv_unavailable(
            f"{header.name('philips_suv_factor')} is {direct:g}, but "
            f"{header.name('philips_activity_factor')}, dose, weight and times give {by_header:.6g}"
        )


def _require_corrections(header: PetHeader) -> None:
    header.require_sound("corrected_image", "decay_correction")
    if not header.corrected_image:
        raise header.missing("corrected_image")
    for need, name in (("ATTN", "attenuation"), ("DECY", "decay")):
        if need not in header.corrected_image:
            lacking = f"{header.name('corrected_image')} has no {need}"
            where = header.names.get(f"corrected_image {need}", lacking)
            raise suv_unavailable(f"{where}: not corrected for {name}")
    if header.decay_correction is None:
        raise header.missing("decay_correction")
    if header.decay_correction not in ("START", "ADMIN"):
        known = "no known code" if header.decay_correction == "other" else header.decay_correction
        raise suv_unavailable(
            f"{header.name('decay_correction')} is {known}, expected START or ADMIN"
        )


def _activity_factor(header: PetHeader, record: dict[str, Any]) -> float:
    """SUVbw per Bq/ml."""
    weight, dose = weight_of(header), dose_of(header)
    if header.decay_correction == "ADMIN":
        _require_admin(header, record)
        record["reference_rule"] = (
            f"{header.name('decay_correction')} ADMIN: voxels are decayed to the injection"
        )
        record["decay_s"], record["decayed_dose_bq"] = 0.0, dose
        record["remarks"] += unusual(header, None)
        return weight * 1000 / dose
    half_life = half_life_of(header)
    decay = decay_seconds(header, half_life, record)
    record["decay_s"] = decay
    record["decayed_dose_bq"] = dose * 2 ** (-decay / half_life)
    record["remarks"] += unusual(header, decay)
    return float(weight * 1000 / record["decayed_dose_bq"])


def _require_admin(header: PetHeader, record: dict[str, Any]) -> None:
    """Refuse a stated time of decay correction that is not the injection."""
    stated, injection, half_life = header.decay_corrected_to, header.injection, header.half_life_s
    if injection is None or not half_life or not half_life > 0:
        return
    first = header.first_acquisition
    readings = starts_by_decay_factor(header, first, half_life) if first else []
    gaps = [change_of_suv((r - injection).total_seconds(), half_life) for r in readings]
    if gaps and min(gaps) > SAME_SUV:
        record["remarks"].append(
            f"{header.name('first_decay_factor')} is {header.first_decay_factor:g}, which does not "
            f"fit {header.name('decay_correction')} ADMIN"
        )
    if stated is None:
        return
    seconds = (stated - injection).total_seconds()
    if change_of_suv(seconds, half_life) > SAME_SUV:
        raise suv_unavailable(
            f"{header.name('decay_correction')} is ADMIN, but {header.name('decay_corrected_to')} "
            f"lies {abs(seconds) / 60:.1f} min from {header.name('injection')}"
        )


def _body_ratio(header: PetHeader, record: dict[str, Any], kind: str) -> float:
    """Lean mass or surface per body weight: what turns SUVbw into `kind`."""
    weight = weight_of(header)
    height = plausible(header, "height_m", HEIGHT_M, "m")
    record["height_m"] = height
    record["attributes"]["height_m"] = header.name("height_m")
    if kind == "suvbsa":
        surface: float = 71.84 * weight**0.425 * (100 * height) ** 0.725
        record["surface_cm2"] = surface
        record["formula"] += "; SUVbsa = SUVbw * surface [cm2] / (weight [kg] * 1000)"
        return surface / (1000 * weight)
    header.require_sound("sex")
    if header.sex not in ("M", "F"):
        raise suv_unavailable(f"{header.name('sex')} is neither M nor F")
    index = weight / height**2
    of_sex = 6680 + 216 * index if header.sex == "M" else 8780 + 244 * index
    record["lean_mass_kg"] = 9270 * weight / of_sex
    record["formula"] += "; SUL = SUVbw * lean mass [kg] / weight [kg]"
    return float(record["lean_mass_kg"] / weight)
