"""Volumes whose slices are tiles of one image: Siemens MOSAIC and UIH grid (VFRAME).

Such an image says where the whole sheet would lie if it were one slice. Where the tiles lie, and
in which order, stands in private elements alone; without them the volume is refused by its name.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from medfuse.errors import GeometryError, MedfuseError
from medfuse.imaging.dicom.deflated import read_dataset
from medfuse.imaging.dicom.header import (
    PARSE_FAILURES,
    TILES_SIEMENS,
    DicomFile,
    integer,
    items,
    number,
    text,
    texts,
    vector,
)
from medfuse.imaging.volume import Place

_UIH_CREATOR = "Image Private Header"
#: Elements of a UIH private block: number of slices, and one item with the place of each.
_UIH_COUNT, _UIH_SLICES = 0x50, 0x51
_UIH_TYPES = re.compile("GRID|VFRAME")
_PARALLEL = 0.999
_MOST_TILES = 4096


@dataclass(frozen=True, eq=False)
class Sheet:
    """Where the tiles of one image lie.

    Attributes
    ----------
    rows, columns : int
        Of one tile.
    across : int
        Tiles beside each other; they are numbered along rows first.
    positions : (tiles, 3) float64
        Centre of the first pixel of every tile, LPS mm.
    """

    rows: int
    columns: int
    across: int
    positions: np.ndarray

    def corner(self, tile: int) -> tuple[int, int]:
        """Row and column of the first pixel of a tile within the sheet."""
        return tile // self.across * self.rows, tile % self.across * self.columns


def read_sheet(file: DicomFile, place: Place) -> Sheet | None:
    """Find the tiles of an image; None for an ordinary one.

    Raises
    ------
    GeometryError
        ``E_MOSAIC``: the slices are tiles, and the header does not say where they lie.

    References
    ----------
    The two vendors' private elements as dcm2niix, nibabel (``nicom``, chapter "Siemens mosaic
    format") and Aliza read them. Siemens XA leaves MOSAIC in ImageType of what it has unpacked.
    """
    header = file.header
    types = " ".join(texts(header, "ImageType"))
    maker = (text(header, "Manufacturer") or "").upper()
    if file.modality != "MR" or (file.frames > 1 and _is_enhanced(header)):
        return None
    if "MOSAIC" in types or ("SIEMENS" in maker and (_siemens_count(header) or 0) > 1):
        return _siemens(file, place)
    if "UIH" in maker or "UNITED IMAGING" in maker or _UIH_TYPES.search(types):
        return _uih(file, place, named=bool(_UIH_TYPES.search(types)))
    return None


def _is_enhanced(header: Dataset) -> bool:
    return "PerFrameFunctionalGroupsSequence" in header


def _siemens(file: DicomFile, place: Place) -> Sheet | None:
    kind = "a Siemens mosaic (all slices of a volume as tiles of one image)"
    whole = _whole_header(file)
    found = _csa(whole)
    count = _first(found.get("NumberOfImagesInMosaic")) or _siemens_count(whole)
    if count is None and _is_one_slice(file.header):
        return None
    if count is None:
        raise _refusal(place, file, kind, "without the number of its slices")
    if count < 2:  # what was unpacked keeps the word
        return None
    normal = np.array(found.get("SliceNormalVector", ()), dtype=float)
    if normal.shape != (3,):
        raise _refusal(place, file, kind, "without its CSA header, which tells the slice order")
    position, orientation, spacing = _plane_tags(file.header)
    step = number(file.header, "SpacingBetweenSlices")
    if position is None or orientation is None or spacing is None or step is None or not step > 0:
        raise _refusal(place, file, kind, "without its position or SpacingBetweenSlices")
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    across_slices = np.cross(row, column)
    along = float(normal @ across_slices / np.linalg.norm(normal))
    if not abs(along) >= _PARALLEL:
        raise _refusal(place, file, kind, "whose CSA slice normal contradicts its orientation")
    sheet = _cut(file, count, place, kind)
    # The position is that of a slice of the sheet's size around the centre of the first tile.
    rows, columns = integer(file.header, "Rows") or 0, integer(file.header, "Columns") or 0
    first = (
        np.array(position)
        + row * spacing[1] * (columns - sheet.columns) / 2
        + column * spacing[0] * (rows - sheet.rows) / 2
    )
    steps = np.arange(count)[:, None] * across_slices * math.copysign(step, along)
    return Sheet(sheet.rows, sheet.columns, sheet.across, first + steps)


def _uih(file: DicomFile, place: Place, *, named: bool) -> Sheet | None:
    kind = "a UIH grid (all slices of a volume as tiles of one image)"
    try:
        block = _whole_header(file).private_block(0x0065, _UIH_CREATOR)
        slices = list(block[_UIH_SLICES].value) if _UIH_SLICES in block else []
        count = int(float(block[_UIH_COUNT].value)) if _UIH_COUNT in block else len(slices)
    except PARSE_FAILURES:
        slices, count = [], 0
    if not named and len(slices) < 2:
        return None
    positions = [vector(item, "ImagePositionPatient", 3) for item in slices]
    if count < 2 or count != len(positions) or None in positions:
        if named and count == 1:
            return None
        raise _refusal(place, file, kind, "without the positions of its slices")
    sheet = _cut(file, count, place, kind)
    return Sheet(sheet.rows, sheet.columns, sheet.across, np.array(positions, dtype=float))


def _cut(file: DicomFile, count: int, place: Place, kind: str) -> Sheet:
    """A square of tiles, as many along rows as along columns."""
    across = math.ceil(math.sqrt(count)) if count <= _MOST_TILES else 0
    rows, columns = integer(file.header, "Rows") or 0, integer(file.header, "Columns") or 0
    if not across or rows % across or columns % across:
        raise _refusal(
            place, file, kind, f"of {count} slices, which {columns} x {rows} pixels cannot hold"
        )
    return Sheet(rows // across, columns // across, across, np.empty((0, 3)))


def _plane_tags(
    header: Dataset,
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None, tuple[float, ...] | None]:
    return (
        vector(header, "ImagePositionPatient", 3),
        vector(header, "ImageOrientationPatient", 6),
        vector(header, "PixelSpacing", 2),
    )


def _is_one_slice(header: Dataset) -> bool:
    """Whether the image is no larger than what was acquired for one slice."""
    matrix = [int(n) for n in texts(header, "AcquisitionMatrix") if n.isdigit()]
    for owner in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in items(header, owner)[:1]:
            for view in items(group, "MRFOVGeometrySequence"):
                matrix.append(integer(view, "MRAcquisitionFrequencyEncodingSteps") or 0)
    sides = integer(header, "Rows") or 0, integer(header, "Columns") or 0
    return max(matrix, default=0) >= max(sides)


def _first(items: list[Any] | None) -> int | None:
    return int(items[0]) if items else None


def _siemens_count(header: Dataset) -> int | None:
    """Number of tiles by "SIEMENS MR HEADER", in its block or where the block's name is gone."""
    try:
        return int(header.private_block(0x0019, "SIEMENS MR HEADER")[0x0A].value)
    except PARSE_FAILURES:
        pass
    try:
        value = header[TILES_SIEMENS].value
        return int.from_bytes(value[:2], "little") if isinstance(value, bytes) else int(value)
    except PARSE_FAILURES:
        return None


def _csa(header: Dataset) -> dict[str, Any]:
    """Values of the CSA image header, in whichever private block of group 0029 it lies."""
    from nibabel.nicom import csareader  # here, because it warns when it is imported

    for element in header.group_dataset(0x0029):
        raw = element.value
        if not isinstance(raw, bytes) or b"SliceNormalVector" not in raw:
            continue
        try:
            tags = csareader.read(raw)["tags"]
        except PARSE_FAILURES:
            continue
        return {name: tag["items"] for name, tag in tags.items() if tag["items"]}
    return {}


def _whole_header(file: DicomFile) -> Dataset:
    try:
        return read_dataset(file.path, stop_before_pixels=True)
    except PARSE_FAILURES:
        return Dataset()


def _refusal(place: Place, file: DicomFile, kind: str, lack: str) -> MedfuseError:
    return place.error(
        GeometryError,
        "E_MOSAIC",
        f"{kind} {lack}",
        "Export it from the scanner as single slices or as enhanced DICOM, keep private elements "
        "when anonymizing, or convert the original with dcm2niix and give the NIfTI file",
        where=file.name,
    )
