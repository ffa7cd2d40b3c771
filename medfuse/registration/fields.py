"""Whether two fields of view meet, and how far apart they lie."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfuse.errors import RegistrationError, option
from medfuse.imaging.grid import Grid, Matrix, transform_points


def no_overlap(fixed: Grid, moving: Grid, moving_from_fixed: Matrix) -> None:
    """Refuse two fields of view that do not meet.

    Raises
    ------
    RegistrationError
        ``E_NO_OVERLAP`` with the distance in mm.
    """
    gap = gap_mm(fixed, moving, moving_from_fixed)
    if gap > 0.0:
        raise RegistrationError(
            "E_NO_OVERLAP",
            what="Cannot register",
            cause=f"the fields of view of the fixed and the moving volume lie {gap:.0f} mm apart",
            remedy=f"Use {option('method', 'auto')} to search for the position, or check "
            f"that both series "
            "show the same region",
        )


def gap_mm(fixed: Grid, moving: Grid, moving_from_fixed: Matrix) -> float:
    """Shortest distance between two fields of view, mm; 0 where they meet.

    Alternating projection between two convex boxes (von Neumann) ends at a nearest pair of points.
    """
    to_index = np.linalg.inv(moving.affine)
    back = np.linalg.inv(moving_from_fixed)
    to_fixed_index = np.linalg.inv(fixed.affine)
    point = transform_points(moving_from_fixed, fixed.centre)
    other = point
    for _ in range(200):
        other = _into(moving, to_index, point)
        home = _into(fixed, to_fixed_index, transform_points(back, other))
        point = transform_points(moving_from_fixed, home)
    distance = float(np.linalg.norm(point - other))
    return distance if distance > 0.01 else 0.0


def _into(grid: Grid, to_index: NDArray[Any], point: NDArray[Any]) -> NDArray[Any]:
    """Return the point of a field of view that is nearest to a world point."""
    index = transform_points(to_index, point)
    clipped = np.clip(index, -0.5, np.array(grid.shape) - 0.5)
    return transform_points(grid.affine, clipped)
