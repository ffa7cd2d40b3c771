"""What a NIfTI file cannot say and its name or BIDS sidecar may: modality and unit."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medfuse.imaging.nifti.sidecar import read_sidecars
from medfuse.imaging.pet.bids import suv_of_sidecar
from medfuse.imaging.pet.body_weight import find_weight
from medfuse.imaging.pet.free_text import image_unit
from medfuse.imaging.pet.nuclides import SINGLE_PHOTON, named_nuclides
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
    sidecar : str or None
        The modality that the sidecar states.
    patient_position : str or None
        How the patient lay, e.g. "HFS", as dcm2niix writes it from DICOM.
    """

    modality: str | None
    unit: str | None = None
    factor: float = 1.0
    sidecar_sha256: str | None = None
    notes: tuple[str, ...] = ()
    suv: SuvScale | None = None
    sidecar: str | None = None
    patient_position: str | None = None


def find_facts(path: Path) -> Facts:
    """Look at the name of a NIfTI file and at the JSON sidecars that count for it."""
    named, notes = modality_of_name(path.name)
    sidecar = read_sidecars(path)
    notes += sidecar.notes
    if sidecar.sha256 is None or not sidecar.readable:
        return Facts(named, notes=tuple(notes))
    content, sha256 = sidecar.content, sidecar.sha256
    stated = _stated_modality(content)
    if stated and named and stated != named:
        notes.append(f"the sidecar says {stated}, the file name {named}: the sidecar was believed")
    unit, factor = _stated_unit(content, notes)
    more: Any = {"sidecar": stated, "patient_position": _position(content)}
    if unit != "Bq/ml" or (stated or named) != "PET":
        return Facts(stated or named, unit, factor, sha256, tuple(notes), **more)
    weight = find_weight(path)
    if weight.kg is not None:
        sha256 = hashlib.sha256(f"{sha256} {weight.kg:g} kg".encode()).hexdigest()
    suv = suv_of_sidecar(content, weight, sidecar.conflicts)
    return Facts("PET", unit, factor, sha256, tuple(notes), suv, **more)


def _position(content: dict[str, Any]) -> str | None:
    stated = content.get("PatientPosition")
    return stated.strip().upper() or None if isinstance(stated, str) else None


def subject_of_name(name: str) -> str | None:
    """The label of the subject in a BIDS name ("sub-01_T1w.nii.gz" -> 01)."""
    found = re.match(r"sub-([A-Za-z0-9]+)_", name)
    return found[1] if found else None


def _stated_modality(content: dict[str, Any]) -> str | None:
    """Modality that a sidecar states; a tracer that emits positrons is one of PET."""
    stated = _SIDECAR_MODALITY.get(str(content.get("Modality", "")).strip().lower())
    tracer = named_nuclides(str(content.get("TracerRadionuclide", "")))
    is_pet = len(tracer) == 1 and tracer[0] not in SINGLE_PHOTON
    return stated or ("PET" if is_pet else None)


def _stated_unit(content: dict[str, Any], notes: list[str]) -> tuple[str | None, float]:
    stated = content.get("Units")
    if isinstance(stated, list) and len(stated) == 1:
        stated = stated[0]
    if stated is None or stated == "":
        return None, 1.0
    found = image_unit(stated)
    if found is None:
        notes.append("the Units of the sidecar are not known here: values are taken as a.u.")
        return None, 1.0
    unit, factor = found
    if factor != 1.0:
        notes.append(f"values were converted to {unit} (factor {factor:g}, unit of the sidecar)")
    return unit, factor


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
