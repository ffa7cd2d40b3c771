"""What is impossible in a PET header is refused; what is only unusual is remarked."""

from __future__ import annotations

import math
from collections.abc import Iterator

from medfuse.imaging.pet.header import PetHeader, suv_unavailable
from medfuse.imaging.pet.nuclides import HALF_LIVES_S, THERAPY, USUAL, fitting_nuclides

WEIGHT_KG = (1.0, 400.0)
HEIGHT_M = (0.3, 2.5)
DOSE_BQ = (1e6, 2e9)
THERAPY_DOSE_BQ = (1e6, 5e10)
HALF_LIFE_TOLERANCE = 0.02
_USUAL_WEIGHT_KG = (2.5, 250.0)
#: kg/m2; outside of it weight or height is in another unit, or of another person.
_USUAL_INDEX = (10.0, 75.0)
_SHORT_UPTAKE_S = 600.0


def plausible(header: PetHeader, name: str, limits: tuple[float, float], unit: str) -> float:
    """A field that must lie within limits.

    Raises
    ------
    SuvUnavailable
        Names the attribute, its value and the limits.
    """
    header.require_sound(name)
    value = getattr(header, name)
    if value is None or math.isnan(value):
        raise header.missing(name)
    if not limits[0] <= value <= limits[1]:
        raise suv_unavailable(
            f"{header.name(name)} is {value:g} {unit}, plausible are {limits[0]:g} to "
            f"{limits[1]:g}{_other_unit(name, value, limits)}"
        )
    return float(value)


def _other_unit(name: str, value: float, limits: tuple[float, float]) -> str:
    units = {
        "dose_bq": (("MBq", 1e6), ("kBq", 1e3)),
        "weight_kg": (("g", 1e-3),),
        "height_m": (("cm", 1e-2), ("mm", 1e-3)),
        "half_life_s": (("min", 60.0), ("h", 3600.0)),
    }
    for unit, factor in units.get(name, ()):
        if limits[0] <= value * factor <= limits[1]:
            return f"; as {unit} it would be plausible, and units are not guessed"
    return ""


def weight_of(header: PetHeader) -> float:
    """Body weight in kg; errors as `plausible`."""
    return plausible(header, "weight_kg", WEIGHT_KG, "kg")


def dose_of(header: PetHeader) -> float:
    """Injected activity in Bq; errors as `plausible`."""
    low, high = THERAPY_DOSE_BQ if header.nuclide in THERAPY else DOSE_BQ
    usual = USUAL.get(header.nuclide or "")
    return plausible(
        header, "dose_bq", (low, max(high, usual.most_mbq * 1e6 if usual else 0)), "Bq"
    )


def half_life_of(header: PetHeader) -> float:
    """Half-life in s, which must fit the nuclide that the header names.

    Raises
    ------
    SuvUnavailable
        Missing, implausible, or of another nuclide.
    """
    header.require_sound("nuclide")
    half_life = plausible(header, "half_life_s", (1.0, 1e9), "s")
    fitting = fitting_nuclides(half_life, HALF_LIFE_TOLERANCE)
    if header.nuclide is not None and header.nuclide not in fitting:
        raise suv_unavailable(
            f"{header.name('half_life_s')} is {half_life:g} s, {header.nuclide} has "
            f"{HALF_LIVES_S[header.nuclide]:g} s"
        )
    if not fitting:
        raise suv_unavailable(
            f"{header.name('half_life_s')} is {half_life:g} s, which fits no known nuclide, and "
            "the header names none"
        )
    return half_life


def unusual(header: PetHeader, decay_s: float | None) -> Iterator[str]:
    """Remarks on what is possible and rare.

    Parameters
    ----------
    header : PetHeader
        With plausible weight and dose.
    decay_s : float or None
        From the injection to the reference time; None where it played no part.
    """
    weight, height, dose = header.weight_kg or 0.0, header.height_m, header.dose_bq or 0.0
    if not _USUAL_WEIGHT_KG[0] <= weight <= _USUAL_WEIGHT_KG[1]:
        yield f"{header.name('weight_kg')} is unusual: {weight:g} kg"
    elif height and HEIGHT_M[0] <= height <= HEIGHT_M[1]:
        index = weight / height**2
        if not _USUAL_INDEX[0] <= index <= _USUAL_INDEX[1]:
            yield (
                f"{header.name('weight_kg')} is unusual for {header.name('height_m')}: {weight:g} "
                f"kg with {height:g} m, body mass index {index:.1f}"
            )
    usual = USUAL.get(header.nuclide or "")
    if usual is None:
        return
    if not usual.least_mbq <= dose / 1e6 <= usual.most_mbq:
        yield (
            f"{header.name('dose_bq')} is unusual for {header.nuclide}: {dose / 1e6:g} MBq, usual "
            f"are {usual.least_mbq:g} to {usual.most_mbq:g}"
        )
    if decay_s is not None:
        yield from _unusual_uptake(header.nuclide or "", decay_s, usual.longest_h)


def _unusual_uptake(nuclide: str, decay_s: float, longest_h: float) -> Iterator[str]:
    if decay_s > longest_h * 3600:
        yield (
            f"the uptake time is unusual for {nuclide}: {decay_s / 60:.0f} min from injection to "
            f"reference time, usual are {60 * longest_h:.0f} at most"
        )
    if decay_s < _SHORT_UPTAKE_S and HALF_LIVES_S[nuclide] > 3600:
        yield (
            f"the uptake time is {decay_s / 60:.1f} min, which is usual for {nuclide} only in a "
            "dynamic scan from the injection on"
        )
