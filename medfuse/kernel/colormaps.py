"""Colour maps, and reading values back from the chroma of a picture.

Every plane lies in [0, 1]; Cb and Cr are centred at 0.5. Colour channels are axis 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Final

import torch
from torch import Tensor

from medfuse.kernel.color import (
    clip_gamut,
    fit_gamut,
    luminance_band,
    rgb_to_ycbcr,
    ycbcr_to_rgb,
)
from medfuse.kernel.two_way import map_colours
from medfuse.kernel.two_way_maps import MAPS

ROUNDING = 0.5 / 255 * 2**0.5  # largest chroma error of rounding R, G and B to 8 bits


TOP_LUMINANCE = 0.55  # of a readable map; brighter, guides would take its brightness for anatomy


def apply_colormap(values: Tensor, name: str) -> Tensor:
    """Colour a scalar image by linear interpolation in a 256-entry table.

    Parameters
    ----------
    values : (N, 1, ...) float in [0, 1]
        Clamped to [0, 1].
    name : str
        A key of :data:`COLORMAPS`.

    Returns
    -------
    (N, 3, ...) float in [0, 1]

    Raises
    ------
    ValueError
        If the name is unknown or axis 1 does not hold one channel.
    """
    if values.ndim < 3 or values.shape[1] != 1:
        raise ValueError(f"expected (N, 1, ...), got {tuple(values.shape)}")
    table = _table(name, values)
    position = values[:, 0].clamp(0, 1) * (len(table) - 1)
    low = position.floor().clamp_max(len(table) - 2)
    fraction = (position - low).unsqueeze(1)
    index = low.long()
    planes = [torch.stack([channel[index], channel[index + 1]]) for channel in table.T]
    lower = torch.stack([p[0] for p in planes], dim=1)
    upper = torch.stack([p[1] for p in planes], dim=1)
    return torch.lerp(lower, upper, fraction.expand_as(lower))


def read_back(rgb: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Read the coloured value back from a picture, by chroma alone.

    The nearest point on the chroma path of the colour map is taken, whatever the luminance.

    Parameters
    ----------
    rgb : (N, 3, ...) float in [0, 1]
        Also a picture that went through 8 bits a channel.
    name : str
        The colour map with which it was made.

    Returns
    -------
    value : (N, 1, ...) float in [0, 1]
        Position in the window.
    uncertainty : (N, 1, ...) float in [0, 1]
        Half the range of values whose chroma lies within one 8-bit rounding step of the pixel's;
        large where the map passes the same chroma twice.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    table = rgb_to_ycbcr(_table(name, rgb).T[None])[0, 1:].T.contiguous()
    pixels = rgb_to_ycbcr(rgb)[:, 1:].movedim(1, -1)
    flat = pixels.reshape(-1, 2)
    found = [_nearest_on_path(part, table) for part in flat.split(1 << 15)]
    shape = (*pixels.shape[:-1], 1)
    value, spread = (torch.cat([f[k] for f in found]).view(shape).movedim(-1, 1) for k in (0, 1))
    return value, spread


@dataclass(frozen=True)
class Readability:
    """What a colour map keeps of the value when luminance belongs to the anatomy.

    Errors are shares of the window; ``band`` is the narrowest range of luminance, of 1, in which
    a colour of the map exists: what the anatomy can still show there.
    """

    median: float
    p95: float
    worst: float
    band: float


@cache
def measure_readability(name: str, *, gamut: str = "fit") -> Readability:
    """Colour all values at all luminances, round to 8 bits and read back.

    Parameters
    ----------
    name : str
        A key of :data:`COLORMAPS`.
    gamut : {"fit", "clip"}
        As of ``medfuse.fuse``.

    Returns
    -------
    Readability
        Over 201 values times 21 luminances, evenly from 0 to 1.
    """
    values = torch.linspace(0, 1, 201).view(1, 1, -1, 1).expand(1, 1, 201, 21)
    luminance = torch.linspace(0, 1, 21).expand_as(values)
    cbcr = rgb_to_ycbcr(apply_colormap(values, name))[:, 1:]
    if gamut == "fit":
        rgb, _ = fit_gamut(luminance, cbcr)
    else:
        rgb, _ = clip_gamut(ycbcr_to_rgb(torch.cat([luminance, cbcr], dim=1)))
    error = (read_back((rgb * 255).round() / 255, name)[0] - values).abs()
    low, high = luminance_band(cbcr)
    return Readability(
        median=float(error.median()),
        p95=float(error.quantile(0.95)),
        worst=float(error.max()),
        band=max(0.0, float((high - low).min())),
    )


def _nearest_on_path(points: Tensor, path: Tensor) -> tuple[Tensor, Tensor]:
    """Position of (M, 2) points along a (K, 2) path in [0, 1], and half its ambiguous range."""
    last = len(path) - 1
    distance = torch.cdist(points, path, compute_mode="donot_use_mm_for_euclid_dist")
    closest, index = distance.min(dim=1)
    best, value = torch.full_like(closest, torch.inf), torch.zeros_like(closest)
    for start in (index - 1, index):  # the two segments that meet in the nearest vertex
        start = start.clamp(0, last - 1)
        step = path[start + 1] - path[start]
        along = ((points - path[start]) * step).sum(1) / step.square().sum(1).clamp_min(1e-12)
        along = along.clamp(0, 1)
        gap = (path[start] + along[:, None] * step - points).norm(dim=1)
        better = gap < best
        value = torch.where(better, (start + along) / last, value)
        best = torch.where(better, gap, best)
    near = distance <= (closest + ROUNDING)[:, None]
    position = torch.linspace(0, 1, last + 1).to(points)
    top = torch.where(near, position, -1).amax(1)
    bottom = torch.where(near, position, 2).amin(1)
    return value, (top - bottom) / 2


def _piecewise(*points: tuple[float, float, float, float]) -> Tensor:
    """(256, 3) table through the (position, R, G, B) points, linear between them."""
    grid = torch.linspace(0, 1, 256, dtype=torch.float64)
    stops = torch.tensor(points, dtype=torch.float64)
    upper = torch.searchsorted(stops[:, 0].contiguous(), grid).clamp(1, len(stops) - 1)
    start, end = stops[upper - 1], stops[upper]
    part = (grid - start[:, 0]) / (end[:, 0] - start[:, 0])
    return torch.lerp(start[:, 1:], end[:, 1:], part[:, None]).float()


def _of_matplotlib(name: str) -> Tensor:
    from matplotlib import colormaps

    return torch.tensor(colormaps[name].resampled(256)(range(256))[:, :3], dtype=torch.float32)


def _table(name: str, like: Tensor) -> Tensor:
    if name not in COLORMAPS:
        raise ValueError(f"unknown color map {name!r}; choose one of {', '.join(COLORMAPS)}")
    return COLORMAPS[name].to(like)


def _readable(*stops: tuple[float, tuple[float, float, float]]) -> Tensor:
    """(256, 3) table whose chroma alone tells the value.

    The path starts at grey, runs straight to the first stop and then from stop to stop. A stop is
    a full hue (one channel 1, one channel 0) scaled by a saturation s, so that
    max(o) - min(o) = s and its colour exists in a luminance band of 1 - s (:func:`luminance_band`).
    Within a sixth of the colour circle s is linear along the path, so the band nowhere falls below
    that of the stops. Among paths of equal s that never turn back in hue, the edge of the hexagon
    of these hues is the longest; equal steps along it make every step equally easy to read.
    """
    corners = torch.tensor([(0.5, 0.5, 0.5), *(hue for _, hue in stops)], dtype=torch.float64)
    corners = rgb_to_ycbcr(corners.T[None])[0, 1:].T
    scale = torch.tensor([1.0, *(saturation for saturation, _ in stops)], dtype=torch.float64)
    path = 0.5 + (corners - 0.5) * scale[:, None]
    length = torch.cat([torch.zeros(1), (path[1:] - path[:-1]).norm(dim=1).cumsum(0)]).double()
    position = length / length[-1]
    grid = torch.linspace(0, 1, 256, dtype=torch.float64)
    upper = torch.searchsorted(position, grid).clamp(1, len(position) - 1)
    part = (grid - position[upper - 1]) / (position[upper] - position[upper - 1])
    cbcr = torch.lerp(path[upper - 1], path[upper], part[:, None]).T[None]
    rgb, _ = fit_gamut((TOP_LUMINANCE * grid)[None, None], cbcr)
    return rgb[0].T.float()


_RED, _ORANGE, _GOLD = (1.0, 0.0, 0.0), (1.0, 0.5, 0.0), (1.0, 0.8, 0.0)


_VIOLET, _MAGENTA, _ROSE = (0.5, 0.0, 1.0), (1.0, 0.0, 1.0), (1.0, 0.0, 0.5)


# The hottest end is the most saturated: gold at little light would be olive, and hot must glow.
_HEAT = ((0.5, _RED), (0.6, _ORANGE), (0.7, _GOLD))


# Customary maps. Hot iron: DICOM PS3.6 annex B.1.1; rainbow, viridis and inferno: matplotlib.
_MAKERS: Final[dict[str, Callable[[], Tensor]]] = {
    "ember": lambda: _readable(*_HEAT),
    "dusk": lambda: _readable((0.5, _VIOLET), (0.5, _MAGENTA), (0.5, _ROSE), *_HEAT),
    "amber": lambda: _readable((0.7, _GOLD)),
    "hot": lambda: _piecewise((0, 0, 0, 0), (0.375, 1, 0, 0), (0.75, 1, 1, 0), (1, 1, 1, 1)),
    "hot-iron": lambda: _piecewise((0, 0, 0, 0), (0.5, 1, 0, 0), (0.75, 1, 0.5, 0), (1, 1, 1, 1)),
    "hot-metal": lambda: _piecewise(
        (0, 0, 0, 0), (0.5, 0.7, 0, 0), (0.7, 0.98, 0.55, 0), (0.75, 1, 0.69, 0),
        (0.86, 1, 1, 0.44), (1, 1, 1, 1),
    ),
    "rainbow": lambda: _of_matplotlib("nipy_spectral"),
    "viridis": lambda: _of_matplotlib("viridis"),
    "inferno": lambda: _of_matplotlib("inferno"),
    "gray": lambda: _piecewise((0, 0, 0, 0), (1, 1, 1, 1)),
    **{name: partial(map_colours, name) for name in MAPS},
}  # fmt: skip


READABLE: Final = ("ember", "dusk", "amber", "glow", "glow-safe")  # by chroma alone, within 1 %


@cache
def _make(name: str) -> Tensor:
    return _MAKERS[name]()


class _Tables(Mapping[str, Tensor]):
    """(256, 3) tables by name, made when first asked for: matplotlib takes a while to import."""

    def __getitem__(self, name: str) -> Tensor:
        return _make(name)

    def __iter__(self) -> Iterator[str]:
        return iter(_MAKERS)

    def __len__(self) -> int:
        return len(_MAKERS)


COLORMAPS: Final[Mapping[str, Tensor]] = _Tables()
