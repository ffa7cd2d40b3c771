"""Weights per band by local energy: a formula of two images, and the start of the band guides."""

from __future__ import annotations

from torch import Tensor

from medfuse.kernel.gaussian import low_pass
from medfuse.kernel.pyramid import laplacian_pyramid

LEVELS = 4
STEP = 4.0  # logit of the base where B is brighter by the whole range

_SIGMA = 1.0  # of the Gaussian over squared bands, in pixels of the level
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
