"""A region that a local deformation brings from one image to the other."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from medfuse.imaging.grid import Grid, transform_points
from medfuse.measurement.region import Region, Space
from medfuse.registration.deformation import Deformation
from medfuse.registration.result import Registration

#: Cells of the brought region have this part of the length of its own voxels; never more cells.
FINER, MOST_CELLS = 0.5, 400_000
#: The inverse of the deformation is followed to so near; farther off, there is none.
NEAR_MM, FOUND_MM = 0.01, 0.5
#: Remark on a region that was brought so.
ESTIMATED = "it was brought to the other image through a local deformation, which is an estimate"
_AT_ONCE = 1 << 17


def deformed(region: Region, registration: Registration, space: Space) -> Region:
    """A region in the world of the other image, where a deformation brings it.

    It is cut into small cells there. The middle of each is brought back to the region and gets the
    weight of the voxel that holds it.

    Parameters
    ----------
    region : Region
    registration : Registration
        With a deformation; anatomical points -> functional points.
    space : {"anatomical", "functional"}
        The world to which it is brought; the region lies in the other one.
    """
    deformation = registration.deformation
    if deformation is None or region.space == space:
        return region
    onto = _cells(region, registration, deformation, space)
    to_index = np.linalg.inv(region.grid.affine)
    weights = np.zeros(int(np.prod(onto.shape)), dtype=region.weights.dtype)
    last = np.array(region.grid.shape) - 1
    for first in range(0, len(weights), _AT_ONCE):
        flat = np.arange(first, min(first + _AT_ONCE, len(weights)))
        points = transform_points(onto.affine, np.stack(np.unravel_index(flat, onto.shape), -1))
        at = np.rint(transform_points(to_index, _back(points, registration, deformation, space)))
        held = ((at >= 0) & (at <= last)).all(axis=1)
        weights[flat[held]] = region.weights[tuple(at[held].astype(np.intp).T)]
    found = Region.cut(region.name, weights.reshape(onto.shape), onto.affine, space)
    return replace(found, label=region.label, kind=region.kind, notes=region.notes)


def _back(
    points: NDArray[np.float64], registration: Registration, deformation: Deformation, space: Space
) -> NDArray[np.float64]:
    """Points of one world in the other."""
    if space == "anatomical":
        return transform_points(registration.matrix, points + deformation.shifts(points))
    there = transform_points(registration.inverse, points)
    if deformation.lengths.size > MOST_CELLS:
        origins = deformation.origins(there, near_mm=NEAR_MM)
    else:
        origins = there - deformation.shifts(there + _inverse(deformation).shifts(there))
    gap = np.abs(origins + deformation.shifts(origins) - there).max(axis=1)
    origins[gap > FOUND_MM] = np.nan  # nothing comes here, as at the edge of a lattice
    return origins


@lru_cache(maxsize=2)
def _inverse(deformation: Deformation) -> Deformation:
    """The inverse at the nodes of the lattice; between them it is a good start for a last step."""
    lattice = deformation.lattice
    nodes = transform_points(lattice.affine, np.argwhere(np.ones(lattice.shape, bool)))
    shifts = deformation.origins(nodes, near_mm=NEAR_MM) - nodes
    return Deformation(lattice, shifts.reshape(*lattice.shape, 3).astype(np.float32))


def _cells(
    region: Region, registration: Registration, deformation: Deformation, space: Space
) -> Grid:
    """A grid around the place to which a region is brought."""
    ends = np.array(list(product(*[(-0.5, n - 0.5) for n in region.grid.shape])))
    corners = transform_points(region.grid.affine, ends)
    reach = np.abs(deformation.displacement).max(axis=(0, 1, 2)).astype(np.float64)
    if space == "anatomical":
        corners = transform_points(registration.inverse, corners)
        low, high = corners.min(axis=0) - reach, corners.max(axis=0) + reach
    else:
        box = np.stack([corners.min(axis=0) - reach, corners.max(axis=0) + reach])
        moved = transform_points(registration.matrix, np.array(list(product(*box.T))))
        low, high = moved.min(axis=0), moved.max(axis=0)
    cell = FINER * float(min(region.grid.spacing))
    cell = max(cell, float(np.prod(high - low) / MOST_CELLS) ** (1 / 3))
    x, y, z = (int(n) for n in np.ceil((high - low) / cell))
    affine = np.diag([cell, cell, cell, 1.0])
    affine[:3, 3] = low + cell / 2
    return Grid((x, y, z), affine)
