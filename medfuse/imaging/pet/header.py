"""What a header or a sidecar says about PET values, and how a missing fact is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, time

from medfuse.errors import SuvUnavailable, option

#: Note of a PET whose file states no unit; what can be done stands in it.
NO_UNIT_STATED = (
    "SUV not available: the file states no unit of its PET values, which are taken as a.u.; state "
    "it as Units in a JSON sidecar, or by the setting functional_unit (SUVbw, Bq/ml)"
)
#: Problem of a field whose value is not the same in all files.
DIFFERS = "differs between the slices"

#: DICOM attribute of each field, as it is named in refusals and steps.
ATTRIBUTES = {
    "units": "Units (0054,1001)",
    "suv_type": "SUVType (0054,1006)",
    "corrected_image": "CorrectedImage (0028,0051)",
    "decay_correction": "DecayCorrection (0054,1102)",
    "weight_kg": "PatientWeight (0010,1030)",
    "height_m": "PatientSize (0010,1020)",
    "sex": "PatientSex (0010,0040)",
    "dose_bq": "RadionuclideTotalDose (0018,1074)",
    "half_life_s": "RadionuclideHalfLife (0018,1075)",
    "nuclide": "RadionuclideCodeSequence (0054,0300)",
    "injection": "RadiopharmaceuticalStartDateTime (0018,1078)",
    "injection_time": "RadiopharmaceuticalStartTime (0018,1072)",
    "ge_injection": "GE administration time (0009,xx3B)",
    "series_start": "SeriesDate/SeriesTime (0008,0021/0031)",
    "first_acquisition": "AcquisitionDate/AcquisitionTime (0008,0022/0032)",
    "first_frame_reference_s": "FrameReferenceTime (0054,1300)",
    "first_frame_duration_s": "ActualFrameDuration (0018,1242)",
    "first_decay_factor": "DecayFactor (0054,1321)",
    "ge_scan_start": "GE scan time (0009,xx0D)",
    "decay_corrected_to": "DecayCorrectionDateTime (0018,9701)",
    "philips_suv_factor": "Philips SUV Scale Factor (7053,1000)",
    "philips_activity_factor": "Philips Activity Concentration Scale Factor (7053,1009)",
}


@dataclass(frozen=True)
class PetHeader:
    """What the headers of one PET or SPECT series say about its values.

    Times are local and without zone. None means that the attribute is missing or unreadable.

    Attributes
    ----------
    ge_injection, ge_scan_start
        GE private administration and scan time, (0009,xx3B) and (0009,xx0D) of GEMS_PETD_01.
    first_acquisition, first_frame_reference_s, first_frame_duration_s, first_decay_factor
        Of the slice that was acquired first.
    scan_end
        End of the last frame, where it stands on the same clock as the injection.
    decay_corrected_to
        DecayCorrectionDateTime, of enhanced PET or a private attribute of Siemens.
    dates_modified
        De-identification has shifted or removed dates (0028,0303).
    problems
        Field -> why it cannot be used although it is there, e.g. `DIFFERS`.
    widths
        Field of a time -> seconds by which it may be later, where it is written to the minute or
        coarser.
    names
        Field -> attribute that it was read from, where this is not the one of `ATTRIBUTES`.
    remarks
        What a reader of the SUV has to know about how the header was read.
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
    ge_injection: datetime | None = None
    series_start: datetime | None = None
    first_acquisition: datetime | None = None
    first_frame_reference_s: float | None = None
    first_frame_duration_s: float | None = None
    first_decay_factor: float | None = None
    ge_scan_start: datetime | None = None
    scan_end: datetime | None = None
    decay_corrected_to: datetime | None = None
    philips_suv_factor: float | None = None
    philips_activity_factor: float | None = None
    dates_modified: bool = False
    problems: Mapping[str, str] = field(default_factory=dict)
    widths: Mapping[str, float] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def name(self, field_name: str) -> str:
        """The attribute that a field was read from."""
        return self.names.get(field_name) or ATTRIBUTES[field_name]

    def require_sound(self, *field_names: str) -> None:
        """Refuse fields that have a problem.

        Raises
        ------
        SuvUnavailable
            Names the attribute and the problem.
        """
        for name in field_names:
            if name in self.problems:
                raise suv_unavailable(f"{self.name(name)} {self.problems[name]}")

    def missing(self, field_name: str) -> SuvUnavailable:
        """Make the error about a field that is None."""
        return suv_unavailable(f"{self.name(field_name)} is missing or unreadable")


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
