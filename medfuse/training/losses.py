"""What training asks of a fused luminance: brightness, edges and structure of both sources.

All images are luminance in [-1, 1]; every term is a scalar that is 0 at best.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor
from torch.nn import functional

from medfuse.methods.objective import Losses, sobel

# Range of the images is 2, so these are (0.01 * 2)^2 and (0.03 * 2)^2 (Wang et al. 2004).
_C1, _C2 = 0.02**2, 0.06**2
_SIGMA = 1.5
_TINY = 1e-2  # squared gradient; steps of 8-bit images are 1 or more
_BLOCK = 16


class LossWeights(BaseModel):
    """Weights of the terms; the sum is scaled by 0.1 as published.

    The defaults are the published code's weights; terms that it does not have are 0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    maximum: float = 10.0
    consistency: float = 2.0
    consistency_b: float = 2.0  # weight of B inside the consistency term
    gradient: float = 40.0
    ssim_a: float = 1.0
    ssim_b: float = 1.0
    uptake: float = 0.0
    fidelity_a: float = 0.0
    fidelity_b: float = 0.0
    hold_a: float = 0.0
    hold: float = 0.2  # what hold_a asks of every image: this much of A's information, no more
    edges: float = 0.0
    window: int = 11  # taps of the SSIM Gaussian; 48 drops the borders as the published code does


def fusion_loss(a: Tensor, b: Tensor, fused: Tensor, weights: LossWeights) -> Losses:
    """Score a fused luminance against its sources.

    Parameters
    ----------
    a, b, fused : (N, 1, H, W) float in [-1, 1]
        Functional, anatomical and fused luminance.
    weights : LossWeights
        A term of weight 0 is not computed.

    References
    ----------
    HybridFusion (arXiv 2602.20851), loss as coded, on luminance alone: its colour term vanishes
    on Y and its KL term (1e-5) acts on an output that is never used.
    """
    parts: dict[str, Tensor] = {}
    if weights.maximum:
        parts["maximum"] = maximum_loss(a, b, fused)
    if weights.consistency:
        parts["consistency"] = consistency_loss(a, b, fused, b_weight=weights.consistency_b)
    if weights.gradient:
        parts["gradient"] = gradient_loss(a, b, fused)
    if weights.uptake:
        parts["uptake"] = uptake_loss(a, fused)
    if weights.ssim_a or weights.ssim_b:
        parts["ssim_a"], parts["ssim_b"] = ssim_losses(a, b, fused, window=weights.window)
    if weights.edges:
        parts["edges"] = edge_loss(a, b, fused)
    if weights.fidelity_a or weights.fidelity_b or weights.hold_a:
        lost_a, lost_b = fidelity_losses(a, b, fused)
        parts["fidelity_a"], parts["fidelity_b"] = lost_a.mean(), lost_b.mean()
        if weights.hold_a:
            parts["hold_a"] = (lost_a - (1 - weights.hold)).clamp_min(0).mean()
    total = torch.stack([getattr(weights, name) * part for name, part in parts.items()]).sum()
    return Losses(0.1 * total, {name: part.detach() for name, part in parts.items()})


def least_side(weights: LossWeights) -> int:
    """Pixels that a side of the images must have for a loss."""
    if weights.fidelity_a or weights.fidelity_b or weights.hold_a:
        return FIDELITY_SIDE
    return weights.window if weights.ssim_a or weights.ssim_b else 1


def maximum_loss(a: Tensor, b: Tensor, fused: Tensor) -> Tensor:
    """Mean distance to the brighter source."""
    return functional.l1_loss(fused, torch.maximum(a, b))


def consistency_loss(a: Tensor, b: Tensor, fused: Tensor, *, b_weight: float = 2.0) -> Tensor:
    """Mean distance to both sources; B counts ``b_weight`` times."""
    return (functional.l1_loss(fused, a) + b_weight * functional.l1_loss(fused, b)) / 2


def gradient_loss(a: Tensor, b: Tensor, fused: Tensor) -> Tensor:
    """Distance of the Sobel magnitudes to the stronger source's, summed over x and y."""
    with torch.no_grad():
        wanted = [torch.maximum(p.abs(), q.abs()) for p, q in zip(sobel(a), sobel(b), strict=True)]
    found = sobel(fused)
    return functional.l1_loss(found[0].abs(), wanted[0]) + functional.l1_loss(
        found[1].abs(), wanted[1]
    )


