"""Planar contours as parts of pixels: exact along the rows, by many lines across them.

No library does this as a structure set needs it: rt-utils fills whole pixels of the series that the
contours were drawn on (OpenCV) and tells holes by the order of contours; skimage and matplotlib
answer yes or no for points. Contours of one plane are counted together, by the even-odd rule: a
contour inside another one is a hole, and so is the inside of a keyhole, whichever of the two ways
of DICOM wrote it (PS3.3 C.8.8.6.3: CLOSED_PLANAR with a keyhole, CLOSED_PLANAR_XOR).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LINES = 8  # across a pixel
_ROUNDING = 1e-6


def filled(
    contours: Sequence[NDArray[np.float64]], shape: tuple[int, int], lines: int = LINES
) -> NDArray[np.float32]:
    """(rows, columns) part of each pixel that closed contours enclose, by the even-odd rule.

    Parameters
    ----------
    contours : sequence of (N, 2) array
        Corners as (row, column); the center of the first pixel is (0, 0), and it reaches from -0.5
        to 0.5.
    shape : (rows, columns)
    """
    rows, columns = shape
    edges = np.concatenate([np.stack([c, np.roll(c, -1, axis=0)], axis=1) for c in contours])
    down = edges[:, 0, 0] > edges[:, 1, 0]
    edges[down] = edges[down, ::-1]
    line, at = _crossings(edges, rows * lines, lines)
    at = np.clip(at, -0.5, columns - 0.5)
    order = np.lexsort((at, line))
    line, at = line[order], at[order]
    sign = np.where(np.arange(len(at)) % 2, -1.0, 1.0)  # each line enters and leaves
    pixel = np.floor(at + 0.5).astype(int)
    part = pixel + 0.5 - at
    steps = np.zeros((rows, columns + 2))
    np.add.at(steps, (line // lines, pixel), sign * part)
    np.add.at(steps, (line // lines, pixel + 1), sign * (1 - part))
    out = np.cumsum(steps, axis=1)[:, :columns] / lines
    out[out < _ROUNDING], out[out > 1 - _ROUNDING] = 0, 1
    return out.astype(np.float32)


def _crossings(
    edges: NDArray[np.float64], count: int, lines: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Where the lines cross the edges: number of the line, and column."""
    (r0, c0), (r1, c1) = edges[:, 0].T, edges[:, 1].T
    first, behind = (np.ceil((r + 0.5) * lines - 0.5).astype(int) for r in (r0, r1))
    number = np.maximum(behind - first, 0)
    edge = np.repeat(np.arange(len(edges)), number)
    begun = np.repeat(np.cumsum(number) - number, number)
    line = first[edge] + np.arange(len(edge)) - begun
    at = (line + 0.5) / lines - 0.5
    column = c0[edge] + (at - r0[edge]) / (r1 - r0)[edge] * (c1 - c0)[edge]
    held = (line >= 0) & (line < count)
    return line[held], column[held]
