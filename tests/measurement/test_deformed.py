"""Regions through a local deformation: where they come to, how large they are, what is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from medfuse.imaging.grid import Grid, transform_points
from medfuse.measurement.deformed import ESTIMATED, MOST_CELLS, deformed
from medfuse.measurement.measure import measure
from medfuse.measurement.region import Region, Sphere
from medfuse.registration.deformation import Deformation
from tests._helpers.motions import registration, rigid
from tests._helpers.regions import image

MATRIX = rigid((6.0, -4.0, 9.0), (8.0, -5.0, 3.0))
NARROW = -0.2


@pytest.fixture(scope="module")
def found():
    """Along x a fifth shorter about x = 40 mm, and moved by 4 mm along y."""
    lattice = Grid((11, 9, 9), np.diag([10.0, 10.0, 10.0, 1.0]))
    shifts = np.zeros((*lattice.shape, 3), np.float32)
    shifts[..., 0] = NARROW * (10.0 * np.arange(11) - 40.0)[:, None, None]
    shifts[..., 1] = 4.0
    grid = Grid((50, 40, 40), np.diag([2.0, 2.0, 2.0, 1.0]))
    return replace(registration(MATRIX, grid), deformation=Deformation(lattice, shifts))


def arrived(points: np.ndarray) -> np.ndarray:
    shifts = np.stack([NARROW * (points[:, 0] - 40), np.full(len(points), 4.0), 0 * points[:, 0]])
    return transform_points(MATRIX, points + shifts.T)


def ball(centre: tuple[float, float, float], radius: float) -> Region:
    return Sphere("lesion", centre, radius).region()


def test_a_region_comes_to_where_its_points_come_to(found):
    region = ball((55.0, 38.0, 42.0), 9.0)
    there = deformed(region, found, "functional")
    expected = arrived(np.array([[55.0, 38.0, 42.0]]))[0]
    np.testing.assert_allclose(there.centre, expected, atol=0.1)
    assert there.volume_ml == pytest.approx(region.volume_ml * (1 + NARROW), rel=0.02)
    assert (there.space, there.name, there.kind) == ("functional", "lesion", region.kind)


def test_there_and_back_is_where_it_was(found):
    region = ball((30.0, 40.0, 40.0), 10.0)
    back = deformed(deformed(region, found, "functional"), found, "anatomical")
    np.testing.assert_allclose(back.centre, region.centre, atol=0.1)
    assert back.volume_ml == pytest.approx(region.volume_ml, rel=0.03)
    assert deformed(region, found, "anatomical") is region


def test_a_large_region_of_small_voxels_stays_small_in_memory(found):
    weights = np.ones((150, 130, 130), np.uint8)
    region = Region("body", weights, Grid(weights.shape, np.diag([0.5, 0.5, 0.5, 1])), "anatomical")
    there = deformed(region, found, "functional")
    assert there.weights.size <= 1.2 * MOST_CELLS
    assert there.volume_ml == pytest.approx(region.volume_ml * (1 + NARROW), rel=0.05)


def test_a_region_drawn_on_the_mri_is_measured_where_the_deformation_has_it(found):
    grid = Grid((50, 42, 44), MATRIX @ np.diag([2.0, 2.0, 2.0, 1.0]))
    at = transform_points(grid.affine, np.argwhere(np.ones(grid.shape)))
    lesion = np.array([55.0, 38.0, 42.0])
    values = np.linalg.norm(at - arrived(lesion[None])[0], axis=1).reshape(grid.shape) < 6.0
    pet = image(1.0 + 9.0 * values, grid.affine)
    mri = image(
        np.zeros(found.fixed_grid.shape), (2.0, 2.0, 2.0), modality="MRI", role="anatomical"
    )
    (row,) = measure(pet, [ball(tuple(lesion), 6.0)], anatomical=mri, registration=found)
    assert row.mean > 8.5
    assert ESTIMATED in row.remark
    rigid_only = replace(found, deformation=None)
    (other,) = measure(pet, [ball(tuple(lesion), 6.0)], anatomical=mri, registration=rigid_only)
    assert other.mean < 7.0
    assert ESTIMATED not in other.remark
    own = replace(ball(tuple(arrived(lesion[None])[0]), 6.0), space="functional")
    (row,) = measure(pet, [own], anatomical=mri, registration=found)
    assert row.mean > 8.5
    assert ESTIMATED not in row.remark
