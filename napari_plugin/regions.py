"""Regions of the panel: made by one click or read from files, measured by `medfuse.measurement`.

No number is computed here: what is drawn and what is measured are the shapes of that package.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image
from napari.utils.colormaps import Colormap
from numpy.typing import NDArray

from medfuse.errors import UsageError
from medfuse.imaging.grid import Grid, transform_points
from medfuse.measurement.back import ReadBack
from medfuse.measurement.deformed import deformed
from medfuse.measurement.files import Images, Named, read_regions
from medfuse.measurement.measure import measure
from medfuse.measurement.occupancy import occupancy
from medfuse.measurement.region import Isocontour, Region, Space, Sphere, Threshold
from medfuse.measurement.table import RegionTable, as_dict
from medfuse.settings import CaseSettings
from napari_plugin.jobs import Progress
from napari_plugin.layers import shown
from napari_plugin.outputs import REGIONS, Output
from napari_plugin.placing import linear_map
from napari_plugin.positions import ras_of
from napari_plugin.records import Fusion
from napari_plugin.source import Source

Shape = Region | Sphere | Isocontour
THRESHOLDS = ("41 %", "50 %", "2.5", "4")
MOST_COLORS = 8
_TABLE = (
    (0.12, 0.85, 0.95), (0.98, 0.55, 0.15), (0.45, 0.9, 0.35), (0.95, 0.35, 0.75),
    (0.95, 0.9, 0.3), (0.55, 0.55, 1.0), (1.0, 0.4, 0.4), (0.8, 0.8, 0.8),
)  # fmt: skip
COLORS = Colormap(
    [[0, 0, 0, 0], *([*color, 1.0] for color in _TABLE)],
    controls=[0, *((i - 0.5) / (MOST_COLORS + 1) for i in range(1, MOST_COLORS + 1)), 1],
    interpolation="zero",
    name="medfuse regions",
)
#: What the tab shows: head, column of the table of `medfuse measure`, digits.
SHOWN = (
    ("Region", "region", None),
    ("Max", "max", 3),
    ("Mean", "mean", 3),
    ("Peak", "peak", 3),
    ("Volume, ml", "volume_ml", 3),
    ("TLG, ml", "tlg", 3),
    ("{} mean", "anatomical_mean", 3),
    ("{} share, %", "anatomical_contribution", 3),
    ("Expected error, mm", "registration_error_mm", 2),
)


@dataclass(frozen=True, eq=False)
class Measured:
    """Regions of a fusion, their numbers, and the layer that shows them."""

    fusion: Fusion
    shapes: tuple[Shape, ...]
    table: RegionTable
    output: Output


def sphere_at(fusion: Fusion, index: Any, radius_mm: float, number: int) -> Sphere:
    """A ball about a data index of the result layers."""
    x, y, z = _point(fusion.pair.anatomical, index)
    return Sphere(f"sphere {number}", (x, y, z), radius_mm)


def isocontour_at(fusion: Fusion, index: Any, threshold: str, number: int) -> Isocontour:
    """The contour about the local maximum uphill of a data index of the result layers.

    Raises
    ------
    UsageError
        ``E_SETTINGS``: no threshold.
    """
    point = _point(fusion.pair.anatomical, index)
    x, y, z = transform_points(fusion.registration.matrix, np.array(point)).tolist()
    return Isocontour(f"isocontour {number}", Threshold.parse(threshold), (x, y, z))


def painted_regions(fusion: Fusion, layer: Any) -> list[Region]:
    """One region for each label of a labels layer on the grid of the result.

    Raises
    ------
    UsageError
        ``E_REGION``: another grid, or nothing was painted.
    """
    source = fusion.pair.anatomical
    data = np.asarray(layer.data)
    fits = not source.flat and data.shape == source.data.shape
    if not fits or not np.allclose(linear_map(layer), _place(source)):
        raise _unfit(layer.name, "it does not lie on the grid of the anatomical image")
    labels = [int(n) for n in np.unique(data) if n > 0]
    if not labels:
        raise _unfit(layer.name, "nothing was painted in it")
    voxels = source.order.invert(data)
    return [
        Region.cut(f"{layer.name} {n}", voxels == n, source.affine, "anatomical", label=n)
        for n in labels
    ]


def regions_in_file(
    fusion: Fusion,
    path: Path,
    *,
    settings: CaseSettings,
    number: int,
    drawn_on: Space | None = None,
) -> list[Region]:
    """Regions of a NIfTI mask or label map, a DICOM SEG or RTSTRUCT; errors as `read_regions`."""
    pair = fusion.pair
    images = Images.of(pair.functional.volume(), pair.anatomical.volume())
    return read_regions(
        Named(path),
        images,
        drawn_on=drawn_on,
        keep_names=settings.keep_names,
        number=number,
        allow_patient_mismatch=settings.allow_patient_mismatch,
    )


def measured(fusion: Fusion, shapes: tuple[Shape, ...], progress: Progress) -> Measured:
    """Measure shapes as `medfuse measure` does, and draw them on the anatomical grid."""
    if fusion.opened:
        raise UsageError(
            "E_NO_INPUTS",
            what="Cannot measure",
            where=fusion.opened,
            cause="a result folder does not hold the images that regions are measured on",
            remedy="Open both images and press Fuse",
        )
    progress(0.1, "measuring regions")
    functional, anatomical = fusion.pair.functional.volume(), fusion.pair.anatomical.volume()
    result = fusion.result
    table = measure(
        functional,
        shapes,
        anatomical=anatomical,
        registration=fusion.registration,
        share=result.share,
        read_back=ReadBack.of(result, fusion.on_grid, result.bias),
    )
    progress(0.7, "drawing regions")
    return Measured(fusion, shapes, table, _drawn(fusion, shapes, functional))


def _drawn(fusion: Fusion, shapes: tuple[Shape, ...], functional: Any) -> Output:
    source = fusion.pair.anatomical
    volume = np.zeros((1, *source.grid.shape), np.uint8)
    for number, region in enumerate(_as_regions(shapes, functional)):
        found = fusion.registration
        is_here = region.space == "anatomical" or found.deformation is not None
        way = np.eye(4) if is_here else found.matrix
        part = occupancy(deformed(region, found, "anatomical"), source.grid, way)
        if part is not None:
            view = volume[0][part.slices]
            view[_rim(part.weights >= 0.5)] = color_of(number)
    data = shown(volume, source.order, flat=source.flat)
    style = {"opacity": 0.8, "interpolation2d": "nearest"}
    return Output(REGIONS, "Regions", data, style,
                  {"contrast_limits": (0, MOST_COLORS + 1), "colormap": COLORS})  # fmt: skip


def _rim(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Voxels of a region with a neighbor outside: an outline in every plane."""
    wide = np.pad(inside, 1)
    core = np.ones_like(inside)
    for axis in range(3):
        for way in (-1, 1):
            core &= np.roll(wide, way, axis)[1:-1, 1:-1, 1:-1]
    return inside & ~core


