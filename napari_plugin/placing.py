"""Where layers lie: napari's world, the RAS world of medfuse, and the order of a display.

napari shows arrays (slices, rows, columns) in a world of its own. Here that is (inferior,
posterior, left) in mm: with napari's default camera all three planes and the 3-D view then look as
a radiologist expects, and nothing is mirrored.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfuse.imaging.grid import DisplayOrder, Grid, Matrix, transform_points

AXIS_LABELS = ("S-I", "A-P", "R-L")
UNIT = "mm"
RAS_FROM_NAPARI = np.array(
    [[0.0, 0.0, -1.0, 0.0], [0.0, -1.0, 0.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)
TRANSFORM = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")


def axial_order(grid: Grid) -> DisplayOrder:
    """Order with slices from superior to inferior, rows to posterior, columns to left."""
    found = [DisplayOrder.from_grid(grid, axis=axis) for axis in range(3)]
    order = next(order for order in found if order.plane == "axial")
    return replace(order, flips=(not order.flips[0], *order.flips[1:]))


def place(grid: Grid, order: DisplayOrder) -> dict[str, Any]:
    """Scale, translate, units and axis labels that put a grid in napari's world.

    Oblique grids are turned upright about their centre, because napari does not slice rotated
    layers fully; the true affine stays in the layer's metadata.
    """
    centre = transform_points(np.linalg.inv(RAS_FROM_NAPARI), grid.centre)
    scale = np.array(order.spacing)
    size = np.array([grid.shape[axis] for axis in order.axes])
    translate = centre - scale * (size - 1) / 2
    return {
        "scale": tuple(scale.tolist()),
        "translate": tuple(translate.tolist()),
        "units": (UNIT,) * 3,
        "axis_labels": AXIS_LABELS,
    }


def linear_map(layer: Any) -> Matrix:
    """(n + 1, n + 1) matrix data index -> napari world of a layer, in the layer's own units."""
    n = layer.ndim
    origin = np.asarray(layer.data_to_world(np.zeros(n)), dtype=np.float64)
    matrix = np.eye(n + 1)
    matrix[:n, n] = origin
    for axis, step in enumerate(np.eye(n)):
        matrix[:n, axis] = np.asarray(layer.data_to_world(step)) - origin
    return matrix


def world_map(layer: Any) -> Matrix:
    """(4, 4) matrix (slice, row, column) -> napari world in mm; 2-D layers lie at slice 0."""
    matrix = linear_map(layer)
    factors = _length_factors(layer)
    matrix[:-1] *= factors[:, None]
    if layer.ndim == 3:
        return matrix
    full = np.eye(4)
    full[1:, 1:] = matrix
    # Thick, so that the plane of the picture is its slice plane whatever the pixels.
    full[0, 0] = 2 * max(np.linalg.norm(matrix[:2, :2], axis=0))
    return full


def is_length(layer: Any) -> bool:
    """Whether the units of a layer are lengths."""
    return all(unit.is_compatible_with(UNIT) for unit in layer.units)


def _length_factors(layer: Any) -> NDArray[np.float64]:
    if not is_length(layer):
        return np.ones(layer.ndim)
    return np.array([(1 * unit).to(UNIT).magnitude for unit in layer.units], dtype=np.float64)


def placed_by_napari(layer: Any) -> tuple[Matrix, DisplayOrder, Matrix]:
    """Affine of a layer of other readers, its order, and 1: no file says another affine."""
    order = DisplayOrder("axial", (2, 1, 0), (False, False, False), (1.0, 1.0, 1.0))
    affine = RAS_FROM_NAPARI @ world_map(layer)
    affine[:, :3] = affine[:, [2, 1, 0]]
    return affine, order, np.eye(4)


def shape3(data: Any, rgb: bool) -> tuple[int, int, int]:
    """(slices, rows, columns) of an array; a flat one has one slice."""
    shape = tuple(data.shape[:-1] if rgb else data.shape)
    slices, rows, columns = (1, *shape) if len(shape) == 2 else shape
    return int(slices), int(rows), int(columns)


def volume_shape(order: DisplayOrder, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """(X, Y, Z) of a volume whose display has so many slices, rows, columns."""
    out = [0, 0, 0]
    for axis, size in zip(order.axes, shape, strict=True):
        out[axis] = size
    return out[0], out[1], out[2]
