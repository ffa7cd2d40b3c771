"""Cubic B-splines: what they reproduce exactly, and what their energy is blind to."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medfuse.registration.splines import Spline, energy

LOW, HIGH = np.array([-50.0, -40.0, -30.0]), np.array([60.0, 55.0, 45.0])


def spline(slopes: np.ndarray) -> Spline:
    """Displacements that change by `slopes` mm each mm."""
    made = Spline.over(LOW, HIGH, 20.0)
    nodes = torch.from_numpy(np.stack(np.meshgrid(*made.axes, indexing="ij"))).float()
    made.coefficients = torch.einsum("ca,axyz->cxyz", torch.from_numpy(slopes).float(), nodes)
    return made


def test_a_linear_displacement_is_reproduced_inside_and_kept_at_the_edge_beyond() -> None:
    slopes = np.random.default_rng(2).normal(size=(3, 3))
    at = [np.linspace(lo, hi, 7) for lo, hi in zip(LOW, HIGH, strict=True)]
    points = np.stack(np.meshgrid(*at, indexing="ij"))
    shown = spline(slopes).dense(at).numpy()
    assert shown == pytest.approx(np.einsum("ca,axyz->cxyz", slopes, points), abs=1e-3)
    beyond = [axis + 500.0 for axis in at]
    assert np.ptp(spline(slopes).dense(beyond).numpy(), axis=(1, 2, 3)) == pytest.approx(
        0, abs=1e-3
    )


def test_the_energy_sees_strain_and_not_a_turn() -> None:
    turn = np.array([[0, -0.05, 0], [0.05, 0, 0], [0, 0, 0.0]])
    stretch = np.diag([0.05, 0, 0])
    turned, stretched = (spline(slopes) for slopes in (turn, stretch))
    assert float(energy(turned, turned.coefficients)) == pytest.approx(0, abs=1e-6)
    assert float(energy(stretched, stretched.coefficients)) == pytest.approx(5 * 0.05**2, rel=1e-3)
