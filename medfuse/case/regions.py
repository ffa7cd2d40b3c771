"""The regions of a case, measured while both images are at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medfuse.errors import MedfuseError
from medfuse.fusion import FusionResult
from medfuse.imaging.grid import Matrix
from medfuse.measurement.back import ReadBack
from medfuse.measurement.deformed import deformed
from medfuse.measurement.files import Images, Named
from medfuse.measurement.gather import content_of, files_of, read_all
from medfuse.measurement.measure import MTV, measure, voxels_of
from medfuse.measurement.occupancy import occupancy
from medfuse.measurement.region import Region
from medfuse.measurement.table import RegionTable
from medfuse.registration.result import Registration
from medfuse.results.outlines import Outlines, Piece
from medfuse.settings import CaseSettings

if TYPE_CHECKING:
    from monai.data import MetaTensor
    from pydicom.dataset import Dataset

    from medfuse.dicom_out.regions import RegionObjects

TABLE = "measurements.tsv"
HALF = 0.5


@dataclass(frozen=True)
class Measured:
    """What was measured in a case.

    Attributes
    ----------
    table : RegionTable
    regions : sequence of Region
        As read, named as in the table; not those that failed.
    files : tuple of dict
        Name and sha256 of each file, for the record.
    problems : tuple of str
        What could not be read, in a line each.
    objects : RegionObjects, optional
        Regions and numbers as DICOM, from :meth:`with_objects`.
    notes : tuple of str
        About them.
    """

    table: RegionTable
    regions: Sequence[Region]
    files: tuple[dict[str, str | None], ...]
    problems: tuple[str, ...] = ()
    objects: RegionObjects | None = None
    notes: tuple[str, ...] = ()

    @property
    def step(self) -> dict[str, Any]:
        """What provenance says of it."""
        about = {"files": list(self.files), "mtv_threshold": MTV.words("")}
        return {"name": "measure", "parameters": about, "result": {"rows": len(self.table)}}

    def with_objects(
        self, func: MetaTensor, registration: Registration, *, salt: bytes, patient: Dataset | None
    ) -> Measured:
        """The same with a DICOM segmentation and report, or a note why there is none.

        Parameters
        ----------
        func : MetaTensor
            As loaded.
        registration : Registration
        salt : bytes
            With which the patient's pseudonym is made.
        patient : Dataset, optional
            From `dicom_out.read_patient` of the functional image; None blanks patient and study.
        """
        from medfuse.dicom_out.regions import region_objects

        table = RegionTable(self.table.rows[: len(self.regions)])
        try:
            parts = voxels_of(func, self.regions, registration)
            found = region_objects(func, table, parts, salt=salt, patient=patient)
        except MedfuseError as error:
            return replace(self, notes=(f"DICOM: no segmentation of the regions: {error.cause}",))
        return replace(self, objects=found, notes=found.left_out)


def measure_case(
    settings: CaseSettings,
    files: Sequence[Named],
    anat: MetaTensor,
    func: MetaTensor,
    registration: Registration,
    on_grid: MetaTensor,
    result: FusionResult,
) -> Measured:
    """Measure the regions of a case on its functional image as it was acquired.

    A file that cannot be used is a row with a remark: it stops neither the case nor other regions.

    Parameters
    ----------
    settings : CaseSettings
    files : sequence of Named
        From :func:`region_files`.
    anat, func : MetaTensor
        As loaded.
    registration : Registration
    on_grid : MetaTensor
        The functional image on the anatomical grid.
    result : FusionResult
    """
    regions, failures = read_all(
        files,
        Images.of(func, anat),
        keep_names=settings.keep_names,
        allow_patient_mismatch=settings.allow_patient_mismatch,
    )
    table = measure(
        func,
        regions,
        anatomical=anat,
        registration=registration,
        share=result.share,
        read_back=ReadBack.of(result, on_grid, settings.bias),
    )
    apart = [replace(region, name=row.region) for region, row in zip(regions, table, strict=True)]
    return Measured(
        RegionTable((*table, *(failure.row for failure in failures))),
        apart,
        tuple({"name": file.name, "sha256": content_of(file.path)} for file in files),
        tuple(f"region {f.row.region!r}: {f.row.remark}" for f in failures),
    )


def region_outlines(
    measured: Measured, registration: Registration, matrix: Matrix | None = None
) -> Outlines | None:
    """The regions on the anatomical grid, around which pictures draw a line.

    A voxel belongs to a region that fills it by half or more.

    Parameters
    ----------
    measured : Measured
    registration : Registration
        With a local deformation, a region that was drawn on the functional image is brought here
        through it.
    matrix : (4, 4) array, optional
        Position of the functional image, anatomical point -> functional point, RAS mm; default
        that of `registration`.

    Returns
    -------
    Outlines or None
        None without a region on the grid.
    """
    grid, pieces = registration.fixed_grid, []
    moved = registration.matrix if matrix is None else matrix
    for label, region in enumerate(measured.regions, 1):
        here = deformed(region, registration, "anatomical") if matrix is None else region
        part = occupancy(here, grid, np.eye(4) if here.space == "anatomical" else moved)
        inside = None if part is None else part.weights >= HALF
        if part is not None and inside is not None and inside.any():
            x, y, z = part.start.tolist()
            pieces.append(Piece(label, inside, (x, y, z)))
    names = tuple(region.name for region in measured.regions)
    return Outlines(grid.shape, names, tuple(pieces)) if pieces else None


def contour_notes(
    settings: CaseSettings, measured: Measured | None, registration: Registration
) -> tuple[str, ...]:
    """Say why no region is outlined although that was chosen."""
    if not settings.contours:
        return ()
    if measured is None:
        return ("contours were chosen, but no region was given",)
    if not (settings.png or settings.dicom):
        return ("contours were chosen, but neither PNG nor DICOM; the report outlines regions",)
    if region_outlines(measured, registration) is None:
        return ("contours were chosen, but no region lies on the anatomical image",)
    return ()


def region_files(settings: CaseSettings, anatomical: Path, functional: Path) -> list[Named]:
    """The files with regions that the settings of a case name."""
    return files_of(settings.regions, anatomical, functional)