def edge_loss(a: Tensor, b: Tensor, fused: Tensor) -> Tensor:
    """1 - share of the sources' edges found in the fused image, in strength and direction.

    The edge transfer measure Qabf, with directions that wrap around, so that it has a gradient
    everywhere.

    References
    ----------
    Xydeas & Petrovic, Electronics Letters 36 (2000).
    """
    fused_x, fused_y = sobel(fused * 127.5)
    fused_g = (fused_x.square() + fused_y.square() + _TINY).sqrt()
    found, there = torch.zeros_like(fused_g), torch.zeros_like(fused_g)
    for source in (a, b):
        with torch.no_grad():
            x, y = sobel(source * 127.5)
            g = (x.square() + y.square() + _TINY).sqrt()
        strength = torch.minimum(g, fused_g) / torch.maximum(g, fused_g)
        cosine = (x * fused_x + y * fused_y).abs() / (g * fused_g)
        direction = 1 - cosine.clamp(0, 1 - 1e-6).acos() * (2 / torch.pi)
        kept = torch.sigmoid(15 * (strength - 0.5)) * torch.sigmoid(22 * (direction - 0.8))
        found, there = found + g * kept, there + g
    return 1 - (found.flatten(1).sum(1) / there.flatten(1).sum(1)).mean()


def uptake_loss(a: Tensor, fused: Tensor, *, block: int = 8) -> Tensor:
    """1 - Pearson correlation of A and the fused image, averaged over blocks, mean over images.

    Falls only if coarse bright and dark of the functional image can still be read in the result.
    An image without contrast counts 0.
    """
    x = functional.avg_pool2d(a, block).flatten(1)
    y = functional.avg_pool2d(fused, block).flatten(1)
    x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
    norm = (x.square().sum(1) * y.square().sum(1)).clamp_min(1e-6).sqrt()
    correlation = (x * y).sum(1) / norm
    return torch.where(x.square().sum(1) > 1e-3, 1 - correlation, torch.zeros_like(norm)).mean()


def ssim_losses(a: Tensor, b: Tensor, fused: Tensor, *, window: int = 11) -> tuple[Tensor, Tensor]:
    """1 - SSIM of the fused image with A and with B.

    Gaussian window of sigma 1.5, valid part only, K = (0.01, 0.03), range 2.

    References
    ----------
    Wang et al., IEEE Trans. Image Process. 13 (2004), eq. 13.
    """
    m = _moments(torch.cat([a, b]), fused, window=window, sigma=_SIGMA)
    luminance = (2 * m.mean * m.mean_fused + _C1) / (m.mean**2 + m.mean_fused**2 + _C1)
    structure = (2 * m.covariance + _C2) / (m.source + m.fused + _C2)
    loss_a, loss_b = (1 - luminance * structure).chunk(2)
    return loss_a.mean(), loss_b.mean()


#: Of a smaller image nothing is left at the last of its four scales.
FIDELITY_SIDE = 41


def fidelity_losses(a: Tensor, b: Tensor, fused: Tensor) -> tuple[Tensor, Tensor]:
    """1 - visual information fidelity of A and of B in the fused image, (N,) each.

    Pixel-domain VIF at four scales, noise variance 2 on the range 0..255. Each image is num/den,
    so that in a mean a dark image counts as much as a bright one.

    References
    ----------
    Sheikh & Bovik, IEEE Trans. Image Process. 15 (2006), pixel-domain form.
    """
    sources, fused = torch.cat([a, b]) * 127.5, fused * 127.5
    kept, there = fused.new_zeros(len(sources)), fused.new_zeros(len(sources))
    for scale in range(4):
        taps = 2 ** (4 - scale) + 1
        if scale:
            sources, fused = (
                gaussian_filter(x, window=taps, sigma=taps / 5)[..., ::2, ::2]
                for x in (sources, fused)
            )
        moments = _moments(sources, fused, window=taps, sigma=taps / 5)
        gain = (moments.covariance / (moments.source + 1e-2)).clamp_min(0)
        noise = (moments.fused - gain * moments.covariance).clamp_min(0)
        kept = kept + torch.log1p(gain * gain * moments.source / (noise + 2)).flatten(1).sum(1)
        there = there + torch.log1p(moments.source / 2).flatten(1).sum(1)
    lost_a, lost_b = (1 - (kept + 1e-3) / (there + 1e-3)).chunk(2)
    return lost_a, lost_b


