"""RGB <-> YCbCr (BT.601, full range), the RGB gamut, and colour maps.

Every plane lies in [0, 1]; Cb and Cr are centred at 0.5. Colour channels are axis 1.
"""

from __future__ import annotations

from typing import Final

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
    if name not in COLORMAPS:
        raise ValueError(f"unknown colour map {name!r}; choose one of {', '.join(COLORMAPS)}")
    if values.ndim < 3 or values.shape[1] != 1:
        raise ValueError(f"expected (N, 1, ...), got {tuple(values.shape)}")
    table = COLORMAPS[name].to(values)
    position = values[:, 0].clamp(0, 1) * (len(table) - 1)
    low = position.floor().clamp_max(len(table) - 2)
    fraction = (position - low).unsqueeze(1)
    index = low.long()
    planes = [torch.stack([channel[index], channel[index + 1]]) for channel in table.T]
    lower = torch.stack([p[0] for p in planes], dim=1)
    upper = torch.stack([p[1] for p in planes], dim=1)
    return torch.lerp(lower, upper, fraction.expand_as(lower))


def _planes(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if image.ndim < 3 or image.shape[1] != 3:
        raise ValueError(f"expected three colour channels on axis 1, got {tuple(image.shape)}")
    return image[:, 0], image[:, 1], image[:, 2]


def _piecewise(*points: tuple[float, float, float, float]) -> Tensor:
    """(256, 3) table through the (position, R, G, B) points, linear between them."""
    grid = torch.linspace(0, 1, 256, dtype=torch.float64)
    stops = torch.tensor(points, dtype=torch.float64)
    upper = torch.searchsorted(stops[:, 0].contiguous(), grid).clamp(1, len(stops) - 1)
    start, end = stops[upper - 1], stops[upper]
    part = (grid - start[:, 0]) / (end[:, 0] - start[:, 0])
    return torch.lerp(start[:, 1:], end[:, 1:], part[:, None]).float()


COLORMAPS: Final[dict[str, Tensor]] = {
    "hot": _piecewise((0, 0, 0, 0), (0.375, 1, 0, 0), (0.75, 1, 1, 0), (1, 1, 1, 1)),
    # DICOM PS3.6 annex B.1.1: the Hot Iron palette of nuclear medicine.
    "hot-iron": _piecewise((0, 0, 0, 0), (0.5, 1, 0, 0), (0.75, 1, 0.5, 0), (1, 1, 1, 1)),
    "gray": _piecewise((0, 0, 0, 0), (1, 1, 1, 1)),
}
