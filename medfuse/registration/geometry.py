"""Distances and angles between maps, and turns of a body in words."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medfuse.imaging.grid import Matrix, transform_points
from medfuse.registration.refine import nearest_rotation
from medfuse.registration.search import body_turns

_TURNS = (
    "half a turn about the left-right axis",
    "half a turn about the front-back axis",
    "half a turn about the head-feet axis",
    *(
        f"a quarter turn about the {axis} axis"
        for axis in ("left-right", "front-back", "head-feet")
    ),
    *(
        f"a quarter turn about the {axis} axis"
        for axis in ("left-right", "front-back", "head-feet")
    ),
)


def distance_mm(one: Matrix, two: Matrix, points: NDArray[np.float64]) -> float:
    """Mean distance between where two maps put points, mm."""
    gap = transform_points(one, points) - transform_points(two, points)
    return float(np.linalg.norm(gap, axis=1).mean())


def rotation_angle(matrix: Matrix) -> float:
    """Angle of the rotation in a map, degrees; of an affine map, of its nearest rotation."""
    # From the antisymmetric part too: the arc cosine alone is blind to small angles.
    r = nearest_rotation(matrix[:3, :3])
    sine = np.linalg.norm([r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]]) / 2.0
    return float(np.degrees(np.arctan2(sine, (np.trace(r) - 1.0) / 2.0)))


def body_turn(matrix: Matrix) -> str:
    """Name the half or quarter turn to which a map is nearer than to none; empty for none."""
    traces = [float(np.trace(turn.T @ matrix[:3, :3])) for turn in body_turns()]
    best = int(np.argmax(traces))
    return _TURNS[best] if traces[best] > float(np.trace(matrix[:3, :3])) else ""
