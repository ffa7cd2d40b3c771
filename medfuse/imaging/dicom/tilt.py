"""Gantry tilt: a stack whose slices slide within their plane, brought to a straight grid.

A CT gantry that leans while the table moves level gives parallel slices, each a little further
along than the last. As a plain volume the head would be sheared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Tilt:
    """How far each slice slides against the one before.

    Attributes
    ----------
    pixels : (2,) float
        Along columns and along rows, in pixels.
    millimetres : float
        Of the last slice against the first.
    angle_deg : float
        Of the stack against the normal of its slices.
    """

    pixels: tuple[float, float]
    millimetres: float
    angle_deg: float

    def straight(
        self, affine: np.ndarray, shape: tuple[int, int, int]
    ) -> tuple[np.ndarray, tuple[int, int, int]]:
        """Affine and shape of the straight grid that holds every slice.

        Parameters
        ----------
        affine : (4, 4) float64
            Of the stack as if it were straight: index (column, row, slice) to RAS mm.
        shape : (3,) int
        """
        moved = affine.copy()
        moved[:3, 3] += affine[:3, :2] @ [min(0.0, self._last(axis, shape)) for axis in (0, 1)]
        columns, rows = (
            shape[axis] + math.ceil(abs(self._last(axis, shape)) - 1e-6) for axis in (0, 1)
        )
        return moved, (columns, rows, shape[2])

    def straighten(self, values: np.ndarray, fill: float) -> np.ndarray:
        """Shift every slice within its plane; linear between pixels, `fill` outside.

        Parameters
        ----------
        values : (X, Y, Z) float32
            As stored.

        Returns
        -------
        straight : (X', Y', Z) float32
            On the grid of `straight`.
        """
        _, shape = self.straight(np.eye(4), values.shape)
        result = np.full(shape, fill, dtype=np.float32)
        for k in range(shape[2]):
            image = values[:, :, k]
            for axis in (0, 1):
                start = min(0.0, self._last(axis, values.shape))
                image = _shift(image, self.pixels[axis] * k - start, shape[axis], axis, fill)
            result[:, :, k] = image
        return result

    def _last(self, axis: int, shape: tuple[int, ...]) -> float:
        """Shift of the last slice, pixels."""
        return self.pixels[axis] * (shape[2] - 1)


def _shift(image: np.ndarray, by: float, size: int, axis: int, fill: float) -> np.ndarray:
    """Move an image `by` >= 0 pixels along an axis, which then has `size` pixels."""
    whole = math.floor(by + 1e-6)
    part = max(0.0, by - whole)
    image = np.moveaxis(image, axis, 0)
    padded = np.full((size + 1, image.shape[1]), fill, dtype=np.float64)
    padded[whole + 1 : whole + 1 + len(image)] = image
    return np.moveaxis((1 - part) * padded[1:] + part * padded[:-1], 0, axis)
