"""Makes DICOM series and NIfTI files from numpy: small, anisotropic in all axes, asymmetric.

No patient data: every text tag holds the marker ``ZZPHI``, which must never come out of medfuse.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    NuclearMedicineImageStorage,
    PositronEmissionTomographyImageStorage,
    SecondaryCaptureImageStorage,
)

MARKER = "ZZPHI"
SHAPE = (11, 8, 6)
SPACING = (1.5, 2.25, 4.0)
ORIGIN_LPS = (-20.0, 13.0, -37.5)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
SOP_CLASSES = {
    "CT": CTImageStorage,
    "MR": MRImageStorage,
    "PT": PositronEmissionTomographyImageStorage,
    "NM": NuclearMedicineImageStorage,
    "SC": SecondaryCaptureImageStorage,
}
_FREE_TEXT_TAGS = """
    InstitutionName InstitutionAddress ReferringPhysicianName StudyDescription OperatorsName
    SeriesDescription AccessionNumber ProtocolName StationName PatientComments ImageComments
"""
Edit = Callable[[Dataset, int], None]


def phantom(shape: Sequence[int] = SHAPE) -> np.ndarray:
    """Integers (X, Y, Z), every voxel another one, so that any flip or swap shows."""
    x, y, z = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    return (1 + x + 20 * y + 400 * z).astype(np.int16)


def oblique() -> tuple[float, ...]:
    """Row and column direction, turned about all three axes."""
    a, b, c = 0.3, -0.2, 0.5
    turn_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    turn_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    turn_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    turn = turn_z @ turn_y @ turn_x
    return (*turn[:, 0], *turn[:, 1])


@dataclass(frozen=True)
class SeriesPlan:
    """A classic series of one image a file.

    Attributes
    ----------
    values : (X, Y, Z) integers
        Stored values; X runs along columns, Y along rows, Z along the slice normal.
    edit : callable
        Changes the dataset of slice k before it is written.
    """

    values: np.ndarray = field(default_factory=phantom)
    modality: str = "MR"
    orientation: Sequence[float] = AXIAL
    spacing: Sequence[float] = SPACING
    origin: Sequence[float] = ORIGIN_LPS
    number: int = 4
    patient: str = "1"
    series_uid: str = "1.2.826.0.1.3680043.8.498.4"
    edit: Edit | None = None

    def position(self, i: float, j: float, k: float) -> np.ndarray:
        """Patient position (LPS mm) of voxel (i, j, k): the definition, written out."""
        row, column = np.array(self.orientation[:3]), np.array(self.orientation[3:])
        normal = np.cross(row, column)
        sx, sy, sz = self.spacing
        return np.array(self.origin) + i * sx * row + j * sy * column + k * sz * normal


def write_series(folder: Path, plan: SeriesPlan | None = None, prefix: str = "") -> SeriesPlan:
    """Write one file a slice; names run against the slice order."""
    plan = plan or SeriesPlan()
    folder.mkdir(parents=True, exist_ok=True)
    depth = plan.values.shape[2]
    for k in range(depth):
        dataset = slice_dataset(plan, k)
        if plan.edit:
            plan.edit(dataset, k)
        save(dataset, folder / f"{prefix}{file_name(k, depth)}")
    return plan


def file_name(k: int, depth: int = SHAPE[2]) -> str:
    """Name of slice k."""
    return f"{depth - k:04d}.dcm"


def save(dataset: Dataset, path: Path) -> None:
    """Write a dataset as a DICOM file."""
    dataset.save_as(path, enforce_file_format=True)


def slice_dataset(plan: SeriesPlan, k: int) -> FileDataset:
    """Make the dataset of slice k."""
    dataset = base_dataset(plan.modality, plan.series_uid, plan.number, plan.patient, k + 1)
    dataset.ImagePositionPatient = [float(v) for v in plan.position(0, 0, k)]
    dataset.ImageOrientationPatient = [float(v) for v in plan.orientation]
    dataset.PixelSpacing = [plan.spacing[1], plan.spacing[0]]
    dataset.SliceThickness = 77.0  # a lie, never to be believed
    set_pixels(dataset, plan.values[:, :, k].T)
    if plan.modality in ("CT", "PT"):
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
    if plan.modality == "PT":
        add_pet_tags(dataset)
    return dataset


def base_dataset(
    modality: str, series_uid: str, number: int, patient: str, instance: int
) -> FileDataset:
    """Make an image dataset without geometry and pixels, with the marker in every text tag."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = SOP_CLASSES[modality]
    meta.MediaStorageSOPInstanceUID = f"{series_uid}.{instance}"
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.Modality = "CT" if modality == "SC" else modality
    dataset.SeriesInstanceUID = series_uid
    dataset.StudyInstanceUID = "1.2.826.0.1.3680043.8.498.1"
    dataset.FrameOfReferenceUID = "1.2.826.0.1.3680043.8.498.2"
    dataset.SeriesNumber, dataset.InstanceNumber = number, instance
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.PatientID = f"{MARKER}-{patient}"
    dataset.PatientName = f"{MARKER}^{MARKER}"
    dataset.PatientBirthDate = "19460507"
    for keyword in _FREE_TEXT_TAGS.split():
        setattr(dataset, keyword, f"{MARKER} x")
    dataset.private_block(0x0011, f"{MARKER} PRIVATE", create=True).add_new(1, "LO", MARKER)
    item = Dataset()
    item.CodeMeaning = MARKER
    dataset.ProcedureCodeSequence = DicomSequence([item])
    return dataset


