"""What all objects of one case have in common: patient, study, equipment, grid, derivation."""

from __future__ import annotations

import hashlib
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian

import medfuse
from medfuse.dicom_out.source import SourceSeries, coded, refer_to_instances, source_items
from medfuse.errors import MedfuseError, UsageError
from medfuse.imaging.dicom.deflated import read_dataset
from medfuse.imaging.dicom.header import quiet_pydicom
from medfuse.imaging.dicom.scan import choose_series, scan_file_series, scan_folder
from medfuse.imaging.grid import LPS_FROM_RAS, DisplayOrder, Grid
from medfuse.record.privacy import pseudonym

if TYPE_CHECKING:
    from highdicom import VolumeGeometry

UTF8 = "ISO_IR 192"
WARNING = "RESEARCH - not for diagnosis"
#: Results are the same to the byte on every run, so their date cannot be that of the run: it is
#: the study's where the study is named, else this one. provenance.json says when it was.
NO_DATE, NO_TIME = "19000101", "000000"
_KEPT = """
    PatientName PatientID IssuerOfPatientID PatientBirthDate PatientSex PatientAge PatientSize
    PatientWeight StudyInstanceUID StudyDate StudyTime StudyID StudyDescription AccessionNumber
    ReferringPhysicianName SpecificCharacterSet
"""
_NEEDED = """
    PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime StudyID AccessionNumber
    ReferringPhysicianName
"""


def require_highdicom() -> Any:
    """Import highdicom, or say how it is installed.

    Raises
    ------
    UsageError
        ``E_EXTRA``.
    """
    try:
        import highdicom
    except ImportError as error:
        raise UsageError(
            "E_EXTRA",
            what="Cannot write DICOM",
            cause="the package highdicom is not installed",
            remedy="pip install 'medfuse[dicom]'",
        ) from error
    return highdicom


def read_patient(path: Path, series: str | None) -> Dataset:
    """Patient and study attributes of a DICOM series, as they are; empty for any other input."""
    with quiet_pydicom():
        try:
            scan = scan_folder(path) if path.is_dir() else scan_file_series(path)
            first = choose_series(scan, series).files[0]
        except MedfuseError:
            return Dataset()
    return patient_of(first.path)


def patient_of(file: Path) -> Dataset:
    """Patient and study attributes of a DICOM file, as they are."""
    with quiet_pydicom():
        return Dataset(read_dataset(file, stop_before_pixels=True, specific_tags=_KEPT.split()))


