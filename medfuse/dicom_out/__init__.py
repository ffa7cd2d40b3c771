"""Derived DICOM: the results of a case as objects that an archive and a viewer understand.

Written only when asked for. Every object is new; sources are named, never changed. Patient and
study attributes are blank or, when asked for, those of the anatomical images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydicom.dataset import Dataset

from medfuse.dicom_out.blending import build_blending
from medfuse.dicom_out.colour import build_colour
from medfuse.dicom_out.origin import Origin, read_patient, require_highdicom
from medfuse.dicom_out.outlined import build_outlined_state
from medfuse.dicom_out.parametric_map import build_weight_map
from medfuse.dicom_out.source import SourceSeries
from medfuse.dicom_out.spatial_registration import build_registration
from medfuse.imaging.windows import Window
from medfuse.results.folder import writing
from medfuse.results.outlines import Outlines

__all__ = [
    "Layout",
    "Origin",
    "Pictures",
    "SourceSeries",
    "limits",
    "read_patient",
    "require_highdicom",
    "source_uids",
    "write_dicom",
]

Layout = Literal["multiframe", "slices"]
Contours = Literal["burned-in", "presentation-state"]


@dataclass(frozen=True)
class Pictures:
    """What the objects show.

    Attributes
    ----------
    rgb : (3, X, Y, Z) float32 in [0, 1]
    weights : (X, Y, Z) float32 in [0, 1]
        1 anatomical, 0 functional.
    matrix : (4, 4) float64 or None
        Anatomical point -> functional point, RAS mm; None where no linear map says it.
    windows : (anatomical, functional)
        In the units of the loaded images.
    colormap : str
        Of the functional image.
    regions : Outlines, optional
        Around which lines are drawn.
    contours : {"burned-in", "presentation-state"}, optional
        In a second series, or as lines that a viewer draws over the first.
    """

    rgb: np.ndarray
    weights: np.ndarray
    matrix: np.ndarray | None
    windows: tuple[Window | None, Window | None]
    colormap: str | None
    regions: Outlines | None = None
    contours: Contours | None = None


def limits(anatomical: SourceSeries, functional: SourceSeries) -> tuple[str, ...]:
    """Say which objects these sources do not allow, in the words of a note."""
    lacking = [
        f"the {role} image {cause}"
        for role, source in (("anatomical", anatomical), ("functional", functional))
        if (cause := source.lacks)
    ]
    if not lacking:
        return ()
    return (
        "DICOM: no spatial registration and no blending presentation state, which must name both "
        f"sources: {' and '.join(lacking)}",
    )


#: Why the objects that place one image in the other are left out after a local deformation.
DEFORMED = (
    "DICOM: no spatial registration and no blending presentation state, which would place the "
    "functional image without its local deformation",
)


def source_uids(anatomical: SourceSeries, functional: SourceSeries) -> tuple[str, ...]:
    """Say of which images the objects hold the true UIDs, in the words of a note."""
    named = [
        f"the {role} image"
        for role, source in (("anatomical", anatomical), ("functional", functional))
        if source.series or source.study or source.frame_of_reference or source.slices
    ]
    if not named:
        return ()
    return (
        "DICOM: the files hold the true UIDs (study, series, images, frame of reference) of "
        f"{' and '.join(named)}, by which an archive finds them and the patient",
    )


def write_dicom(folder: Path, origin: Origin, pictures: Pictures, layout: Layout) -> None:
    """Write all objects of a case.

    ``fused.dcm`` (or ``fused/0001.dcm`` ...), ``weight_map.dcm``, and where both sources are DICOM
    ``registration.dcm`` and ``blending.dcm``; of regions ``outlined.dcm`` (or ``outlined/...``) or
    ``contours.dcm``, as chosen.

    Parameters
    ----------
    folder : Path
        Made here.
    origin : Origin
    pictures : Pictures
    layout : {"multiframe", "slices"}
        One file for the coloured series, or one a slice.

    Raises
    ------
    OutputError
        ``E_WRITE``.
    """
    for name, dataset in _objects(origin, pictures, layout):
        path = folder / f"{name}.dcm"
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            dataset.save_as(path, enforce_file_format=True)


def _objects(origin: Origin, pictures: Pictures, layout: Layout) -> Iterator[tuple[str, Dataset]]:
    per_slice, regions = layout == "slices", pictures.regions
    yield from build_colour(origin, pictures.rgb, per_slice=per_slice)
    if regions and pictures.contours == "burned-in":
        yield from build_colour(origin, pictures.rgb, per_slice=per_slice, regions=regions)
    elif regions and pictures.contours == "presentation-state":
        yield "contours", build_outlined_state(origin, regions, per_slice=per_slice)
    yield "weight_map", build_weight_map(origin, pictures.weights)
    if pictures.matrix is None or limits(origin.anatomical, origin.functional):
        return
    registration = build_registration(origin, pictures.matrix)
    yield "registration", registration
    anatomical, functional = pictures.windows
    if anatomical and functional and pictures.colormap:
        yield (
            "blending",
            build_blending(origin, registration, anatomical, functional, pictures.colormap),
        )