def set_pixels(dataset: Dataset, frames: np.ndarray) -> None:
    """Store int16 or uint16 pixels (rows, columns) or (frames, rows, columns)."""
    dataset.Rows, dataset.Columns = frames.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = int(frames.dtype.kind == "i")
    dataset.PixelData = np.ascontiguousarray(frames).tobytes()


def add_pet_tags(dataset: Dataset) -> None:
    """FDG, 300 MBq, 75 kg, injected 60 min before the scan; decay-corrected to its start."""
    dataset.Units, dataset.DecayCorrection = "BQML", "START"
    dataset.CorrectedImage = ["DECY", "ATTN", "SCAT"]
    dataset.PatientWeight = 75
    dataset.SeriesDate = dataset.AcquisitionDate = "20240305"
    dataset.SeriesTime = dataset.AcquisitionTime = "110000.00"
    dataset.FrameReferenceTime, dataset.ActualFrameDuration = 0, 120000
    isotope = Dataset()
    isotope.RadiopharmaceuticalStartTime = "100000.00"
    isotope.RadionuclideTotalDose, isotope.RadionuclideHalfLife = 3e8, 6586.2
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "C-111A1", "SRT", "^18^Fluorine"
    isotope.RadionuclideCodeSequence = DicomSequence([code])
    dataset.RadiopharmaceuticalInformationSequence = DicomSequence([isotope])


def isotope_of(dataset: Dataset) -> Dataset:
    """The radiopharmaceutical item of a PET dataset."""
    return dataset.RadiopharmaceuticalInformationSequence[0]


def write_enhanced(path: Path, plan: SeriesPlan, order: Sequence[int]) -> None:
    """Write an enhanced multi-frame file whose frames come in the given slice order."""
    dataset = base_dataset(plan.modality, plan.series_uid, plan.number, plan.patient, 1)
    sop_class = EnhancedCTImageStorage if plan.modality == "CT" else EnhancedMRImageStorage
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = sop_class
    set_pixels(dataset, np.stack([plan.values[:, :, k].T for k in order]))
    dataset.NumberOfFrames = len(order)
    measures, orientation, transform = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [plan.spacing[1], plan.spacing[0]]
    orientation.ImageOrientationPatient = [float(v) for v in plan.orientation]
    transform.RescaleSlope, transform.RescaleIntercept = 2, -1000
    shared = Dataset()
    shared.PixelMeasuresSequence = DicomSequence([measures])
    shared.PlaneOrientationSequence = DicomSequence([orientation])
    shared.PixelValueTransformationSequence = DicomSequence([transform])
    dataset.SharedFunctionalGroupsSequence = DicomSequence([shared])
    groups = []
    for k in order:
        position, group = Dataset(), Dataset()
        position.ImagePositionPatient = [float(v) for v in plan.position(0, 0, k)]
        group.PlanePositionSequence = DicomSequence([position])
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = DicomSequence(groups)
    save(dataset, path)


def write_nm(path: Path, plan: SeriesPlan, *, step_sign: int = 1) -> None:
    """Write a reconstructed NM (SPECT) multi-frame file; a negative step stacks downwards."""
    dataset = base_dataset("NM", plan.series_uid, plan.number, plan.patient, 1)
    depth = plan.values.shape[2]
    order = range(depth)[::step_sign]
    set_pixels(dataset, np.stack([plan.values[:, :, k].T for k in order]))
    dataset.NumberOfFrames = depth
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"]
    dataset.PixelSpacing = [plan.spacing[1], plan.spacing[0]]
    dataset.SpacingBetweenSlices = step_sign * plan.spacing[2]
    dataset.SliceVector = list(range(1, depth + 1))
    detector = Dataset()
    detector.ImagePositionPatient = [float(v) for v in plan.position(0, 0, order[0])]
    detector.ImageOrientationPatient = [float(v) for v in plan.orientation]
    dataset.DetectorInformationSequence = DicomSequence([detector])
    save(dataset, path)


def edit_file(path: Path, edit: Callable[[Dataset], None]) -> None:
    """Change one written file."""
    dataset = pydicom.dcmread(path)
    edit(dataset)
    save(dataset, path)


def affine_ras() -> np.ndarray:
    """An oblique, left-handed, anisotropic NIfTI affine."""
    turn = np.array(oblique()).reshape(2, 3).T
    affine = np.eye(4)
    affine[:3, :3] = np.c_[-turn[:, 0], turn[:, 1], np.cross(turn[:, 0], turn[:, 1])] * SPACING
    affine[:3, 3] = (31.0, -7.0, 12.5)
    return affine


def write_nifti(
    path: Path,
    values: np.ndarray | None = None,
    edit: Callable[[nib.Nifti1Header], None] | None = None,
) -> np.ndarray:
    """Write a NIfTI-1 file; `edit` changes the header without nibabel's corrections."""
    values = phantom().astype(np.float32) if values is None else values
    image = nib.Nifti1Image(values, affine_ras())
    image.header.set_xyzt_units("mm")
    image.header["descrip"], image.header["aux_file"] = MARKER.encode(), MARKER.encode()
    raw = bytearray(image.to_bytes())
    if edit:
        header = nib.Nifti1Header(bytes(raw[:348]), check=False)
        edit(header)
        raw[:348] = header.binaryblock
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(bytes(raw), mtime=0) if path.suffix == ".gz" else bytes(raw))
    return values
