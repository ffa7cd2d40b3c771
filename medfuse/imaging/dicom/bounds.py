"""What a header claims, held against the bytes that its file has."""

from __future__ import annotations

from medfuse.errors import InputError
from medfuse.imaging.dicom.header import DicomFile, integer
from medfuse.imaging.volume import Place

#: A compressed frame is at least an item (8 bytes) with the header of its codec.
_LEAST_OF_A_FRAME = 16


def require_length(file: DicomFile, place: Place) -> None:
    """Refuse a file that is shorter than its header says, before anything is made for its frames.

    Of compressed pixels only the number of frames is judged; their content fails in decoding. A
    file whose transfer syntax is none is refused elsewhere.

    Raises
    ------
    InputError
        ``E_TRUNCATED``
    """
    header = file.header
    if not file.transfer_syntax.is_transfer_syntax:
        return  # which is refused as such
    rows, columns = integer(header, "Rows") or 0, integer(header, "Columns") or 0
    need = file.frames * max(0, rows) * max(0, columns)
    need *= max(0, integer(header, "BitsAllocated") or 0) // 8
    if need and file.transfer_syntax.is_compressed:
        need = file.frames * _LEAST_OF_A_FRAME if file.frames > 1 else 1
    held = file.pixel_bytes - (8 if file.transfer_syntax.is_implicit_VR else 12)  # tag, VR, length
    if need == 0 or held < need:
        raise place.error(
            InputError,
            "E_TRUNCATED",
            f"the pixel data end after {held} of {need} bytes"
            if need
            else "the header gives no valid Rows, Columns or BitsAllocated",
            "Export or copy the file again",
            where=file.name,
        )
