"""How much of each voxel of a grid a region fills, drawn on another grid and in another world."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfuse.imaging.grid import Grid, Matrix, coverage, transform_points
from medfuse.imaging.lattice import on_lattice
from medfuse.measurement.region import Region

#: Points along each axis of a voxel that are asked: so many for each voxel of the region, and
#: never more or fewer than these.
POINTS_A_VOXEL, FEWEST, MOST = 2.5, 3, 8
_AT_ONCE, _POINTS_AT_ONCE = 1 << 21, 1 << 16


class Part:
    """The weights of a region on a grid, cut out to where they are.

    Attributes
    ----------
    weights : (X, Y, Z) float32 in [0, 1]
    start : (3,) int
        First voxel of the cut in the grid.
    """

    def __init__(self, weights: NDArray[np.float32], start: NDArray[np.int64]) -> None:
        self.weights = weights
        self.start = start

    @property
    def slices(self) -> tuple[slice, ...]:
        """Where the cut lies in the grid."""
        sizes = zip(self.start, self.weights.shape, strict=True)
        return tuple(slice(int(a), int(a) + n) for a, n in sizes)


def occupancy(region: Region, grid: Grid, region_from_grid: Matrix) -> Part | None:
    """Which part of each voxel of `grid` lies in a region; None where they do not meet.

    Where the lattices are one, the weights are taken as they are. Elsewhere a voxel at the border
    is asked at many points, each of which has the weight of the voxel of the region that holds it;
    a voxel far inside counts wholly.

    Parameters
    ----------
    region : Region
    grid : Grid
    region_from_grid : (4, 4) array
        World point of `grid` -> world point of the region, RAS mm.
    """
    to_index = np.linalg.inv(region.grid.affine) @ region_from_grid @ grid.affine
    start, stop = _box(region.grid, grid, to_index)
    if (stop <= start).any() or not region.weights.any():
        return None
    weights = np.zeros(tuple(stop - start), dtype=np.float32)
    look = _Lookup(region.weights, to_index)
    planes = max(1, _AT_ONCE // int(np.prod(weights.shape[1:])))
    for x in range(0, len(weights), planes):
        part = weights[x : x + planes]
        look.fill(part, start + np.array([x, 0, 0]))
    return Part(weights, start) if weights.any() else None


def outside_fraction(region: Region, field: Grid, field_from_region: Matrix) -> float:
    """Part of the volume of a region that lies outside a field of view."""
    inside = coverage(region.grid, field, field_from_region)
    whole = float(region.weights.sum(dtype=np.float64))
    held = float(np.sum(region.weights, where=inside, dtype=np.float64))
    return 1 - held / whole if whole else 0.0


def _box(own: Grid, grid: Grid, to_index: Matrix) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First voxel of `grid` that a region can touch, and the first behind it."""
    ends = [(-0.5, n - 0.5) for n in own.shape]
    corners = transform_points(np.linalg.inv(to_index), np.array(list(product(*ends))))
    start = np.floor(corners.min(axis=0) + 0.5 - 1e-6).astype(np.int64)
    stop = np.ceil(corners.max(axis=0) + 0.5 + 1e-6).astype(np.int64)
    return np.maximum(start, 0), np.minimum(stop, grid.shape)


class _Lookup:
    """The weights of a region, asked from the voxels of another grid."""

    def __init__(self, weights: NDArray[Any], to_index: Matrix) -> None:
        self.to_index = to_index
        self.exact = on_lattice(to_index)
        half = np.abs(to_index[:3, :3]).sum(axis=1) / 2
        self.reach = np.floor(half).astype(int) + 1
        self.weights = np.pad(weights, 1)
        if not self.exact:
            length = np.linalg.norm(to_index[:3, :3], axis=0)
            points = np.clip(np.ceil(POINTS_A_VOXEL * length), FEWEST, MOST).astype(int)
            steps = [(np.arange(n) + 0.5) / n - 0.5 for n in points]
            self.points = np.array(list(product(*steps))) @ to_index[:3, :3].T
            self.none, self.whole = _around(weights, self.reach)

    def fill(self, out: NDArray[np.float32], start: NDArray[np.int64]) -> None:
        """Write the weights of the voxels from `start` on into `out`."""
        axes = [a + np.arange(n) for a, n in zip(start, out.shape, strict=True)]
        at = [
            (row[0] * axes[0])[:, None, None] + (row[1] * axes[1])[:, None] + row[2] * axes[2]
            + row[3]
            for row in self.to_index[:3]
        ]  # fmt: skip
        if self.exact:
            out[...] = _asked(self.weights, at, 1)
            return
        out[...] = _asked(self.whole, at, self.reach + 1)
        border = ~_asked(self.none, at, self.reach + 1) & (out == 0)
        where = np.nonzero(border)
        near = [plane[where] for plane in at]
        total = np.zeros(len(near[0]), dtype=np.float64)
        step = max(1, _POINTS_AT_ONCE // max(1, len(total)))
        for first in range(0, len(self.points), step):
            points = self.points[first : first + step, :, None]
            at = [c + points[:, axis] for axis, c in enumerate(near)]
            total += _asked(self.weights, at, 1).sum(axis=0, dtype=np.float64)
        out[where] = total / len(self.points)


def _asked(
    values: NDArray[Any], at: list[NDArray[np.float64]], pad: int | NDArray[np.int64]
) -> NDArray[Any]:
    """Values of the voxels that hold points; `values` has a border of `pad`, which goes on."""
    pads = np.broadcast_to(pad, 3)
    index: Any = 0
    for plane, size, border in zip(at, values.shape, pads, strict=True):
        step = np.clip(np.floor(plane + (0.5 + border)), 0, size - 1).astype(np.int64)
        index = index * size + step
    return np.asarray(values.ravel().take(index))


def _around(
    weights: NDArray[Any], reach: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Voxels with nothing of the region within reach, and those with nothing else."""
    pad = [(int(r) + 1, int(r) + 1) for r in reach]
    some, whole = np.pad(weights > 0, pad), np.pad(weights == 1, pad)
    for axis, steps in enumerate(reach):
        some, whole = (
            _running(some, axis, int(steps), np.logical_or),
            _running(whole, axis, int(steps), np.logical_and),
        )
    return ~some, whole


def _running(mask: NDArray[np.bool_], axis: int, steps: int, join: np.ufunc) -> NDArray[np.bool_]:
    """Each voxel joined with its neighbors up to some steps along an axis."""
    out, size = mask.copy(), mask.shape[axis]
    for step in range(1, min(steps, size - 1) + 1):
        ahead: list[slice] = [slice(None)] * 3
        behind: list[slice] = [slice(None)] * 3
        ahead[axis], behind[axis] = slice(step, None), slice(None, -step)
        join(out[tuple(behind)], mask[tuple(ahead)], out=out[tuple(behind)])
        join(out[tuple(ahead)], mask[tuple(behind)], out=out[tuple(ahead)])
    return out
