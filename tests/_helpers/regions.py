"""Regions for tests: images with facts, structure sets and segmentations made by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import torch
from monai.data import MetaTensor
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from medfuse.imaging.volume import short_hash

FRAMES = {"anatomical": "1.2.3.1", "functional": "1.2.3.2"}
SERIES = {"anatomical": "1.2.3.11", "functional": "1.2.3.12"}
PERSON = {"PatientID": "ZZPHI7", "PatientBirthDate": "19500101", "PatientSex": "F"}


def image(
    values: np.ndarray,
    affine: np.ndarray | Sequence[float],
    *,
    unit: str = "SUVbw",
    modality: str = "PET",
    role: str = "functional",
) -> MetaTensor:
    """A loaded image with a frame of reference, a series and a patient of its own."""
    affine = np.asarray(affine, dtype=float)
    affine = np.diag([*affine, 1.0]) if affine.ndim == 1 else affine
    uids = {"frame_of_reference": FRAMES[role], "series": SERIES[role]}
    source = {"uids": uids, "patient": short_hash("|".join(PERSON.values()))}
    return MetaTensor(
        torch.from_numpy(np.asarray(values, dtype=np.float32)[None]),
        affine=torch.from_numpy(affine),
        meta={"unit": unit, "modality": modality, "source": source, "notes": []},
    )


def structure_set(
    path: Path,
    structures: Mapping[str, Sequence[np.ndarray]],
    *,
    frame: str = FRAMES["functional"],
    series: str = SERIES["functional"],
    kind: str = "CLOSED_PLANAR",
    slab: float | None = None,
    **person: str,
) -> Path:
    """An RTSTRUCT whose contours are (N, 3) corners in LPS mm."""
    dataset = _dataset("1.2.840.10008.5.1.4.1.1.481.3", "RTSTRUCT", person)
    dataset.StructureSetLabel = "drawn"
    drawn = _item(SeriesInstanceUID=series, ContourImageSequence=[])
    study = _item(RTReferencedSeriesSequence=[drawn])
    dataset.ReferencedFrameOfReferenceSequence = DicomSequence(
        [_item(FrameOfReferenceUID=frame, RTReferencedStudySequence=[study])]
    )
    rois, contours = [], []
    for number, (name, rings) in enumerate(structures.items(), start=1):
        rois.append(_item(ROINumber=number, ROIName=name, ReferencedFrameOfReferenceUID=frame))
        items = []
        for ring in rings:
            item = _item(
                ContourGeometricType=kind,
                NumberOfContourPoints=len(ring),
                ContourData=[f"{v:.6g}" for v in np.ravel(ring)],
            )
            if slab is not None:
                item.ContourSlabThickness = slab
            items.append(item)
        contours.append(_item(ReferencedROINumber=number, ContourSequence=items))
    dataset.StructureSetROISequence = DicomSequence(rois)
    dataset.ROIContourSequence = DicomSequence(contours)
    dataset.save_as(path, enforce_file_format=True)
    return path


def segmentation(path: Path, series: Path, masks: Mapping[str, np.ndarray]) -> Path:
    """A DICOM SEG by highdicom on a series of files; masks are (slices, rows, columns)."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    files = [pydicom.dcmread(file) for file in sorted(series.iterdir())]
    for file in files:
        for keyword in (
            "PatientSex",
            "StudyDate",
            "StudyTime",
            "StudyID",
            "ReferringPhysicianName",
        ):
            if keyword not in file:
                setattr(file, keyword, "")
    files.sort(key=lambda f: f.ImagePositionPatient[2])
    about = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=codes.SCT.Tissue,
            segmented_property_type=codes.SCT.Tissue,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, name in enumerate(masks, start=1)
    ]
    seg = hd.seg.Segmentation(
        source_images=files,
        pixel_array=np.stack(list(masks.values()), axis=-1).astype(np.uint8),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=about,
        series_instance_uid=generate_uid(),
        series_number=9,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="test",
        manufacturer_model_name="test",
        software_versions="1",
        device_serial_number="1",
        omit_empty_frames=True,
    )
    seg.save_as(path)
    return path


def square(z: float, low: float, high: float, *, about: tuple[float, float] = (0, 0)) -> np.ndarray:
    """The corners of an axial square, LPS mm."""
    x, y = about
    corners = [(low, low), (high, low), (high, high), (low, high)]
    return np.array([(a + x, b + y, z) for a, b in corners], dtype=float)


def _dataset(sop_class: str, modality: str, person: Mapping[str, str]) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    dataset.Modality = modality
    dataset.PatientName = "ZZPHI^Jane"
    for keyword, value in {**PERSON, **person}.items():
        setattr(dataset, keyword, value)
    return dataset


def _item(**values: Any) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        is_sequence = isinstance(value, list) and (not value or isinstance(value[0], Dataset))
        setattr(item, keyword, DicomSequence(value) if is_sequence else value)
    return item
