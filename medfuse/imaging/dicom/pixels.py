"""Stored pixels of DICOM files, checked, and rescaled to the unit of their modality."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Iterator, Sequence

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.encaps import parse_basic_offsets, parse_fragments
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless

from medfuse.errors import InputError, UnitError
from medfuse.imaging.dicom.bounds import require_length
from medfuse.imaging.dicom.codecs import decoders, require_codec
from medfuse.imaging.dicom.deflated import unpacked
from medfuse.imaging.dicom.header import (
    PARSE_FAILURES,
    DicomFile,
    integer,
    items,
    text,
)
from medfuse.imaging.dicom.planes import Plane
from medfuse.imaging.memory import require_room
from medfuse.imaging.volume import AIR_HU, Place, read_failure

_PIXEL_TAG_NAMES = """
    SOPClassUID SamplesPerPixel PhotometricInterpretation PlanarConfiguration NumberOfFrames Rows
    Columns BitsAllocated BitsStored HighBit PixelRepresentation PixelData ExtendedOffsetTable
    ExtendedOffsetTableLengths
"""
_REEXPORT = "Export or copy the file again"


def require_readable(planes: Sequence[Plane], place: Place) -> None:
    """Check from the headers alone that every plane can be decoded and rescaled.

    Raises
    ------
    InputError
        ``E_CODEC``, ``E_PHOTOMETRIC``, ``E_TRUNCATED``
    UnitError
        ``E_NOT_QUANTITATIVE`` (colour), ``E_RESCALE``
    """
    for file in {id(p.file): p.file for p in planes}.values():
        require_codec(file, place)
        _require_grey(file, place)
        require_length(file, place)
    for plane in planes:
        _require_rescale(plane, place)
    _require_one_scale(planes, place)


def decode(
    file: DicomFile, frames: Sequence[int], place: Place
) -> tuple[str, Iterator[np.ndarray]]:
    """Read a file once: its sha256, and the stored values of some of its frames.

    Returns
    -------
    sha256 : str
        Of the whole file, hexadecimal.
    stored : iterator of (rows, columns) integer arrays
        In the order of `frames`. High bits beyond BitsStored are removed.

    Raises
    ------
    InputError
        ``E_UNREADABLE``, ``E_TOO_LARGE``; and while iterating ``E_CORRUPT``.
    """
    try:
        require_room(file.path.stat().st_size, "the file", place)
        data = file.path.read_bytes()
    except OSError as error:
        raise read_failure(error, file.name) from None
    return hashlib.sha256(data).hexdigest(), _decoded(data, file, frames, place)


def _decoded(
    data: bytes, file: DicomFile, frames: Sequence[int], place: Place
) -> Iterator[np.ndarray]:
    try:
        content = unpacked(io.BytesIO(data))
        if content is None:
            raise ValueError
        dataset = pydicom.dcmread(content, specific_tags=_PIXEL_TAG_NAMES.split())
        if file.frames > 1 and file.transfer_syntax.is_compressed:
            _add_offsets(dataset, file.frames)
        yield from _by_first_able(dataset, list(frames), decoders(file) or [""])
    except PARSE_FAILURES:
        raise place.error(
            InputError,
            "E_CORRUPT",
            f"the pixel data ({file.transfer_syntax.name}) cannot be decoded",
            _REEXPORT,
            where=file.name,
        ) from None


def _add_offsets(dataset: Dataset, frames: int) -> None:
    """Give frames of one fragment each their offsets: without, each is looked for from the first.

    References
    ----------
    DICOM PS3.5 A.4 (encapsulation), PS3.3 C.7.6.3.1.8 (extended offset table).
    """
    data = dataset.PixelData
    buffer = io.BytesIO(data)
    if "ExtendedOffsetTable" in dataset or parse_basic_offsets(buffer):
        return
    count, starts = parse_fragments(buffer)
    if count != frames:
        return
    lengths = [int.from_bytes(data[at + 4 : at + 8], "little") for at in starts]
    first = buffer.tell()
    dataset.ExtendedOffsetTable = (np.array(starts, "<u8") - np.uint64(first)).tobytes()
    dataset.ExtendedOffsetTableLengths = np.array(lengths, "<u8").tobytes()


def _by_first_able(dataset: Dataset, frames: list[int], plugins: list[str]) -> Iterator[np.ndarray]:
    """Decode all frames by the first decoder that can decode the first of them."""
    for plugin in plugins:
        arrays = iter_pixels(dataset, indices=frames, raw=True, decoding_plugin=plugin)
        try:
            first = next(arrays)
        except PARSE_FAILURES:
            if plugin == plugins[-1]:
                raise
            continue
        yield first
        yield from arrays
        return


def hash_pixels(planes: Sequence[Plane], place: Place) -> list[bytes]:
    """Hashes of the stored values of planes, whatever their encoding; every file is read once."""
    by_file: dict[DicomFile, dict[int, list[int]]] = {}
    for index, plane in enumerate(planes):
        by_file.setdefault(plane.file, {}).setdefault(plane.frame, []).append(index)
    found = [b""] * len(planes)
    for file, by_frame in by_file.items():
        _, arrays = decode(file, list(by_frame), place)
        for indices, stored in zip(by_frame.values(), arrays, strict=True):
            for k in indices:
                pixels = np.ascontiguousarray(planes[k].cut(stored), dtype="<i8")
                found[k] = hashlib.sha256(pixels.tobytes()).digest()
    return found


def rescale(stored: np.ndarray, plane: Plane) -> tuple[np.ndarray, int]:
    """Turn stored into rescaled values (HU, Bq/ml, counts, or a.u. for MR).

    Padding outside the scanner's field becomes air in CT and 0 in MR. MONOCHROME1 is inverted in
    MR, whose values have no unit; where they have one it only says how to show them.

    Parameters
    ----------
    stored : (rows, columns) integer

    Returns
    -------
    values : (rows, columns) float32
    padded : int
        Number of padding pixels whose value changed.

    References
    ----------
    DICOM PS3.3 C.11.1 (modality LUT), C.7.5.1.1.2 (pixel padding), C.7.6.3.1.2 (photometric
    interpretation).
    """
    modality = plane.file.modality
    padding = _padding(stored, plane.file) if modality in ("CT", "MR") else None
    if modality == "MR" and _photometric(plane.file) == "MONOCHROME1":
        stored = _invert(stored, plane.file)
    slope = 1.0 if plane.slope is None else plane.slope
    intercept = 0.0 if plane.intercept is None else plane.intercept
    values = (stored * np.float64(slope) + intercept).astype(np.float32)
    if padding is None:
        return values, 0
    fill = AIR_HU if modality == "CT" else 0.0
    changed = int(np.count_nonzero(padding & (values != fill)))
    values[padding] = fill
    return values, changed


def _photometric(file: DicomFile) -> str:
    return (text(file.header, "PhotometricInterpretation") or "").upper()


def _invert(stored: np.ndarray, file: DicomFile) -> np.ndarray:
    bits = integer(file.header, "BitsStored") or 16
    signed = integer(file.header, "PixelRepresentation") == 1
    return (-1 if signed else 2**bits - 1) - stored.astype(np.int64)


def _padding(stored: np.ndarray, file: DicomFile) -> np.ndarray | None:
    value = integer(file.header, "PixelPaddingValue")
    if value is None:
        return None
    limit = integer(file.header, "PixelPaddingRangeLimit")
    low, high = sorted(_as_stored(v, file) for v in (value, value if limit is None else limit))
    return (stored >= low) & (stored <= high)


def _as_stored(value: int, file: DicomFile) -> int:
    """Read a padding value (US or SS, often with the wrong sign) as the pixels are read."""
    span = 2 ** (integer(file.header, "BitsAllocated") or 16)
    if integer(file.header, "PixelRepresentation") == 1:
        return value - span if value >= span // 2 else value
    return value + span if value < 0 else value


def _require_grey(file: DicomFile, place: Place) -> None:
    samples = integer(file.header, "SamplesPerPixel") or 1
    photometric = _photometric(file)
    if samples != 1 or photometric in ("RGB", "PALETTE COLOR") or photometric.startswith("YBR"):
        raise place.error(
            UnitError,
            "E_NOT_QUANTITATIVE",
            "the images are in color, and hold no measured values",
            "Export the original grey-scale series",
            where=file.name,
        )
    bits = [integer(file.header, k) or 0 for k in ("BitsAllocated", "BitsStored", "HighBit")]
    sound = bits[0] in (8, 16, 32) and 1 <= bits[1] <= bits[0] and bits[2] == bits[1] - 1
    if photometric not in ("MONOCHROME1", "MONOCHROME2") or not sound:
        known = photometric if photometric in ("MONOCHROME1", "MONOCHROME2") else "unknown"
        raise place.error(
            InputError,
            "E_PHOTOMETRIC",
            f"photometric interpretation {known} with {bits[1]} of {bits[0]} bits, high bit "
            f"{bits[2]}, cannot be read",
            "Export the series as MONOCHROME2",
            where=file.name,
        )


def _require_rescale(plane: Plane, place: Place) -> None:
    required = plane.file.modality in ("CT", "PT")
    for name, value, lowest in (
        ("RescaleSlope", plane.slope, 0.0),
        ("RescaleIntercept", plane.intercept, -math.inf),
    ):
        missing = value is None and required
        if missing or (value is not None and not (math.isfinite(value) and value > lowest)):
            raise place.error(
                UnitError,
                "E_RESCALE",
                f"{name} is {'missing' if value is None else f'{value:g}, not a usable number'}",
                "Export the series again: without it the values have no unit",
                where=plane.name,
            )
    if items(plane.file.header, "ModalityLUTSequence"):
        raise place.error(
            UnitError,
            "E_RESCALE",
            "values go through a Modality LUT Sequence, which is not supported",
            "Export the series with RescaleSlope and RescaleIntercept",
            where=plane.name,
        )


def _require_one_scale(planes: Sequence[Plane], place: Place) -> None:
    """Refuse images of which some are rescaled and others do not say by what."""
    bare = [p for p in planes if p.slope is None]
    scaled = [p for p in planes if p.slope is not None and (p.slope, p.intercept or 0) != (1, 0)]
    if bare and scaled:
        raise place.error(
            UnitError,
            "E_RESCALE",
            f"{len(planes) - len(bare)} of {len(planes)} images have a RescaleSlope, "
            f"{bare[0].name} has none: their values are of different scales",
            "Export the series again",
        )


def is_lossy(file: DicomFile) -> bool:
    """True where the pixels went through lossy compression at some time."""
    always = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless)
    return text(file.header, "LossyImageCompression") == "01" or file.transfer_syntax in always
