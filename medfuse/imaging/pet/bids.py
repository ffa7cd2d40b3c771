"""SUV of a BIDS PET image, from its sidecar and participants.tsv.

References
----------
Norgaard et al. 2022, PET-BIDS, an extension to the brain imaging data structure for positron
emission tomography. Sci Data 9:65. BIDS 1.10, "Positron Emission Tomography".
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from medfuse.imaging.pet.nuclides import HALF_LIVES_S, find_nuclide
from medfuse.imaging.pet.suv import PetHeader, SuvScale, compute_suv_scale

_TO_BQ = {"bq": 1.0, "kbq": 1e3, "mbq": 1e6, "gbq": 1e9}
_TIME_ZERO = datetime(2000, 1, 1, 12)  # times are relative; only their differences count
_NOT_CORRECTED = ("", "none", "no", "n/a", "false")
#: What the tags of a refusal are called here.
FIELDS = {
    "Units (0054,1001)": "Units",
    "CorrectedImage (0028,0051) has no ATTN": "AttenuationCorrection is missing or none",
    "CorrectedImage (0028,0051) has no DECY": "ImageDecayCorrected is not true",
    "DecayCorrection (0054,1102)": "ImageDecayCorrected",
    "PatientWeight (0010,1030)": "weight of participants.tsv",
    "PatientSize (0010,1020)": "height",
    "PatientSex (0010,0040)": "sex",
    "RadionuclideTotalDose (0018,1074)": "InjectedRadioactivity",
    "RadionuclideHalfLife (0018,1075)": "TracerRadionuclide",
    "RadiopharmaceuticalStartDateTime (0018,1078)": "InjectionStart",
    "RadiopharmaceuticalStartTime (0018,1072)": "InjectionStart",
    "AcquisitionDate/AcquisitionTime (0008,0022/0032)": "ImageDecayCorrectionTime",
    "DecayCorrectionDateTime (0018,9701)": "ImageDecayCorrectionTime",
}


def suv_of_sidecar(sidecar: Mapping[str, object], weight_kg: float | None) -> SuvScale:
    """Find the factor from Bq/ml to SUVbw, or the reason why there is none, in BIDS terms."""
    scale = compute_suv_scale(read_pet_sidecar(sidecar, weight_kg))
    record = {name: _renamed(value) for name, value in scale.record.items()}
    return replace(scale, record=record)


def read_pet_sidecar(sidecar: Mapping[str, object], weight_kg: float | None) -> PetHeader:
    """Bring the facts of a PET-BIDS sidecar into the form that `compute_suv_scale` takes.

    Parameters
    ----------
    sidecar : mapping
        With activity in Bq/ml.
    weight_kg : float or None
        From `find_weight`.
    """
    nuclide = find_nuclide(None, str(sidecar.get("TracerRadionuclide", "")), None)
    unit = str(sidecar.get("InjectedRadioactivityUnits", "")).strip().lower()
    dose, scale = _number(sidecar.get("InjectedRadioactivity")), _TO_BQ.get(unit)
    attenuation = str(sidecar.get("AttenuationCorrection", "")).strip().lower()
    corrected = ["ATTN"] if attenuation not in _NOT_CORRECTED else ["SCAT"]
    if sidecar.get("ImageDecayCorrected") is True:
        corrected.append("DECY")
    return PetHeader(
        units="BQML",
        corrected_image=tuple(corrected),
        decay_correction="START",
        weight_kg=weight_kg,
        dose_bq=None if dose is None or scale is None else dose * scale,
        half_life_s=HALF_LIVES_S.get(nuclide) if nuclide else None,
        nuclide=nuclide,
        injection=_moment(sidecar.get("InjectionStart")),
        decay_corrected_to=_moment(sidecar.get("ImageDecayCorrectionTime")),
    )


def find_weight(path: Path) -> float | None:
    """Body weight of the subject of a file, kg, by the participants.tsv of its data set."""
    subject = next((part for part in path.absolute().parts if part.startswith("sub-")), None)
    if subject is None:
        return None
    root = next((p.parent for p in path.absolute().parents if p.name == subject), path.parent)
    try:
        with (root / "participants.tsv").open(newline="", encoding="utf-8-sig") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                if row.get("participant_id") == subject:
                    return _number(row.get("weight"))
    except (OSError, UnicodeDecodeError, csv.Error):
        return None
    return None


def _renamed(value: Any) -> Any:
    if isinstance(value, list):
        return [_renamed(part) for part in value]
    if isinstance(value, str):
        for tag, field in FIELDS.items():
            value = value.replace(tag, field)
    return value


def _moment(seconds: object) -> datetime | None:
    value = _number(seconds)
    return None if value is None or abs(value) > 1e6 else _TIME_ZERO + timedelta(seconds=value)


def _number(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
