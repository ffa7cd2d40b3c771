"""One DICOM file as its header tells it, read without pixels and without trust.

Values are converted only when asked for, and what cannot be converted is None: headers of the
wild hold text in number fields. No text of a header leaves here but known code values.
"""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, time
from pathlib import Path
from typing import Any, Literal

import pydicom
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import UID

from medfuse.imaging.dicom.deflated import unpacked
from medfuse.imaging.dicom.times import parse_clock, parse_day, parse_moment
from medfuse.imaging.pointers import pointer_kind

#: What pydicom and its codecs raise on damaged files: anything, as fuzzing shows.
PARSE_FAILURES = (Exception,)
DICOMDIR_CLASS = "1.2.840.10008.1.3.10"
_WITHOUT_PIXELS = ("1.2.840.10008.5.1.4.1.1.4.2", "1.2.840.10008.5.1.4.1.1.66")  # spectra, raw
#: A file with such a name is no part of a series.
NEVER_DICOM = frozenset(
    (
        *(".bval", ".bvec", ".css", ".csv", ".gz", ".htm", ".html", ".jpeg", ".jpg", ".js"),
        *(".json", ".log", ".mat", ".md", ".mgz", ".npy", ".pdf", ".png", ".py", ".sh", ".svg"),
        *(".tfm", ".tif", ".tiff", ".tsv", ".txt", ".xlsx", ".xml", ".yaml", ".yml", ".zip"),
    )
)
Junk = Literal[
    "not DICOM",
    "empty file",
    "a git-annex pointer",
    "a Git LFS pointer",
    "DICOMDIR",
    "without pixels",
    "damaged",
    "truncated",
    "deflated",
    "without preamble",
]

_TAG_NAMES = """
    SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID SeriesNumber
    InstanceNumber Modality BurnedInAnnotation ImageType PatientID PatientBirthDate PatientSex
    PatientWeight PatientSize PatientPosition ImagePositionPatient ImageOrientationPatient
    PixelSpacing SpacingBetweenSlices Rows Columns NumberOfFrames SamplesPerPixel
    PhotometricInterpretation BitsAllocated BitsStored HighBit
    PixelRepresentation PixelPaddingValue PixelPaddingRangeLimit RescaleSlope
    RescaleIntercept RescaleType ModalityLUTSequence LossyImageCompression Units SUVType
    CorrectedImage DecayCorrection DecayCorrectionDateTime
    RadiopharmaceuticalInformationSequence SeriesDate SeriesTime AcquisitionDate
    AcquisitionTime AcquisitionDateTime TimezoneOffsetFromUTC FrameReferenceTime
    ActualFrameDuration DecayFactor DecayCorrected AttenuationCorrected
    AcquisitionNumber EchoTime TriggerTime TemporalPositionIdentifier DiffusionBValue
    LongitudinalTemporalInformationModified SharedFunctionalGroupsSequence
    PerFrameFunctionalGroupsSequence DetectorInformationSequence SliceVector
    RealWorldValueMappingSequence Manufacturer AcquisitionMatrix ComplexImageComponent
    InConcatenationNumber
"""
#: Private elements at their usual places: number of tiles of a Siemens mosaic, kind of a GE image.
TILES_SIEMENS, KIND_GE = 0x0019100A, 0x0043102F
#: Private attributes of PET, of which SUV may need some: group, elements within the block of the
#: creator. The block may be any of the first sixteen.
_PRIVATE_PET = {0x0009: (0x0D, 0x3B), 0x0071: (0x22,), 0x7053: (0x00, 0x09)}
_TAGS = [
    *map(Tag, _TAG_NAMES.split()),
    Tag(TILES_SIEMENS),
    Tag(KIND_GE),
    *(Tag(group, block) for group in _PRIVATE_PET for block in range(0x10, 0x20)),
    *(
        Tag(group, block << 8 | element)
        for group, elements in _PRIVATE_PET.items()
        for element in elements
        for block in range(0x10, 0x20)
    ),
]


