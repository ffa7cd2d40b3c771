"""Places that checks of the audit name, in the layers of the panel."""

from __future__ import annotations

from medfuse.audit import Check
from medfuse.imaging.grid import DisplayOrder
from napari_plugin.layers import Source

Index = tuple[int, int, int]


def place_of(check: Check) -> Index | None:
    """(slice, row, column) that a check names, of hot spots the weakest; None without a place."""
    spots = check.details.get("spots")
    details = min(spots, key=lambda spot: spot["retained"]) if spots else check.details
    place = details.get("slice_row_column")
    return None if place is None else (place[0], place[1], place[2])


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
