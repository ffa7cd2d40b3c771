"""What a picture that keeps both sources is asked for: the objective of band guides and of fits.

All images are luminance in [0, 1]; every term is a scalar that is 0 at best.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

from medfuse.kernel.blend import local_bounds
from medfuse.kernel.explained import fit_sources
from medfuse.kernel.gaussian import high_pass
from medfuse.kernel.sources import DETAIL_SIGMA, SIGNAL_A, SIGNAL_B, WINDOW

_COARSE = 8  # pixels a side, over which brightness is coarse
_TOLERANCE = 2.0 / 255  # beyond the range of both sources
_TINY = 1e-6  # squared gradient; a grey level is 1.5e-5
_COSINE, _TURN = 0.951, 43.0  # of 18 degrees, where Qabf halves, and the slope of its sigmoid there
_TOP, _DARKER = 0.94, 0.06  # of A, and what a reader hardly sees
_RISE = 0.2  # of A, from tissue whose brightness B tells to what belongs to A
_FEW_PIXELS = 500
# A contradiction is asked for more strictly than it is flagged.
_FEW_WINDOWS = 50  # a mean over fewer would make much of little
_FLAT, _APART, _FACTOR, _LEVELS = 20.0 / 255, 40.0 / 255, 1.3, 2.0 / 255


@dataclass(frozen=True)
class Losses:
    """The scalar to minimise and its unweighted parts."""

    total: Tensor
    parts: dict[str, Tensor]


class SourceWeights(BaseModel):
    """What a band guide is asked for, and how much each term counts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gradient: float = Field(default=20.0, description="the stronger difference, with its sign")
    edges: float = Field(default=2.0, description="edges of both: a smooth Qabf")
    detail: float = Field(default=0.6, description="detail kept of both")
    weaker: float = Field(default=0.9, description="detail kept of the weaker one")
    keep_a: float = Field(default=0.85, description="detail of A to be kept; no more is asked")
    keep_b: float = Field(default=0.85, description="the same of B")
    fewest: int = Field(default=800, description="pixels with signal of both that detail takes")
    base: float = Field(default=3.0, description="coarse brightness of the brighter source")
    base_step: float = Field(default=6.0, description="steepness of the change to the brighter")
    base_bias: float = Field(default=0.0, description="brightness by which A is preferred")
    order: float = Field(default=0.0, description="correlation of A and the picture")
    keep_order: float = Field(default=0.8, description="correlation to be kept")
    thick: float = Field(default=0.0, description="thick places at the top of A's range stay")
    thick_pixels: int = Field(default=7, description="how thick these are; odd")
    signal_to: float = Field(default=1.0, description="brightness of A up to which detail counts")
    beyond: float = Field(default=40.0, description="nothing beyond the range of both sources")
    own: float = Field(default=10.0, description="no structure between flat sources")
    tissue: float = Field(
        default=0.0, description="brightness of B, and of A where it is above signal_to"
    )
    explained: float = Field(default=0.0, description="nothing that neither source explains")


