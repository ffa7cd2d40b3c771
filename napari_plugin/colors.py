"""Colour maps for napari layers, and what the user is told about reading values back."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from napari.utils.colormaps import Colormap
from numpy.typing import ArrayLike

from medfuse.kernel.colormaps import COLORMAPS, READABLE, measure_readability, read_back
from medfuse.kernel.two_way_maps import MAPS
from medfuse.kernel.two_way_reading import take_apart

UNSURE = 0.1  # of the window: wider than this is no reading

WEIGHTS = Colormap(
    [[0.93, 0.45, 0.13, 1], [0.16, 0.16, 0.18, 1], [0.36, 0.66, 0.95, 1]], name="medfuse weights"
)


@lru_cache
def napari_colormap(name: str) -> Colormap:
    """The same table as medfuse uses, as a napari colour map."""
    table = COLORMAPS[name].numpy()
    colors = np.concatenate([table, np.ones((len(table), 1), table.dtype)], axis=1)
    return Colormap(colors, name=f"medfuse {name}")


def read_colour(rgb: ArrayLike, name: str, bias: float | None = None) -> tuple[float, float] | None:
    """Position in the window and its uncertainty, both in [0, 1], from one colour.

    ``bias``: the emphasis with which a two-way map painted it; None where chroma alone tells the
    value. None is returned where the colour map passes this chroma at values far apart.
    """
    pixel = torch.as_tensor(np.asarray(rgb, dtype=np.float32)).reshape(1, 3, 1, 1)
    if bias is None:
        value, unsure = (float(x) for x in read_back(pixel, name))
    else:
        apart = take_apart(pixel, name, bias=bias, most_foreign=1.0)
        value, unsure = float(apart.uptake), float(apart.uptake_error)
    return None if unsure > UNSURE else (value, unsure)


@lru_cache
def explain(name: str) -> str:
    """Say whether values can be read back from colours of this map after fusion."""
    if name == "gray":
        return "gray: has no color of its own; no value can be read back after fusion."
    if name in MAPS:
        return f"{name}: two-way; both images can be read back from the fused colors."
    found = measure_readability(name)
    off, free = 100 * found.worst, 100 * found.band
    if name in READABLE:
        return f"{name}: reads back within {100 * found.p95:.1f} % (95 % of values)."
    return (
        f"{name}: customary; leaves {free:.0f} % of the brightness to the anatomy where it is "
        f"strongest, and a value read back can be {off:.1f} % of the window off."
    )
