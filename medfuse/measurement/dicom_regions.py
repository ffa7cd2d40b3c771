"""Regions of DICOM: segmentations (highdicom) and structure sets of radiotherapy.

Each is placed by its frame of reference, never by the order of slices, and belongs to the image
that has the same one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from medfuse.errors import GeometryError, InputError, MedfuseError, UsageError
from medfuse.imaging.dicom.deflated import read_dataset
from medfuse.imaging.dicom.header import (
    PARSE_FAILURES,
    DicomFile,
    integer,
    items,
    quiet_pydicom,
    text,
)
from medfuse.imaging.grid import LPS_FROM_RAS
from medfuse.imaging.memory import require_memory
from medfuse.imaging.volume import Place, display_name, short_hash
from medfuse.measurement.contours import region_of_contours
from medfuse.measurement.region import Region, Space

SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
STRUCTURES = "1.2.840.10008.5.1.4.1.1.481.3"
_MAX_BYTES = 1 << 30


@dataclass(frozen=True)
class Drawn:
    """Where regions of a DICOM object were drawn.

    Attributes
    ----------
    frames : tuple of str
        UIDs of its frames of reference.
    series : tuple of str
        UIDs of the series that it names.
    patient : str or None
        Hash of patient ID, birth date and sex, as of an image.
    """

    frames: tuple[str, ...]
    series: tuple[str, ...]
    patient: str | None


def read_dicom_regions(path: Path) -> Dataset:
    """Read a segmentation or a structure set, whole.

    Raises
    ------
    InputError
        ``E_REGION``: the file is another object, or damaged.
    """
    place = Place("Cannot read the regions", display_name(path))
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise _unfit(place, "it is larger than 1 GB", "Export fewer regions at a time")
        with quiet_pydicom():
            dataset = read_dataset(path)
    except MedfuseError:
        raise
    except PARSE_FAILURES:
        raise _unfit(place, "it is damaged or no DICOM file", "Export it again") from None
    kind = text(dataset, "SOPClassUID")
    if kind not in (*SEGMENTATIONS, STRUCTURES):
        named = text(dataset, "Modality") or "unknown"
        raise _unfit(
            place,
            f"it is an object of modality {named[:16]}, neither SEG nor RTSTRUCT",
            "Give a segmentation or a structure set",
        )
    return dataset


def origin_of(dataset: Dataset) -> Drawn:
    """Frames of reference, series and patient that an object names."""
    own = [text(dataset, "FrameOfReferenceUID")]
    own += [
        text(i, "ReferencedFrameOfReferenceUID") for i in items(dataset, "StructureSetROISequence")
    ]
    series = [text(i, "SeriesInstanceUID") for i in items(dataset, "ReferencedSeriesSequence")]
    for frame in items(dataset, "ReferencedFrameOfReferenceSequence"):
        for study in items(frame, "RTReferencedStudySequence"):
            found = items(study, "RTReferencedSeriesSequence")
            series += [text(item, "SeriesInstanceUID") for item in found]
    header = DicomFile(Path(), "", dataset, 0)
    return Drawn(
        tuple(dict.fromkeys(uid for uid in own if uid)),
        tuple(dict.fromkeys(uid for uid in series if uid)),
        short_hash(header.patient),
    )


def dicom_regions(dataset: Dataset, space: Space, where: str) -> list[Region]:
    """All regions of a segmentation or structure set.

    Raises
    ------
    InputError, GeometryError, UsageError
        ``E_REGION``, ``E_REGION_GEOMETRY``, ``E_EXTRA`` (highdicom is not installed).
    """
    place = Place("Cannot read the regions", where)
    if text(dataset, "SOPClassUID") == STRUCTURES:
        found = list(_structures(dataset, space, place))
    else:
        found = list(_segments(dataset, space, place))
    return [replace(region, name=_unnamed(region, dataset)) for region in found]


def _segments(dataset: Dataset, space: Space, place: Place) -> Iterator[Region]:
    try:
        import highdicom
    except ImportError as error:
        raise UsageError(
            "E_EXTRA",
            what="Cannot read a DICOM segmentation",
            cause="the package highdicom is not installed",
            remedy="pip install 'medfuse[dicom]'",
        ) from error
    with quiet_pydicom():
        try:
            segmentation = highdicom.seg.Segmentation.from_dataset(dataset, copy=False)
            geometry = segmentation.get_volume_geometry()
        except PARSE_FAILURES:
            raise _unfit(place, "it is damaged", "Export it again") from None
        if geometry is None:
            raise _geometry(place, "its frames do not lie on one regular grid")
        require_memory(tuple(geometry.spatial_shape), 8, place)
        for number in segmentation.segment_numbers:
            yield _segment(segmentation, int(number), space, place)


def _segment(segmentation: Any, number: int, space: Space, place: Place) -> Region:
    about = segmentation.get_segment_description(number)
    name = str(about.segment_label or "").strip() or f"segment {number}"
    try:
        volume = segmentation.get_volume(segment_numbers=[number], dtype=np.float32)
    except PARSE_FAILURES as error:
        cause = " ".join(str(error).split())[:120]
        raise _unfit(
            place, f"segment {number} cannot be read: {cause}", "Export it again"
        ) from None
    weights = np.asarray(volume.array)[..., 0]
    affine = LPS_FROM_RAS @ np.asarray(volume.affine, dtype=np.float64)
    parts = bool(((weights > 0) & (weights < 1)).any())
    return Region.cut(
        name, weights if parts else weights > 0, affine, space, label=number,
        kind="segmentation (parts)" if parts else "segmentation",
    )  # fmt: skip


def _structures(dataset: Dataset, space: Space, place: Place) -> Iterator[Region]:
    contours = {
        integer(item, "ReferencedROINumber"): items(item, "ContourSequence")
        for item in items(dataset, "ROIContourSequence")
    }
    structures = items(dataset, "StructureSetROISequence")
    if not structures:
        raise _unfit(place, "it holds no region", "Give another structure set")
    for structure in structures:
        number = integer(structure, "ROINumber")
        name = " ".join((text(structure, "ROIName") or f"region {number}").split())[:80]
        drawn = contours.get(number, [])
        yield region_of_contours(name, number, _points(drawn, name, place), space, place)


def _points(
    drawn: list[Dataset], name: str, place: Place
) -> list[tuple[str, NDArray[np.float64], float | None]]:
    """Kind, (N, 3) corners in RAS mm and thickness of each contour."""
    found = []
    for item in drawn:
        try:
            raw = np.array([float(v) for v in item.ContourData or ()], dtype=np.float64)
        except PARSE_FAILURES:
            raw = np.array([np.nan])
        if raw.size % 3 or not np.isfinite(raw).all():
            raise _unfit(
                place, f"a contour of {name!r} holds no whole points", "Export the structure again"
            )
        points = raw.reshape(-1, 3) * [-1.0, -1.0, 1.0]
        slab = item.get("ContourSlabThickness")
        found.append((text(item, "ContourGeometricType") or "", points, slab and float(slab)))
    return found


def _unnamed(region: Region, dataset: Dataset) -> str:
    """The name of a region, unless it holds the name or ID of the patient."""
    parts = str(dataset.get("PatientName") or "").replace("^", " ").split()
    parts.append(text(dataset, "PatientID") or "")
    lower = region.name.lower()
    if any(len(part) > 2 and part.lower() in lower for part in parts):
        return f"region {region.label}"
    return region.name


def _unfit(place: Place, cause: str, remedy: str) -> MedfuseError:
    return place.error(InputError, "E_REGION", cause, remedy)


def _geometry(place: Place, cause: str) -> MedfuseError:
    return place.error(
        GeometryError, "E_REGION_GEOMETRY", cause, "Export the regions on one regular grid"
    )
