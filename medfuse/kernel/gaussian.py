"""A Gaussian as one small matrix an axis: two products of matrices, fast on a CPU, with a gradient.

Convolutions of one channel are slow on a CPU, and shifted sums of 25 taps are slower than this.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


def low_pass(x: Tensor, sigma: float) -> Tensor:
    """Gaussian along the last two axes; the border mirrors and its pixel is doubled.

    Parameters
    ----------
    x : (..., H, W) float, any range
    sigma : float
        In pixels; the taps end at four sigma.

    Returns
    -------
    Tensor of the shape of ``x``
    """
    rows, columns = (
        torch.as_tensor(_matrix(n, sigma), dtype=x.dtype, device=x.device) for n in x.shape[-2:]
    )
    return rows @ x @ columns.T


def high_pass(x: Tensor, sigma: float) -> Tensor:
    """``x`` minus its :func:`low_pass`: the detail finer than about ``sigma``."""
    return x - low_pass(x, sigma)


def reach(sigma: float) -> int:
    """Pixels to each side that a Gaussian takes in."""
    return int(4 * sigma + 0.5)


@lru_cache(maxsize=64)
def _matrix(n: int, sigma: float) -> np.ndarray:
    radius = reach(sigma)
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    taps /= taps.sum()
    out = np.zeros((n, n))
    for offset, tap in zip(range(-radius, radius + 1), taps, strict=True):
        index = (np.arange(n) + offset) % (2 * n)
        np.add.at(out, (np.arange(n), np.minimum(index, 2 * n - 1 - index)), tap)
    return out
