"""How well the uptake of a region can be read back from the colors of a fused image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from medfuse.imaging.windows import Window, apply_window
from medfuse.kernel.colormaps import READABLE, read_back
from medfuse.kernel.two_way_reading import take_apart
from medfuse.measurement.statistics import weighted

#: Of a larger region, evenly chosen voxels.
MOST_VOXELS = 20_000


@dataclass(frozen=True, eq=False)
class ReadBack:
    """A fused image and the values that it shows.

    Attributes
    ----------
    rgb : (3, X, Y, Z) uint8
    values : (X, Y, Z) float32
        The functional image on the anatomical grid, in its unit.
    window : Window
        With which it was colored.
    colormap : str
    two_way : bool
        Whether the map lets both images be read.
    bias : float
    """

    rgb: NDArray[np.uint8]
    values: NDArray[Any]
    window: Window
    colormap: str
    two_way: bool
    bias: float = 0.0

    @classmethod
    def of(cls, result: Any, on_grid: ArrayLike, bias: float = 0.0) -> Self | None:
        """Of a `FusionResult` and the image that went into it; None where nothing can be read.

        Parameters
        ----------
        result : FusionResult
        on_grid : (1, X, Y, Z) array-like
            The functional image on the anatomical grid.
        bias : float
            With which it was fused.
        """
        if result.window is None or not is_readable(result.colormap, result.gamut):
            return None
        rgb = (np.asarray(result.rgb) * 255).round().clip(0, 255).astype(np.uint8)
        values = np.asarray(on_grid)[0]
        return cls(rgb, values, result.window, result.colormap, result.gamut == "band", bias)

    def error(self, index: tuple[NDArray[np.int64], ...], weights: NDArray[Any]) -> float:
        """Mean distance of the value that is read from the true one, in the unit of the values.

        Parameters
        ----------
        index : three (N,) arrays
            Voxels of the region.
        weights : (N,) array
        """
        step = max(1, -(-len(weights) // MOST_VOXELS))
        at = tuple(axis[::step] for axis in index)
        heavy = weights[::step].astype(np.float64)
        rgb = torch.from_numpy(
            np.stack([channel[at] for channel in self.rgb]).astype(np.float32) / 255
        )[None]
        if self.two_way:
            read = take_apart(rgb, self.colormap, bias=self.bias, most_foreign=1.0).uptake
        else:
            read, _ = read_back(rgb, self.colormap)
        true = apply_window(self.values[at].astype(np.float32), self.window)
        off = np.abs(read[0, 0].numpy().astype(np.float64) - true)
        span = self.window.high - self.window.low
        return weighted(off, heavy) / float(heavy.sum()) * span


def is_readable(colormap: str | None, gamut: str) -> bool:
    """Whether values can be read from the colors that a map leaves in a fused image."""
    return gamut == "band" or (colormap in READABLE and gamut != "overlay")
