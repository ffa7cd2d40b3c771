"""The facts of a PET or SPECT series that its SUV depends on, gathered from all its headers.

No file and no item decides because it comes first: what differs, or stands in several items, is
named as a problem.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pydicom
from pydicom.dataset import Dataset

from medfuse.imaging.dicom.acquisition import Acquisition, read_acquisition
from medfuse.imaging.dicom.header import (
    PARSE_FAILURES,
    DicomFile,
    items,
    number,
    text,
    texts,
)
from medfuse.imaging.dicom.injection import Injection, read_injection
from medfuse.imaging.dicom.times import parse_moment
from medfuse.imaging.dicom.units import OTHER, contradicting_rescale_type, pet_units
from medfuse.imaging.pet.header import ATTRIBUTES, DIFFERS, PetHeader
from medfuse.imaging.pet.nuclides import find_nuclide, named_nuclides

_SUV_TYPES = ("BW", "BSA", "LBM", "LBMJAMES128", "LBMJANMA", "IBW")
_DECAY = ("START", "ADMIN", "NONE")
_CORRECTIONS = (
    *("DECY", "ATTN", "SCAT", "DTIM", "MOTN", "PMOT", "CLN", "RAN", "RADL", "DCAL", "NORM"),
    *("SLSENS", "UNIF", "NUMO"),
)
_ENHANCED = ("1.2.840.10008.5.1.4.1.1.130",)
_GE, _PHILIPS, _SIEMENS = "GEMS_PETD_01", "Philips PET Private Group", "SIEMENS MED PT"
_SEQUENCE = "RadiopharmaceuticalInformationSequence"
#: Enhanced PET says of each correction whether it was made.
_ENHANCED_CORRECTIONS = {"DECY": "DecayCorrected", "ATTN": "AttenuationCorrected"}
_ENHANCED_NAMES = {
    "units": "RealWorldValueMappingSequence (0040,9096)",
    "corrected_image": "DecayCorrected (0018,9758) and AttenuationCorrected (0018,9759)",
    "corrected_image DECY": "DecayCorrected (0018,9758) is not YES",
    "corrected_image ATTN": "AttenuationCorrected (0018,9759) is not YES",
    "first_acquisition": "FrameAcquisitionDateTime (0018,9074)",
    "injection_time": ATTRIBUTES["injection"],
}


def read_pet_header(files: Sequence[DicomFile]) -> PetHeader:
    """Gather the SUV facts of one series.

    Only known code values come through, so that no free text of a header reaches an output.

    Parameters
    ----------
    files : sequence of DicomFile
        Non-empty; all files of the series.

    References
    ----------
    DICOM PS3.3 C.8.9.1, C.8.9.2 (PET isotope), C.8.9.4; C.8.22.2 to C.8.22.5 (enhanced PET).
    """
    headers = [_with_converted(f.header) for f in files]
    enhanced = text(headers[0], "SOPClassUID") in _ENHANCED
    problems: dict[str, str] = {}
    remarks: list[str] = []
    values = {
        name: _strict(name, [read(h) for h in headers], problems)
        for name, read in _SERIES_FACTS.items()
    } | {
        name: _lenient(name, [read(h) for h in headers], problems, remarks)
        for name, read in _PATIENT_FACTS.items()
    }
    acquisition = read_acquisition(headers)
    injection = read_injection([_isotopes(h) for h in headers], acquisition.zone)
    if any(len(_isotopes(h)) > 1 for h in headers):
        most = max(len(_isotopes(h)) for h in headers)
        several = f"stands in {most} items of {_SEQUENCE} (0054,0016): several injections"
        problems |= {"dose_bq": several, "injection": several}
    nuclide = _nuclide(headers, values["half_life_s"], problems)
    _check_units(headers, values["units"], problems)
    return PetHeader(
        **values,
        nuclide=nuclide,
        **_times(acquisition, injection, headers),
        dates_modified=any(
            text(h, "LongitudinalTemporalInformationModified") in ("MODIFIED", "REMOVED")
            for h in headers
        ),
        problems={**acquisition.problems, **injection.problems, **problems},
        widths={**acquisition.widths, **injection.widths},
        names=_names(headers, enhanced),
        remarks=(*remarks, *injection.remarks),
    )


def _times(
    acquisition: Acquisition, injection: Injection, headers: list[Dataset]
) -> dict[str, Any]:
    return {
        "injection": injection.at,
        "injection_time": injection.clock,
        "ge_injection": _private_moment(headers, 0x0009, _GE, 0x3B),
        "series_start": acquisition.series_start,
        "first_acquisition": acquisition.first,
        "first_frame_reference_s": acquisition.frame_reference_s,
        "first_frame_duration_s": acquisition.frame_duration_s,
        "first_decay_factor": acquisition.decay_factor,
        "ge_scan_start": _private_moment(headers, 0x0009, _GE, 0x0D),
        "decay_corrected_to": acquisition.decay_corrected_to
        or _private_moment(headers, 0x0071, _SIEMENS, 0x22),
    }


# --- columns: one value a file ----------------------------------------------------------------


def _strict(name: str, values: list[Any], problems: dict[str, str]) -> Any:
    """The value that all files have."""
    if len({repr(v) for v in values}) > 1:
        problems[name] = DIFFERS
    return values[0]


def _lenient(name: str, values: list[Any], problems: dict[str, str], remarks: list[str]) -> Any:
    """The value that all files have in which the attribute is not missing."""
    stated = [v for v in values if v is not None]
    if len({repr(v) for v in stated}) > 1:
        problems[name] = DIFFERS
    if stated and len(stated) < len(values):
        missing = len(values) - len(stated)
        remarks.append(f"{ATTRIBUTES[name]} is missing in {missing} of {len(values)} files")
    return stated[0] if stated else None


def _isotopes(header: Dataset) -> list[Dataset]:
    return items(header, _SEQUENCE)


def _of_isotope(keyword: str) -> Callable[[Dataset], float | None]:
    def read(header: Dataset) -> float | None:
        return next((number(i, keyword) for i in _isotopes(header)), None)

    return read


def _dose(header: Dataset) -> float | None:
    """Activity in Bq; enhanced PET has it in MBq (PS3.3 C.8.22.4)."""
    dose = _of_isotope("RadionuclideTotalDose")(header)
    return None if dose is None else dose * (1e6 if _is_enhanced(header) else 1.0)


def _is_enhanced(header: Dataset) -> bool:
    return text(header, "SOPClassUID") in _ENHANCED


def _code(keyword: str, known: tuple[str, ...]) -> Callable[[Dataset], str | None]:
    """A code value in capitals, `OTHER` for several and for one that the standard does not have."""

    def read(header: Dataset) -> str | None:
        stated = texts(header, keyword)
        if not any(stated):
            return None
        return stated[0] if len(stated) == 1 and stated[0] in known else OTHER

    return read


def _corrections(header: Dataset) -> tuple[str, ...]:
    if not _is_enhanced(header):
        return tuple(v if v in _CORRECTIONS else OTHER for v in texts(header, "CorrectedImage"))
    stated = {n: text(header, keyword) for n, keyword in _ENHANCED_CORRECTIONS.items()}
    return tuple(n for n, made in stated.items() if made == "YES") or (OTHER,)


def _decay_correction(header: Dataset) -> str | None:
    """START for enhanced PET, whose DecayCorrectionDateTime says to which time."""
    if _is_enhanced(header):
        return "START"
    return _code("DecayCorrection", _DECAY)(header)


def _philips(element: int) -> Callable[[Dataset], float | None]:
    def read(header: Dataset) -> float | None:
        return _positive(_private(header, 0x7053, _PHILIPS, element))

    return read


_SERIES_FACTS: dict[str, Callable[[Dataset], Any]] = {
    "units": pet_units,
    "suv_type": _code("SUVType", _SUV_TYPES),
    "corrected_image": _corrections,
    "decay_correction": _decay_correction,
    "philips_suv_factor": _philips(0x00),
    "philips_activity_factor": _philips(0x09),
}
_PATIENT_FACTS: dict[str, Callable[[Dataset], Any]] = {
    "weight_kg": lambda header: number(header, "PatientWeight"),
    "height_m": lambda header: number(header, "PatientSize"),
    "sex": _code("PatientSex", ("M", "F")),
    "dose_bq": _dose,
    "half_life_s": _of_isotope("RadionuclideHalfLife"),
}


def _check_units(headers: list[Dataset], units: str | None, problems: dict[str, str]) -> None:
    others = {contradicting_rescale_type(h, units) for h in headers} - {None}
    for other in sorted(o for o in others if o):
        problems.setdefault("units", f"is {units}, but RescaleType (0028,1054) speaks of {other}")


def _nuclide(
    headers: list[Dataset], half_life_s: float | None, problems: dict[str, str]
) -> str | None:
    """The one nuclide that codes and texts of all files and items name, else by the half-life."""
    named: Counter[str] = Counter()
    for header in headers:
        for isotope in _isotopes(header):
            named.update(_named(isotope))
    if len(named) > 1:
        problems["nuclide"] = f"and the texts beside it name {' and '.join(sorted(named))}"
        return None
    return next(iter(named), None) or find_nuclide(None, None, half_life_s)


def _named(isotope: Dataset) -> set[str]:
    found: set[str] = set()
    for code in items(isotope, "RadionuclideCodeSequence"):
        by_code = find_nuclide(text(code, "CodeValue"), None, None)
        found |= {by_code} if by_code else set()
        found |= set(named_nuclides(text(code, "CodeMeaning")))
    for code in items(isotope, "RadiopharmaceuticalCodeSequence"):
        found |= set(named_nuclides(text(code, "CodeMeaning")))
    for keyword in ("Radionuclide", "Radiopharmaceutical"):
        found |= set(named_nuclides(text(isotope, keyword)))
    return found


# --- owners of attributes ---------------------------------------------------------------------


def _with_converted(header: Dataset) -> Dataset:
    """A header with what legacy converted images keep in a sequence of their own.

    PS3.3 C.7.6.16.2.25: UnassignedSharedConvertedAttributesSequence (0020,9170).
    """
    converted = [
        item
        for shared in items(header, "SharedFunctionalGroupsSequence")
        for item in items(shared, "UnassignedSharedConvertedAttributesSequence")
    ]
    if not converted:
        return header
    whole = Dataset()
    for source in (*converted, header):
        whole.update(source)
    return whole


def _names(headers: list[Dataset], enhanced: bool) -> dict[str, str]:
    if enhanced:
        return _ENHANCED_NAMES
    if _private(headers[0], 0x0071, _SIEMENS, 0x22) and not text(
        headers[0], "DecayCorrectionDateTime"
    ):
        return {"decay_corrected_to": "Siemens decay correction time (0071,xx22)"}
    return {}


def _private_moment(headers: list[Dataset], group: int, creator: str, element: int) -> Any:
    """The one moment that all files have; a vendor's time that differs says nothing."""
    found = {_private(h, group, creator, element) for h in headers}
    moment = parse_moment(found.pop()) if len(found) == 1 else None
    return moment.at if moment and moment.offset is None and moment.width_s == 0 else None


def _positive(value: str | None) -> float | None:
    try:
        factor = float(value or 0)
    except ValueError:
        return None
    return factor if 0 < factor < math.inf else None


def _private(header: Dataset, group: int, creator: str, element: int) -> str | None:
    try:
        value = header.private_block(group, creator)[element].value
    except PARSE_FAILURES:
        return None
    if isinstance(value, bytes):  # implicit VR: the element has no known type
        value = value.decode("ascii", errors="ignore").strip("\0 ")
    if isinstance(value, pydicom.multival.MultiValue):
        return None
    return str(value).strip() or None
