"""Colour maps in napari, and the uptake read back from a fused colour.

Fusion keeps Cb and Cr, so a fused colour still tells the functional value wherever the colour map
gives every value its own chroma.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from napari.utils.colormaps import Colormap
from numpy.typing import ArrayLike, NDArray

from medfuse.kernel.color import COLORMAPS, rgb_to_ycbcr

STEPS = 2048
AMBIGUOUS = 0.1  # of the window: two values this far apart must not share a chroma
TOLERANCE = 1.5 / 255  # distance in (Cb, Cr) that 8-bit colours can hide

WEIGHTS = Colormap(
    [[0.93, 0.45, 0.13, 1], [0.16, 0.16, 0.18, 1], [0.36, 0.66, 0.95, 1]], name="medfuse weights"
)


@lru_cache
def napari_colormap(name: str) -> Colormap:
    """The same table as medfuse uses, as a napari colour map."""
    table = COLORMAPS[name].numpy()
    colors = np.concatenate([table, np.ones((len(table), 1), table.dtype)], axis=1)
    return Colormap(colors, name=f"medfuse {name}")


def read_back(rgb: ArrayLike, name: str) -> float | None:
    """Position in the colour map (0 to 1) of a fused colour, from its chroma alone.

    Parameters
    ----------
    rgb : (3,) float in [0, 1]
    name : str
        Colour map.

    Returns
    -------
    float or None
        None where several values far apart have this chroma (e.g. black and white).
    """
    color = torch.as_tensor(np.asarray(rgb, dtype=np.float32))[None, :, None]
    chroma = rgb_to_ycbcr(color)[0, 1:, 0].numpy()
    distance = np.linalg.norm(_chroma(name) - chroma, axis=1)
    near = np.flatnonzero(distance <= distance.min() + TOLERANCE)
    if (near[-1] - near[0]) / (STEPS - 1) > AMBIGUOUS:
        return None
    return float(distance.argmin() / (STEPS - 1))


@lru_cache
def readable(name: str) -> tuple[float, float] | None:
    """The longest part of the window (low, high in 0 to 1) that can be read back, or None."""
    table = _table(name)[:: STEPS // 256]
    ok = np.array([read_back(color, name) is not None for color in table])
    best, start = (0, 0), None
    for index, good in enumerate([*ok, False]):
        if good and start is None:
            start = index
        elif not good and start is not None:
            best = max(best, (start, index), key=lambda run: run[1] - run[0])
            start = None
    if best[1] - best[0] < 2:
        return None
    return best[0] / (len(ok) - 1), (best[1] - 1) / (len(ok) - 1)


def explain(name: str) -> str:
    """One sentence for the user on reading values back from the fused colours."""
    part = readable(name)
    if part is None:
        return "Grey has no colour of its own: values cannot be read back from the fused picture."
    low, high = (round(100 * x) for x in part)
    return f"Values from {low} % to {high} % of the window can be read back from the fused colour."


@lru_cache
def _table(name: str) -> NDArray[Any]:
    table = COLORMAPS[name].numpy()
    position = np.linspace(0, len(table) - 1, STEPS)
    return np.stack([np.interp(position, np.arange(len(table)), c) for c in table.T], axis=1)


@lru_cache
def _chroma(name: str) -> NDArray[Any]:
    table = torch.from_numpy(_table(name).T[None].astype(np.float32))
    return rgb_to_ycbcr(table)[0, 1:].T.numpy()
