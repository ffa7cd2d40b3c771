"""Structure in a picture that neither source explains: a least-squares fit in small windows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from medfuse.audit.model import GREY_LEVEL, Check, Evidence, Verdict
from medfuse.audit.sums import slabs

STEP = 4  # voxels between windows; a window is two steps wide
NOISE = (4 * GREY_LEVEL) ** 2  # variance below which structure counts as flat
WEIGHT_SPREAD = 0.2**2  # variance of the weights within a window that is no invention
RIDGE = 1e-5
EMPTY = 4 * GREY_LEVEL  # windows in which nothing is brighter than this are background
LIMIT, SLICE_LIMIT, FAIL = 0.04, 0.1, 0.1
FEW = 50  # windows; a slice with fewer says little


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


def _fits(e: Evidence) -> Iterator[Fit]:
    return (fit_sources(e.luminance[part], e.a[part], e.b[part]) for part in slabs(e))


def unexplained_map(e: Evidence) -> Tensor:
    """(S, 1, R, K) float in [0, 1]: where structure is that the sources do not explain."""
    return torch.cat([_enlarge(fit.unexplained, e) for fit in _fits(e)])


def estimated_weights(picture: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Weights of B (N, 1, R, K), in [0, 1], that explain a picture best, window by window."""
    return interpolate(fit_sources(picture, a, b).weight, size=a.shape[-2:], mode="bilinear")


def estimated_share(picture: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Anatomical part of the luminance (N, 1, R, K), in [0, 1], fitted to the picture."""
    w = estimated_weights(picture, a, b)
    of_b, total = w * b, w * b + (1 - w) * a
    return torch.where(total > 1e-6, of_b / total.clamp_min(1e-6), torch.full_like(w, 0.5))


def _enlarge(blocks: Tensor, e: Evidence) -> Tensor:
    return interpolate(blocks, size=e.a.shape[-2:], mode="bilinear")


_OWN_BANDS = (
    " The colour map is not known, so that bands of brightness of its own count too: state it."
)


def invented(e: Evidence) -> Check:
    """Check ``invented``: how much structure of the picture is in neither source."""
    parts, windows = [], []
    for fit in _fits(e):
        parts.append(fit.unexplained.masked_fill_(~fit.filled, 0).sum((1, 2, 3)))
        windows.append(fit.filled.sum((1, 2, 3)))
    part, filled = torch.cat(parts).double(), torch.cat(windows)
    value = float(part.sum() / filled.sum().clamp_min(1))
    by_slice = torch.where(filled >= FEW, part / filled.clamp_min(1), 0)
    worst = float(by_slice.max())
    verdict: Verdict = "pass"
    if value > LIMIT or worst > SLICE_LIMIT:
        verdict = "fail" if value > FAIL and not e.colours_unknown else "look"
    return Check(
        "invented",
        "No structure of its own",
        value,
        "fraction of the fine structure",
        LIMIT,
        verdict,
        f"{100 * value:.2f} % of the fine structure, and {100 * worst:.1f} % in the worst slice, "
        "is explained by neither source in windows of 8 x 8 voxels. Weighting two sources leaves "
        "up to 4 %; pictures that were sharpened, smoothed, shifted or painted by a network leave "
        "more." + (_OWN_BANDS if e.colours_unknown else ""),
        {"worst_slice": worst, "slice": int(by_slice.argmax())},
    )
