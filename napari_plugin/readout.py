"""What lies under the cursor, in one line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medfuse.results.export import to_bytes
from napari_plugin.colors import read_colour
from napari_plugin.source import Source


@dataclass(frozen=True)
class Readable:
    """The arrays of one result in display order, and what is needed to say their values.

    ``anatomical``, ``functional``, ``weights``, ``share``: (slices, rows, columns);
    ``picture``: the same with RGB in [0, 1] last. ``window`` maps colours back to values;
    ``bias``: the emphasis of a two-way map, else None.
    """

    source: Source
    anatomical: Any
    functional: Any
    weights: Any
    share: Any
    picture: Any
    names: tuple[str, str]
    units: tuple[str, str]
    window: tuple[float, float]
    colormap: str | None
    bias: float | None = None


def describe_point(shown: Readable, index: Sequence[float]) -> str:
    """Say the values at a data index of the result layers, or that the point lies outside.

    Parameters
    ----------
    shown : Readable
    index : (ndim,) float
        Position in data coordinates; integers are voxel centres.
    """
    where = tuple(int(np.floor(i + 0.5)) for i in index)
    shape = shown.weights.shape
    if len(where) != len(shape) or any(not 0 <= i < n for i, n in zip(where, shape, strict=True)):
        return "outside the fused volume"
    functional_name, anatomical_name = shown.names
    functional_unit, anatomical_unit = shown.units
    value = np.asarray(shown.functional[where])
    parts = [f"{anatomical_name} {_number(float(shown.anatomical[where]))} {anatomical_unit}"]
    if value.ndim == 0:
        parts.append(f"{functional_name} {_number(float(value))} {functional_unit}")
    parts.append(f"weight {float(shown.weights[where]):.2f}")
    parts.append(f"{anatomical_name} share {float(shown.share[where]):.2f}")
    if value.ndim == 0:
        parts.append(f"color reads {_colour_value(shown, where)}")
    return "  |  ".join(parts)


def _colour_value(shown: Readable, where: tuple[int, ...]) -> str:
    if shown.colormap is None:
        return "no value"
    rgb = to_bytes(shown.picture[where]).astype(np.float32) / 255  # as it is on the screen
    found = read_colour(rgb, shown.colormap, shown.bias)
    if found is None:
        return "no single value"
    low, high = shown.window
    value, unsure = low + found[0] * (high - low), found[1] * (high - low)
    return f"{_number(value)} ± {unsure:.2g} {shown.units[0]}"


def _number(value: float) -> str:
    if not np.isfinite(value):
        return "no value"
    return f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"
