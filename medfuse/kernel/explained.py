"""How much of a picture two sources explain: a least-squares fit in small windows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

STEP = 4  # pixels between windows; a window is two steps wide
NOISE = (4 / 255) ** 2  # variance below which structure counts as flat
WEIGHT_SPREAD = 0.2**2  # variance of the weights within a window that is no invention
RIDGE = 1e-5
EMPTY = 4 / 255  # windows in which nothing is brighter than this are background


@dataclass(frozen=True)
class Fit:
    """Least squares ``F ~ p A + q B + c`` in windows of 8 x 8 voxels, every 4 voxels.

    Attributes
    ----------
    residual : (N, 1, R', K') float
        Variance of F that the fit leaves.
    scale : (N, 1, R', K') float
        Variance that the two sources offer: their own, what weights that vary by 0.2 within the
        window make of their difference, and 4 grey levels of noise.
    filled : (N, 1, R', K') bool
        Windows that are not background in all three images.
    weight : (N, 1, R', K') float in [0, 1]
        Least-squares weight of B in ``F = (1 - w) A + w B``.
    """

    residual: Tensor
    scale: Tensor
    filled: Tensor
    weight: Tensor

    @property
    def unexplained(self) -> Tensor:
        """Part of the window that the sources do not explain, 0 to 1."""
        return (self.residual / self.scale).clamp_(max=1)


def fit_sources(picture: Tensor, a: Tensor, b: Tensor) -> Fit:
    """Fit both sources to a picture, window by window.

    Parameters
    ----------
    picture, a, b : (N, 1, R, K) float in [0, 1]

    Returns
    -------
    Fit
    """
    f_mean, a_mean, b_mean = (_windows(x) for x in (picture, a, b))
    ff, aa, bb = (_windows(x.square()) for x in (picture, a, b))
    fa, fb, ab = _windows(picture * a), _windows(picture * b), _windows(a * b)
    var_f, var_a, var_b = ff - f_mean.square(), aa - a_mean.square(), bb - b_mean.square()
    cov_a, cov_b, cov_ab = fa - f_mean * a_mean, fb - f_mean * b_mean, ab - a_mean * b_mean
    ridge_a, ridge_b = var_a + RIDGE, var_b + RIDGE
    determinant = (ridge_a * ridge_b - cov_ab.square()).clamp_min(RIDGE**2)
    p = (cov_a * ridge_b - cov_b * cov_ab) / determinant
    q = (cov_b * ridge_a - cov_a * cov_ab) / determinant
    explained = 2 * (p * cov_a + q * cov_b) - p * p * var_a - q * q * var_b - 2 * p * q * cov_ab
    weight = (fb - fa - ab + aa) / (aa - 2 * ab + bb).clamp_min(RIDGE)
    return Fit(
        residual=(var_f - explained).clamp_min_(0),
        scale=(var_a + var_b).clamp_min_(0) + WEIGHT_SPREAD * (a_mean - b_mean).square() + NOISE,
        filled=torch.maximum(torch.maximum(a_mean, b_mean), f_mean) > EMPTY,
        weight=weight.clamp_(0, 1),
    )


def _windows(x: Tensor) -> Tensor:
    """Means over windows of two steps; the last ones are cut off by the border."""
    steps = avg_pool2d(x, STEP, STEP, ceil_mode=True)
    return avg_pool2d(steps, [min(2, n) for n in steps.shape[-2:]], 1)
