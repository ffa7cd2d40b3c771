"""PET headers in memory: what `read_pet_header` takes, without a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from medfuse.imaging.dicom.header import DicomFile
from medfuse.imaging.dicom.pet import read_pet_header
from medfuse.imaging.pet.suv import SuvScale, compute_suv_scale
from tests._helpers import make

DOSE_BQ, WEIGHT_KG, HALF_LIFE_S = 3e8, 75.0, 6586.2
ENHANCED_PET = "1.2.840.10008.5.1.4.1.1.130"
ISOTOPE = ("Radiopharmaceutical", "Radionuclide")
Edit = Callable[[Dataset], None]


def code(value: str, meaning: str) -> Dataset:
    """An item of a code sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SRT", meaning
    return item


def header(**tags: Any) -> Dataset:
    """FDG, 300 MBq, 75 kg, injected at 10:00, scanned at 11:00; None removes an attribute."""
    dataset = Dataset()
    dataset.SOPClassUID = make.SOP_CLASSES["PT"]
    make.add_pet_tags(dataset)
    for name, value in tags.items():
        sequence = "RadiopharmaceuticalInformationSequence"
        of_isotope = name.startswith(ISOTOPE) and name != sequence
        owner = make.isotope_of(dataset) if of_isotope else dataset
        if value is not None:
            setattr(owner, name, value)
        elif name in owner:
            delattr(owner, name)
    return dataset


def scale_of(*headers: Dataset, kind: str = "suv") -> SuvScale:
    """The SUV of a series of these headers."""
    files = [DicomFile(Path(f"{n}"), f"{n}.dcm", h, 9) for n, h in enumerate(headers)]
    return compute_suv_scale(read_pet_header(files), kind)


def factor(seconds: float, *, half_life_s: float = HALF_LIFE_S, dose_bq: float = DOSE_BQ) -> float:
    """The textbook formula for `header`."""
    return WEIGHT_KG * 1000 / (dose_bq * 2 ** (-seconds / half_life_s))


def enhanced(frames: Sequence[str] = ("20240305110000", "20240305111000"), **tags: Any) -> Dataset:
    """The same as enhanced PET: one file, dose in MBq, corrections as YES and NO."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.Modality = ENHANCED_PET, "PT"
    dataset.PatientWeight = WEIGHT_KG
    dataset.DecayCorrected = dataset.AttenuationCorrected = "YES"
    dataset.DecayCorrectionDateTime = "20240305110000"
    isotope = Dataset()
    isotope.RadiopharmaceuticalStartDateTime = "20240305100000"
    isotope.RadionuclideTotalDose, isotope.RadionuclideHalfLife = DOSE_BQ / 1e6, HALF_LIFE_S
    isotope.RadionuclideCodeSequence = [code("C-111A1", "^18^Fluorine")]
    dataset.RadiopharmaceuticalInformationSequence = [isotope]
    dataset.SharedFunctionalGroupsSequence = [Dataset()]
    dataset.PerFrameFunctionalGroupsSequence = [
        _frame(start, 1.0 + n) for n, start in enumerate(frames)
    ]
    for name, value in tags.items():
        owner = isotope if name.startswith(ISOTOPE) else dataset
        setattr(owner, name, value) if value is not None else delattr(owner, name)
    return dataset


def _frame(start: str, slope: float) -> Dataset:
    content, transform, mapping, group = Dataset(), Dataset(), Dataset(), Dataset()
    content.FrameAcquisitionDateTime, content.FrameAcquisitionDuration = start, 600000.0
    transform.RescaleSlope, transform.RescaleIntercept = slope, 0
    mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = slope, 0.0
    mapping.MeasurementUnitsCodeSequence = [code("Bq/ml", "Becquerels/milliliter")]
    group.FrameContentSequence = [content]
    group.PixelValueTransformationSequence = [transform]
    group.RealWorldValueMappingSequence = [mapping]
    return group
