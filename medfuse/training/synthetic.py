"""Pairs with a known answer, made from one image: partly out of focus, or badly exposed."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_CELLS = 4  # independent places of a focus mask along each side
_EDGE = 0.08  # transition of a focus mask, in standard deviations of its noise
_BLUR = (1.0, 4.0)  # pixels
_OVER, _UNDER = (0.4, 0.8), (1.3, 2.5)  # gamma
_GAIN, _FOG = 1.3, 0.05  # strongest gain of the bright and black point of the dark exposure


def focus_pair(sharp: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two photographs of one scene, each blurred where the other one is sharp.

    A smooth random mask with soft edges covers half of each image; ``near`` is sharp inside,
    ``far`` outside. Each image has its own Gaussian blur of 1 to 4 pixels.

    Parameters
    ----------
    sharp : (N, 1, H, W) float32 in [0, 1]
    generator : torch.Generator
        The result depends on its state alone.

    Returns
    -------
    near, far : (N, 1, H, W) float32 in [0, 1]
    """
    mask = _smooth_mask(sharp, generator)
    blurred = [_blur(sharp, _uniform(sharp, *_BLUR, generator)) for _ in range(2)]
    return torch.lerp(blurred[0], sharp, mask), torch.lerp(sharp, blurred[1], mask)


def exposure_pair(image: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two exposures of one scene: bright parts of the first and dark parts of the second clip.

    Parameters
    ----------
    image : (N, 1, H, W) float32 in [0, 1]
    generator : torch.Generator
        The result depends on its state alone.

    Returns
    -------
    over, under : (N, 1, H, W) float32 in [0, 1]
        Tone curves of gamma 0.4 to 0.8 with gain, and of gamma 1.3 to 2.5 with a black point.
    """
    over = _uniform(image, 1, _GAIN, generator) * image ** _uniform(image, *_OVER, generator)
    fog = _uniform(image, 0, _FOG, generator)
    under = (image ** _uniform(image, *_UNDER, generator) - fog) / (1 - fog)
    return over.clamp(0, 1), under.clamp(0, 1)


def _uniform(like: Tensor, low: float, high: float, generator: torch.Generator) -> Tensor:
    """(N, 1, 1, 1): one number for each image."""
    return low + (high - low) * torch.rand((len(like), 1, 1, 1), generator=generator)


def _smooth_mask(like: Tensor, generator: torch.Generator) -> Tensor:
    """(N, 1, H, W) in [0, 1]: 1 in one half of each image, 0 in the other, soft between."""
    noise = torch.randn((len(like), 1, _CELLS, _CELLS), generator=generator)
    noise = functional.interpolate(noise, size=like.shape[2:], mode="bicubic", align_corners=True)
    flat = noise.flatten(1)
    middle, spread = flat.median(1).values, flat.std(1)
    return torch.sigmoid((noise - middle.view(-1, 1, 1, 1)) / (_EDGE * spread.view(-1, 1, 1, 1)))


def _blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian of each image's own ``sigma`` (N, 1, 1, 1) in pixels; borders are repeated."""
    radius = int(3 * _BLUR[1])
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    taps = taps / taps.sum(3, keepdim=True)
    stack = functional.pad(images.transpose(0, 1), (radius,) * 4, mode="replicate")
    stack = functional.conv2d(stack, taps, groups=len(images))
    return functional.conv2d(stack, taps.mT, groups=len(images)).transpose(0, 1).clamp(0, 1)
