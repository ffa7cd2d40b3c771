"""The weights as a Parametric Map: numbers of float32, each with its meaning."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import MRImageStorage

from medfuse.dicom_out.origin import Origin, require_highdicom
from medfuse.dicom_out.source import coded, source_items

SERIES = 9002
_REFERENCES = ("ReferencedSeriesSequence", "StudiesContainingOtherReferencedInstancesSequence")


def build_weight_map(origin: Origin, weights: np.ndarray) -> Dataset:
    """Make the object.

    Parameters
    ----------
    origin : Origin
    weights : (X, Y, Z) float32 in [0, 1]
        1 anatomical, 0 functional.

    References
    ----------
    DICOM PS3.3 A.75 (Parametric Map).
    """
    hd = require_highdicom()
    frames = np.ascontiguousarray(origin.order.apply(weights), dtype=np.float32)
    meaning = hd.pm.RealWorldValueMapping(
        lut_label="WEIGHT",
        lut_explanation="Fusion weight: 1 anatomical, 0 functional",
        unit=codes.UCUM.NoUnits,
        value_range=(0.0, 1.0),
        slope=1.0,
        intercept=0.0,
    )
    geometry = origin.geometry
    dataset: Dataset = hd.pm.ParametricMap(
        [shaped(origin, frames.shape[1:])],
        hd.Volume(
            frames,
            geometry.affine,
            coordinate_system="PATIENT",
            frame_of_reference_uid=origin.frame_of_reference,
        ),
        sop_instance_uid=origin.uid("weights"),
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[meaning],
        voi_lut_transformations=[hd.VOILUTTransformation(window_center=0.5, window_width=1.0)],
        content_label="WEIGHTS",
        content_description="Weights that the guide chose",
        **origin.common("weights", SERIES, "weight map"),
    )
    name_sources(dataset, origin, codes.DCM.UnspecifiedMethodOfCalculation)
    origin.finish(dataset)
    if not origin.anatomical.slices:  # then no frame names an image
        for keyword in _REFERENCES:
            dataset.pop(keyword, None)
    return dataset


def shaped(origin: Origin, pixels: tuple[int, ...]) -> Dataset:
    """A stand-in of a source image: only what highdicom asks for, none of it in the object."""
    image = deepcopy(origin.stand_in)
    image.SOPClassUID, image.SOPInstanceUID = MRImageStorage, origin.uid("source")
    image.Rows, image.Columns = pixels
    geometry = origin.geometry
    image.ImageOrientationPatient = geometry.get_plane_orientation()[0].ImageOrientationPatient
    image.ImagePositionPatient = geometry.get_plane_position(0)[0].ImagePositionPatient
    image.PixelSpacing = list(geometry.pixel_spacing)
    image.SliceThickness = geometry.spacing_between_slices
    return image


def name_sources(dataset: Dataset, origin: Origin, how: Code) -> None:
    """Replace the references to the stand-in by those to the anatomical images of each frame.

    The UID of the dimensions, by chance in highdicom, becomes one of the case.
    """
    organization = origin.uid("dimensions")
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization
    for keyword in _REFERENCES:
        dataset.pop(keyword, None)
    dataset.pop("SourceImageSequence", None)
    slices = origin.anatomical.slices
    to_index = origin.geometry.inverse_affine
    for group in dataset.PerFrameFunctionalGroupsSequence:
        group.pop("DerivationImageSequence", None)
        position = group.PlanePositionSequence[0].ImagePositionPatient
        index = round(float((to_index @ [*position, 1])[0]))  # highdicom sorts the frames anew
        if not slices or not slices[index]:
            continue
        derivation = Dataset()
        derivation.DerivationCodeSequence = coded(how)
        derivation.SourceImageSequence = source_items(slices[index])
        group.DerivationImageSequence = DicomSequence([derivation])
