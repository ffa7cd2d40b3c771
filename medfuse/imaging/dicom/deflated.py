"""Deflated DICOM files (transfer syntax 1.2.840.10008.1.2.1.99), unpacked within a limit.

pydicom inflates without one, so that a file of a megabyte could fill the memory.
"""

from __future__ import annotations

import zlib

DEFLATED = b"1.2.840.10008.1.2.1.99"
_EXPLICIT = b"1.2.840.10008.1.2.1".ljust(len(DEFLATED), b"\0")
#: No single file of a scan is larger; a bomb is.
_MAX_BYTES = 1 << 30
_META_START = 132


def inflate(data: bytes) -> bytes | None:
    """The same file in explicit VR little endian; None where it cannot be unpacked.

    Parameters
    ----------
    data : bytes
        Whole file: preamble, mark, file meta information, deflated data set.

    References
    ----------
    DICOM PS3.5 A.5 (deflated explicit VR little endian), PS3.10 7.1 (file meta information).
    """
    if data[_META_START : _META_START + 6] != b"\x02\0\0\0UL":
        return None
    start = _META_START + 12 + int.from_bytes(data[140:144], "little")
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        plain = unpacker.decompress(data[start:], _MAX_BYTES)
    except zlib.error:
        return None
    if not unpacker.eof:
        return None  # cut off, or larger than the limit
    return data[:start].replace(DEFLATED, _EXPLICIT) + plain


def plain_bytes(data: bytes) -> bytes:
    """A file as it is, or unpacked where it is deflated."""
    return (inflate(data) or data) if DEFLATED in data[:2048] else data
