"""Train a band guide to keep both sources: the objective is what the tables of the guide measure.

All images are luminance in [0, 1]; every term is a scalar that is 0 at best.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from medfuse.kernel.blend import blend, overshoot
from medfuse.kernel.gaussian import high_pass
from medfuse.kernel.sources import DETAIL_SIGMA, SIGNAL_A, SIGNAL_B, WINDOW
from medfuse.methods.network import network_input
from medfuse.training.loop import Run, precision
from medfuse.training.losses import Losses, sobel
from medfuse.training.recipes import BandRecipe, SourceWeights

_COARSE = 8  # pixels a side, over which brightness is coarse
_TOLERANCE = 2.0 / 255  # beyond the range of both sources
_TINY = 1e-6  # squared gradient; a grey level is 1.5e-5
_COSINE, _TURN = 0.951, 43.0  # of 18 degrees, where Qabf halves, and the slope of its sigmoid there
# A contradiction is asked for more strictly than it is flagged.
_FEW_WINDOWS = 50  # a mean over fewer would make much of little
_FLAT, _APART, _FACTOR, _LEVELS = 20.0 / 255, 40.0 / 255, 1.3, 2.0 / 255


def source_loss(a: Tensor, b: Tensor, fused: Tensor, weights: SourceWeights) -> Losses:
    """Score a fused luminance by what it keeps of both sources.

    Parameters
    ----------
    a, b, fused : (N, 1, H, W) float in [0, 1]
        Functional, anatomical and fused luminance.
    weights : SourceWeights
        A term of weight 0 is not computed.
    """
    parts: dict[str, Tensor] = {}
    if weights.gradient:
        parts["gradient"] = stronger_gradient_loss(a, b, fused)
    if weights.edges:
        parts["edges"] = lost_edges(a, b, fused)
    if weights.detail or weights.weaker:
        lost_a, lost_b = lost_detail(a, b, fused, weights)
        parts["detail"] = (lost_a + lost_b).mean()
        parts["weaker"] = torch.maximum(lost_a, lost_b).mean()
    if weights.base:
        parts["base"] = base_loss(a, b, fused, weights.base_step, weights.base_bias)
    if weights.order:
        parts["order"] = order_loss(a, fused, weights.keep_order)
    if weights.beyond:
        parts["beyond"] = beyond_loss(a, b, fused)
    if weights.own:
        parts["own"] = own_structure_loss(a, b, fused)
    total = torch.stack([getattr(weights, name) * part for name, part in parts.items()]).sum()
    return Losses(total, {name: part.detach() for name, part in parts.items()})


def stronger_gradient_loss(a: Tensor, b: Tensor, fused: Tensor) -> Tensor:
    """Distance of the differences of neighbours to those of the stronger source, signs kept."""
    total = fused.new_zeros(())
    for axis in (2, 3):
        of_a, of_b = a.diff(dim=axis), b.diff(dim=axis)
        wanted = torch.where(of_a.abs() > of_b.abs(), of_a, of_b)
        total = total + (fused.diff(dim=axis) - wanted).abs().mean()
    return total


def lost_edges(a: Tensor, b: Tensor, fused: Tensor) -> Tensor:
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
    for source in (a, b):
        with torch.no_grad():
            x, y = sobel(source)
            square = x.square() + y.square() + _TINY
            weight = square.sqrt()
        scale = (square * fused_square).rsqrt()
        strength = torch.minimum(square, fused_square) * scale  # the weaker by the stronger
        cosine = (x * fused_x + y * fused_y).abs() * scale
        kept = (15 * (strength - 0.5)).sigmoid() * (_TURN * (cosine - _COSINE)).sigmoid()
        found, there = found + (weight * kept).sum(), there + weight.sum()
    return 1 - found / there


def detail_coefficients(
    a: Tensor, b: Tensor, fused: Tensor, *, fewest: int
) -> tuple[Tensor, Tensor, Tensor]:
    """*Detail kept* of each image, as in :func:`medfuse.kernel.sources.detail_kept`.

    Returns
    -------
    kept_a, kept_b : (N,) float
    judged : (N,) bool
        Whether ``fewest`` places or more have signal of both.
    """
    with torch.no_grad():
        places = ((a > SIGNAL_A / 255) & (b > SIGNAL_B / 255)).to(a.dtype)
        high_a, high_b = (high_pass(x, DETAIL_SIGMA) * places for x in (a, b))
        aa, bb, ab = _products(high_a, high_a), _products(high_b, high_b), _products(high_a, high_b)
        determinant = aa * bb - ab * ab
        judged = (places.flatten(1).sum(1) >= fewest) & (determinant > 1e-2 * aa * bb)
        determinant = torch.where(judged, determinant, torch.ones_like(determinant))
    high_f = high_pass(fused, DETAIL_SIGMA)
    fa, fb = _products(high_f, high_a), _products(high_f, high_b)
    return (fa * bb - fb * ab) / determinant, (fb * aa - fa * ab) / determinant, judged


def _products(x: Tensor, y: Tensor) -> Tensor:
    return (x * y).flatten(1).sum(1)


def lost_detail(
    a: Tensor, b: Tensor, fused: Tensor, weights: SourceWeights
) -> tuple[Tensor, Tensor]:
    """By how much each source falls short of the detail to be kept, (N,) each; 0 if not judged."""
    kept_a, kept_b, judged = detail_coefficients(a, b, fused, fewest=weights.fewest)
    return (
        (weights.keep_a - kept_a).clamp_min(0) * judged,
        (weights.keep_b - kept_b).clamp_min(0) * judged,
    )


def base_loss(a: Tensor, b: Tensor, fused: Tensor, step: float, bias: float) -> Tensor:
    """Distance of the coarse brightness to that of a soft step to the brighter source.

    ``step`` is the logit where B is brighter by the whole range; a positive ``bias`` prefers A by
    that much brightness.
    """
    with torch.no_grad():
        coarse_a, coarse_b = functional.avg_pool2d(a, _COARSE), functional.avg_pool2d(b, _COARSE)
        wanted = torch.lerp(coarse_a, coarse_b, torch.sigmoid(step * (coarse_b - coarse_a - bias)))
    return (functional.avg_pool2d(fused, _COARSE) - wanted).abs().mean()


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


def beyond_loss(a: Tensor, b: Tensor, fused: Tensor) -> Tensor:
    """Mean excess over the range of both sources in the 3 x 3 neighbourhood."""
    return (overshoot(fused, a, b).abs() - _TOLERANCE).clamp_min(0).mean()


def own_structure_loss(a: Tensor, b: Tensor, fused: Tensor) -> Tensor:
    """What a picture varies by between two flat sources that disagree; see ``contradiction``."""
    with torch.no_grad():
        (mean_a, std_a), (mean_b, std_b) = _box(a), _box(b)
        flat = torch.maximum(std_a, std_b)
        apart = (flat < _FLAT) & ((mean_a - mean_b).abs() > _APART)
    if not apart.any():
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


class BandRun(Run):
    """A run whose network answers with a map a band, and whose recipe says what is to be kept."""

    def judge(self, net: nn.Module, a: Tensor, b: Tensor) -> tuple[float, tuple[Tensor, ...]]:
        fused = self._blend(net, a, b)
        recipe = cast(BandRecipe, self.recipe)
        return float(source_loss(a, b, fused, recipe.sources).total), (a, b, fused)

    def objectives(self, a: Tensor, b: Tensor) -> Iterator[Losses]:
        recipe = cast(BandRecipe, self.recipe)
        yield source_loss(a, b, self._blend(self.state.net, a, b), recipe.sources)

    def _blend(self, net: nn.Module, a: Tensor, b: Tensor) -> Tensor:
        training = precision(self.recipe, self.device) if net.training else nullcontext()
        with training:
            maps = net(network_input(a, b))
        return blend(a, b, maps, levels=self.recipe.levels, kernel=self.recipe.kernel)