def color_of(number: int) -> int:
    """Value by which the region of a row is drawn."""
    return 1 + number % MOST_COLORS


def _as_regions(shapes: tuple[Shape, ...], functional: Any) -> Iterator[Region]:
    values = np.asarray(functional)[0]
    for shape in shapes:
        if isinstance(shape, Sphere):
            yield shape.region()
        elif isinstance(shape, Isocontour):
            unit = str(functional.meta.get("unit", ""))
            yield shape.region(values, Grid.from_volume(functional), "functional", unit)
        else:
            yield shape


def cells(found: Measured) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the tab."""
    words = found.fusion.pair.words[1]
    heads = [head.format(words) for head, _, _ in SHOWN]
    rows = []
    for row in found.table:
        values = as_dict(row)
        values["anatomical_contribution"] = _percent(values["anatomical_contribution"])
        rows.append([_cell(values[name], digits) for _, name, digits in SHOWN])
    return heads, rows


def as_csv(table: RegionTable) -> str:
    """All columns as comma-separated text, as `medfuse measure` names them."""
    out = io.StringIO()
    rows = table.to_dict()
    writer = csv.DictWriter(out, list(rows[0]) if rows else ["region"], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: "" if value is None else value for key, value in row.items()})
    return out.getvalue()


def renamed(shapes: tuple[Shape, ...], number: int, name: str) -> tuple[Shape, ...]:
    """The same shapes, one of them under another name."""
    shape = replace(shapes[number], name=" ".join(name.split()) or shapes[number].name)
    return (*shapes[:number], shape, *shapes[number + 1 :])


def _percent(value: Any) -> Any:
    return None if value is None else 100 * value


def _cell(value: Any, digits: int | None) -> str:
    if value is None:
        return "-"
    if digits is None:
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.{digits}g}"


def _point(source: Source, index: Any) -> tuple[float, float, float]:
    """RAS mm of a data index."""
    x, y, z = ras_of(source, index).tolist()
    return x, y, z


def _place(source: Source) -> NDArray[np.float64]:
    probe = Image(np.zeros((2, 2, 2), np.uint8), **source.transform)
    return linear_map(probe)


def _unfit(name: str, cause: str) -> UsageError:
    return UsageError(
        "E_REGION",
        what="Cannot use the painted labels",
        where=name,
        cause=cause,
        remedy='Press "New labels layer", paint there, and press "Painted labels"',
    )
