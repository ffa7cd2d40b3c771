"""Image planes of DICOM files: one for a classic image, many for enhanced, NM and tiled ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from pydicom.dataset import Dataset

from medfuse.errors import GeometryError, MedfuseError
from medfuse.imaging.dicom.bounds import require_length
from medfuse.imaging.dicom.header import (
    DicomFile,
    integer,
    items,
    moment,
    number,
    parse_datetime,
    text,
    texts,
    vector,
)
from medfuse.imaging.dicom.kinds import image_kind
from medfuse.imaging.dicom.tiles import Sheet, read_sheet
from medfuse.imaging.volume import Place

_NM_IMAGE = "1.2.840.10008.5.1.4.1.1.20"
#: What tells the frames of a time, echo or diffusion series apart, in order of trust.
FRAME_KEYS = (
    "TemporalPositionIdentifier",
    "FrameReferenceTime",
    "acquisition time",
    "TriggerTime",
    "EchoTime",
    "DiffusionBValue",
    "AcquisitionNumber",
    "InstanceNumber",
)


@dataclass(frozen=True, eq=False)
class Plane:
    """One image plane, as its header tells it; None where a tag is missing or unreadable.

    Attributes
    ----------
    position : (3,) float or None
        Centre of the first pixel, LPS mm.
    orientation : (6,) float or None
        Direction of increasing column index, then of increasing row index, LPS.
    pixel_spacing : (2,) float or None
        Distance between rows, then between columns, mm.
    slope, intercept : float or None
        Rescale to the unit of the modality.
    keys : dict
        Values by `FRAME_KEYS`.
    kind : str
        What is shown, where that tells images of one place apart: "magnitude", "water" ...
    corner : (2,) int or None
        First row and column of a tile within its image.
    """

    file: DicomFile
    frame: int
    rows: int
    columns: int
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    pixel_spacing: tuple[float, ...] | None
    slope: float | None
    intercept: float | None
    keys: dict[str, float] = field(default_factory=dict)
    kind: str = ""
    corner: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """File, and frame or tile where the file has several, for error lines."""
        if self.file.frames > 1:
            return f"{self.file.name} frame {self.frame + 1}"
        return f"{self.file.name} tile at {self.corner}" if self.corner else self.file.name

    def cut(self, stored: np.ndarray) -> np.ndarray:
        """The pixels of the plane out of those of its image."""
        if self.corner is None:
            return stored
        row, column = self.corner
        return stored[row : row + self.rows, column : column + self.columns]


def read_planes(file: DicomFile, place: Place) -> list[Plane]:
    """List the planes of one file.

    Raises
    ------
    GeometryError
        ``E_NO_POSITION``: a multi-frame file without functional groups or detector geometry.
        ``E_MOSAIC``: see `read_sheet`.

    References
    ----------
    DICOM PS3.3 C.7.6.2 (Image Plane), C.7.6.16 (functional groups), C.8.4.15 (NM reconstruction).
    """
    header = file.header
    sheet = read_sheet(file, place)
    if sheet is not None:
        return _tiles(file, sheet)
    if file.frames > 1:
        require_length(file, place)
    if "PerFrameFunctionalGroupsSequence" in header:
        return _enhanced(file, place)
    if text(header, "SOPClassUID") == _NM_IMAGE:
        return _nuclear(file, place)
    if file.frames > 1:
        raise _no_geometry(
            place, file, f"{file.frames} frames without functional groups: no frame has a position"
        )
    return [_classic(file)]


def _classic(file: DicomFile) -> Plane:
    header = file.header
    return _plane(
        file,
        0,
        position=vector(header, "ImagePositionPatient", 3),
        orientation=vector(header, "ImageOrientationPatient", 6),
        pixel_spacing=vector(header, "PixelSpacing", 2),
        slope=number(header, "RescaleSlope"),
        intercept=number(header, "RescaleIntercept"),
        keys=_classic_keys(header),
        kind=image_kind(header),
    )


def _tiles(file: DicomFile, sheet: Sheet) -> list[Plane]:
    whole = _classic(file)
    return [
        replace(
            whole,
            rows=sheet.rows,
            columns=sheet.columns,
            position=tuple(float(p) for p in position),
            corner=sheet.corner(tile),
        )
        for tile, position in enumerate(sheet.positions)
    ]


def _plane(
    file: DicomFile,
    frame: int,
    *,
    position: tuple[float, ...] | None,
    orientation: tuple[float, ...] | None,
    pixel_spacing: tuple[float, ...] | None,
    slope: float | None,
    intercept: float | None,
    keys: dict[str, float],
    kind: str = "",
) -> Plane:
    rows, columns = integer(file.header, "Rows") or 0, integer(file.header, "Columns") or 0
    return Plane(
        file, frame, rows, columns, position, orientation, pixel_spacing, slope, intercept, keys,
        kind,
    )  # fmt: skip


def _classic_keys(header: Dataset) -> dict[str, float]:
    keys = {k: number(header, k) for k in FRAME_KEYS if k != "acquisition time"}
    acquired = moment(header, "Acquisition")
    keys["acquisition time"] = acquired.timestamp() if acquired else None
    return {k: v for k, v in keys.items() if v is not None and math.isfinite(v)}


def _enhanced(file: DicomFile, place: Place) -> list[Plane]:
    shared = (items(file.header, "SharedFunctionalGroupsSequence") or [Dataset()])[0]
    groups = items(file.header, "PerFrameFunctionalGroupsSequence")
    if len(groups) != file.frames:
        raise _no_geometry(
            place, file, f"{file.frames} frames but {len(groups)} per-frame functional groups"
        )

    def group(own: Dataset, sequence: str) -> Dataset:
        found = items(own, sequence) or items(shared, sequence)
        return found[0] if found else Dataset()

    planes = []
    for frame, own in enumerate(groups):
        transform = group(own, "PixelValueTransformationSequence")
        planes.append(
            _plane(
                file,
                frame,
                position=vector(group(own, "PlanePositionSequence"), "ImagePositionPatient", 3),
                orientation=vector(
                    group(own, "PlaneOrientationSequence"), "ImageOrientationPatient", 6
                ),
                pixel_spacing=vector(group(own, "PixelMeasuresSequence"), "PixelSpacing", 2),
                slope=number(transform, "RescaleSlope"),
                intercept=number(transform, "RescaleIntercept"),
                keys=_enhanced_keys(file, frame, own, group),
                kind=image_kind(file.header, group(own, "MRImageFrameTypeSequence")),
            )
        )
    return planes


def _enhanced_keys(
    file: DicomFile, frame: int, own: Dataset, group: Callable[[Dataset, str], Dataset]
) -> dict[str, float]:
    content = group(own, "FrameContentSequence")
    beat = group(own, "CardiacSynchronizationSequence")
    reference = parse_datetime(text(content, "FrameReferenceDateTime"))
    acquired = parse_datetime(text(content, "FrameAcquisitionDateTime"))
    keys = {
        "TemporalPositionIdentifier": number(content, "TemporalPositionIndex"),
        "FrameReferenceTime": reference.timestamp() if reference else None,
        "acquisition time": acquired.timestamp() if acquired else None,
        "TriggerTime": number(beat, "NominalCardiacTriggerDelayTime"),
        "EchoTime": number(group(own, "MREchoSequence"), "EffectiveEchoTime"),
        "DiffusionBValue": number(group(own, "MRDiffusionSequence"), "DiffusionBValue"),
        "InstanceNumber": _image_number(file, frame),
    }
    return {k: v for k, v in keys.items() if v is not None and math.isfinite(v)}


def _image_number(file: DicomFile, frame: int) -> float:
    """Order of a frame within the series, across the files of a concatenation too."""
    part = integer(file.header, "InConcatenationNumber") or 0
    return ((integer(file.header, "InstanceNumber") or 0) * 1e3 + part) * 1e6 + frame


def _nuclear(file: DicomFile, place: Place) -> list[Plane]:
    """Planes of a reconstructed NM image (SPECT), by its first detector item.

    Positive SpacingBetweenSlices stacks along row x column direction, negative against it.
    """
    header = file.header
    detector = (items(header, "DetectorInformationSequence") or [Dataset()])[0]
    position = vector(detector, "ImagePositionPatient", 3)
    orientation = vector(detector, "ImageOrientationPatient", 6)
    step = number(header, "SpacingBetweenSlices")
    if "RECON TOMO" not in texts(header, "ImageType"):
        raise _no_geometry(
            place, file, "the NM image is no reconstructed volume (ImageType lacks RECON TOMO)"
        )
    if position is None or orientation is None or not step or not math.isfinite(step):
        raise _no_geometry(
            place, file, "the NM image lacks detector position, orientation or SpacingBetweenSlices"
        )
    normal = np.cross(orientation[:3], orientation[3:])
    slices = _slice_vector(header, file.frames)
    return [
        _plane(
            file,
            frame,
            position=tuple(float(p) for p in np.array(position) + normal * step * (index - 1)),
            orientation=orientation,
            pixel_spacing=vector(header, "PixelSpacing", 2),
            slope=number(header, "RescaleSlope"),
            intercept=number(header, "RescaleIntercept"),
            keys={"InstanceNumber": _image_number(file, frame)},
        )
        for frame, index in enumerate(slices)
    ]


def _slice_vector(header: Dataset, frames: int) -> list[int]:
    listed = vector(header, "SliceVector", frames)
    return [int(v) for v in listed] if listed else list(range(1, frames + 1))


def _no_geometry(place: Place, file: DicomFile, cause: str) -> MedfuseError:
    return place.error(
        GeometryError,
        "E_NO_POSITION",
        cause,
        "Export the series with geometry (classic images, or enhanced with functional groups)",
        where=file.name,
    )
