"""Measured regions as DICOM: a segmentation, and a structured report of their numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydicom.dataset import Dataset

import medfuse
from medfuse.dicom_out.measurements import build_measurements, meaning_of
from medfuse.dicom_out.origin import WARNING, Origin
from medfuse.dicom_out.segmentation import STEPS, Drawn, build_segmentation
from medfuse.dicom_out.source import SourceSeries
from medfuse.errors import UsageError
from medfuse.imaging.dicom.header import quiet_pydicom
from medfuse.imaging.grid import Grid
from medfuse.measurement.occupancy import Part
from medfuse.measurement.table import RegionTable

if TYPE_CHECKING:
    from monai.data import MetaTensor

_UIDS = (
    "DICOM: the files hold the true UIDs (study, series, images, frame of reference) of the "
    "functional image, by which an archive finds it and the patient"
)


@dataclass(frozen=True, eq=False)
class RegionObjects:
    """What is written.

    Attributes
    ----------
    segmentation, measurements : Dataset
    left_out : tuple of str
        What of the table is not in them, in the words of notes.
    """

    segmentation: Dataset
    measurements: Dataset
    left_out: tuple[str, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """What of the table is not in them, and what of the images is."""
        return (*self.left_out, _UIDS)

    def write(self, folder: Path) -> None:
        """Write ``regions.dcm`` and ``measurements.dcm`` into a folder that is there."""
        files = {"regions.dcm": self.segmentation, "measurements.dcm": self.measurements}
        with quiet_pydicom():
            for name, dataset in files.items():
                dataset.save_as(folder / name, enforce_file_format=True)


def region_objects(
    functional: MetaTensor,
    table: RegionTable,
    parts: Sequence[Part | None],
    *,
    salt: bytes,
    patient: Dataset | None = None,
) -> RegionObjects:
    """Make both objects of a measured table.

    Parameters
    ----------
    functional : (1, X, Y, Z) MetaTensor
        As it was acquired; of a DICOM series.
    table : RegionTable
    parts : sequence of Part or None
        From `measurement.measure.voxels_of`, in the order of the rows.
    salt : bytes
        With which the patient's pseudonym is made.
    patient : Dataset, optional
        From `origin.patient_of`; None blanks patient and study.

    Raises
    ------
    UsageError
        ``E_SETTINGS``: no DICOM series, no region with a voxel of the image; ``E_EXTRA``.
    """
    source = SourceSeries.from_volume(functional)
    if source.lacks:
        raise _unfit(
            f"the functional image {source.lacks}, to which the objects would refer",
            "Write the table alone",
        )
    pairs = list(zip(table, parts, strict=True))
    regions = [Drawn(row, part) for row, part in pairs if part is not None and _is_seen(part)]
    if not regions:
        raise _unfit("no region fills a voxel of the functional image", "Look at the table")
    origin = Origin(
        anatomical=source,
        functional=source,
        grid=Grid.from_volume(functional),
        key=_key(source, table, regions, patient),
        salt=salt,
        description=f"medfuse {medfuse.__version__}: measured regions. {WARNING}",
        patient=patient,
        work="Measured regions of an image volume",
    )
    meaning = meaning_of(table[0].unit, functional.meta.get("suv"))
    with quiet_pydicom():
        segmentation = build_segmentation(origin, regions)
        measurements = build_measurements(origin, segmentation, regions, meaning)
    left_out = [row.region for row, part in pairs if part is None or not _is_seen(part)]
    return RegionObjects(
        segmentation,
        measurements,
        tuple(_notes(table[0].unit if meaning is None else None, left_out)),
    )


def _is_seen(part: Part) -> bool:
    return bool((part.weights * STEPS >= 0.5).any())


def _notes(uncoded: str | None, left_out: Sequence[str]) -> list[str]:
    notes = [
        f"DICOM: {name} is left out, as it fills no voxel of the functional image"
        for name in left_out
    ]
    if uncoded:
        notes.append(f"DICOM: the report holds volumes alone, as values in {uncoded} have no code")
    return notes


def _key(
    source: SourceSeries, table: RegionTable, regions: Sequence[Drawn], patient: Dataset | None
) -> str:
    """Of what is written: the UIDs follow from it, so that equal calls give equal files."""
    digest = hashlib.sha256(f"{source.sha256} {patient is not None}\n{table.to_tsv()}".encode())
    for region in regions:
        digest.update(repr(region.part.slices).encode())
        digest.update(np.ascontiguousarray(region.part.weights).tobytes())
    return digest.hexdigest()


def _unfit(cause: str, remedy: str) -> UsageError:
    return UsageError(
        "E_SETTINGS", what="Cannot write the regions as DICOM", cause=cause, remedy=remedy
    )