class SourcePair:
    """Two sources and what the terms need of them alone, computed once where it is asked for."""

    def __init__(self, a: Tensor, b: Tensor, wanted: SourceWeights) -> None:
        self.a, self.b, self.wanted = a, b, wanted

    @cached_property
    def stronger(self) -> list[Tensor]:
        """Differences of neighbours along rows and columns, of the source where they are larger."""
        both = [(self.a.diff(dim=axis), self.b.diff(dim=axis)) for axis in (2, 3)]
        return [torch.where(in_a.abs() > in_b.abs(), in_a, in_b) for in_a, in_b in both]

    @cached_property
    def edges(self) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Of each source: both derivatives, squared strength, strength."""
        found = []
        for source in (self.a, self.b):
            x, y = sobel(source)
            square = x.square() + y.square() + _TINY
            found.append((x, y, square, square.sqrt()))
        return found

    @cached_property
    def details(self) -> tuple[Tensor, ...]:
        """Fine parts of A and B where both have signal, their products, and how many places."""
        signal = (self.a > SIGNAL_A / 255) & (self.a <= self.wanted.signal_to)
        places = (signal & (self.b > SIGNAL_B / 255)).to(self.a.dtype)
        high_a, high_b = (high_pass(x, DETAIL_SIGMA) * places for x in (self.a, self.b))
        aa, bb, ab = _products(high_a, high_a), _products(high_b, high_b), _products(high_a, high_b)
        return high_a, high_b, aa, bb, ab, places.flatten(1).sum(1)

    @cached_property
    def coarse(self) -> tuple[Tensor, Tensor]:
        return functional.avg_pool2d(self.a, _COARSE), functional.avg_pool2d(self.b, _COARSE)

    @cached_property
    def tissue(self) -> Tensor:
        """B, and A where that is above ``signal_to``."""
        above = ((self.a - self.wanted.signal_to) / _RISE).clamp(0, 1)
        return torch.lerp(self.b, self.a, above)

    @cached_property
    def bounds(self) -> tuple[Tensor, Tensor]:
        return local_bounds(self.a, self.b)

    @cached_property
    def apart(self) -> tuple[Tensor, Tensor, bool]:
        """Where both are flat and disagree: how they vary, the places, whether there are any."""
        (mean_a, std_a), (mean_b, std_b) = _box(self.a), _box(self.b)
        flat = torch.maximum(std_a, std_b)
        apart = (flat < _FLAT) & ((mean_a - mean_b).abs() > _APART)
        return flat, apart, bool(apart.any())

    @cached_property
    def thick(self) -> Tensor:
        """1 inside thick places at the top of A's range."""
        at_top = (self.a > _TOP).to(self.a.dtype)
        size = self.wanted.thick_pixels
        return -functional.max_pool2d(-at_top, size, stride=1, padding=size // 2)


def source_loss(pair: SourcePair, fused: Tensor) -> Losses:
    """Score a fused luminance by what it keeps of both sources.

    Parameters
    ----------
    pair : SourcePair
        Functional and anatomical luminance, (N, 1, H, W) float in [0, 1].
        A term whose weight is 0 in ``pair.wanted`` is not computed.
    fused : (N, 1, H, W) float
    """
    weights = pair.wanted
    parts: dict[str, Tensor] = {}
    lost = lost_detail(pair, fused) if weights.detail or weights.weaker else None
    for name in _TERMS:
        if getattr(weights, name):
            parts[name] = _TERMS[name](pair, fused, lost)
    total = torch.stack([getattr(weights, name) * part for name, part in parts.items()]).sum()
    return Losses(total, {name: part.detach() for name, part in parts.items()})


#: By the names of their weights; the last argument is what :func:`lost_detail` found.
_TERMS: dict[str, Callable[[SourcePair, Tensor, Any], Tensor]] = {
    "gradient": lambda pair, fused, _: stronger_gradient_loss(pair, fused),
    "edges": lambda pair, fused, _: lost_edges(pair, fused),
    "detail": lambda pair, fused, lost: (lost[0] + lost[1]).mean(),
    "weaker": lambda pair, fused, lost: torch.maximum(*lost).mean(),
    "base": lambda pair, fused, _: base_loss(pair, fused),
    "order": lambda pair, fused, _: order_loss(pair.a, fused, pair.wanted.keep_order),
    "thick": lambda pair, fused, _: thick_loss(pair, fused),
    "beyond": lambda pair, fused, _: beyond_loss(pair, fused),
    "own": lambda pair, fused, _: own_structure_loss(pair, fused),
    "tissue": lambda pair, fused, _: tissue_loss(pair, fused),
    "explained": lambda pair, fused, _: unexplained_loss(pair, fused),
}


def stronger_gradient_loss(pair: SourcePair, fused: Tensor) -> Tensor:
    """Distance of the differences of neighbours to those of the stronger source, signs kept."""
    rows, columns = (
        (fused.diff(dim=axis) - wanted).abs().mean()
        for axis, wanted in zip((2, 3), pair.stronger, strict=True)
    )
    return rows + columns


def lost_edges(pair: SourcePair, fused: Tensor) -> Tensor:
    """1 - Qabf, smooth: the share of the sources' edges not found, in strength and direction.

    A cheaper relative of :func:`medfuse.training.losses.edge_loss`: directions are compared by
    their cosine, with the same middle and slope as the published sigmoid of the angle.

    References
    ----------
    Xydeas & Petrovic, Electronics Letters 36 (2000).
    """
    fused_x, fused_y = sobel(fused)
    fused_square = fused_x.square() + fused_y.square() + _TINY
    found, there = fused.new_zeros(()), fused.new_zeros(())
    for x, y, square, weight in pair.edges:
        scale = (square * fused_square).rsqrt()
        strength = torch.minimum(square, fused_square) * scale  # the weaker by the stronger
        cosine = (x * fused_x + y * fused_y).abs() * scale
        kept = (15 * (strength - 0.5)).sigmoid() * (_TURN * (cosine - _COSINE)).sigmoid()
        found, there = found + (weight * kept).sum(), there + weight.sum()
    return 1 - found / there


def detail_coefficients(
    pair: SourcePair, fused: Tensor, *, fewest: int
) -> tuple[Tensor, Tensor, Tensor]:
    """*Detail kept* of each image, as in :func:`medfuse.kernel.sources.detail_kept`.

    Returns
    -------
    kept_a, kept_b : (N,) float
    judged : (N,) bool
        Whether ``fewest`` places or more have signal of both.
    """
    high_a, high_b, aa, bb, ab, count = pair.details
    determinant = aa * bb - ab * ab
    judged = (count >= fewest) & (determinant > 1e-2 * aa * bb)
    determinant = torch.where(judged, determinant, torch.ones_like(determinant))
    high_f = high_pass(fused, DETAIL_SIGMA)
    fa, fb = _products(high_f, high_a), _products(high_f, high_b)
    return (fa * bb - fb * ab) / determinant, (fb * aa - fa * ab) / determinant, judged


def _products(x: Tensor, y: Tensor) -> Tensor:
    return (x * y).flatten(1).sum(1)


def lost_detail(pair: SourcePair, fused: Tensor) -> tuple[Tensor, Tensor]:
    """By how much each source falls short of the detail to be kept, (N,) each; 0 if not judged."""
    weights = pair.wanted
    kept_a, kept_b, judged = detail_coefficients(pair, fused, fewest=weights.fewest)
    return (
        (weights.keep_a - kept_a).clamp_min(0) * judged,
        (weights.keep_b - kept_b).clamp_min(0) * judged,
    )


def base_loss(pair: SourcePair, fused: Tensor) -> Tensor:
    """Distance of the coarse brightness to that of a soft step to the brighter source.

    ``base_step`` is the logit where B is brighter by the whole range; a positive ``base_bias``
    prefers A by that much brightness.
    """
    step, bias = pair.wanted.base_step, pair.wanted.base_bias
    coarse_a, coarse_b = pair.coarse
    wanted = torch.lerp(coarse_a, coarse_b, torch.sigmoid(step * (coarse_b - coarse_a - bias)))
    return (functional.avg_pool2d(fused, _COARSE) - wanted).abs().mean()


def tissue_loss(pair: SourcePair, fused: Tensor) -> Tensor:
    """Distance to the brightness of B, and of A above ``signal_to``.

    A sum of distances, not of squares: what A adds to B pays where it is strong, its noise never.
    """
    return (fused - pair.tissue).abs().mean()


def unexplained_loss(pair: SourcePair, fused: Tensor) -> Tensor:
    """What the audit calls invented: structure that no mixture of both explains in 8 x 8 pixels."""
    fit = fit_sources(fused, pair.a, pair.b)
    part = (fit.residual / fit.scale).clamp(max=1) * fit.filled
    return part.sum() / fit.filled.sum().clamp_min(1)


def thick_loss(pair: SourcePair, fused: Tensor) -> Tensor:
    """By how much the inside of thick places at the top of A's range (bone on CT) is darkened."""
    darker = (pair.a - fused - _DARKER).clamp_min(0) * pair.thick
    return darker.sum() / (pair.thick.sum() + _FEW_PIXELS)


def order_loss(a: Tensor, fused: Tensor, keep: float) -> Tensor:
    """By how much the correlation of A and the picture, where A has signal, falls short."""
    places = (a > 0.05).to(a.dtype)
    count = places.flatten(1).sum(1).clamp_min(1)

    def centred(x: Tensor) -> Tensor:
        mean = (x * places).flatten(1).sum(1) / count
        return ((x - mean.view(-1, 1, 1, 1)) * places).flatten(1)

    x, y = centred(a), centred(fused)
    norm = (x.square().sum(1) * y.square().sum(1)).clamp_min(1e-6).sqrt()
    short = (keep - (x * y).sum(1) / norm).clamp_min(0)
    return torch.where(x.square().sum(1) > 1e-2, short, torch.zeros_like(short)).mean()


def beyond_loss(pair: SourcePair, fused: Tensor) -> Tensor:
    """Mean excess over the range of both sources in the 3 x 3 neighbourhood."""
    low, high = pair.bounds
    excess = fused - torch.minimum(torch.maximum(fused, low), high)
    return (excess.abs() - _TOLERANCE).clamp_min(0).mean()


def own_structure_loss(pair: SourcePair, fused: Tensor) -> Tensor:
    """What a picture varies by between two flat sources that disagree; see ``contradiction``."""
    flat, apart, anywhere = pair.apart
    if not anywhere:
        return fused.new_zeros(())
    excess = (_box(fused)[1] - _FACTOR * flat - _LEVELS).clamp_min(0) * apart
    return excess.sum() / (apart.sum() + _FEW_WINDOWS)


def _box(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation in windows of 13 x 13, every third pixel."""
    mean, square = (
        functional.avg_pool2d(functional.avg_pool2d(y, (1, WINDOW), (1, 3)), (WINDOW, 1), (3, 1))
        for y in (x, x.square())
    )
    return mean, (square - mean.square()).clamp_min(1e-8).sqrt()


def sobel(x: Tensor) -> tuple[Tensor, Tensor]:
    """Unnormalised 3x3 Sobel derivatives along columns and rows, replicated borders."""
    x = functional.pad(x, (1, 1, 1, 1), mode="replicate")
    across = x[..., 2:] - x[..., :-2]
    down = x[..., 2:, :] - x[..., :-2, :]
    return (
        across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :],
        down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:],
    )
