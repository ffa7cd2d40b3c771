"""The unit of rescaled DICOM values, asked of every file and frame: the first does not decide.

References
----------
DICOM PS3.3 C.8.9.1.1.3 (units of PET), C.7.6.16.2.9 and C.7.6.16.2.11 (pixel value transformation
and real world value mapping of frames), C.11.1.1.2 (rescale type).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from pydicom.dataset import Dataset

from medfuse.imaging.dicom.header import DicomFile, items, number, text, texts

PET_UNITS = (
    *("BQML", "GML", "CM2ML", "CNTS", "CPS", "PROPCPS", "PROPCNTS", "NONE", "PCNT", "MGMINML"),
    *("1CM", "UMOLML", "MLMING", "MLG", "STDDEV"),
)
#: UCUM codes of RealWorldValueMapping, by which enhanced PET gives its unit.
_UCUM = {
    **dict.fromkeys(("Bq/ml", "Bq/mL"), "BQML"),
    **dict.fromkeys(("g/ml{SUVbw}", "{SUVbw}g/ml", "{SUVbw}g/mL"), "GML"),
}
#: What RescaleType may say of the values of a PET, where it says more than "US".
_RESCALE_TYPES = {
    **{"BQML": "BQML", "BQ/ML": "BQML", "GML": "GML", "G/ML": "GML"},
    **{"SUV": "GML", "SUVBW": "GML", "CNTS": "CNTS", "COUNTS": "CNTS"},
}
OTHER = "other"


def pet_units(header: Dataset) -> str | None:
    """Units of one PET file: a known code, `OTHER`, or None where it states none.

    Enhanced PET states them by a real world value mapping, which counts where it is the same line
    as the rescale that was applied to the stored values, in every frame.
    """
    stated = texts(header, "Units")
    if stated:
        known = len(stated) == 1 and stated[0] in PET_UNITS
        return stated[0] if known else OTHER
    found = {unit for owner, shared in _frames(header) for unit in [_mapped(owner, shared)]}
    return found.pop() if len(found) == 1 else OTHER if found - {None} else None


def contradicting_rescale_type(header: Dataset, units: str | None) -> str | None:
    """The unit that RescaleType names, where it is another than `units`."""
    for kind in _rescale_types(header):
        unit = _RESCALE_TYPES.get((kind or "").upper())
        if unit is not None and units is not None and unit != units:
            return unit
    return None


def ct_rescale_types(files: Sequence[DicomFile]) -> set[str]:
    """What the values of a CT are, by every file and frame; absent means HU."""
    return {(kind or "HU").upper() for f in files for kind in _rescale_types(f.header)}


def _rescale_types(header: Dataset) -> Iterator[str | None]:
    for owner, shared in _frames(header):
        own = text(owner, "RescaleType")
        for group in (owner, shared):
            for transform in items(group, "PixelValueTransformationSequence")[:1]:
                own = own or text(transform, "RescaleType")
        yield own


def _frames(header: Dataset) -> Iterator[tuple[Dataset, Dataset]]:
    """Owner of the attributes of each frame, and what all frames share; one of a classic image."""
    groups = items(header, "PerFrameFunctionalGroupsSequence")
    shared = (items(header, "SharedFunctionalGroupsSequence") or [Dataset()])[0]
    for owner in groups or [header]:
        yield owner, shared


def _mapped(owner: Dataset, shared: Dataset) -> str | None:
    """Unit of a frame by its mappings; None where none, or several units, fit its rescale."""
    transform = [
        *items(owner, "PixelValueTransformationSequence"),
        *items(shared, "PixelValueTransformationSequence"),
        owner,
    ][0]
    line = [number(transform, f"Rescale{part}") for part in ("Slope", "Intercept")]
    name = "RealWorldValueMappingSequence"
    mappings = items(owner, name) or items(shared, name)
    found = {_unit_of(m) for m in mappings if _same_line(m, line)} - {None}
    return found.pop() if len(found) == 1 else None


def _unit_of(mapping: Dataset) -> str | None:
    codes = {text(c, "CodeValue") or "" for c in items(mapping, "MeasurementUnitsCodeSequence")}
    return _UCUM.get(codes.pop()) if len(codes) == 1 else None


def _same_line(mapping: Dataset, line: Sequence[float | None]) -> bool:
    slope, intercept = (number(mapping, f"RealWorldValue{p}") for p in ("Slope", "Intercept"))
    pairs = ((slope, line[0]), (intercept or 0.0, line[1] or 0.0))
    return all(
        a is not None and b is not None and math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-12)
        for a, b in pairs
    )
