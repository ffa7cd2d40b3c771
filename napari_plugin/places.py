"""Places that checks of the audit name, in the layers of the panel."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from medfuse.audit import Check
from medfuse.fusion.sources import plain
from medfuse.imaging.grid import DisplayOrder
from medfuse.registration.result import Registration
from napari_plugin.source import Source

Index = tuple[int, int, int]


def place_of(check: Check) -> Index | None:
    """(slice, row, column) that a check names, of hot spots the weakest; None without a place."""
    spots = check.details.get("spots")
    details = min(spots, key=lambda spot: spot["retained"]) if spots else check.details
    place = details.get("slice_row_column")
    return None if place is None else (place[0], place[1], place[2])


def hottest(on_grid: Any, source: Source) -> tuple[float, ...] | None:
    """Data index of the voxel with the highest value of the functional image; None of colors.

    ``on_grid``: (1, X, Y, Z), as the fusion holds it.
    """
    if len(on_grid) != 1:
        return None
    shown = source.order.apply(plain(on_grid))[0].nan_to_num(nan=-math.inf)
    index = tuple(float(i) for i in np.unravel_index(int(shown.argmax()), shown.shape))
    return index[1:] if source.flat else index


def worst_registered(registration: Registration, source: Source) -> tuple[float, ...] | None:
    """Data index of the named place with the largest expected error; None where none is known."""
    if not registration.places:
        return None
    worst = max(registration.places, key=lambda place: place.within_mm)
    return index_of_point(source, worst.point)


def index_of_point(source: Source, point: Any) -> tuple[float, ...]:
    """A point in RAS mm -> data index of a layer on the grid of a source."""
    inverse = np.linalg.inv(source.affine)
    voxel = inverse[:3, :3] @ np.asarray(point, dtype=np.float64) + inverse[:3, 3]
    shape = source.grid.shape
    index = tuple(
        float(shape[axis] - 1 - voxel[axis] if flip else voxel[axis])
        for axis, flip in zip(source.order.axes, source.order.flips, strict=True)
    )
    return index[1:] if source.flat else index


def index_in_layer(source: Source, place: Index) -> tuple[int, ...]:
    """(slice, row, column) of the audit -> data index of a layer on the grid of a source."""
    order, shape = DisplayOrder.from_grid(source.grid), source.grid.shape
    voxel = [0, 0, 0]
    for i, axis, flip in zip(place, order.axes, order.flips, strict=True):
        voxel[axis] = shape[axis] - 1 - i if flip else i
    index = tuple(
        shape[axis] - 1 - voxel[axis] if flip else voxel[axis]
        for axis, flip in zip(source.order.axes, source.order.flips, strict=True)
    )
    return index[1:] if source.flat else index
