"""Makes Siemens mosaics (with their CSA header) and UIH grids from numpy."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from tests._helpers import make

#: Fewer slices than tiles, so that the last ones are empty.
SHAPE = (11, 8, 7)
Edit = Callable[[Dataset], object]


def plan(frame: int = 0, shift: tuple[float, float, float] = (0, 0, 0)) -> make.SeriesPlan:
    """The volume of one time point, oblique, moved by `shift` (LPS mm)."""
    origin = tuple(float(a + b) for a, b in zip(make.ORIGIN_LPS, shift, strict=True))
    values = make.phantom(SHAPE) + np.int16(frame)
    return make.SeriesPlan(values=values, orientation=make.oblique(), origin=origin)


def sheet_of(values: np.ndarray) -> np.ndarray:
    """(X, Y, Z) as tiles, along rows first."""
    x, y, z = values.shape
    across = math.ceil(math.sqrt(z))
    sheet = np.zeros((across * y, across * x), values.dtype)
    for k in range(z):
        row, column = divmod(k, across)
        sheet[row * y : (row + 1) * y, column * x : (column + 1) * x] = values[:, :, k].T
    return sheet


def csa_header(**tags: list[str]) -> bytes:
    """A CSA header of the second form, with items as texts."""
    raw = b"SV10\4\3\2\1" + struct.pack("<2I", len(tags), 77)
    for name, items in tags.items():
        kind = b"FD" if "." in items[0] else b"US"
        raw += struct.pack("<64si4s3i", name.encode(), len(items), kind, 0, len(items), 77)
        for item in items:
            text = item.encode() + b"\0"
            text_and_padding = text + bytes(-len(text) % 4)
            raw += struct.pack("<4i", len(text), len(text), 77, len(text)) + text_and_padding
    return raw


def write_mosaic(
    path: Path, volume: make.SeriesPlan, *, frame: int = 0, downwards: bool = False,
    edit: Edit | None = None,
) -> None:  # fmt: skip
    """One mosaic; `downwards` stores the slices against the normal of the image."""
    order = volume.values[:, :, ::-1] if downwards else volume.values
    count = order.shape[2]
    x, y, _ = order.shape
    across = math.ceil(math.sqrt(count))
    dataset = make.base_dataset("MR", volume.series_uid, volume.number, volume.patient, frame + 1)
    dataset.Manufacturer = "SIEMENS"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    make.set_pixels(dataset, sheet_of(order))
    dataset.PixelSpacing = [volume.spacing[1], volume.spacing[0]]
    dataset.ImageOrientationPatient = [float(v) for v in volume.orientation]
    dataset.SpacingBetweenSlices = volume.spacing[2]
    # The sheet is centred where the first tile is: its corner lies outside the head.
    first = (count - 1) if downwards else 0
    corner = volume.position(-(across - 1) * x / 2, -(across - 1) * y / 2, first)
    dataset.ImagePositionPatient = [round(float(v), 6) for v in corner]
    dataset.AcquisitionDate, dataset.AcquisitionTime = "20240305", f"1100{2 * frame:02d}.00"
    dataset.AcquisitionNumber = frame + 1
    row, column = np.array(volume.orientation[:3]), np.array(volume.orientation[3:])
    normal = np.cross(row, column) * (-1 if downwards else 1)
    csa = dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    csa.add_new(
        0x10,
        "OB",
        csa_header(
            NumberOfImagesInMosaic=[str(count)],
            SliceNormalVector=[f"{v:.8f}" for v in normal],
        ),
    )
    siemens = dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    siemens.add_new(0x0A, "US", count)
    if edit:
        edit(dataset)
    path.parent.mkdir(parents=True, exist_ok=True)
    make.save(dataset, path)


def move_private(dataset: Dataset) -> None:
    """Lay all private blocks of group 0029 and 0019 one block further on, as some archives do."""
    for group, creator in ((0x0029, "SIEMENS CSA HEADER"), (0x0019, "SIEMENS MR HEADER")):
        elements = [(e.tag.element & 0xFF, e.VR, e.value) for e in dataset.group_dataset(group)]
        for element in list(dataset.group_dataset(group)):
            del dataset[element.tag]
        dataset.private_block(group, "SOMETHING ELSE", create=True).add_new(1, "LO", "x")
        block = dataset.private_block(group, creator, create=True)
        for offset, kind, value in elements[1:]:  # the first one names the creator
            block.add_new(offset, kind, value)


def write_grid(
    path: Path, volume: make.SeriesPlan, *, frame: int = 0, edit: Edit | None = None
) -> None:
    """One UIH grid: the places of its slices stand in a private sequence."""
    count = volume.values.shape[2]
    dataset = make.base_dataset("MR", volume.series_uid, volume.number, volume.patient, frame + 1)
    dataset.Manufacturer = "UIH"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "VFRAME", "GRID"]
    make.set_pixels(dataset, sheet_of(volume.values))
    dataset.PixelSpacing = [volume.spacing[1], volume.spacing[0]]
    dataset.ImageOrientationPatient = [float(v) for v in volume.orientation]
    dataset.ImagePositionPatient = [float(v) for v in volume.position(0, 0, 0)]
    dataset.AcquisitionNumber = frame + 1
    block = dataset.private_block(0x0065, "Image Private Header", create=True)
    block.add_new(0x50, "DS", str(count))
    items = []
    for k in range(count):
        item = Dataset()
        item.ImagePositionPatient = [round(float(v), 6) for v in volume.position(0, 0, k)]
        items.append(item)
    block.add_new(0x51, "SQ", DicomSequence(items))
    if edit:
        edit(dataset)
    path.parent.mkdir(parents=True, exist_ok=True)
    make.save(dataset, path)
