"""The regions of a case, measured while both images are at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medfuse.fusion import FusionResult
from medfuse.measurement.back import ReadBack
from medfuse.measurement.files import Images, Named
from medfuse.measurement.gather import content_of, files_of, read_all
from medfuse.measurement.measure import MTV, measure
from medfuse.measurement.occupancy import occupancy
from medfuse.measurement.region import Region
from medfuse.measurement.table import RegionTable
from medfuse.registration.result import Registration
from medfuse.settings import CaseSettings

if TYPE_CHECKING:
    from monai.data import MetaTensor

TABLE = "measurements.tsv"
MOST_LABELS = 255  # of a byte
HALF = 0.5


@dataclass(frozen=True)
class Measured:
    """What was measured in a case.

    Attributes
    ----------
    table : RegionTable
    regions : sequence of Region
        As read; not those that failed.
    files : tuple of dict
        Name and sha256 of each file, for the record.
    problems : tuple of str
        What could not be read, in a line each.
    """

    table: RegionTable
    regions: Sequence[Region]
    files: tuple[dict[str, str | None], ...]
    problems: tuple[str, ...] = ()

    @property
    def step(self) -> dict[str, Any]:
        """What provenance says of it."""
        about = {"files": list(self.files), "mtv_threshold": MTV.words("")}
        return {"name": "measure", "parameters": about, "result": {"rows": len(self.table)}}


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
    return Measured(
        RegionTable((*table, *(failure.row for failure in failures))),
        regions,
        tuple({"name": file.name, "sha256": content_of(file.path)} for file in files),
        tuple(f"region {f.row.region!r}: {f.row.remark}" for f in failures),
    )


def region_labels(
    measured: Measured, registration: Registration
) -> tuple[NDArray[np.uint8] | None, tuple[str, ...]]:
    """The regions on the anatomical grid, for the contours in the report.

    Returns
    -------
    labels : (X, Y, Z) uint8, or None
        1 for the first region, in voxels that lie in it by half or more; where regions overlap,
        the later one. None without a region.
    names : tuple of str
        Of the labels, the first for label 1.
    """
    grid, shown = registration.fixed_grid, measured.regions[:MOST_LABELS]
    labels = np.zeros(grid.shape, dtype=np.uint8)
    for number, region in enumerate(shown, 1):
        map_to = np.eye(4) if region.space == "anatomical" else registration.matrix
        part = occupancy(region, grid, map_to)
        if part is not None:
            labels[part.slices][part.weights >= HALF] = number
    return (labels if labels.any() else None), tuple(region.name for region in shown)


def region_files(settings: CaseSettings, anatomical: Path, functional: Path) -> list[Named]:
    """The files with regions that the settings of a case name."""
    return files_of(settings.regions, anatomical, functional)
