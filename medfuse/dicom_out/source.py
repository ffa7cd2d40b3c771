"""A source image as derived objects name it: its study, series and images by UID."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID

Image = tuple[str, str, int | None]


@dataclass(frozen=True)
class SourceSeries:
    """One loaded image.

    Attributes
    ----------
    modality, unit : str
    sha256 : str
        Of its content.
    patient : str or None
        Hash of patient ID, birth date and sex.
    study, series, frame_of_reference : str or None
        UIDs; None for what is no DICOM, or no valid UID.
    slices : tuple of tuple of (SOP class, SOP instance, frame)
        Images by slice, in the order of the third index axis; frame from 1, of multi-frame images.
    pixels : (rows, columns)
        Of one image.
    rescaled_by : float
        Loaded value = rescaled value * this.
    """

    modality: str
    unit: str
    sha256: str
    patient: str | None = None
    study: str | None = None
    series: str | None = None
    frame_of_reference: str | None = None
    slices: tuple[tuple[Image, ...], ...] = ()
    pixels: tuple[int, int] = (1, 1)
    rescaled_by: float = 1.0
    lossy: bool = False
    burned_in: bool = False

    @classmethod
    def from_volume(cls, volume: Any) -> SourceSeries:
        """Gather what the reader of a (C, X, Y, Z) MetaTensor found; invalid UIDs are left out."""
        meta: Mapping[str, Any] = volume.meta
        source = meta.get("source") or {}
        uids = source.get("uids") or {}
        return cls(
            modality=str(meta.get("modality", "unknown")),
            unit=str(meta.get("unit", "a.u.")),
            sha256=str(source.get("sha256")),
            patient=source.get("patient"),
            study=_valid(uids.get("study")),
            series=_valid(uids.get("series")),
            frame_of_reference=_valid(uids.get("frame_of_reference")),
            slices=tuple(
                tuple(
                    (sop_class, instance, frame)
                    for sop_class, instance, frame in group
                    if _valid(sop_class) and _valid(instance)
                )
                for group in json.loads(uids.get("images") or "[]")
            ),
            pixels=(int(volume.shape[-2]), int(volume.shape[-3])),
            rescaled_by=float(source.get("rescaled_by", 1.0)),
            lossy=bool(source.get("lossy")),
            burned_in=bool(source.get("burned_in")),
        )

    @property
    def images(self) -> list[Image]:
        """Every image once, in slice order."""
        return list(dict.fromkeys(image for group in self.slices for image in group))

    @property
    def lacks(self) -> str | None:
        """Why no other object can refer to this one; None where it can."""
        if not self.slices:
            return "is no DICOM series"
        if not (self.study and self.series and all(self.slices)):
            return "has no valid UIDs"
        return None if self.frame_of_reference else "has no frame of reference"


def reference_items(images: Sequence[Image]) -> DicomSequence:
    """Items that name images; the frames of one multi-frame image go into one item.

    References
    ----------
    DICOM PS3.3 table 10-3 (image SOP instance reference macro).
    """
    items = []
    for (sop_class, instance), group in groupby(images, key=lambda image: image[:2]):
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, instance
        if frames := [frame for _, _, frame in group if frame is not None]:
            item.ReferencedFrameNumber = sorted(frames)
        items.append(item)
    return DicomSequence(items)


def source_items(images: Sequence[Image]) -> DicomSequence:
    """Items of a SourceImageSequence."""
    items = reference_items(images)
    for item in items:
        item.PurposeOfReferenceCodeSequence = coded(
            codes.cid7202.SourceImageForImageProcessingOperation
        )
    return items


def refer_to_instances(dataset: Dataset, sources: Sequence[SourceSeries]) -> None:
    """Fill the Common Instance Reference module: same study, and other studies.

    References
    ----------
    DICOM PS3.3 C.12.2.
    """
    elsewhere: dict[str, list[Dataset]] = {}
    for source in sources:
        if source.lacks or source.study is None:
            continue
        series = Dataset()
        series.SeriesInstanceUID = source.series
        series.ReferencedInstanceSequence = DicomSequence(_instances(source.images))
        elsewhere.setdefault(source.study, []).append(series)
    if own := elsewhere.pop(dataset.StudyInstanceUID, []):
        dataset.ReferencedSeriesSequence = DicomSequence(own)
    studies = []
    for uid, series_items in elsewhere.items():
        study = Dataset()
        study.StudyInstanceUID = uid
        study.ReferencedSeriesSequence = DicomSequence(series_items)
        studies.append(study)
    if studies:
        dataset.StudiesContainingOtherReferencedInstancesSequence = DicomSequence(studies)


def coded(*concepts: Code) -> DicomSequence:
    """A code sequence of standard concepts."""
    items = []
    for concept in concepts:
        item = Dataset()
        item.CodeValue = concept.value
        item.CodingSchemeDesignator = concept.scheme_designator
        item.CodeMeaning = concept.meaning
        items.append(item)
    return DicomSequence(items)


def _instances(images: Sequence[Image]) -> Iterator[Dataset]:
    for sop_class, instance in dict.fromkeys(image[:2] for image in images):
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, instance
        yield item


def _valid(uid: str | None) -> str | None:
    return uid if uid and UID(uid).is_valid else None
