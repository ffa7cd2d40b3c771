"""The peak of a region: the highest mean in a sphere of 1 ml.

References
----------
Wahl et al., J Nucl Med 50 Suppl 1, 2009 (PERCIST): SUVpeak, a 1 cm3 sphere about 1.2 cm across.
Boellaard et al., Eur J Nucl Med Mol Imaging 42, 2015 (EANM 2.0): the average in a 1 cm3 sphere,
placed where it is highest. IBSI reference manual, 3.2.2: global intensity peak, in which the sphere
is put on every voxel of the region and may hold voxels outside of it. Here voxels that the sphere
cuts count by the part inside; IBSI takes them wholly or not at all, by their centers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PEAK_ML = 1.0
RADIUS_MM = (3 * 1000 * PEAK_ML / (4 * np.pi)) ** (1 / 3)  # 6.2 mm
#: A sphere of which less than this lies in the field of view has no mean.
LEAST_INSIDE = 0.5
_POINTS = 8  # along each axis of a voxel
_PLANES = 64  # at a time


def sphere_kernel(affine: NDArray[np.float64], radius_mm: float = RADIUS_MM) -> NDArray[np.float64]:
    """(2a+1, 2b+1, 2c+1) part of each voxel inside of a sphere about the middle one; sum 1."""
    linear = np.asarray(affine, dtype=np.float64)[:3, :3]
    reach = np.linalg.norm(np.linalg.inv(linear), axis=1) * radius_mm + 0.5
    half = np.maximum(np.ceil(reach - 0.5 - 1e-9).astype(int), 0)
    fine = (np.arange(_POINTS) + 0.5) / _POINTS - 0.5
    axes = [(np.arange(-h, h + 1)[:, None] + fine).ravel() for h in half]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    inside = sum((row[0] * x + row[1] * y + row[2] * z) ** 2 for row in linear) <= radius_mm**2
    shape = [n for h in half for n in (2 * int(h) + 1, _POINTS)]
    kernel = inside.reshape(shape).mean(axis=(1, 3, 5))
    return np.asarray(kernel / kernel.sum())


class SphereMeans:
    """Means in the sphere about each voxel of a volume.

    Parameters
    ----------
    values : (X, Y, Z) float32
    inside : (X, Y, Z) bool, optional
        Voxels that were measured; default all.
    affine : (4, 4) array
    """

    def __init__(
        self,
        values: NDArray[np.float32],
        affine: NDArray[np.float64],
        inside: NDArray[np.bool_] | None = None,
    ) -> None:
        self.values = values
        self.inside = inside
        self.kernel = sphere_kernel(affine)
        self.half = np.array(self.kernel.shape) // 2

    def of_box(self, start: NDArray[np.int64], stop: NDArray[np.int64]) -> NDArray[np.float64]:
        """Means about the voxels of a box; NaN where most of the sphere was not measured."""
        parts = [
            self._means(np.array([x, *start[1:]]), np.array([min(x + _PLANES, stop[0]), *stop[1:]]))
            for x in range(int(start[0]), int(stop[0]), _PLANES)
        ]
        return np.concatenate(parts)

    def _means(self, start: NDArray[np.int64], stop: NDArray[np.int64]) -> NDArray[np.float64]:
        low, high = start - self.half, stop + self.half
        first, last = np.maximum(low, 0), np.minimum(high, self.values.shape)
        cut = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
        pad = list(zip(first - low, high - last, strict=True))
        values = np.pad(self.values[cut].astype(np.float64), pad)
        held = self.inside[cut] if self.inside is not None else np.ones(values[()].shape, bool)
        if self.inside is None and (first == low).all() and (last == high).all():
            return _convolved(values, self.kernel)
        if self.inside is None:
            held = np.ones([int(b - a) for a, b in zip(first, last, strict=True)], dtype=bool)
        known = np.pad(held.astype(np.float64), pad)
        share = _convolved(known, self.kernel)
        sums = _convolved(values * known, self.kernel)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(share >= LEAST_INSIDE - 1e-9, sums / share, np.nan)


def _convolved(values: NDArray[np.float64], kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums over a symmetric kernel, where it lies wholly in `values`."""
    size = [_fast(n) for n in values.shape]
    spectrum = np.fft.rfftn(values, size, axes=(0, 1, 2))
    spectrum *= np.fft.rfftn(kernel, size, axes=(0, 1, 2))
    found = np.fft.irfftn(spectrum, size, axes=(0, 1, 2))
    edges = zip(kernel.shape, values.shape, strict=True)
    return found[tuple(slice(k - 1, n) for k, n in edges)]


def _fast(size: int) -> int:
    """The next length that has no prime factor above 5."""
    while True:
        rest = size
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return size
        size += 1
