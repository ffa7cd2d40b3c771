"""Three measures that fall when the signal of source A is lost; see docs/metrics.md.

Sums such as VIF_A + VIF_B reward a copy of one source. These do not.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from medfuse.kernel.metrics_images import smooth

POSITIVE = 0.05  # values of A above this are signal
HOTTEST = 0.05  # part of the positive pixels that is the hot spot
SURROUND = 8  # pixels around a lesion that it is compared with
# Ranks are of 16-bit steps, so that rounding noise does not part equal values. 8-bit gray levels
# lie in the middle of a step.
_STEPS = 65535


class Uptake:
    """What can be read back of source A from the luminance of a result.

    Parameters
    ----------
    a : (N, H, W) float in [0, 1]
        Luminance of A, or the scalar that was coloured.
    b : (N, H, W) float in [0, 1]
        Luminance of B.
    lesion : (N, H, W) bool, optional
        Where the lesion is; the hottest 5 % of the positive pixels if not given.
    """

    def __init__(self, a: Tensor, b: Tensor, *, lesion: Tensor | None = None) -> None:
        self._a, self._b = a, b
        self._positive = a > POSITIVE
        self._ranks = [
            _centred_ranks(x[mask]) for x, mask in zip(_steps(a), self._positive, strict=True)
        ]
        self._hot = _hottest(a, self._positive)
        self._lesion = self._hot if lesion is None else lesion
        self._surround = _dilate(self._lesion, SURROUND) & ~self._lesion

    def __call__(self, fused: Tensor) -> dict[str, Tensor]:
        """The three measures, (N,) each, of a luminance (N, H, W); NaN where undefined."""
        return {
            "uptake_correlation": self.correlation(fused),
            "hot_spot_share": self.hot_spot_share(fused),
            "lesion_contrast": self.lesion_contrast(fused),
        }

    def correlation(self, fused: Tensor) -> Tensor:
        """Spearman correlation of A and the result inside A's positive mask."""
        values = []
        for ranks, image, mask in zip(self._ranks, _steps(fused), self._positive, strict=True):
            other = _centred_ranks(image[mask])
            norm = torch.sqrt((ranks @ ranks) * (other @ other))
            values.append((ranks @ other) / norm)
        return torch.stack(values)

    def hot_spot_share(self, fused: Tensor) -> Tensor:
        """Least-squares weight ``s`` of ``F = s A + (1 - s) B`` in the hottest 5 %."""
        contrast = (self._a - self._b).double() * self._hot
        known = (fused - self._b).double()
        return _total(contrast * known) / _total(contrast * contrast)

    def lesion_contrast(self, fused: Tensor) -> Tensor:
        """Contrast of the lesion to its surround in the result, divided by that in A."""
        return self._step(fused) / self._step(self._a)

    def _step(self, x: Tensor) -> Tensor:
        return _masked_mean(x, self._lesion) - _masked_mean(x, self._surround)


def _hottest(a: Tensor, positive: Tensor) -> Tensor:
    """The hottest 5 % of the positive pixels; pixels as hot as the coolest of them too."""
    out = torch.zeros_like(positive)
    for hot, x, mask in zip(out, a, positive, strict=True):
        values = x[mask]
        if len(values):
            count = -int(-HOTTEST * len(values) // 1)
            hot |= x >= values.topk(count).values[-1]
    return out


def _dilate(mask: Tensor, radius: int) -> Tensor:
    """Grow by ``radius`` pixels along both axes (a square)."""
    margin = (radius,) * 4
    return smooth(pad(mask.float(), margin), (1.0,) * (2 * radius + 1)) > 0


def _centred_ranks(steps: Tensor) -> Tensor:
    """Ranks of whole numbers minus their mean; equal values share the mean of their ranks."""
    counts = torch.bincount(steps, minlength=_STEPS + 1)
    rank = counts.cumsum(0) - (counts - 1) / 2
    return rank.double()[steps] - (len(steps) + 1) / 2


def _steps(x: Tensor) -> Tensor:
    return (x.double() * _STEPS).round_().long()


def _masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    return _total(x * mask) / _total(mask)


def _total(x: Tensor) -> Tensor:
    return x.sum(dim=(-2, -1), dtype=torch.float64)