@dataclass(frozen=True, eq=False)
class DicomFile:
    """A DICOM file with pixels.

    Attributes
    ----------
    path : Path
    name : str
        Relative to the input; the only form in which the file may be named.
    header : Dataset
        Only the tags that medfuse reads.
    pixel_bytes : int
        What the file holds from the pixel data element on.
    """

    path: Path
    name: str
    header: Dataset
    pixel_bytes: int

    @property
    def transfer_syntax(self) -> UID:
        """Transfer syntax of the pixel data."""
        return UID(text(self.header.file_meta, "TransferSyntaxUID") or "")

    @property
    def modality(self) -> str:
        """DICOM modality: "CT", "MR", "PT", "NM" ..."""
        return text(self.header, "Modality") or ""

    @property
    def series_uid(self) -> str:
        """SeriesInstanceUID, or an empty text."""
        return text(self.header, "SeriesInstanceUID") or ""

    @property
    def frames(self) -> int:
        """Number of image planes in the file."""
        return max(1, integer(self.header, "NumberOfFrames") or 1)

    @property
    def patient(self) -> str | None:
        """PatientID, birth date and sex in one text, for equality tests; None if all are absent."""
        parts = [
            text(self.header, k) or "" for k in ("PatientID", "PatientBirthDate", "PatientSex")
        ]
        return "|".join(parts) if any(parts) else None


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Silence pydicom's warnings and log lines: they quote values, which may be patient data."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def read_header(path: Path, name: str) -> DicomFile | Junk:
    """Read a file up to its pixels, or say in two words why it is not an image.

    Raises
    ------
    OSError
        The file system refuses.
    """
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if size == 0:
            return "empty file"
        head = stream.read(2048)
        if head[128:132] != b"DICM":
            if kind := pointer_kind(head):
                return kind
            return "without preamble" if _is_bare_dataset(head) else "not DICOM"
        try:
            content = unpacked(stream)
            if content is None:
                return "deflated"
            size = content.seek(0, os.SEEK_END)
            content.seek(0)
            header = pydicom.dcmread(content, stop_before_pixels=True, specific_tags=_TAGS)
        except PARSE_FAILURES:
            return "damaged"
        pixel_bytes = size - content.tell()
    if text(header.file_meta, "MediaStorageSOPClassUID") == DICOMDIR_CLASS:
        return "DICOMDIR"
    if pixel_bytes > 8:
        return DicomFile(path, name, header, pixel_bytes)
    # An image whose file ends before its pixels must not pass for a report or a structure set.
    sop_class = text(header, "SOPClassUID") or ""
    is_image = text(header, "Modality") in ("CT", "MR", "PT", "NM")
    is_image &= not sop_class.startswith(_WITHOUT_PIXELS)
    return "truncated" if is_image or pixel_bytes < 0 or not sop_class else "without pixels"


def _is_bare_dataset(head: bytes) -> bool:
    """Whether a file begins as a data set does: a tag of group 8, and its VR or a short length."""
    if head[:2] != b"\x08\0" or int.from_bytes(head[2:4], "little") > 0x0018:
        return False
    return head[4:6] in (b"UL", b"CS", b"UI", b"DA", b"TM") or head[5:8] == bytes(3)


def get(header: Dataset, keyword: str) -> Any:
    """Value of a tag, or None where it is absent, empty or unreadable."""
    try:
        value = header.get(keyword)
    except PARSE_FAILURES:
        return None
    return None if value is None or value == "" else value


def text(header: Dataset, keyword: str) -> str | None:
    """First value of a tag as text."""
    value = get(header, keyword)
    if isinstance(value, (list, pydicom.multival.MultiValue)):
        value = value[0] if value else None
    return str(value).strip() or None if value is not None else None


def texts(header: Dataset, keyword: str) -> tuple[str, ...]:
    """All values of a tag as upper-case texts."""
    value = get(header, keyword)
    if value is None:
        return ()
    values = [value] if isinstance(value, str) else value
    return tuple(str(v).strip().upper() for v in values)


def number(header: Dataset, keyword: str) -> float | None:
    """Value of a tag as a number; NaN where the tag holds something that is none, or several."""
    try:
        value = header.get(keyword)
        if isinstance(value, (list, pydicom.multival.MultiValue)):
            (value,) = value or [None]
        return None if value is None or value == "" else float(value)
    except PARSE_FAILURES:
        return math.nan


def integer(header: Dataset, keyword: str) -> int | None:
    """First value of a tag as a whole number."""
    value = number(header, keyword)
    return None if value is None or not math.isfinite(value) else int(value)


def vector(header: Dataset, keyword: str, size: int) -> tuple[float, ...] | None:
    """`size` finite numbers, or None."""
    value = get(header, keyword)
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence) or len(value) != size:
        return None
    try:
        numbers = tuple(float(v) for v in value)
    except (TypeError, ValueError):
        return None
    return numbers if all(math.isfinite(v) for v in numbers) else None


def items(header: Dataset, keyword: str) -> list[Dataset]:
    """Items of a sequence; an empty list where it is absent."""
    value = get(header, keyword)
    return list(value) if isinstance(value, pydicom.sequence.Sequence) else []


def parse_time(value: str | None) -> time | None:
    """DICOM TM as local time; see `times.parse_clock`."""
    found = parse_clock(value)
    return found[0] if found else None


def parse_datetime(value: str | None) -> datetime | None:
    """DICOM DT to the second or better, as local time: an offset from UTC is left off.

    Tells frames apart; what has to be exact is read by `times.parse_moment`.
    """
    found = parse_moment(value)
    return found.at if found and found.width_s < 86400 else None


def moment(header: Dataset, prefix: str) -> datetime | None:
    """`<prefix>Date` and `<prefix>Time` together, or `<prefix>DateTime`."""
    day = parse_day(text(header, f"{prefix}Date"))
    clock = parse_time(text(header, f"{prefix}Time"))
    if day and clock:
        return datetime.combine(day, clock)
    return parse_datetime(text(header, f"{prefix}DateTime"))
