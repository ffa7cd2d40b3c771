"""Displacements as cubic B-splines on a lattice, and the energy that holds them together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: Weights against mutual information (nats), set on persons: docs/lab/registration.md.
SHEAR, BENDING = 5.0, 10.0


@dataclass
class Spline:
    """Displacements as cubic B-splines: coefficients (3, I, J, K), mm, at `axes`."""

    axes: list[NDArray[np.float64]]
    step: float
    coefficients: Tensor

    @classmethod
    def over(cls, low: NDArray[np.float64], high: NDArray[np.float64], step: float) -> Spline:
        counts = [int(np.ceil((h - lo) / step)) + 3 for lo, h in zip(low, high, strict=True)]
        axes = [lo + step * (np.arange(n) - 1) for lo, n in zip(low, counts, strict=True)]
        return cls(axes, step, torch.zeros((3, *counts)))

    def filled(self, shifts: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Spline:
        """Splines that follow a smooth displacement of (N, 3) points, (N, 3) mm, closely."""
        nodes = np.stack(np.meshgrid(*self.axes, indexing="ij"), axis=-1)
        values = shifts(nodes.reshape(-1, 3)).reshape(nodes.shape)
        return Spline(self.axes, self.step, torch.from_numpy(values).float().permute(3, 0, 1, 2))

    def weights(self, at: list[NDArray[np.float64]]) -> list[Tensor]:
        """(len(at), n) value of each spline at coordinates along each axis."""
        found = []
        for axis, points in zip(self.axes, at, strict=True):
            away = np.abs(points[:, None] - axis[None]) / self.step
            found.append(cubic(torch.from_numpy(away)).float())
        return found

    def dense(self, at: list[NDArray[np.float64]]) -> Tensor:
        """(3, X, Y, Z) displacement on a lattice; beyond the splines that of their edge."""
        inner = [np.clip(p, a[1], a[-2]) for p, a in zip(at, self.axes, strict=True)]
        return product(self.coefficients, self.weights(inner))


def cubic(away: Tensor) -> Tensor:
    """The cubic B-spline at distances from its middle, in steps."""
    near, far = 2 / 3 - away**2 + away**3 / 2, (2 - away).clamp_min(0) ** 3 / 6
    return torch.where(away < 1, near, far)


def product(coefficients: Tensor, weights: list[Tensor]) -> Tensor:
    x, y, z = weights
    along_x = torch.einsum("cijk,xi->cxjk", coefficients, x)
    return torch.einsum("cxyk,zk->cxyz", torch.einsum("cxjk,yj->cxyk", along_x, y), z)


def energy(spline: Spline, coefficients: Tensor) -> Tensor:
    """Mean squared strain and curvature of a spline, which rigid motion is nearly free of."""
    inner = (slice(None), slice(1, -1), slice(1, -1), slice(1, -1))
    h = spline.step

    def moved(*steps: int) -> Tensor:
        return coefficients.roll(steps, (1, 2, 3))[inner]

    unit = torch.eye(3, dtype=torch.long).tolist()
    slopes = torch.stack([(moved(*[-s for s in e]) - moved(*e)) / (2 * h) for e in unit], dim=1)
    strain = 0.5 * (slopes + slopes.transpose(0, 1))
    energy = SHEAR * (strain**2).sum((0, 1)).mean()
    for a in range(3):
        there, back = [-s for s in unit[a]], unit[a]
        bent = (moved(*there) - 2 * moved(0, 0, 0) + moved(*back)) / h
        energy = energy + BENDING * (bent**2).sum(0).mean()
        for b in range(a + 1, 3):
            both = [x + y for x, y in zip(unit[a], unit[b], strict=True)]
            across = [x - y for x, y in zip(unit[a], unit[b], strict=True)]
            twist = moved(*both) + moved(*[-s for s in both])
            twist = (twist - moved(*across) - moved(*[-s for s in across])) / (4 * h)
            energy = energy + 2 * BENDING * (twist**2).sum(0).mean()
    return energy
