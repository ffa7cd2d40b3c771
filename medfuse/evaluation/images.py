"""Pictures as the metrics see them: 0..255, one gray plane, in one of two profiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

Profile = Literal["reference", "paper"]
PROFILES: tuple[str, ...] = ("reference", "paper")
SMALLEST = 3  # pixels a side, for differences and borders


@dataclass(frozen=True)
class Picture:
    """A batch of pictures prepared for the metrics.

    Attributes
    ----------
    channels : (N, C, H, W) float32 in [0, 255]
    gray : (N, H, W) float32 in [0, 255]
        What every metric but EN and SF (paper) and the uptake measures looks at.
    """

    channels: Tensor
    gray: Tensor

    @property
    def luminance(self) -> Tensor:
        """Unrounded BT.601 luminance, (N, H, W) float32 in [0, 1]."""
        if self.channels.shape[1] == 1:
            return self.channels[:, 0] / 255
        r, g, b = self.channels.unbind(1)
        return (299 * r + 587 * g + 114 * b) / 255_000  # exact sums for 8-bit channels


def prepare(image: Tensor, profile: Profile) -> Picture:
    """Bring pictures to 0..255 and gray, as the profile prescribes.

    ``reference`` rounds channels to 8 bit, as a saved picture has them, and gray to the nearest
    level. ``paper`` repeats the published float32 arithmetic: [0, 1] to [-1, 1] to 0..255 without
    rounding; gray of three channels is truncated, one channel is passed through.

    Parameters
    ----------
    image : (N, 1, H, W) or (N, 3, H, W) float in [0, 1]
        Clamped to [0, 1].
    profile : {"reference", "paper"}

    Returns
    -------
    Picture

    Raises
    ------
    ValueError
        If the shape or the profile is not one of these, a side is shorter than 3 pixels, or a value
        is not a finite number.
    """
    if profile not in PROFILES:
        raise ValueError(f"profile must be one of {', '.join(PROFILES)}, got {profile!r}")
    if image.ndim != 4 or image.shape[1] not in (1, 3) or not len(image):
        raise ValueError(f"expected (N, 1, H, W) or (N, 3, H, W), got {tuple(image.shape)}")
    if min(image.shape[2:]) < SMALLEST:
        raise ValueError(f"sides must have {SMALLEST} pixels or more, got {tuple(image.shape)}")
    image = image.detach().float()
    image = image.cpu() if image.device.type == "mps" else image  # which has no float64
    if not torch.isfinite(image).all():
        raise ValueError("pictures must hold finite numbers only")
    if profile == "paper":
        channels = (image - 0.5).div_(0.5).clamp_(-1, 1).add_(1).mul_(127.5)
    else:
        channels = image.clamp(0, 1).mul_(255).round_()
    return Picture(channels, _gray(channels, profile))


def _gray(channels: Tensor, profile: Profile) -> Tensor:
    if channels.shape[1] == 1:
        return channels[:, 0]
    r, g, b = channels.unbind(1)
    if profile == "paper":
        return (0.2989 * r + 0.5870 * g + 0.1140 * b).clamp(0, 255).trunc()
    return ((299 * r + 587 * g + 114 * b + 500) / 1000).floor()  # halves up, exact in float32


@lru_cache(maxsize=16)
def gaussian(size: int, sigma: float) -> tuple[float, ...]:
    """Taps of a sampled Gaussian of odd length, sum 1."""
    x = torch.arange(size, dtype=torch.float64) - size // 2
    taps = torch.exp(-(x**2) / (2 * sigma**2))
    return tuple((taps / taps.sum()).tolist())


def smooth(x: Tensor, taps: Sequence[float], *, step: int = 1) -> Tensor:
    """Filter the last two axes with the same taps, without padding ('valid').

    Shifted sums are several times faster than a one-channel convolution on a CPU.

    Parameters
    ----------
    x : (..., H, W) float
    taps : sequence of n float
    step : int
        Keep every ``step``-th result, from index 0.

    Returns
    -------
    Tensor of shape (..., ceil((H - n + 1) / step), ceil((W - n + 1) / step))
    """
    height, width = (size - len(taps) + 1 for size in x.shape[-2:])
    rows = x[..., :height:step, :] * taps[0]
    for i, tap in enumerate(taps[1:], start=1):
        rows.add_(x[..., i : i + height : step, :], alpha=tap)
    out = rows[..., :width:step] * taps[0]
    for i, tap in enumerate(taps[1:], start=1):
        out.add_(rows[..., i : i + width : step], alpha=tap)
    return out
