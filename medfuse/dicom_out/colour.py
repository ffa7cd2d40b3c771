"""The fused picture as a series of Secondary Capture: one true-colour file, or one a slice.

A second series of the kind has lines around regions burned in; the first one is never drawn into.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import (
    ExplicitVRLittleEndian,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
)

from medfuse.dicom_out.origin import UTF8, Origin, require_highdicom
from medfuse.errors import UsageError, option
from medfuse.results.export import to_bytes
from medfuse.results.outlines import Outlines, draw_outlines

#: Third value of the image type of a series with burned-in lines.
OUTLINED = "OUTLINED"
MAX_PIXEL_BYTES = 2**32 - 2  # an explicit length is 32 bits wide
MAX_ST = 1024  # characters


@dataclass(frozen=True)
class _Series:
    """Number and name of a series, and the regions that are burned in."""

    name: str
    number: int
    kind: str
    regions: Outlines | None = None

    def mark(self, dataset: Dataset) -> None:
        """Say what is burned in."""
        if self.regions is None:
            return
        dataset.ImageType = [*dataset.ImageType[:2], OUTLINED]
        dataset.BurnedInAnnotation = "YES"
        lines = f"Lines are burned in around {self.regions.words()}. "
        dataset.DerivationDescription = (lines + dataset.DerivationDescription)[:MAX_ST]
        dataset.SpecificCharacterSet = UTF8


_FUSED = _Series("fused", 9001, "fused")


def build_colour(
    origin: Origin, rgb: np.ndarray, *, per_slice: bool, regions: Outlines | None = None
) -> Iterator[tuple[str, Dataset]]:
    """Make ``fused``, or ``fused/0001`` and so on; with regions ``outlined`` in the same way.

    Parameters
    ----------
    origin : Origin
    rgb : (3, X, Y, Z) float32 in [0, 1]
    per_slice : bool
        Secondary Capture Image Storage with an image plane in each file, for viewers that know no
        multi-frame images.
    regions : Outlines, optional
        Around which lines are burned in.

    Raises
    ------
    UsageError
        ``E_TOO_LARGE``: the picture does not fit into one file.
    """
    series = _FUSED
    frames = np.moveaxis(origin.order.apply(to_bytes(rgb)), 0, -1)
    if regions is not None:
        series = _Series("outlined", 9007, "fused, regions outlined", regions)
        for k in regions.slices(origin.order):
            frames[k] = draw_outlines(frames[k], regions.cut(origin.order, k))
    if per_slice:
        for index, pixels in enumerate(frames):
            name = f"{series.name}/{index + 1:04d}"
            yield name, _single(origin, np.ascontiguousarray(pixels), index, series)
        return
    yield series.name, _multi_frame(origin, frames, series)


def lines_are_burned_in(image: Dataset) -> bool:
    """Whether an image is of the series with lines around regions."""
    return OUTLINED in (image.get("ImageType") or ())


def _single(origin: Origin, pixels: np.ndarray, index: int, series: _Series) -> Dataset:
    """One slice; the image plane is an addition to the class, as its Frame of Reference module is.

    References
    ----------
    DICOM PS3.3 A.8.1 (Secondary Capture Image), C.7.6.2 (Image Plane); PS3.4 B.4.1 (extended SOP
    classes).
    """
    hd = require_highdicom()
    geometry = origin.geometry
    common = origin.common(series.name, series.number, series.kind)
    common["instance_number"] = index + 1
    rows = geometry.get_plane_orientation()[0].ImageOrientationPatient
    dataset = hd.sc.SCImage(
        pixels,
        "RGB",
        8,
        "PATIENT",
        sop_instance_uid=origin.uid(f"{series.name} {index}"),
        patient_orientation=_letters(rows),
        pixel_spacing=geometry.pixel_spacing,
        **origin.identity(),
        **common,
    )
    for keyword in ("DateOfSecondaryCapture", "TimeOfSecondaryCapture"):
        del dataset[keyword]
    dataset.ConversionType = "WSD"
    dataset.ImageOrientationPatient = rows
    position = geometry.get_plane_position(index)[0]
    dataset.ImagePositionPatient = position.ImagePositionPatient
    measures = geometry.get_pixel_measures()[0]
    dataset.SliceThickness = measures.SliceThickness
    own = origin.anatomical.slices[index] if origin.anatomical.slices else ()
    origin.derive(dataset, [*own, *origin.functional.images])
    series.mark(dataset)
    return origin.finish(dataset)


def _multi_frame(origin: Origin, frames: np.ndarray, series: _Series) -> Dataset:
    """All slices in one file.

    References
    ----------
    DICOM PS3.3 A.8.5 (Multi-frame True Color Secondary Capture Image).
    """
    hd = require_highdicom()
    if frames.size > MAX_PIXEL_BYTES:
        raise UsageError(
            "E_TOO_LARGE",
            what="Cannot write the fused picture as one DICOM file",
            cause=f"it has {frames.size / 2**30:.1f} GB of pixels, a file holds 4.0 GB",
            remedy=f"Use {option('dicom', 'slices')}",
        )
    common = origin.common(series.name, series.number, series.kind)
    equipment = common.pop("contributing_equipment")
    dataset = hd.base.SOPClass(
        sop_class_uid=MultiFrameTrueColorSecondaryCaptureImageStorage,
        sop_instance_uid=origin.uid(series.name),
        modality="OT",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **origin.identity(),
        **common,
    )
    dataset.ContributingEquipmentSequence = DicomSequence(equipment)
    dataset.ConversionType = "WSD"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    rows = origin.geometry.get_plane_orientation()[0].ImageOrientationPatient
    dataset.PatientOrientation = list(_letters(rows))
    _set_pixels(dataset, frames)
    _set_frames(dataset, origin)
    origin.derive(dataset)
    series.mark(dataset)
    return origin.finish(dataset)


def _set_pixels(dataset: Dataset, frames: np.ndarray) -> None:
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = frames.shape[:3]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 3, "RGB"
    dataset.PlanarConfiguration, dataset.PixelRepresentation = 0, 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    pixels = frames.tobytes()
    dataset.PixelData = pixels + b"\0" * (len(pixels) % 2)
    dataset["PixelData"].VR = "OB"


def _set_frames(dataset: Dataset, origin: Origin) -> None:
    geometry = origin.geometry
    shared = Dataset()
    shared.PixelMeasuresSequence = geometry.get_pixel_measures()
    shared.PlaneOrientationSequence = geometry.get_plane_orientation()
    dataset.SharedFunctionalGroupsSequence = DicomSequence([shared])
    groups = []
    for position in geometry.get_plane_positions():
        group = Dataset()
        group.PlanePositionSequence = position
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = DicomSequence(groups)
    dataset.FrameIncrementPointer = 0x52009230  # the per-frame functional groups


def _letters(cosines: list[float]) -> tuple[str, str]:
    """Nearest direction of columns and of rows, as PatientOrientation has it."""
    found = []
    for direction in np.reshape(np.asarray(cosines, dtype=float), (2, 3)):
        axis = int(np.argmax(np.abs(direction)))
        found.append(("LR", "PA", "HF")[axis][int(direction[axis] < 0)])
    return found[0], found[1]
