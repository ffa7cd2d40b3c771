"""Weights per band by local energy: a formula of two images, and the start of the band guides."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from medfuse.kernel.gaussian import low_pass
from medfuse.kernel.pyramid import gaussian_pyramid, laplacian_pyramid

LEVELS = 4
STEP = 4.0  # logit of the base where B is brighter by the whole range

_SIGMA = 1.0  # of the Gaussian over squared bands, in pixels of the level
_BONE = (0.7, 0.9)  # of the window: 120 to 200 HU
_BONE_SIGMA = 0.7
_SIGNAL = (0.01, 0.04)  # of the window of the MRI; darker is outside of what it shows
_MRI_FIRST = 4.0
_TINY = 1e-5  # energy of a hundredth of a grey level and less is noise of rounding


def local_product(x: Tensor, y: Tensor) -> Tensor:
    """Product of two bands (N, C, H, W), smoothed: an energy where both are the same."""
    return low_pass(x * y, _SIGMA)


def band_energy(band: Tensor) -> Tensor:
    """Local energy of a band-pass (N, C, H, W): its square, smoothed; at least 1e-5."""
    return local_product(band, band) + _TINY


def energy_logits(a: Tensor, b: Tensor, levels: int, *, step: float = STEP) -> list[Tensor]:
    """Logits of the weights of B, one map a band.

    In band k the weight is ``e_B^2 / (e_A^2 + e_B^2)`` with ``e`` the energy of the band, so its
    logit is ``2 log(e_B / e_A)``; at the base it is ``step`` times how much brighter B is.

    Parameters
    ----------
    a, b : (N, 1, H, W) float in [0, 1]
    levels : int
        Band-pass levels.
    step : float
        Steepness of the base.

    Returns
    -------
    list of Tensor
        ``levels + 1`` maps, finest first, each at the size of its pyramid level.

    References
    ----------
    Burt & Adelson, ACM Trans. Graphics 2 (1983), for bands weighed apart; the energy as in Burt &
    Kolczynski, ICCV 1993.
    """
    *bands_a, base_a = laplacian_pyramid(a, levels)
    *bands_b, base_b = laplacian_pyramid(b, levels)
    ratios = [
        band_energy(in_b).log() - band_energy(in_a).log()
        for in_a, in_b in zip(bands_a, bands_b, strict=True)
    ]
    return [*(2 * ratio for ratio in ratios), step * (base_b - base_a)]


def bone_aware_weights(ct: Tensor, mri: Tensor, levels: int = LEVELS) -> list[Tensor]:
    """Weights of the MRI under a CT in the window -160 to 240 HU, one map a band.

    Bone belongs to the CT in every band: what lies over 120 to 200 HU, smoothed against noise and
    grown by a pixel. Elsewhere the brightness is that of the MRI, and detail is weighed by local
    energy, that of the MRI four times, since a CT of soft tissue is noise for the larger part.
    Where the MRI shows nothing, the CT adds no detail to its black (docs/guides.md).

    Parameters
    ----------
    ct, mri : (N, 1, H, W) float in [0, 1]
    levels : int

    Returns
    -------
    list of Tensor in [0, 1]
        ``levels + 1`` maps, finest first.
    """
    bone = ((low_pass(ct, _BONE_SIGMA) - _BONE[0]) / (_BONE[1] - _BONE[0])).clamp(0, 1)
    bone = functional.max_pool2d(bone, 3, 1, 1)
    soft = [1 - level for level in gaussian_pyramid(bone, levels)]
    maps = [(band + math.log(_MRI_FIRST)).sigmoid() for band in energy_logits(ct, mri, levels)[:-1]]
    brightness = gaussian_pyramid(mri, levels)
    seen = [((x - _SIGNAL[0]) / (_SIGNAL[1] - _SIGNAL[0])).clamp(0, 1) for x in brightness[:-1]]
    maps = [1 - (1 - w) * part for w, part in zip(maps, seen, strict=True)]
    maps.append(torch.ones_like(brightness[-1]))
    return [w * s for w, s in zip(maps, soft, strict=True)]
