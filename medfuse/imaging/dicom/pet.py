"""The facts of a PET or SPECT series that its SUV depends on, gathered from all its headers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pydicom
from pydicom.dataset import Dataset

from medfuse.imaging.dicom.header import (
    PARSE_FAILURES,
    DicomFile,
    items,
    moment,
    number,
    parse_datetime,
    parse_time,
    text,
    texts,
)
from medfuse.imaging.pet.nuclides import find_nuclide
from medfuse.imaging.pet.suv import PetHeader

_UNITS = ("BQML", "GML", "CM2ML", "CNTS", "CPS", "PROPCPS", "PROPCNTS", "NONE", "PCNT", "MGMINML")
_SUV_TYPES = ("BW", "BSA", "LBM", "LBMJAMES128", "LBMJANMA", "IBW")
_DECAY = ("START", "ADMIN", "NONE")
_CORRECTIONS = (
    *("DECY", "ATTN", "SCAT", "DTIM", "MOTN", "PMOT", "CLN", "RAN", "RADL", "DCAL", "NORM"),
    *("SLSENS", "UNIF", "NUMO"),
)
#: UCUM codes of RealWorldValueMapping, by which enhanced PET gives its unit.
_UCUM = {"Bq/ml": "BQML", "Bq/mL": "BQML", "g/ml{SUVbw}": "GML", "{SUVbw}g/ml": "GML"}
_GE_SCAN_TIME = (0x0009, "GEMS_PETD_01", 0x0D)
_PHILIPS_SUV = (0x7053, "Philips PET Private Group", 0x00)
_PHILIPS_ACTIVITY = (0x7053, "Philips PET Private Group", 0x09)


def read_pet_header(files: Sequence[DicomFile]) -> PetHeader:
    """Gather the SUV facts of one series; fields that differ between files are named as conflicts.

    Only known code values come through, so that no free text of a header reaches an output.

    Parameters
    ----------
    files : sequence of DicomFile
        Non-empty; all files of the series.

    References
    ----------
    DICOM PS3.3 C.8.9.1, C.8.9.2 (PET isotope), C.8.9.4.
    """
    headers = [f.header for f in files]
    isotopes = [
        (items(h, "RadiopharmaceuticalInformationSequence") or [Dataset()])[0] for h in headers
    ]
    columns: dict[str, list[Any]] = {
        "units": [_units(h) for h in headers],
        "suv_type": [_known(text(h, "SUVType"), _SUV_TYPES) for h in headers],
        "corrected_image": [_corrections(h) for h in headers],
        "decay_correction": [_known(text(h, "DecayCorrection"), _DECAY) for h in headers],
        "weight_kg": [number(h, "PatientWeight") for h in headers],
        "height_m": [number(h, "PatientSize") for h in headers],
        "sex": [_known(text(h, "PatientSex"), ("M", "F")) for h in headers],
        "dose_bq": [number(i, "RadionuclideTotalDose") for i in isotopes],
        "half_life_s": [number(i, "RadionuclideHalfLife") for i in isotopes],
        "injection": [
            parse_datetime(text(i, "RadiopharmaceuticalStartDateTime")) for i in isotopes
        ],
        "injection_time": [parse_time(text(i, "RadiopharmaceuticalStartTime")) for i in isotopes],
    }
    starts = [s for s in (moment(h, "Series") for h in headers) if s]
    first, acquired = _first_acquired(headers)
    private = _private_values(files[0])
    return PetHeader(
        **{name: values[0] for name, values in columns.items()},
        nuclide=_nuclide(isotopes[0]),
        series_start=min(starts, default=None),
        first_acquisition=acquired,
        first_frame_reference_s=_seconds(number(first, "FrameReferenceTime")),
        first_frame_duration_s=_seconds(number(first, "ActualFrameDuration")),
        ge_scan_start=parse_datetime(private["ge_scan_time"]),
        decay_corrected_to=parse_datetime(text(headers[0], "DecayCorrectionDateTime")),
        philips_suv_factor=_positive(private["philips_suv"]),
        philips_activity_factor=_positive(private["philips_activity"]),
        dates_modified=text(headers[0], "LongitudinalTemporalInformationModified")
        in ("MODIFIED", "REMOVED"),
        conflicts=tuple(n for n, values in columns.items() if len(set(values)) > 1),
    )


def _units(header: Dataset) -> str | None:
    stated = _known(text(header, "Units"), _UNITS)
    if stated is not None:
        return stated
    for owner in (header, *items(header, "SharedFunctionalGroupsSequence")):
        for mapping in items(owner, "RealWorldValueMappingSequence"):
            for code in items(mapping, "MeasurementUnitsCodeSequence"):
                if (unit := _UCUM.get(text(code, "CodeValue") or "")) is not None:
                    return unit
    return None


def _known(value: str | None, known: tuple[str, ...]) -> str | None:
    """A code value in capitals, "other" for one that the standard does not have."""
    if value is None:
        return None
    return value.upper() if value.upper() in known else "other"


def _corrections(header: Dataset) -> tuple[str, ...]:
    return tuple(v if v in _CORRECTIONS else "other" for v in texts(header, "CorrectedImage"))


def _first_acquired(headers: Sequence[Dataset]) -> tuple[Dataset, datetime | None]:
    times = [(t, n) for n, h in enumerate(headers) if (t := moment(h, "Acquisition")) is not None]
    if not times:
        return headers[0], None
    when, index = min(times)
    return headers[index], when


def _nuclide(isotope: Dataset) -> str | None:
    code = (items(isotope, "RadionuclideCodeSequence") or [Dataset()])[0]
    half_life = number(isotope, "RadionuclideHalfLife")
    named = find_nuclide(text(code, "CodeValue"), text(code, "CodeMeaning"), None)
    return named or find_nuclide(None, text(isotope, "Radionuclide"), half_life)


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _positive(value: str | None) -> float | None:
    try:
        factor = float(value or 0)
    except ValueError:
        return None
    return factor if 0 < factor < math.inf else None


def _private_values(file: DicomFile) -> dict[str, str | None]:
    """Vendor tags that SUV may need; the one place where private tags are read."""
    wanted = {
        "ge_scan_time": _GE_SCAN_TIME,
        "philips_suv": _PHILIPS_SUV,
        "philips_activity": _PHILIPS_ACTIVITY,
    }
    try:
        header = pydicom.dcmread(file.path, stop_before_pixels=True)
    except PARSE_FAILURES:
        return dict.fromkeys(wanted)
    return {name: _private(header, *tag) for name, tag in wanted.items()}


def _private(header: Dataset, group: int, creator: str, element: int) -> str | None:
    try:
        value = header.private_block(group, creator)[element].value
    except PARSE_FAILURES:
        return None
    if isinstance(value, bytes):  # implicit VR: the element has no known type
        value = value.decode("ascii", errors="ignore").strip("\0 ")
    return str(value).strip() or None
