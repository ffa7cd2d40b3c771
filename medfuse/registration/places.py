"""Named points at which the expected error is told: the uptake, the middle, the rim."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medfuse.imaging.grid import from_sitk, transform_points
from medfuse.registration.evidence import Place
from medfuse.registration.expected import ExpectedError

if TYPE_CHECKING:
    from medfuse.registration.outcome import Volumes

#: The hottest part of the functional foreground stands for the uptake.
HOT_PART = 0.01
RIM = 0.95


def named_places(
    expected: ExpectedError, pair: Volumes, points: NDArray[np.float64], *, uptake: bool
) -> tuple[Place, ...]:
    """Bound of the error where a reader looks first, and where it is largest.

    Parameters
    ----------
    points : (N, 3) float64
        Spread over the fixed foreground, RAS mm.
    uptake : bool
        The moving volume shows uptake, whose centre is a place of interest.
    """
    within = expected.within_mm(points)
    middle = points.mean(axis=0)
    rim = int(np.argsort(within, kind="stable")[int(RIM * (len(within) - 1))])
    named = [("the middle of the body", middle), ("the rim", points[rim])]
    if uptake and (hot := _centre_of_uptake(pair, expected)) is not None:
        named[0] = ("the centre of the uptake", hot)
    return tuple(
        Place(name, _triple(point), float(expected.within_mm(point)[0])) for name, point in named
    )


def worst_place(expected: ExpectedError, name: str, points: NDArray[np.float64]) -> Place:
    """The point among some, fixed RAS mm, where the bound of the error is largest."""
    within = expected.within_mm(points)
    worst = int(np.argmax(within))
    return Place(name, _triple(points[worst]), float(within[worst]))


def _centre_of_uptake(pair: Volumes, expected: ExpectedError) -> NDArray[np.float64] | None:
    """Middle of the hottest voxels that lie in the fixed field of view, fixed RAS mm."""
    values, affine = from_sitk(pair.moving.image)
    grid = pair.fixed.grid
    hot = np.argwhere(values >= np.quantile(values, 1.0 - HOT_PART))
    at = transform_points(np.linalg.inv(expected.matrix) @ affine, hot)
    index = transform_points(np.linalg.inv(grid.affine), at)
    seen = ((index >= -0.5) & (index <= np.array(grid.shape) - 0.5)).all(axis=1)
    return np.median(at[seen], axis=0) if seen.any() else None


def _triple(point: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = np.round(point, 1).tolist()
    return x, y, z