@dataclass(frozen=True)
class _Moments:
    """Local means, variances and covariance of A and B (stacked, 2N) with the fused image."""

    mean: Tensor
    mean_fused: Tensor
    source: Tensor
    fused: Tensor
    covariance: Tensor


def _moments(sources: Tensor, fused: Tensor, *, window: int, sigma: float) -> _Moments:
    n = len(fused)
    with torch.no_grad():
        fixed = gaussian_filter(torch.cat([sources, sources * sources]), window=window, sigma=sigma)
    crossed = sources * torch.cat([fused, fused])
    moving = gaussian_filter(torch.cat([fused, fused * fused, crossed]), window=window, sigma=sigma)
    mean, square = fixed.chunk(2)
    mean_fused, square_fused = moving[:n], moving[n : 2 * n]
    variance_fused = (square_fused - mean_fused * mean_fused).clamp_min(0)
    twice = torch.cat([mean_fused, mean_fused])
    return _Moments(
        mean=mean,
        mean_fused=twice,
        source=(square - mean * mean).clamp_min(0),
        fused=torch.cat([variance_fused, variance_fused]),
        covariance=moving[2 * n :] - mean * twice,
    )


def gaussian_filter(x: Tensor, *, window: int = 11, sigma: float = _SIGMA) -> Tensor:
    """Separable Gaussian, valid part: (N, 1, H, W) -> (N, 1, H - window + 1, W - window + 1).

    Raises
    ------
    ValueError
        If a side is shorter than the window.
    """
    if min(x.shape[-2:]) < window:
        raise ValueError(f"images must be at least {window} pixels wide, got {tuple(x.shape)}")
    rows = _Filter.apply(x, window, sigma)  # type: ignore[no-untyped-call]
    return _Filter.apply(rows.mT, window, sigma).mT  # type: ignore[no-untyped-call,no-any-return]


class _Filter(torch.autograd.Function):
    """Filter the last axis; the gradient of a symmetric filter is the filter itself."""

    @staticmethod
    def forward(ctx, x, window, sigma):  # type: ignore[no-untyped-def]
        ctx.window, ctx.sigma = window, sigma
        return _filter_rows(x, _band(window, sigma, flipped=False), window)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        border = ctx.window - 1
        band = _band(ctx.window, ctx.sigma, flipped=True)
        return _filter_rows(functional.pad(grad, (border, border)), band, ctx.window), None, None


def _filter_rows(x: Tensor, band: Tensor, window: int) -> Tensor:
    """Correlate the last axis of (N, 1, H, W) with the Gaussian, valid part.

    Convolutions of one channel are slow on a CPU. So each row is cut into blocks, the samples of
    a block become channels, and the filter a convolution of a few blocks with a banded weight.
    """
    n, _, height, width = x.shape
    weight = band.to(x)
    spare = (weight.shape[-1] - 1) * _BLOCK
    blocks = functional.pad(x[:, 0], (0, -width % _BLOCK + spare))
    blocks = blocks.view(n, height, -1, _BLOCK).permute(0, 3, 1, 2)  # this is channels-last
    out = functional.conv2d(blocks, weight).permute(0, 2, 3, 1).reshape(n, 1, height, -1)
    return out[..., : width - window + 1]


@lru_cache(maxsize=16)
def _band(window: int, sigma: float, *, flipped: bool) -> Tensor:
    """(block, block, 1, blocks) weight: output sample o of a block sees input samples o + tap."""
    # The published 48-tap window is centred at its index 24, so it is not quite symmetric.
    taps = np.exp(-0.5 * ((np.arange(window) - window // 2) / sigma) ** 2)
    taps = (taps[::-1] if flipped else taps) / taps.sum()
    count = -(-(_BLOCK + window - 1) // _BLOCK)
    out = np.zeros((_BLOCK, _BLOCK, 1, count))
    for sample in range(_BLOCK):
        position = sample + np.arange(window)
        out[sample, position % _BLOCK, 0, position // _BLOCK] = taps
    return torch.from_numpy(out)
