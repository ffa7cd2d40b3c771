"""Pictures that can be taken apart again: uptake in the chroma, anatomy in a band of brightness.

A two-way map says for every uptake p how dark and how bright its colour may be. The picture is

    RGB = dark(p) + width(p) * anatomy * (1, 1, 1),

so that the anatomy moves along grey, which changes no chroma: chroma alone tells p, then brightness
tells the anatomy. Nothing is clamped, and both come back from 8 bits a channel (docs/colour.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from medfuse.kernel.two_way_maps import MAPS, Stop

STEPS = 4096  # entries of the table with which a picture is painted; finer than 8 bits tell
_BT601 = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class TwoWayTable:
    """A map at one *emphasis*, linear between its stops.

    Attributes
    ----------
    uptake : (K,) float64, rising from 0 to 1
    dark : (K, 3) float64
        RGB where the anatomy is black.
    width : (K,) float64
        What the anatomy adds to each channel where it is white; ``dark + width`` is in [0, 1].
    """

    uptake: Tensor
    dark: Tensor
    width: Tensor


def two_way_table(name: str, *, bias: float = 0.0) -> TwoWayTable:
    """Make the table of a map at an *emphasis*.

    Toward the anatomical image (``bias`` > 0) colours fade by that part toward the plain anatomical
    image, which is left alone at 1; hues keep their meaning. Toward the functional image the
    anatomy's contrast shrinks by that part, about the brightness at which the map itself is drawn;
    at -1 the coloured functional image is left. Between them both images can be read.

    Parameters
    ----------
    name : str
        A key of ``medfuse.kernel.two_way_maps.MAPS``.
    bias : float in [-1, 1]

    Raises
    ------
    ValueError
        If the name is unknown or the bias out of its range.
    """
    if name not in MAPS:
        raise ValueError(f"unknown two-way map {name!r}; choose one of {', '.join(MAPS)}")
    if not -1 <= bias <= 1:
        raise ValueError(f"bias must lie in [-1, 1], got {bias:g}")
    stops = MAPS[name].stops
    uptake = torch.tensor([stop.uptake for stop in stops], dtype=torch.float64)
    dark = torch.tensor([_dark(stop) for stop in stops], dtype=torch.float64)
    width = torch.tensor([stop.high - stop.low for stop in stops], dtype=torch.float64)
    if bias > 0:
        return TwoWayTable(uptake, (1 - bias) * dark, (1 - bias) * width + bias)
    still = -bias * width * uptake  # of the band, what no longer belongs to the anatomy
    return TwoWayTable(uptake, dark + still[:, None], (1 + bias) * width)


def map_colours(name: str) -> Tensor:
    """The map as it is drawn alone, without an anatomical image.

    Returns
    -------
    (256, 3) float32
        RGB by uptake; that of a picture with bias -1.
    """
    grid = torch.linspace(0, 1, 256).view(1, 1, -1)
    return paint_two_way(grid, torch.zeros_like(grid), name, bias=-1.0)[0][0].T.contiguous()


def paint_two_way(
    uptake: Tensor, anatomy: Tensor, name: str, *, bias: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Paint a picture from which both images can be read.

    Parameters
    ----------
    uptake : (N, 1, ...) float
        In its window; clamped to [0, 1].
    anatomy : (N, 1, ...) float
        The luminance to show, clamped to [0, 1].
    name, bias
        As of :func:`two_way_table`.

    Returns
    -------
    rgb : (N, 3, ...) float in [0, 1]
    changed : (N, 1, ...) float >= 0
        By how much the luminance had to be clamped, 0 for one within [0, 1].
    """
    dark, width = _painting(name, bias)
    index = uptake[:, 0].clamp(0, 1).mul_(STEPS - 1).add_(0.5).to(torch.int32).reshape(-1)
    shown = anatomy.clamp(0, 1)
    changed = (shown - anatomy).abs_()
    grey = looked_up(width, index, shown[:, 0]).mul_(shown[:, 0])
    rgb = torch.empty((len(shown), 3, *shown.shape[2:]), dtype=shown.dtype, device=shown.device)
    for channel in range(3):
        torch.add(looked_up(dark[channel], index, grey), grey, out=rgb[:, channel])
    return rgb, changed


@lru_cache(maxsize=8)
def _painting(name: str, bias: float) -> tuple[Tensor, Tensor]:
    """(3, STEPS) dark and (STEPS,) width, float32."""
    table = two_way_table(name, bias=bias)
    grid = torch.linspace(0, 1, STEPS, dtype=torch.float64)
    upper = torch.searchsorted(table.uptake, grid).clamp(1, len(table.uptake) - 1)
    start, end = table.uptake[upper - 1], table.uptake[upper]
    part = (grid - start) / (end - start)
    dark = torch.lerp(table.dark[upper - 1], table.dark[upper], part[:, None])
    width = torch.lerp(table.width[upper - 1], table.width[upper], part)
    return dark.T.float().contiguous(), width.float()


def _dark(stop: Stop) -> list[float]:
    """RGB of the stop's chroma at its lowest luminance."""
    luma = sum(weight * part for weight, part in zip(_BT601, stop.hue, strict=True))
    return [stop.low + stop.saturation * (part - luma) for part in stop.hue]


def looked_up(table: Tensor, index: Tensor, like: Tensor) -> Tensor:
    """Entries of (K,) for a flat index, in the shape and on the device of ``like``."""
    return table.to(like.device).index_select(0, index).view(like.shape)
