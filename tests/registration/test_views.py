"""What a deformation looks at: distances to the edge of a field of view, and lattices."""

from __future__ import annotations

import numpy as np
import pytest

from medfuse.imaging.grid import Grid
from medfuse.registration.views import axes_of, lattice, nodes_of, to_edge_mm


def test_the_distance_to_the_edge_is_in_mm_and_negative_outside() -> None:
    grid = Grid((10, 20, 30), np.diag([2.0, 3.0, 4.0, 1.0]))
    points = [grid.centre, [-1.0, 30.0, 60.0], [9.0, 30.0, 122.0]]
    assert to_edge_mm(grid, np.array(points)) == pytest.approx([10.0, 0.0, -4.0])


def test_a_lattice_covers_its_box() -> None:
    low, high = np.array([-7.0, 2.0, 3.0]), np.array([8.0, 20.0, 33.0])
    made = lattice(low, high, 4.0)
    nodes = nodes_of(made)
    assert (nodes.min(axis=0) == low).all()
    assert (nodes.max(axis=0) >= high).all()
    assert nodes.max(axis=0) == pytest.approx([axis[-1] for axis in axes_of(made)])
