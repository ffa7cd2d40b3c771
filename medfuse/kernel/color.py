"""RGB <-> YCbCr (BT.601, full range), and the RGB gamut.

Every plane lies in [0, 1]; Cb and Cr are centred at 0.5. Colour channels are axis 1.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import Tensor

# Y in [0,1]; Cb, Cr in [-0.5, 0.5] before the offset (ITU-R BT.601-7, JFIF full range).
_TO_YCBCR = (
    (0.299, 0.587, 0.114),
    (-0.168736, -0.331264, 0.5),
    (0.5, -0.418688, -0.081312),
)
_CR_TO_R, _CB_TO_G, _CR_TO_G, _CB_TO_B = 1.402, -0.344136, -0.714136, 1.772


def luma(rgb: Tensor) -> Tensor:
    """Luminance Y of an RGB image.

    Parameters
    ----------
    rgb : (N, 3, ...) float in [0, 1]

    Returns
    -------
    (N, 1, ...) float in [0, 1]
    """
    r, g, b = _planes(rgb)
    wr, wg, wb = _TO_YCBCR[0]
    return (wr * r + wg * g + wb * b).unsqueeze(1)


def rgb_to_ycbcr(rgb: Tensor) -> Tensor:
    """Convert RGB to full-range YCbCr.

    Parameters
    ----------
    rgb : (N, 3, ...) float in [0, 1]

    Returns
    -------
    (N, 3, ...) float
        Y, Cb, Cr in [0, 1]; neutral chroma is 0.5.

    Raises
    ------
    ValueError
        If axis 1 does not hold three channels.

    References
    ----------
    ITU-R BT.601-7; JFIF 1.02 (full range).
    """
    r, g, b = _planes(rgb)
    rows = [wr * r + wg * g + wb * b for wr, wg, wb in _TO_YCBCR]
    return torch.stack([rows[0], rows[1] + 0.5, rows[2] + 0.5], dim=1)


def ycbcr_to_rgb(ycbcr: Tensor) -> Tensor:
    """Convert full-range YCbCr to RGB without clipping.

    Values outside [0, 1] mean that no RGB colour has this luminance with this chroma; see
    :func:`clip_gamut`.

    Parameters
    ----------
    ycbcr : (N, 3, ...) float

    Returns
    -------
    (N, 3, ...) float, unbounded
    """
    y, cb, cr = _planes(ycbcr)
    cb, cr = cb - 0.5, cr - 0.5
    return torch.stack(
        [y + _CR_TO_R * cr, y + _CB_TO_G * cb + _CR_TO_G * cr, y + _CB_TO_B * cb], dim=1
    )


def clip_gamut(rgb: Tensor) -> tuple[Tensor, Tensor]:
    """Clip RGB to [0, 1] and say where that changed a colour.

    Parameters
    ----------
    rgb : (N, 3, ...) float

    Returns
    -------
    clipped : (N, 3, ...) float in [0, 1]
    changed : (N, 1, ...) float >= 0
        Largest change of a channel; 0 where the colour was inside the gamut.
    """
    clipped = rgb.clamp(0, 1)
    return clipped, (clipped - rgb).abs().amax(dim=1, keepdim=True)


def luminance_band(cbcr: Tensor) -> tuple[Tensor, Tensor]:
    """Lowest and highest luminance at which a chroma exists as an RGB colour.

    With the offsets o of R, G, B from Y, all three channels lie in [0, 1] exactly for
    ``-min(o) <= Y <= 1 - max(o)``; grey has the whole range, saturated colours a narrow band.

    Parameters
    ----------
    cbcr : (N, 2, ...) float
        Cb and Cr of a colour that exists, centred at 0.5.

    Returns
    -------
    low, high : (N, 1, ...) float in [0, 1], ``low <= high`` up to rounding
    """
    red, green, blue = _offsets(cbcr)
    low = torch.minimum(torch.minimum(red, green), blue).neg_()
    high = torch.maximum(torch.maximum(red, green), blue).neg_().add_(1)
    return low.unsqueeze(1), high.unsqueeze(1)


def fit_gamut(luminance: Tensor, cbcr: Tensor) -> tuple[Tensor, Tensor]:
    """Bring luminance into the band where its chroma exists, so that chroma survives exactly.

    Parameters
    ----------
    luminance : (N, 1, ...) float
    cbcr : (N, 2, ...) float

    Returns
    -------
    rgb : (N, 3, ...) float in [0, 1]
    changed : (N, 1, ...) float >= 0
        By how much luminance had to move.
    """
    low, high = luminance_band(cbcr)
    fitted = torch.minimum(torch.maximum(luminance, low), high)
    rgb = ycbcr_to_rgb(torch.cat([fitted, cbcr], dim=1)).clamp_(0, 1)
    return rgb, (fitted - luminance).abs_()


def desaturate(luminance: Tensor, cbcr: Tensor) -> tuple[Tensor, Tensor]:
    """Keep the luminance and take away as much chroma, at constant hue, as RGB asks for.

    With the offsets o of R, G and B from the luminance Y, ``Y + k o`` lies in [0, 1] exactly for
    ``k <= min(Y / -min(o), (1 - Y) / max(o))``; the largest such k, at most 1, is taken.

    Parameters
    ----------
    luminance : (N, 1, ...) float
        Clamped to [0, 1].
    cbcr : (N, 2, ...) float
        Cb and Cr, centred at 0.5.

    Returns
    -------
    rgb : (N, 3, ...) float in [0, 1]
    lost : (N, 1, ...) float in [0, 1]
        Part of the chroma that is gone: 0 kept whole, 1 grey.
    """
    y = luminance[:, 0].clamp(0, 1)
    red, green, blue = _offsets(cbcr)
    low = torch.minimum(torch.minimum(red, green), blue).neg_().clamp_min_(1e-9)
    high = torch.maximum(torch.maximum(red, green), blue).clamp_min_(1e-9)
    kept = torch.minimum(y / low, (1 - y) / high).clamp_max_(1)
    rgb = torch.stack([torch.addcmul(y, kept, part) for part in (red, green, blue)], dim=1)
    return rgb.clamp_(0, 1), (1 - kept).unsqueeze(1)


def _offsets(cbcr: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """By how much R, G and B lie off the luminance; (N, ...) each."""
    cb, cr = cbcr[:, 0] - 0.5, cbcr[:, 1] - 0.5
    return _CR_TO_R * cr, _CB_TO_G * cb + _CR_TO_G * cr, _CB_TO_B * cb


def _planes(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if image.ndim < 3 or image.shape[1] != 3:
        raise ValueError(f"expected three colour channels on axis 1, got {tuple(image.shape)}")
    return image[:, 0], image[:, 1], image[:, 2]


def __getattr__(name: str) -> Any:
    """Alias, for one release: reading back lies in `medfuse.kernel.colormaps`."""
    if name == "read_back":
        return import_module("medfuse.kernel.colormaps").read_back
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
