"""The transform as a Spatial Registration, which says where both sources are in one space."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian, SpatialRegistrationStorage
from pydicom.valuerep import DSfloat

from medfuse.dicom_out.origin import Origin, require_highdicom
from medfuse.dicom_out.source import SourceSeries, coded, reference_items
from medfuse.imaging.grid import lps_from_ras
from medfuse.registration.refine import is_rigid

SERIES = 9003


def build_registration(origin: Origin, matrix: np.ndarray) -> Dataset:
    """Make the object; its space is that of the anatomical image.

    Parameters
    ----------
    origin : Origin
        Both sources DICOM.
    matrix : (4, 4) float64
        Anatomical point -> functional point, RAS mm.

    References
    ----------
    DICOM PS3.3 A.39.1, C.20.2: a matrix maps a point of the item's source to the space of the
    object, LPS mm.
    """
    common = origin.common("registration", SERIES, "registration")
    equipment = common.pop("contributing_equipment")
    dataset = require_highdicom().base.SOPClass(
        sop_class_uid=SpatialRegistrationStorage,
        sop_instance_uid=origin.uid("registration"),
        modality="REG",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **origin.identity(),
        **common,
    )
    dataset.ContributingEquipmentSequence = DicomSequence(equipment)
    dataset.ContentLabel = "REGISTRATION"
    model = "rigid" if is_rigid(matrix) else "affine"
    dataset.ContentDescription = f"Functional to anatomical image, {model}"
    dataset.ContentCreatorName = ""
    identity, image_based = (
        codes.DCM.FrameOfReferenceIdentity,
        codes.DCM.ImageContentBasedAlignment,
    )
    to_anatomical = lps_from_ras(np.linalg.inv(matrix))
    moved = not np.array_equal(to_anatomical, np.eye(4))
    dataset.RegistrationSequence = DicomSequence(
        [
            _item(origin.anatomical, np.eye(4), identity),
            _item(origin.functional, to_anatomical, image_based if moved else identity),
        ]
    )
    return origin.finish(dataset)


def _item(source: SourceSeries, matrix: np.ndarray, kind: Code) -> Dataset:
    place = Dataset()
    place.FrameOfReferenceTransformationMatrixType = "RIGID" if is_rigid(matrix) else "AFFINE"
    place.FrameOfReferenceTransformationMatrix = [
        DSfloat(float(value), auto_format=True) for value in matrix.ravel()
    ]
    registration = Dataset()
    registration.RegistrationTypeCodeSequence = coded(kind)
    registration.MatrixSequence = DicomSequence([place])
    item = Dataset()
    item.FrameOfReferenceUID = source.frame_of_reference
    item.ReferencedImageSequence = reference_items(source.images)
    item.MatrixRegistrationSequence = DicomSequence([registration])
    return item
