"""Three measures that fall when the signal of source A is lost; see docs/metrics.md.

Sums such as VIF_A + VIF_B reward a copy of one source. These do not.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from medfuse.evaluation.images import smooth

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
        lesions = [None] * len(a) if lesion is None else list(lesion)
        self._pairs = [_PairUptake(*pair) for pair in zip(a, b, lesions, strict=True)]

    def __call__(self, fused: Tensor) -> dict[str, Tensor]:
        """The three measures, (N,) each, of a luminance (N, H, W); NaN where undefined."""
        pairs = list(zip(self._pairs, fused.flatten(1), strict=True))
        return {
            "uptake_correlation": torch.stack([pair.correlation(x) for pair, x in pairs]),
            "hot_spot_share": torch.stack([pair.hot_spot_share(x) for pair, x in pairs]),
            "lesion_contrast": torch.stack([pair.lesion_contrast(x) for pair, x in pairs]),
        }


class _PairUptake:
    """The measures of one pair; results are flat, (H * W,)."""

    def __init__(self, a: Tensor, b: Tensor, lesion: Tensor | None) -> None:
        positive = a > POSITIVE
        hot = _hottest(a, positive)
        lesion = hot if lesion is None else lesion
        self._positive = _indices(positive)
        self._lesion = _indices(lesion)
        self._surround = _indices(_dilate(lesion, SURROUND) & ~lesion)
        flat = a.flatten()
        self._ranks = centred_ranks(flat[self._positive])
        self._step = self._contrast(flat)
        self._hot = _indices(hot)
        self._b = b.flatten()[self._hot].double()
        self._toward_a = flat[self._hot].double() - self._b

    def correlation(self, fused: Tensor) -> Tensor:
        """Spearman correlation of A and the result inside A's positive mask."""
        ranks = centred_ranks(fused[self._positive])
        norm = torch.sqrt((ranks @ ranks) * (self._ranks @ self._ranks))
        return (ranks @ self._ranks) / norm

    def hot_spot_share(self, fused: Tensor) -> Tensor:
        """Least-squares weight ``s`` of ``F = s A + (1 - s) B`` in the hottest 5 %."""
        moved = fused[self._hot].double() - self._b
        return (self._toward_a @ moved) / (self._toward_a @ self._toward_a)

    def lesion_contrast(self, fused: Tensor) -> Tensor:
        """Contrast of the lesion to its surround in the result, divided by that in A."""
        return self._contrast(fused) / self._step

    def _contrast(self, x: Tensor) -> Tensor:
        return x[self._lesion].double().mean() - x[self._surround].double().mean()


def _indices(mask: Tensor) -> Tensor:
    return mask.flatten().nonzero()[:, 0]


def _hottest(a: Tensor, positive: Tensor) -> Tensor:
    """The hottest 5 % of the positive pixels; pixels as hot as the coolest of them too."""
    values = a[positive]
    if not len(values):
        return positive
    return a >= values.topk(math.ceil(HOTTEST * len(values))).values[-1]


def _dilate(mask: Tensor, radius: int) -> Tensor:
    """Grow by ``radius`` pixels along both axes (a square)."""
    margin = (radius,) * 4
    return smooth(pad(mask.float(), margin), (1.0,) * (2 * radius + 1)) > 0


def centred_ranks(x: Tensor) -> Tensor:
    """Ranks in 16-bit steps minus their mean; equal values share the mean of their ranks."""
    steps = (x.double() * _STEPS).round_().long()
    counts = torch.bincount(steps, minlength=_STEPS + 1)
    rank = counts.cumsum(0) - (counts - 1) / 2
    return rank.double()[steps] - (len(steps) + 1) / 2
