"""Does the hot part stand out of the picture, and is the fine anatomy still seen? docs/colour.md.

All is measured in CIELAB, in which equal distances look about equally large to a person.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d, pad

from medfuse.evaluation.images import gaussian, smooth

HOTTEST = 0.05  # part of the body that is "hot"
RING = (2, 10)  # pixels from the hot part at which its surround begins and ends
COOLER = 0.6  # of the mean of the hot part; only what is below belongs to the surround
UPTAKE = 0.25  # of the window, from which on the fine anatomy is asked for
SIGMA = 3.0  # pixels; detail is what a Gaussian of this width takes away
# ITU-R BT.709 primaries (sRGB) to CIE XYZ, over the white D65: grey has X = Y = Z.
_XYZ = (
    (0.4124564 / 0.95047, 0.3575761 / 0.95047, 0.1804375 / 0.95047),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339 / 1.08883, 0.1191920 / 1.08883, 0.9503041 / 1.08883),
)


@dataclass(frozen=True)
class Salience:
    """What a reader sees of both sources; see :func:`measure_salience`.

    Attributes
    ----------
    difference, brighter : float
        Distance in CIELAB and difference in L* of the mean colours of the hot part and its ring.
    order : float
        Spearman correlation of uptake and L* in the body.
    detail, gain : float
        Correlation of the fine L* with the fine anatomy where uptake is over a quarter of the
        window, and how large it is beside it (ratio of standard deviations).
    """

    difference: float
    brighter: float
    order: float
    detail: float
    gain: float


def linear_light(rgb: Tensor) -> Tensor:
    """Undo the transfer curve of sRGB (IEC 61966-2-1).

    Parameters
    ----------
    rgb : float in [0, 1], any shape

    Returns
    -------
    Same shape, in [0, 1]
    """
    return torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """Convert sRGB to CIELAB under D65.

    Parameters
    ----------
    rgb : (N, 3, ...) float in [0, 1]

    Returns
    -------
    (N, 3, ...) float
        L* in [0, 100], a* and b* about in [-110, 110].

    References
    ----------
    CIE 15:2004, section 8.2.1; IEC 61966-2-1.
    """
    matrix = torch.tensor(_XYZ, dtype=rgb.dtype, device=rgb.device)
    xyz = torch.einsum("ij,nj...->ni...", matrix, linear_light(rgb))
    curve = torch.where(
        xyz > (6 / 29) ** 3, xyz.clamp_min(1e-9) ** (1 / 3), xyz * (29 / 6) ** 2 / 3 + 4 / 29
    )
    x, y, z = curve.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def measure_salience(rgb: Tensor, uptake: Tensor, anatomy: Tensor, body: Tensor) -> Salience:
    """Measure how hot parts and fine anatomy show in slices of one case, pooled over them.

    Parameters
    ----------
    rgb : (N, 3, H, W) float in [0, 1]
        The picture.
    uptake, anatomy : (N, 1, H, W) float in [0, 1]
        Both sources in their windows.
    body : (N, 1, H, W) bool
        Where there is tissue; all else counts for nothing.

    Returns
    -------
    Salience
        NaN where there is no place to measure.
    """
    lab = rgb_to_lab(rgb)
    light = lab[:, :1]
    hot, ring = hot_and_ring(uptake, body)
    step = _mean(lab, hot) - _mean(lab, ring)
    where = body & (uptake > UPTAKE)
    grey = rgb_to_lab(anatomy.expand(-1, 3, -1, -1))[:, :1]
    fine, wanted = (_fine(x)[where].double() for x in (light, grey))
    return Salience(
        difference=float(step.norm()),
        brighter=float(step[0]),
        order=_correlation(_ranks(uptake[body]), _ranks(light[body])),
        detail=_correlation(fine, wanted),
        gain=float(_spread(fine) / _spread(wanted)),
    )


def hot_and_ring(uptake: Tensor, body: Tensor) -> tuple[Tensor, Tensor]:
    """Find the hottest twentieth of the body, and the cooler tissue around it.

    Parameters
    ----------
    uptake : (N, 1, H, W) float
    body : (N, 1, H, W) bool

    Returns
    -------
    hot, ring : (N, 1, H, W) bool
    """
    values = uptake[body]
    if not len(values):
        return body, body
    hot = body & (uptake >= values.topk(max(1, round(HOTTEST * len(values)))).values[-1])
    inner, outer = (_grown(hot, radius) for radius in RING)
    return hot, outer & ~inner & body & (uptake < COOLER * uptake[hot].mean())


def _grown(mask: Tensor, radius: int) -> Tensor:
    """Grow by a disc, as rows of it."""
    out, flat = torch.zeros_like(mask), mask.float()
    for row in range(-radius, radius + 1):
        half = int((radius**2 - row**2) ** 0.5)
        wide = max_pool2d(flat, (1, 2 * half + 1), 1, (0, half)) > 0
        moved = pad(wide, (0, 0, max(row, 0), max(-row, 0)))
        out |= moved[:, :, : mask.shape[2]] if row >= 0 else moved[:, :, -row:]
    return out


def _fine(x: Tensor) -> Tensor:
    """The image less its Gaussian of three pixels, borders mirrored."""
    half = round(4 * SIGMA)
    padded = pad(x, (half,) * 4, mode="reflect" if min(x.shape[2:]) > half else "replicate")
    return x - smooth(padded, gaussian(2 * half + 1, SIGMA))


def _mean(image: Tensor, mask: Tensor) -> Tensor:
    return image.movedim(1, -1)[mask[:, 0]].double().mean(0)


def _spread(x: Tensor) -> Tensor:
    return (x - x.mean()).square().mean().sqrt()


def _ranks(x: Tensor) -> Tensor:
    """Ranks, equal values sharing their mean rank."""
    index, counts = x.unique(return_inverse=True, return_counts=True)[1:]
    rank: Tensor = counts.cumsum(0) - (counts - 1) / 2
    return rank.double()[index]


def _correlation(x: Tensor, y: Tensor) -> float:
    x, y = x - x.mean(), y - y.mean()
    return float((x @ y) / ((x @ x) * (y @ y)).sqrt())
