"""Whether both sources are in a picture: detail kept, and contradictions.

Sums such as VIF_A + VIF_B are high for a copy of one source. Here each source has its own figure,
and the weaker one is what counts. Definitions and limits: docs/metrics.md.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medfuse.kernel.gaussian import high_pass, reach

# Detail is what a Gaussian of this sigma takes away; judged where both sources have signal.
DETAIL_SIGMA = 3.0
SIGNAL_A, SIGNAL_B = 40.0, 25.0
FEWEST = 100  # places; below that detail says nothing

# A contradiction: two flat sources that disagree, and structure between them. Grey levels.
WINDOW = 13
FLAT = 15.0
APART = 60.0
OWN_FACTOR, OWN_LEVELS = 1.6, 4.0
FLAGGED = 20  # pixels; a picture with so many is flagged


_SLICES = 8  # filtered at a time, so that they stay in the cache


def detail_kept(
    a: Tensor, b: Tensor, fused: Tensor, *, sigma: float = DETAIL_SIGMA, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """How much of the fine detail of each source is in a picture.

    With ``hp(x) = x - gaussian(x, sigma)`` the coefficients of the least-squares fit
    ``hp(F) ~ k_A hp(A) + k_B hp(B)`` over the places where both sources have signal: 1 is "kept in
    full", 0 "gone"; a picture with more contrast than the source has more than 1.

    Parameters
    ----------
    a, b, fused : (N, H, W) float in [0, 255]
        Luminance of A (functional), B (anatomical) and the picture.
    sigma : float
        Of the Gaussian, in pixels.
    mask : (N, H, W) bool, optional
        Places to look at; ``A > 40`` and ``B > 25`` if not given.

    Returns
    -------
    kept_a, kept_b : (N,) float64
        NaN with fewer than 100 places, or where the details of A and B are the same.
    """
    places = (a > SIGNAL_A) & (b > SIGNAL_B) if mask is None else mask
    rows, columns = (_reached(places, axis, sigma) for axis in (1, 2))
    a, b, fused, places = (x[:, rows, columns] for x in (a, b, fused, places))
    parts = [slice(k, k + _SLICES) for k in range(0, len(a), _SLICES)]
    sums = torch.cat([_detail_sums(a[p], b[p], fused[p], places[p], sigma) for p in parts])
    aa, bb, ab, fa, fb, count = sums.unbind(1)
    determinant = aa * bb - ab * ab
    defined = (count >= FEWEST) & (determinant > 1e-6 * aa * bb)
    determinant = determinant.where(defined, torch.nan)
    return (fa * bb - fb * ab) / determinant, (fb * aa - fa * ab) / determinant


def contradiction(a: Tensor, b: Tensor, fused: Tensor) -> Tensor:
    """Where a picture draws structure that neither source has, between two flat sources.

    In windows of 13 x 13 pixels: both sources have a standard deviation below 15 grey levels, their
    means are more than 60 apart, and the picture varies by more than 1.6 times the livelier source
    plus 4. A weight that changes there draws an edge of its own, such as a fluid level in a cyst.

    Parameters
    ----------
    a, b, fused : (N, H, W) float in [0, 255]

    Returns
    -------
    (N, H, W) bool
        True at the middle of such windows. Windows that the border cuts are not judged.
    """
    out = torch.zeros(a.shape, dtype=torch.bool, device=a.device)
    if min(a.shape[1:]) < WINDOW:
        return out
    inner = slice(WINDOW // 2, -(WINDOW // 2))
    for k in range(len(a)):
        mean_a, std_a = _box_moments(a[k])
        mean_b, std_b = _box_moments(b[k])
        apart = (std_a < FLAT) & (std_b < FLAT) & ((mean_a - mean_b).abs() > APART)
        if apart.any():
            allowed = OWN_FACTOR * torch.maximum(std_a, std_b) + OWN_LEVELS
            out[k, inner, inner] = apart & (_box_moments(fused[k])[1] > allowed)
    return out


def is_flagged(contradictions: Tensor) -> Tensor:
    """Pictures of a map (N, H, W) with 20 contradicting pixels or more, (N,) bool."""
    return count_by_slice(contradictions) >= FLAGGED


def count_by_slice(mask: Tensor) -> Tensor:
    """Places of each slice of (N, ...) bool, (N,) int64; a tenth of the time of ``mask.sum``."""
    return torch.stack([torch.count_nonzero(one) for one in mask])


def _reached(places: Tensor, axis: int, sigma: float) -> slice:
    """Rows or columns that a Gaussian at any of the places (N, H, W) can see."""
    found = places.any(0).any(2 - axis).nonzero()
    if not len(found):
        return slice(0, 0)
    margin = reach(sigma)
    return slice(max(0, int(found[0]) - margin), int(found[-1]) + margin + 1)


def _detail_sums(a: Tensor, b: Tensor, fused: Tensor, places: Tensor, sigma: float) -> Tensor:
    """(n, 6) float64: products of the details AA, BB, AB, FA, FB and the number of places."""
    if not places.any():
        return a.new_zeros((len(a), 6), dtype=torch.float64)
    high_a, high_b, high_f = (high_pass(x, sigma).mul_(places) for x in (a, b, fused))
    left, right = (high_a, high_b, high_a, high_f, high_f), (high_a, high_b, high_b, high_a, high_b)
    sums = [torch.einsum("nij,nij->n", *pair).double() for pair in zip(left, right, strict=True)]
    return torch.stack([*sums, count_by_slice(places).double()], dim=1)


def _box_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation in all whole windows, (H - 12, W - 12) of (H, W)."""
    middle = x.mean()  # squares about it: float32 does not lose what is small beside them
    centred = x - middle
    mean = _box_mean(centred)
    variance = _box_mean(centred.square()) - mean.square()
    return mean + middle, variance.clamp_min_(0).sqrt_()


def _box_mean(x: Tensor) -> Tensor:
    for axis in (0, 1):
        x = _box_sum(x, axis)
    return x.div_(WINDOW**2)


def _box_sum(x: Tensor, axis: int) -> Tensor:
    """Sums of 13 = 8 + 4 + 1 neighbours along an axis, each sum from two of half the length."""
    sums = {1: x}
    for length in (1, 2, 4):
        half = sums[length]
        n = half.shape[axis] - length
        sums[2 * length] = half.narrow(axis, 0, n) + half.narrow(axis, length, n)
    n = x.shape[axis] - WINDOW + 1
    out = sums[8].narrow(axis, 0, n) + sums[4].narrow(axis, 8, n)
    return out.add_(x.narrow(axis, WINDOW - 1, n))
