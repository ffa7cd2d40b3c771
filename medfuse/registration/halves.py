"""Two halves of a body that were registered alone, blended into one bend."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfuse.imaging.grid import Matrix, from_sitk, transform_points
from medfuse.registration.expected import Witness
from medfuse.registration.geometry import rotation_angle
from medfuse.registration.inputs import Prepared
from medfuse.registration.witnesses import half_of

#: Width of the place where one half becomes the other, mm.
BLEND_MM = 25.0
#: Beyond this turn of a body between its images, "upper" and "left" may not be the same in both.
LARGEST_TURN_DEG = 40.0
#: A limb or a trunk leaves the field of view on both sides with so much of its largest section; a
#: head ends in it.
THROUGH = 0.25


@dataclass(frozen=True, eq=False)
class Halves:
    """Maps of the lower and of the upper half along one axis, fixed point -> moving point.

    Parameters
    ----------
    axis : int
        Of the fixed world, RAS.
    middle : float
        Where the halves meet, mm.
    low, high : (4, 4) float64
    """

    axis: int
    middle: float
    low: Matrix
    high: Matrix

    def there(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, 3) moving points of (N, 3) fixed ones."""
        return self._blended(points, points, self.low, self.high)

    def back(self, points: NDArray[np.float64], matrix: Matrix) -> NDArray[np.float64]:
        """(N, 3) fixed points of (N, 3) moving ones; `matrix` says which half they lie in."""
        near = transform_points(np.linalg.inv(matrix), points)
        low, high = (np.asarray(np.linalg.inv(half)) for half in (self.low, self.high))
        return self._blended(points, near, low, high)

    def _blended(
        self, points: NDArray[np.float64], fixed: NDArray[np.float64], low: Matrix, high: Matrix
    ) -> NDArray[np.float64]:
        part = 1 / (1 + np.exp(-(fixed[:, self.axis] - self.middle) / BLEND_MM))[:, None]
        blended = part * transform_points(high, points) + (1 - part) * transform_points(low, points)
        return np.asarray(blended)


def halves_of(
    witnesses: tuple[Witness, ...], matrix: Matrix, body: NDArray[np.float64]
) -> Halves | None:
    """The halves along the longest axis; None where they were not registered alone.

    Parameters
    ----------
    matrix : (4, 4) float64
        Of the whole body, fixed point -> moving point.
    body : (N, 3) float64
        Fixed points in both fields of view.
    """
    found: dict[int, dict[float, Matrix]] = {}
    if rotation_angle(matrix) <= LARGEST_TURN_DEG:
        for witness in witnesses:
            if half := half_of(witness.name):
                found.setdefault(half[0], {})[half[1]] = witness.matrix
    for axis, sides in found.items():  # the longest axis comes first
        if len(sides) == 2:
            return Halves(axis, float(np.median(body[:, axis])), sides[-1.0], sides[1.0])
    return None


def apart_mm(
    witnesses: tuple[Witness, ...], matrix: Matrix, body: NDArray[np.float64]
) -> float | None:
    """How far halves of the body, registered alone, lie from where the whole puts them, mm.

    Of each half it is the mean distance on its own side, or on the other one if that is less; of
    all halves their median. None where no half was registered alone.
    """
    off = []
    for witness in witnesses:
        if half := half_of(witness.name):
            upper = body[:, half[0]] >= np.median(body[:, half[0]])
            away = witness.off_mm(matrix, body)
            off.append(min(away[upper].mean(), away[~upper].mean()))
    return float(np.median(off)) if off else None


def runs_through(image: Prepared) -> bool:
    """Whether the body leaves the field of view on two opposite sides."""
    mask = from_sitk(image.mask)[0] > 0
    for axis in range(3):
        areas = mask.sum(axis=tuple(a for a in range(3) if a != axis))
        if min(areas[0], areas[-1]) >= THROUGH * np.max(areas):
            return True
    return False
