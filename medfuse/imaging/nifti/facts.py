"""What a NIfTI file cannot say and its name or BIDS sidecar may: modality and unit."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from medfuse.imaging.pet.bids import find_weight, suv_of_sidecar
from medfuse.imaging.pet.suv import SuvScale

_TOKENS = {
    "MRI": "mr mri t1 t1w t2 t2w pd pdw flair mprage t1c t1ce t1gd t2star swi dwi adc",
    "PET": "pet pt fdg fdopa suv suvbw",
    "SPECT": "spect nm",
    "CT": "ct cta ncct ldct ctres",
}
_MODALITY_OF = {token: m for m, tokens in _TOKENS.items() for token in tokens.split()}
MODALITY_WORDS = tuple(_MODALITY_OF)
_SIDECAR_MODALITY = {"mr": "MRI", "mri": "MRI", "pt": "PET", "pet": "PET", "ct": "CT"}
_SIDECAR_MODALITY |= {"nm": "SPECT", "spect": "SPECT"}
#: Unit of a sidecar -> our unit, and the factor to it.
_SIDECAR_UNITS = {
    "bq/ml": ("Bq/ml", 1.0),
    "bq/cc": ("Bq/ml", 1.0),
    "kbq/ml": ("Bq/ml", 1e3),
    "kbq/cc": ("Bq/ml", 1e3),
    "mbq/ml": ("Bq/ml", 1e6),
    "suv": ("SUVbw", 1.0),
    "suvbw": ("SUVbw", 1.0),
    "g/ml": ("SUVbw", 1.0),
    "hu": ("HU", 1.0),
    "counts": ("counts", 1.0),
}
_MAX_SIDECAR_BYTES = 1 << 20


@dataclass(frozen=True)
class Facts:
    """Modality and unit by what lies around the file; None where nothing says so.

    Attributes
    ----------
    factor : float
        To `unit`, from the unit of the sidecar.
    sidecar_sha256 : str or None
        The sidecar, with the weight of the subject, is part of the input where it was used.
    suv : SuvScale or None
        From Bq/ml to SUVbw, or the refusal; None for anything but a PET in Bq/ml.
    """

    modality: str | None
    unit: str | None = None
    factor: float = 1.0
    sidecar_sha256: str | None = None
    notes: tuple[str, ...] = ()
    suv: SuvScale | None = None


def find_facts(path: Path) -> Facts:
    """Look at the name of a NIfTI file and at the JSON of the same stem."""
    named, notes = modality_of_name(path.name)
    sidecar = path.with_name(re.sub(r"\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE) + ".json")
    content, sha256 = _read_sidecar(sidecar)
    if content is None:
        if sha256 is not None:
            notes.append("the JSON sidecar cannot be read and was ignored")
        return Facts(named, notes=tuple(notes))
    stated = _SIDECAR_MODALITY.get(str(content.get("Modality", "")).strip().lower())
    if stated and named and stated != named:
        notes.append(f"the sidecar says {stated}, the file name {named}: the sidecar was believed")
    unit_text = str(content.get("Units", "")).replace(" ", "").lower()
    unit, factor = _SIDECAR_UNITS.get(unit_text, (None, 1.0))
    if unit is not None and factor != 1.0:
        notes.append(f"values were converted to {unit} (factor {factor:g}, unit of the sidecar)")
    elif unit_text and unit is None:
        notes.append("the Units of the sidecar are not known here: values are taken as a.u.")
    if unit != "Bq/ml" or (stated or named) != "PET":
        return Facts(stated or named, unit, factor, sha256, tuple(notes))
    weight = find_weight(path)
    if weight is not None:
        sha256 = hashlib.sha256(f"{sha256} {weight:g} kg".encode()).hexdigest()
    suv = suv_of_sidecar(content, weight)
    return Facts("PET", unit, factor, sha256, tuple(notes), suv)


def modality_of_name(name: str) -> tuple[str | None, list[str]]:
    """Tell the modality by words of a file name ("sub-01_T1w.nii.gz" -> MRI).

    In BIDS names the suffix counts alone; elsewhere words that disagree say nothing.
    """
    stem = re.sub(r"\.nii(\.gz)?$", "", name, flags=re.IGNORECASE)
    words = re.split(r"[^a-z0-9]+", stem.lower())
    if "sub" in words:
        words = words[-1:]
    found = sorted({_MODALITY_OF[w] for w in words if w in _MODALITY_OF})
    if len(found) == 1:
        return found[0], []
    if found:
        return None, [f"the file name speaks of {' and '.join(found)}: modality unknown"]
    return None, []


def _read_sidecar(path: Path) -> tuple[dict[str, object] | None, str | None]:
    """Content and sha256; (None, sha256) where it is there but unusable."""
    try:
        if not path.is_file() or path.stat().st_size > _MAX_SIDECAR_BYTES:
            return None, None
        raw = path.read_bytes()
    except OSError:
        return None, None
    sha256 = hashlib.sha256(raw).hexdigest()
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError):
        return None, sha256
    return (content, sha256) if isinstance(content, dict) else (None, sha256)
