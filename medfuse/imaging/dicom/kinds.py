"""What an MR image shows, where one series holds several kinds: magnitude and phase, water and fat.

Only words of the lists below come out of a header, never its free text.
"""

from __future__ import annotations

import re

from pydicom.dataset import Dataset

from medfuse.imaging.dicom.header import KIND_GE, PARSE_FAILURES, texts

_COMPLEX = {"M": "magnitude", "P": "phase", "R": "real part", "I": "imaginary part"}
_WORDS = {
    **_COMPLEX,
    "MAGNITUDE": "magnitude",
    "PHASE": "phase",
    "REAL": "real part",
    "IMAGINARY": "imaginary part",
    "W": "water",
    "WATER": "water",
    "F": "fat",
    "FAT": "fat",
    "IP": "in phase",
    "IN_PHASE": "in phase",
    "OP": "opposed phase",
    "OUT_PHASE": "opposed phase",
    "OPP_PHASE": "opposed phase",
    "ADC": "ADC map",
    "TRACEW": "trace",
    "FA": "FA map",
    "T1 MAP": "T1 map",
    "T2 MAP": "T2 map",
    "DERIVED": "derived",
    "MPR": "reformatted",
}
_PHILIPS = re.compile(r"([MPRI])_")


def image_kind(header: Dataset, frame_type: Dataset | None = None) -> str:
    """Words for what an image shows; an empty text where nothing is said.

    Parameters
    ----------
    header : Dataset
    frame_type : Dataset, optional
        Item of the MR Image Frame Type Sequence of an enhanced image, which goes before.

    References
    ----------
    DICOM PS3.3 C.8.3.1.1.1 and C.8.13.3.1 (image and frame type, complex image component); GE
    private element (0043,102F).
    """
    owner = frame_type if frame_type is not None and "FrameType" in frame_type else header
    words = texts(owner, "FrameType" if owner is frame_type else "ImageType")
    found = {_WORDS[word] for word in words if word in _WORDS}
    found |= {_COMPLEX[match[1]] for word in words if (match := _PHILIPS.match(word))}
    found |= {_WORDS[w] for w in texts(owner, "ComplexImageComponent") if w in _WORDS}
    found |= _by_ge(header)
    return ", ".join(sorted(found))


def _by_ge(header: Dataset) -> set[str]:
    try:
        value = header[KIND_GE].value
        number = int.from_bytes(value[:2], "little") if isinstance(value, bytes) else int(value)
        return {list(_COMPLEX.values())[number]} if number > 0 else set()
    except PARSE_FAILURES:
        return set()
