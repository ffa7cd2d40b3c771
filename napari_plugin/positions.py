"""Positions that a registration considered, and the map of its expected error, for the panel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.utils.colormaps import Colormap
from numpy.typing import NDArray

from medfuse.imaging.grid import transform_points
from medfuse.registration.evidence import Alternative
from medfuse.registration.expected import CONFIDENCE
from medfuse.registration.result import Registration
from medfuse.report.positions import ERROR_COLOURS, TOP_MM
from napari_plugin.layers import shown
from napari_plugin.outputs import EXPECTED_ERROR, Output
from napari_plugin.source import Source

#: The entry that leaves the choice to the registration.
AS_FOUND = "as found"
HERE_MM = 0.5
ERROR_COLORS = Colormap(
    np.column_stack([ERROR_COLOURS / 255.0, np.ones(len(ERROR_COLOURS))]), name="medfuse error"
)


@dataclass(frozen=True)
class Entry:
    """One line of the list.

    Attributes
    ----------
    name : str
        What the setting "choose" takes; `AS_FOUND` for none.
    text : str
        What the list shows: the name, where it lies, what the images say of it.
    """

    name: str
    text: str


def entries(found: Registration | None) -> tuple[Entry, ...]:
    """What can be chosen: what was found, and every position that was considered."""
    best = Entry(AS_FOUND, AS_FOUND)
    if found is None:
        return (best,)
    return (best, *(Entry(other.name, _line(other, found)) for other in found.alternatives))


def _line(other: Alternative, found: Registration) -> str:
    centre = found.fixed_grid.centre
    apart = transform_points(other.matrix, centre) - transform_points(found.matrix, centre)
    here = np.linalg.norm(apart) < HERE_MM
    return (
        f"{other.name}{' (here)' if here else ''}: {other.away_mm:.0f} mm, {other.away_deg:.0f} "
        f"degrees from the headers; information {other.metric:.3f}, overlap "
        f"{100 * other.overlap:.0f} %"
    )


def error_output(found: Registration, source: Source) -> Output:
    """The bound of the error in mm as a layer on the grid of the anatomical image.

    Parameters
    ----------
    found : Registration
        One whose error was measured.
    source : Source
        The anatomical layer.
    """
    assert found.expected is not None
    within = found.expected.on_grid(source.grid)
    percent = round(100 * CONFIDENCE)
    return Output(
        EXPECTED_ERROR,
        f"Registration: expected error, 0 to {TOP_MM:g} mm ({percent} % of cases)",
        shown(within[None], source.order, flat=source.flat),
        {"opacity": 0.45},
        {"contrast_limits": (0.0, TOP_MM), "colormap": ERROR_COLORS},
    )


def error_here(found: Registration, source: Source, index: Sequence[float]) -> str:
    """The expected error at an index of the result layers, in few words; empty where unknown."""
    shape = source.data.shape
    inside = all(-0.5 <= i < n - 0.5 for i, n in zip(index, shape, strict=False))
    if found.expected is None or not inside:
        return ""
    within = float(found.error_within_mm(ras_of(source, index))[0])
    return f"place within {within:.0f} mm"


def ras_of(source: Source, index: Sequence[float]) -> NDArray[np.float64]:
    """RAS mm of a data index of a layer on the grid of a source."""
    given = np.asarray(index, dtype=np.float64)
    at: list[Any] = [0.0, *given] if source.flat else [*given]
    voxel = np.zeros(3)
    for i, axis, flip in zip(at, source.order.axes, source.order.flips, strict=True):
        voxel[axis] = source.grid.shape[axis] - 1 - i if flip else i
    return transform_points(source.affine, voxel)
