"""Deflated DICOM files (transfer syntax 1.2.840.10008.1.2.1.99), unpacked within a limit.

pydicom inflates without one, so that a file of a megabyte could fill the memory: every file goes
through here before it goes to pydicom.
"""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from medfuse.imaging.memory import most_unpacked

_DEFLATED = DeflatedExplicitVRLittleEndian.encode()
_EXPLICIT = ExplicitVRLittleEndian.encode().ljust(len(_DEFLATED), b"\0")
_CHUNK = 1 << 20


def unpacked(stream: BinaryIO) -> BinaryIO | None:
    """A DICOM file as it is, or in explicit VR little endian where it is deflated.

    Whether it is deflated is told as pydicom tells it, however long the file meta information.

    Parameters
    ----------
    stream : binary file
        Whole file: preamble, mark, file meta information, data set.

    Returns
    -------
    binary file or None
        At its start; None where the data set is damaged, or larger than `most_unpacked`.

    Raises
    ------
    Exception
        Whatever pydicom raises on a file meta information that it cannot read.

    References
    ----------
    DICOM PS3.5 A.5 (deflated explicit VR little endian), PS3.10 7.1 (file meta information).
    """
    stream.seek(0)
    read_preamble(stream, force=False)
    meta = _read_file_meta_info(stream)
    start = stream.tell()
    stream.seek(0)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return stream
    plain = io.BytesIO()
    plain.write(stream.read(start).replace(_DEFLATED, _EXPLICIT))
    return plain if _inflate(stream, plain) else None


def _inflate(stream: BinaryIO, plain: io.BytesIO) -> bool:
    """Unpack the rest of `stream` behind `plain`, a little at a time; False where it cannot be."""
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    packed = stream.read(_CHUNK)
    while packed and not unpacker.eof:
        try:
            plain.write(unpacker.decompress(packed, _CHUNK))
        except zlib.error:
            return False
        if plain.tell() > most_unpacked():
            return False
        packed = unpacker.unconsumed_tail or stream.read(_CHUNK)
    plain.write(unpacker.flush(_CHUNK))
    plain.seek(0)
    return unpacker.eof


def read_dataset(path: Path, **options: Any) -> pydicom.FileDataset:
    """``pydicom.dcmread`` of a file, of which no more is unpacked than the limit.

    Raises
    ------
    Exception
        Whatever pydicom raises; InvalidDicomError beyond the limit.
    """
    with path.open("rb") as stream:
        content = unpacked(stream)
        if content is None:
            raise InvalidDicomError("the deflated data set cannot be unpacked")
        return pydicom.dcmread(content, **options)