@dataclass(frozen=True)
class Origin:
    """Where the objects of one case come from.

    Attributes
    ----------
    anatomical, functional : SourceSeries
        The same one twice, where the objects are about one image alone.
    grid : Grid
        Of the anatomical image, on which pictures and weights lie.
    key : str
        Of the case: the new UIDs follow from it, so that equal runs give equal files.
    salt : bytes
        With which the patient's pseudonym is made.
    description : str
        What was done, for people.
    patient : Dataset or None
        From `read_patient`; None blanks patient and study.
    work : str
        What medfuse did, as its entry among the equipment says it.
    """

    anatomical: SourceSeries
    functional: SourceSeries
    grid: Grid
    key: str
    salt: bytes
    description: str
    patient: Dataset | None = None
    work: str = "Registered and fused two image volumes"

    def uid(self, name: str) -> str:
        """A new UID for a thing of this case.

        References
        ----------
        DICOM PS3.5 B.2: UUID derived UID, 2.25 followed by a 128-bit number.
        """
        return _uid(self.key, name)

    @property
    def frame_of_reference(self) -> str:
        """That of the anatomical image; where it has none, one that its content gives."""
        return self.anatomical.frame_of_reference or _uid(self.anatomical.sha256, "frame")

    @cached_property
    def stand_in(self) -> Dataset:
        """A dataset with patient and study attributes, as highdicom copies them from a source."""
        if self.patient is not None and self.patient.get("StudyInstanceUID"):
            dataset = deepcopy(self.patient)
        else:
            name = pseudonym(self.anatomical.patient or self.anatomical.sha256, self.salt)
            dataset = Dataset()
            dataset.PatientID, dataset.PatientName = f"medfuse-{name}", f"medfuse^{name}"
            study = self.anatomical.study or self.anatomical.sha256
            dataset.StudyInstanceUID = _uid(pseudonym(study, self.salt) or "", "study")
        for keyword in _NEEDED.split():
            if keyword not in dataset:
                setattr(dataset, keyword, "")
        dataset.FrameOfReferenceUID = self.frame_of_reference
        dataset.PositionReferenceIndicator = ""
        dataset.SeriesInstanceUID = self.anatomical.series or self.uid("source")
        return dataset

    @property
    def order(self) -> DisplayOrder:
        """From (X, Y, Z) to frames, rows, columns: as in a DICOM source, else as doctors look."""
        if self.anatomical.slices:
            x, y, z = self.grid.spacing
            return DisplayOrder("as stored", (2, 1, 0), (False, False, False), (z, y, x))
        order = DisplayOrder.from_grid(self.grid)
        if order.plane != "sagittal":
            return order
        slices, rows, columns = order.flips  # DICOM stacks along row x column direction
        return replace(order, flips=(not slices, rows, columns))

    @cached_property
    def geometry(self) -> VolumeGeometry:
        """Of frames, rows, columns, in LPS mm."""
        order, from_index = self.order, np.zeros((4, 4))
        from_index[3, 3] = 1
        for new, (old, flip) in enumerate(zip(order.axes, order.flips, strict=True)):
            from_index[old, new] = -1 if flip else 1
            from_index[old, 3] = self.grid.shape[old] - 1 if flip else 0
        geometry: VolumeGeometry = require_highdicom().VolumeGeometry(
            LPS_FROM_RAS @ self.grid.affine @ from_index,
            [self.grid.shape[axis] for axis in order.axes],
            coordinate_system="PATIENT",
            frame_of_reference_uid=self.frame_of_reference,
        )
        return geometry

    def common(self, name: str, number: int, kind: str) -> dict[str, Any]:
        """Arguments that every highdicom object takes."""
        patient = self.stand_in
        return {
            "series_instance_uid": self.uid(f"series {name}"),
            "series_number": number,
            "series_description": f"medfuse {kind} ({WARNING})",
            "instance_number": 1,
            "manufacturer": "medfuse",
            "manufacturer_model_name": "medfuse",
            "software_versions": medfuse.__version__,
            "device_serial_number": "none",
            "specific_character_set": patient.get("SpecificCharacterSet"),
            "contributing_equipment": [self.equipment()],
        }

    def identity(self) -> dict[str, Any]:
        """Patient and study as arguments of highdicom's `SOPClass`."""
        patient = self.stand_in
        return {
            "study_instance_uid": patient.StudyInstanceUID,
            "patient_id": patient.PatientID,
            "patient_name": patient.PatientName,
            "patient_birth_date": patient.PatientBirthDate,
            "patient_sex": patient.PatientSex,
            "accession_number": patient.AccessionNumber,
            "study_id": patient.StudyID,
            "study_date": patient.StudyDate or None,
            "study_time": patient.StudyTime or None,
            "referring_physician_name": patient.ReferringPhysicianName,
        }

    def equipment(self) -> Dataset:
        """Item of ContributingEquipmentSequence."""
        equipment: Dataset = require_highdicom().ContributingEquipment(
            manufacturer="medfuse",
            purpose_of_reference=codes.DCM.ProcessingEquipment,
            manufacturer_model_name="medfuse",
            software_versions=medfuse.__version__,
            contribution_description=f"{self.work}; research use only",
        )
        return equipment

    def finish(self, dataset: Dataset, *, names_images: bool = True) -> Dataset:
        """Set what highdicom does not, and replace its clock and chance by fixed values."""
        self.settle(dataset)
        dataset.Laterality = ""
        refer_to_instances(dataset, tuple(dict.fromkeys((self.anatomical, self.functional))))
        if names_images:
            dataset.FrameOfReferenceUID = self.frame_of_reference
            dataset.PositionReferenceIndicator = ""
        return dataset

    def settle(self, dataset: Dataset) -> Dataset:
        """Replace the clock of highdicom by fixed values."""
        for keyword in ("InstanceCreationDate", "InstanceCreationTime"):
            dataset.pop(keyword, None)
        for equipment in dataset.ContributingEquipmentSequence:
            equipment.pop("ContributionDateTime", None)
        for prefix in ("Content", "PresentationCreation"):
            if f"{prefix}Date" in dataset:
                setattr(dataset, f"{prefix}Date", self.stand_in.StudyDate or NO_DATE)
                setattr(dataset, f"{prefix}Time", self.stand_in.StudyTime or NO_TIME)
        return dataset

    def derive(self, dataset: Dataset, images: list[Any] | None = None) -> None:
        """Say how the pixels were derived, and from which images (default: from all)."""
        dataset.DerivationDescription = self.description
        dataset.DerivationCodeSequence = coded(
            codes.cid7203.SpatialResampling, codes.cid7203.PixelByPixelAddition
        )
        found = [*self.anatomical.images, *self.functional.images] if images is None else images
        if found:
            dataset.SourceImageSequence = source_items(found)
        lossy = self.anatomical.lossy or self.functional.lossy
        dataset.LossyImageCompression = "01" if lossy else "00"
        burned = self.anatomical.burned_in or self.functional.burned_in
        dataset.BurnedInAnnotation = "YES" if burned else "NO"


def file_meta(dataset: Dataset) -> None:
    """Give a dataset that no highdicom class has made its file meta information."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta = meta


def _uid(*parts: str) -> str:
    digest = hashlib.sha256("\n".join(["medfuse", *parts]).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16])}"
