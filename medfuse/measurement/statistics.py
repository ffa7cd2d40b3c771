"""Numbers of values with weights: each voxel counts by the part of it that lies in the region."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

PERCENTILES = (5, 25, 50, 75, 95)
#: A voxel belongs to the region, where that is yes or no, if so much of it lies inside.
HALF = 0.5


@dataclass(frozen=True)
class Statistics:
    """Of the values of a region.

    Attributes
    ----------
    voxels : float
        Sum of the weights.
    maximum : float
        Highest value of the voxels of which half or more is inside; of all, where none is.
    mean, sd : float
        With weights; the standard deviation is that of the region itself (divided by the sum of
        the weights, not by one less).
    percentiles : (5,) float
        5th, 25th, 50th, 75th and 95th: the lowest value up to which so much of the region lies.

    References
    ----------
    Image Biomarker Standardisation Initiative, reference manual (arXiv:1612.07003), section 3.3:
    population variance (ECT3), percentiles.
    """

    voxels: float
    maximum: float
    mean: float
    sd: float
    percentiles: tuple[float, ...]

    @classmethod
    def of(cls, values: NDArray[Any], weights: NDArray[Any]) -> Statistics:
        """Of (N,) values with (N,) positive weights, N > 0."""
        values, heavy = values.astype(np.float64), weights.astype(np.float64)
        total = float(heavy.sum())
        mean = weighted(values, heavy) / total
        variance = weighted((values - mean) ** 2, heavy) / total
        own = values[weights >= HALF]
        return cls(
            voxels=total,
            maximum=float((own if len(own) else values).max()),
            mean=mean,
            sd=variance**0.5,
            percentiles=_percentiles(values, heavy, total),
        )


def weighted(values: NDArray[Any], weights: NDArray[np.float64]) -> float:
    """Sum of (N,) values times weights; not by BLAS, which rounds by the number of threads."""
    return float((values * weights).sum(dtype=np.float64))


def _percentiles(
    values: NDArray[np.float64], weights: NDArray[np.float64], total: float
) -> tuple[float, ...]:
    order = np.argsort(values, kind="stable")
    up_to = np.cumsum(weights[order])
    wanted = np.array(PERCENTILES) / 100 * total * (1 - 1e-12)
    found = np.minimum(np.searchsorted(up_to, wanted), len(order) - 1)
    return tuple(float(value) for value in values[order][found])


def above(
    values: NDArray[Any], weights: NDArray[Any], low: float, voxel_ml: float
) -> tuple[float, float]:
    """Volume (ml) with values of `low` or more, and the sum of these values times volume."""
    hot = values >= low
    heavy = weights[hot].astype(np.float64)
    return float(heavy.sum()) * voxel_ml, weighted(values[hot], heavy) * voxel_ml
