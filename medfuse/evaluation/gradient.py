"""Measures on edges: Qabf, Nabf, AG and SF."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from medfuse.evaluation.images import Picture, Profile

_HALF_PI = math.pi / 2


class EdgeTransfer:
    """Qabf: how much of the edge strength and orientation of each source the result has.

    Sobel without normalisation and with zero borders on 0..255; edge strength is the weight.

    Parameters
    ----------
    sources : (S, N, H, W) float in [0, 255]
    profile : {"reference", "paper"}
        ``paper`` keeps the published slip that equal edge strengths give the strength itself
        instead of the ratio 1.

    References
    ----------
    Xydeas & Petrovic 2000, Electronics Letters 36(4).
    """

    def __init__(self, sources: Tensor, *, profile: Profile) -> None:
        self._slip = profile == "paper"
        # Gray of the paper profile is not whole: in float32 the edges of flat areas would be
        # rounding noise, and noise has an angle.
        self._dtype = torch.float64 if self._slip else torch.float32
        self._strength, self._angle = _edges(sources.to(self._dtype))

    def __call__(self, fused: Tensor) -> tuple[Tensor, Tensor]:
        """Qabf (N,) and its per-source values (S, N) of ``fused`` (N, H, W)."""
        strength, angle = _edges(fused.to(self._dtype))
        low, high = torch.minimum(self._strength, strength), torch.maximum(self._strength, strength)
        ratio = low.div_(high.clamp_(min=1e-12))
        equal = self._strength == strength
        same = strength if self._slip else torch.ones_like(strength)
        ratio = torch.where(equal, same, ratio).float()
        turn = (self._angle - angle).abs_().div_(_HALF_PI).neg_().add_(1)
        # One division: exp(-15 (G - 0.5)) and exp(-22 (A - 0.8)) cannot both overflow float32.
        quality = (1 + torch.exp(-15 * (ratio - 0.5))).mul_(1 + torch.exp(-22 * (turn - 0.8)))
        quality = quality.reciprocal_().mul_(0.9994 * 0.9879).mul_(self._strength)
        kept, weight = _total(quality), _total(self._strength)
        whole = kept.sum(dim=0) / weight.sum(dim=0).clamp_min(1e-12)
        return whole, kept / weight


def _edges(x: Tensor) -> tuple[Tensor, Tensor]:
    """Edge strength and angle (float32) in (-pi/2, pi/2], of the shape of ``x``."""
    sx, sy = _sobel(pad(x, (1, 1, 1, 1)))
    angle = torch.atan((sy / sx).float()).masked_fill_(sx == 0, _HALF_PI)
    return torch.sqrt(sx * sx + sy * sy), angle


def _sobel(x: Tensor) -> tuple[Tensor, Tensor]:
    """Differences along columns and along rows of a picture padded by one pixel."""
    rows = x[..., :-2, :] + 2 * x[..., 1:-1, :] + x[..., 2:, :]
    columns = x[..., :-2] + 2 * x[..., 1:-1] + x[..., 2:]
    return rows[..., 2:] - rows[..., :-2], columns[..., 2:, :] - columns[..., :-2, :]


class Artifacts:
    """Nabf: edges of the result that no source has. Lower is better.

    Parameters
    ----------
    sources : (S, N, H, W) float in [0, 255]
    profile : {"reference", "paper"}
        Weight of edges weaker than 2: 0.001 in ``reference`` (as its authors), 0 in ``paper``.

    References
    ----------
    Petrovic & Xydeas 2005, ICCV; Shreyamsha Kumar 2013, Signal Image Video Process. 7.
    """

    def __init__(self, sources: Tensor, *, profile: Profile) -> None:
        # "Stronger than both sources" must not be decided by rounding. For whole gray levels
        # float32 is exact; gray of the paper profile is not whole.
        self._dtype = torch.float32 if profile == "reference" else torch.float64
        sx, sy = _mirrored_sobel(sources.to(self._dtype))
        self._power, self._angle = sx * sx + sy * sy, _angle(sx, sy)
        least = 0.001 if profile == "reference" else 0.0
        self._weight = torch.where(self._power >= 4, self._power**0.75, least)
        self._total = _total(self._weight.sum(dim=0))

    def __call__(self, fused: Tensor) -> Tensor:
        """Nabf, (N,), of ``fused`` (N, H, W)."""
        sx, sy = _mirrored_sobel(fused.to(self._dtype))
        power = sx * sx + sy * sy
        new = (power > self._power).all(dim=0)
        image = new.nonzero()[:, 0]  # of the few pixels of all images where an edge is new
        ratio = torch.sqrt(self._power[:, new] / power[new])
        turn = ((self._angle[:, new] - _angle(sx[new], sy[new])).abs() - _HALF_PI).abs() / _HALF_PI
        quality_strength = 0.9999 / (1 + torch.exp(-19 * (ratio - 0.5)))
        quality_angle = 0.9995 / (1 + torch.exp(-22 * (turn - 0.5)))
        lost = (1 - torch.sqrt(quality_strength * quality_angle)) * self._weight[:, new]
        total = fused.new_zeros(len(fused), dtype=torch.float64).index_add_(
            0, image, lost.sum(dim=0, dtype=torch.float64)
        )
        return total / self._total


def _mirrored_sobel(x: Tensor) -> tuple[Tensor, Tensor]:
    return _sobel(pad(x, (1, 1, 1, 1), mode="reflect") / 8)


def _angle(sx: Tensor, sy: Tensor) -> Tensor:
    return torch.atan((sx / sy).float()).nan_to_num_(nan=0.0)


def average_gradient(gray: Tensor) -> Tensor:
    """AG of (N, H, W) in [0, 255], (N,): root mean square of central differences, summed."""
    slope = torch.sqrt((_central(gray, -2).square_() + _central(gray, -1).square_()) / 2)
    return _total(slope) / ((gray.shape[-2] - 1) * (gray.shape[-1] - 1))


def _central(x: Tensor, dim: int) -> Tensor:
    """Central differences along one axis, one-sided at its ends."""
    last = x.shape[dim] - 1
    inner = (x.narrow(dim, 2, last - 1) - x.narrow(dim, 0, last - 1)).div_(2)
    ends = [x.narrow(dim, i + 1, 1) - x.narrow(dim, i, 1) for i in (0, last - 1)]
    return torch.cat([ends[0], inner, ends[1]], dim=dim)


def spatial_frequency(picture: Picture, profile: Profile) -> Tensor:
    """SF, (N,): root of the summed mean squared differences along rows and columns.

    ``paper`` wraps differences and squares modulo 256 over all channels, as published: such
    values are at most 22.6 and mean nothing.
    """
    if profile == "reference":
        x = picture.gray[:, None]
        squares = [x.diff(dim=d).square().mean(dim=(1, 2, 3), dtype=torch.float64) for d in (2, 3)]
    else:
        x = picture.channels.to(torch.uint8)  # wraps by itself
        steps = [x[:, :, 1:] - x[:, :, :-1], x[..., 1:] - x[..., :-1]]
        squares = [(d * d).double().mean(dim=(1, 2, 3)) for d in steps]
    return torch.sqrt(squares[0] + squares[1])


def _total(x: Tensor) -> Tensor:
    return x.sum(dim=(-2, -1), dtype=torch.float64)
