"""Laplacian pyramid in any number of dimensions, as one small matrix per axis.

Reduce and expand are linear and separable, so each is a (short side x long side) matrix applied
along every spatial axis. Borders, odd sizes and both kernels then live in the matrices alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Kernel = Literal["binomial", "paper"]
KERNELS: tuple[str, ...] = ("binomial", "paper")

_BINOMIAL = np.array([1.0, 4.0, 6.0, 4.0, 1.0]) / 16.0
_GAUSS = np.exp(-0.5 * np.arange(-2, 3) ** 2)
_GAUSS = _GAUSS / _GAUSS.sum()


def gaussian_pyramid(x: Tensor, levels: int, *, kernel: Kernel = "binomial") -> list[Tensor]:
    """Low-pass and halve ``levels`` times.

    Parameters
    ----------
    x : (N, C, *spatial) float, any range
        Two or three spatial axes of any length >= 1.
    levels : int
        Number of reductions, >= 0.
    kernel : {"binomial", "paper"}
        ``binomial`` is [1 4 6 4 1]/16 with mirrored borders (Burt & Adelson 1983, eq. 1);
        ``paper`` is a five-tap Gaussian of sigma 1 with zero borders.

    Returns
    -------
    list of Tensor
        ``levels + 1`` tensors, finest first; each has ``ceil(n / 2)`` samples an axis.

    Raises
    ------
    ValueError
        If ``levels`` is negative, ``x`` has no spatial axis, or the kernel is unknown.
    """
    if levels < 0:
        raise ValueError(f"levels must be 0 or more, got {levels}")
    out = [x]
    for _ in range(levels):
        fine = out[-1]
        out.append(_apply(fine, [_reduce_matrix(n, kernel) for n in _spatial(fine)]))
    return out


def expand(x: Tensor, size: Sequence[int], *, kernel: Kernel = "binomial") -> Tensor:
    """Interpolate a pyramid level to the size of the finer one.

    ``binomial`` keeps a constant exactly constant (gain 1 in the even and the odd phase);
    ``paper`` has the published gains 1.0232 and 0.9768.

    Parameters
    ----------
    x : (N, C, *spatial) float
    size : sequence of int
        Spatial size of the finer level; ``x`` must have ``ceil(n / 2)`` samples an axis.
    kernel : {"binomial", "paper"}

    Returns
    -------
    Tensor of shape (N, C, *size)
    """
    return _apply(x, [_expand_matrix(n, kernel) for n in size])


def laplacian_pyramid(x: Tensor, levels: int, *, kernel: Kernel = "binomial") -> list[Tensor]:
    """Split an image into ``levels`` band-pass images and a base.

    :func:`collapse` of the result gives ``x`` again for every kernel, size and number of levels,
    up to rounding (Burt & Adelson 1983, section II).

    Parameters
    ----------
    x : (N, C, *spatial) float, any range
    levels : int
    kernel : {"binomial", "paper"}

    Returns
    -------
    list of Tensor
        Bands, finest first, then the base.
    """
    gauss = gaussian_pyramid(x, levels, kernel=kernel)
    bands = [
        fine - expand(coarse, _spatial(fine), kernel=kernel) for fine, coarse in pairwise(gauss)
    ]
    return [*bands, gauss[-1]]


def collapse(bands: Sequence[Tensor], *, kernel: Kernel = "binomial") -> Tensor:
    """Add the bands of a Laplacian pyramid up again, coarsest first.

    Parameters
    ----------
    bands : sequence of (N, C, *spatial) float
        Bands, finest first, then the base.
    kernel : {"binomial", "paper"}

    Returns
    -------
    Tensor of the shape of ``bands[0]``
    """
    out = bands[-1]
    for band in reversed(bands[:-1]):
        out = band + expand(out, _spatial(band), kernel=kernel)
    return out


def weight_pyramid(weights: Tensor, levels: int, *, kernel: Kernel = "binomial") -> list[Tensor]:
    """Bring one full-resolution weight map to every level.

    ``binomial`` uses the low-pass of the images themselves, so a weight never aliases;
    ``paper`` samples the map bilinearly, without a low-pass, as published.

    Parameters
    ----------
    weights : (N, 1, *spatial) float in [0, 1]
    levels : int
    kernel : {"binomial", "paper"}

    Returns
    -------
    list of Tensor
        ``levels + 1`` maps in [0, 1], finest first.
    """
    if kernel == "binomial":
        return gaussian_pyramid(weights, levels, kernel=kernel)
    out, size = [weights], _spatial(weights)
    for _ in range(levels):
        size = [-(-n // 2) for n in size]
        pairs = zip(size, _spatial(weights), strict=True)
        out.append(_apply(weights, [_bilinear_matrix(m, n) for m, n in pairs]))
    return out


def reduce_axis(x: Tensor, axis: int, *, kernel: Kernel = "binomial") -> Tensor:
    """Low-pass and halve along one axis alone; a level halves along all of its axes.

    Parameters
    ----------
    x : float Tensor of any shape
    axis : int
    kernel : {"binomial", "paper"}
    """
    first = x.movedim(axis, 0)
    matrix = torch.as_tensor(_reduce_matrix(len(first), kernel), dtype=x.dtype, device=x.device)
    half = matrix @ first.reshape(len(first), -1)
    return half.reshape(-1, *first.shape[1:]).movedim(0, axis)


def reduce_part(fine: Tensor, part: slice, *, kernel: Kernel = "binomial") -> Tensor:
    """Some slices of the next coarser level of a volume.

    Parameters
    ----------
    fine : (S, R, K) float
    part : slice
        Of the ``ceil(S / 2)`` slices; only what they are made of is read.
    kernel : {"binomial", "paper"}

    Returns
    -------
    Tensor of shape (n, ceil(R / 2), ceil(K / 2))
    """
    return _apply_part(fine, [_reduce_matrix(n, kernel) for n in fine.shape], part)


def expand_part(
    coarse: Tensor, size: Sequence[int], part: slice, *, kernel: Kernel = "binomial"
) -> Tensor:
    """Some slices of :func:`expand` of a volume (S, R, K); see :func:`reduce_part`."""
    return _apply_part(coarse, [_expand_matrix(n, kernel) for n in size], part)


def sample_part(fine: Tensor, size: Sequence[int], part: slice) -> Tensor:
    """Some slices of a volume (S, R, K) sampled bilinearly; see :func:`reduce_part`."""
    pairs = zip(size, fine.shape, strict=True)
    return _apply_part(fine, [_bilinear_matrix(m, n) for m, n in pairs], part)


def _apply_part(x: Tensor, matrices: Sequence[np.ndarray], part: slice) -> Tensor:
    """Multiply all axes of (S, R, K) by one matrix each, as far as some slices need it."""
    rows = matrices[0][part]
    used = np.flatnonzero(rows.any(axis=0))
    first, last = int(used[0]), int(used[-1]) + 1
    return _apply(x[None, None, first:last], [rows[:, first:last], *matrices[1:]])[0, 0]


def _spatial(x: Tensor) -> list[int]:
    if x.ndim < 3:
        raise ValueError(f"expected (N, C, spatial...), got shape {tuple(x.shape)}")
    return list(x.shape[2:])


def _apply(x: Tensor, matrices: Sequence[np.ndarray]) -> Tensor:
    """Multiply axis 2, 3, ... of ``x`` by one matrix each."""
    for axis, matrix in enumerate(matrices, start=2):
        m = torch.as_tensor(matrix, dtype=x.dtype, device=x.device)
        if axis == x.ndim - 1:
            x = x @ m.T
        else:
            shape = x.shape
            flat = m @ x.reshape(*shape[: axis + 1], -1)
            x = flat.reshape(*shape[:axis], m.shape[0], *shape[axis + 1 :])
    return x


def _mirror(index: np.ndarray, n: int) -> np.ndarray:
    """Reflect indices about the first and last sample (no sample is doubled)."""
    if n == 1:
        return np.zeros_like(index)
    index = np.abs(index) % (2 * n - 2)
    mirrored: np.ndarray = np.minimum(index, 2 * n - 2 - index)
    return mirrored


@lru_cache(maxsize=256)
def _reduce_matrix(n: int, kernel: str) -> np.ndarray:
    """(ceil(n/2), n): filter with the five taps, keep every second sample."""
    taps, mirrored = _taps(kernel)
    out = np.zeros((-(-n // 2), n))
    centre = 2 * np.arange(out.shape[0])
    for offset, tap in zip(range(-2, 3), taps, strict=True):
        _add(out, np.arange(len(centre)), centre + offset, tap, mirrored)
    return out


@lru_cache(maxsize=256)
def _expand_matrix(n: int, kernel: str) -> np.ndarray:
    """(n, ceil(n/2)): insert zeros, filter with twice the five taps."""
    taps, mirrored = _taps(kernel)
    m = -(-n // 2)
    length = n if mirrored else 2 * m
    full = np.zeros((length, length))
    for offset, tap in zip(range(-2, 3), taps, strict=True):
        _add(full, np.arange(length), np.arange(length) + offset, 2 * tap, mirrored)
    out = full[:, ::2]
    if mirrored:
        scaled: np.ndarray = out / out.sum(axis=1, keepdims=True)  # sums are 1 unless n == 1
        return scaled
    return out if length == n else _bilinear_matrix(n, length) @ out


@lru_cache(maxsize=256)
def _bilinear_matrix(m: int, n: int) -> np.ndarray:
    """(m, n): bilinear resampling of n samples to m with aligned edges, no low-pass."""
    position = np.clip((np.arange(m) + 0.5) * n / m - 0.5, 0, None)
    low = np.minimum(position.astype(int), n - 1)
    high = np.minimum(low + 1, n - 1)
    out = np.zeros((m, n))
    np.add.at(out, (np.arange(m), low), 1 - (position - low))
    np.add.at(out, (np.arange(m), high), position - low)
    return out


def _taps(kernel: str) -> tuple[np.ndarray, bool]:
    if kernel not in KERNELS:
        raise ValueError(f"kernel must be one of {', '.join(KERNELS)}, got {kernel!r}")
    return (_BINOMIAL, True) if kernel == "binomial" else (_GAUSS, False)


def _add(
    out: np.ndarray, rows: np.ndarray, columns: np.ndarray, tap: float, mirrored: bool
) -> None:
    n = out.shape[1]
    if mirrored:
        np.add.at(out, (rows, _mirror(columns, n)), tap)
        return
    inside = (columns >= 0) & (columns < n)
    np.add.at(out, (rows[inside], columns[inside]), tap)
