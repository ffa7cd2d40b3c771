"""SUV of a NIfTI PET from its sidecars, as dcm2niix, PET2BIDS and people write them.

BIDS counts times in seconds from TimeZero; dcm2niix copies attributes of DICOM and has no time of
injection. Where a sidecar says one thing twice, both are compared.

References
----------
Norgaard et al. 2022, PET-BIDS, an extension to the brain imaging data structure for positron
emission tomography. Sci Data 9:65. BIDS 1.10, "Positron Emission Tomography".
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

from medfuse.imaging.pet.body_weight import Weight
from medfuse.imaging.pet.free_text import activity_in_bq, is_missing, read_number, read_quantity
from medfuse.imaging.pet.header import PetHeader
from medfuse.imaging.pet.nuclides import HALF_LIVES_S, find_nuclide, named_nuclides
from medfuse.imaging.pet.suv import SuvScale, compute_suv_scale

_TIME_ZERO = datetime(2000, 1, 1, 12)  # times are relative; only their differences count
_SAME = 0.01
_CLOCK = re.compile(r"(?:.*T)?(\d\d):(\d\d)(?::(\d\d(?:\.\d+)?))?")
_NOT_CORRECTED = re.compile(
    r"(no|none|not|non|un|without|off|false|n/a|nac|n\.a\.|nil|0)(\b|_|corrected|$).*|\[\s*\]|",
    re.IGNORECASE | re.DOTALL,
)
_YES, _NO = ("true", "yes", "1", "1.0"), ("false", "no", "0", "0.0", "none")
#: What the fields of a header are called in a sidecar.
NAMES = {
    "units": "Units",
    "corrected_image": "AttenuationCorrection",
    "corrected_image ATTN": "AttenuationCorrection is missing or none",
    "corrected_image DECY": "ImageDecayCorrected is not true",
    "decay_correction": "DecayCorrection",
    "height_m": "height",
    "sex": "sex",
    "dose_bq": "InjectedRadioactivity",
    "half_life_s": "TracerRadionuclide",
    "nuclide": "TracerRadionuclide",
    "injection": "InjectionStart",
    "injection_time": "InjectionStart",
    "first_acquisition": "ScanStart",
    "series_start": "ScanStart",
    "decay_corrected_to": "ImageDecayCorrectionTime",
    "first_decay_factor": "DecayCorrectionFactor",
    "first_frame_reference_s": "ImageDecayCorrectionTime",
}
#: Field of a sidecar -> field of the header that cannot be used where sidecars disagree on it.
_RESTS_ON = {
    **dict.fromkeys(("InjectedRadioactivity", "InjectedRadioactivityUnits"), "dose_bq"),
    "RadionuclideTotalDose": "dose_bq",
    **dict.fromkeys(("TracerRadionuclide", "TracerName", "Radiopharmaceutical"), "nuclide"),
    **dict.fromkeys(("RadionuclideHalfLife", "IsotopeHalfLife"), "half_life_s"),
    **dict.fromkeys(("AttenuationCorrection", "AttenuationCorrectionMethod"), "corrected_image"),
    "ImageDecayCorrected": "corrected_image",
    "DecayCorrection": "decay_correction",
    "InjectionStart": "injection",
    "ImageDecayCorrectionTime": "decay_corrected_to",
    "ScanStart": "decay_corrected_to",
    "PatientWeight": "weight_kg",
    "Units": "units",
}


def suv_of_sidecar(
    sidecar: Mapping[str, object], weight: Weight, conflicts: Collection[str] = ()
) -> SuvScale:
    """Find the factor from Bq/ml to SUVbw, or the reason why there is none, in BIDS terms."""
    return compute_suv_scale(read_pet_sidecar(sidecar, weight, conflicts))


def read_pet_sidecar(
    sidecar: Mapping[str, object], weight: Weight, conflicts: Collection[str] = ()
) -> PetHeader:
    """Bring the facts of a sidecar into the form that `compute_suv_scale` takes.

    Parameters
    ----------
    sidecar : mapping
        Of an image in Bq/ml; what its values do not say is in no field of the header.
    weight : Weight
        From the tables of the data set.
    conflicts : collection of str
        Fields on which the sidecars of the image disagree.
    """
    return _Reader(sidecar, conflicts).header(weight)


class _Reader:
    """One sidecar; gathers names, problems and remarks while its fields are read."""

    def __init__(self, sidecar: Mapping[str, object], conflicts: Collection[str]) -> None:
        self.sidecar = sidecar
        self.names = dict(NAMES)
        self.remarks: list[str] = []
        self.problems = {
            _RESTS_ON[name]: f"cannot be used: two sidecars of one folder disagree on {name}"
            for name in sorted(conflicts)
            if name in _RESTS_ON
        }

    def header(self, weight: Weight) -> PetHeader:
        half_life = self._half_life()
        nuclide = self._nuclide() or find_nuclide(None, None, half_life)
        start = self._scan_start()
        decay = self._decay_correction()
        injection = self._seconds("InjectionStart", "injection")
        facts: dict[str, Any] = {
            "corrected_image": self._corrections(decay),
            "weight_kg": self._weight(weight),
            "dose_bq": self._dose(),
            "decay_corrected_to": _moment(self._reference(decay, start)),
        }
        self._note_long_injection(injection)
        self._compare_clock(start)
        return PetHeader(
            units="BQML",
            decay_correction="START" if decay is None else decay,
            half_life_s=HALF_LIVES_S.get(nuclide or "") if half_life is None else half_life,
            nuclide=nuclide,
            injection=_moment(injection),
            first_acquisition=_moment(start),
            first_frame_duration_s=_first(self.sidecar.get("FrameDuration")),
            first_decay_factor=_first(self._any("DecayCorrectionFactor", "DecayFactor")),
            scan_end=_moment(self._scan_end(start)),
            problems=self.problems,
            names=self.names,
            remarks=tuple(self.remarks),
            **facts,
        )

    def _any(self, *names: str) -> object:
        return next((v for n in names if not is_missing(v := self.sidecar.get(n))), None)

    def _problem(self, field: str, text: str) -> None:
        self.problems.setdefault(field, text)

    def _seconds(self, name: str, field: str) -> float | None:
        """Seconds from TimeZero; a text that is none is a problem of the field."""
        return self._plain_number(name, field, ("", "s", "sec", "seconds"), "of seconds")

    def _plain_number(
        self, name: str, field: str, units: tuple[str, ...], what: str = "in its unit"
    ) -> float | None:
        """A number, alone or with the unit that it has anyway; else a problem of the field."""
        value = self.sidecar.get(name)
        if is_missing(value):
            return None
        found = read_quantity(value)
        if found is None or found.unit.lower() not in units:
            self.names[field] = name
            self._problem(field, f"is no number {what}")
            return None
        return found.value

    # --- tracer ---

    def _nuclide(self) -> str | None:
        texts = (self.sidecar.get(n) for n in ("TracerRadionuclide", "TracerName"))
        named = {n for text in texts for n in named_nuclides(_text(text))}
        named |= set(named_nuclides(_text(self.sidecar.get("Radiopharmaceutical"))))
        if len(named) > 1:
            self._problem("nuclide", f"and the tracer name {' and '.join(sorted(named))}")
            return None
        return next(iter(named), None)

    def _half_life(self) -> float | None:
        for name in ("RadionuclideHalfLife", "IsotopeHalfLife"):
            if not is_missing(self.sidecar.get(name)):
                self.names["half_life_s"] = name
                return self._seconds(name, "half_life_s")
        return None

    def _dose(self) -> float | None:
        """Activity in Bq, by BIDS and by DICOM."""
        total = self._plain_number("RadionuclideTotalDose", "dose_bq", ("", "bq"))
        stated = self.sidecar.get("InjectedRadioactivity")
        if is_missing(stated):
            if total is not None:
                self.names["dose_bq"] = "RadionuclideTotalDose"
            return total
        found = read_quantity(stated)
        unit = self.sidecar.get("InjectedRadioactivityUnits")
        unit = unit[0] if isinstance(unit, list) and len(unit) == 1 else unit
        units = set() if is_missing(unit) else {str(unit)}
        units |= {found.unit} if found and found.unit else set()
        sizes = {activity_in_bq(unit) for unit in units}
        size = sizes.pop() if len(sizes) == 1 else None
        if found is None:
            self._problem("dose_bq", "is no single number")
            return None
        if size is None:
            self._problem("dose_bq", "has no unit that is known (InjectedRadioactivityUnits)")
            return None
        dose = found.value * size
        if total and not any(abs(total * s / dose - 1) <= _SAME for s in (1.0, 1e6) if dose):
            self._problem("dose_bq", "disagrees with RadionuclideTotalDose")
        return dose

    def _weight(self, weight: Weight) -> float | None:
        """Weight of the sidecar, which is that of the scan, or of the tables."""
        own = self._plain_number("PatientWeight", "weight_kg", ("", "kg"))
        if "weight_kg" not in self.problems:
            self.names["weight_kg"] = weight.source
        if own is None or "weight_kg" in self.problems:
            self.remarks += weight.remarks
            if weight.problem:
                self._problem("weight_kg", weight.problem)
            return weight.kg
        of_session = "sessions" in weight.source
        if weight.kg is not None and abs(weight.kg / own - 1) > _SAME if own else False:
            if of_session:
                self._problem("weight_kg", "disagrees with PatientWeight of the sidecar")
                return weight.kg
            self.remarks.append(
                f"PatientWeight of the sidecar is {own:g} kg, {weight.source} {weight.kg:g} kg: "
                "the one of the scan was taken"
            )
        self.names["weight_kg"] = "PatientWeight"
        return own

    # --- corrections ---

    def _decay_correction(self) -> str | None:
        """START, ADMIN, NONE or "other" of a converter; None where it has none."""
        stated = self.sidecar.get("DecayCorrection")
        if is_missing(stated) and not isinstance(stated, str):
            return None
        code = str(stated).strip().upper()
        if code in ("", "N/A"):
            return None
        return code if code in ("START", "ADMIN", "NONE") else "other"

    def _corrections(self, decay: str | None) -> tuple[str, ...]:
        flag = _truth(self.sidecar.get("ImageDecayCorrected"))
        if flag is not None and decay is not None and flag != (decay in ("START", "ADMIN")):
            self._problem("decay_correction", "disagrees with ImageDecayCorrected")
        stated = {
            name: _is_correction(value)
            for name in ("AttenuationCorrection", "AttenuationCorrectionMethod")
            if (value := self.sidecar.get(name)) is not None
        }
        if len(set(stated.values())) > 1:
            self._problem("corrected_image", "disagrees with AttenuationCorrectionMethod")
        made = ["ATTN"] if any(stated.values()) else []
        if flag or (flag is None and decay is not None):
            made.append("DECY")
        return tuple(made) or ("other",)

    # --- times ---

    def _scan_start(self) -> float | None:
        start = self._seconds("ScanStart", "first_acquisition")
        first = _first(self.sidecar.get("FrameTimesStart"))
        if start is None:
            # Without a time of the injection beside it the first frame is the zero of its own.
            return first if not is_missing(self.sidecar.get("InjectionStart")) else None
        if first is not None and abs(first - start) > 1:
            self.remarks.append(
                f"FrameTimesStart begins at {first:g} s, ScanStart is {start:g} s: the scan is "
                "taken to begin at ScanStart"
            )
        return start

    def _scan_end(self, start: float | None) -> float | None:
        times, durations = self.sidecar.get("FrameTimesStart"), self.sidecar.get("FrameDuration")
        if start is None or not isinstance(times, list) or not isinstance(durations, list):
            return None
        ends = [read_number(v) for v in (*times[:1], *times[-1:], *durations[-1:])]
        if len(ends) != 3 or None in ends:
            return None
        first, last, duration = (v for v in ends if v is not None)
        return start + last - first + duration

    def _reference(self, decay: str | None, start: float | None) -> float | None:
        """Seconds from TimeZero to the time of decay correction."""
        stated = self._seconds("ImageDecayCorrectionTime", "decay_corrected_to")
        if decay != "START" or start is None:
            return stated
        if stated is None:
            self.names["decay_corrected_to"] = "ScanStart (DecayCorrection START)"
            return start
        if abs(stated - start) > 60:
            self._problem(
                "decay_corrected_to", "disagrees with DecayCorrection START and ScanStart"
            )
        return stated

    def _note_long_injection(self, injection: float | None) -> None:
        end = self._seconds("InjectionEnd", "injection")
        if injection is not None and end is not None and end - injection > 120:
            self.remarks.append(
                f"the injection took {(end - injection) / 60:.1f} min: decay is counted from its "
                "start"
            )

    def _compare_clock(self, start: float | None) -> None:
        """Remark where the clock of the acquisition is not that of TimeZero and ScanStart."""
        zero, acquired = (_clock(self.sidecar.get(n)) for n in ("TimeZero", "AcquisitionTime"))
        if start is None or zero is None or acquired is None:
            return
        gap = (zero + start - acquired + 43200) % 86400 - 43200
        if abs(gap) > 60:
            self.remarks.append(
                f"TimeZero with ScanStart lies {abs(gap) / 60:.1f} min "
                f"{'after' if gap > 0 else 'before'} AcquisitionTime"
            )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _truth(value: object) -> bool | None:
    text = str(value).strip().lower()
    return True if text in _YES else False if text in _NO and value is not None else None


def _is_correction(value: object) -> bool:
    """Whether the description of an attenuation correction says that there was one."""
    if isinstance(value, bool) or value is None:
        return bool(value)
    return _NOT_CORRECTED.fullmatch(str(value).strip()) is None


def _first(values: object) -> float | None:
    if isinstance(values, list):
        return read_number(values[0]) if values else None
    return read_number(values)


def _clock(value: object) -> float | None:
    found = _CLOCK.fullmatch(_text(value).strip())
    if found is None:
        return None
    return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3] or 0)


def _moment(seconds: float | None) -> datetime | None:
    return (
        None if seconds is None or abs(seconds) > 1e8 else _TIME_ZERO + timedelta(seconds=seconds)
    )
