"""The peak against brute force and against spheres whose mean is known."""

from __future__ import annotations

import numpy as np
import pytest

from medfuse.measurement.measure import measure
from medfuse.measurement.peak import RADIUS_MM, SphereMeans, sphere_kernel
from medfuse.measurement.region import Region
from tests._helpers.ibsi import STEP_MM, ibsi_means, ibsi_phantom
from tests._helpers.regions import image


def test_the_sphere_holds_one_millilitre():
    assert 4 / 3 * np.pi * RADIUS_MM**3 == pytest.approx(1000)


@pytest.mark.parametrize(
    "spacing", [(2.0, 2.0, 2.0), (4.07, 4.07, 3.0), (1.0, 1.5, 5.0), (20, 20, 20)]
)
def test_kernel_has_the_second_moment_of_a_ball(spacing):
    kernel = sphere_kernel(np.diag([*spacing, 1.0]))
    assert kernel.sum() == pytest.approx(1)
    assert np.array_equal(kernel, kernel[::-1, ::-1, ::-1])
    # Each axis of a ball has the variance r^2 / 5; the voxels add their own.
    for axis, step in enumerate(spacing):
        at = (np.arange(kernel.shape[axis]) - kernel.shape[axis] // 2) * step
        along = kernel.sum(axis=tuple(a for a in range(3) if a != axis))
        if step < RADIUS_MM:
            assert along @ at**2 == pytest.approx(RADIUS_MM**2 / 5 + step**2 / 12, rel=0.1)


def test_means_are_those_of_brute_force_also_at_the_edge():
    rng = np.random.default_rng(1)
    values = rng.random((13, 12, 11)).astype(np.float32)
    affine = np.diag([3.0, 2.5, 4.0, 1.0])
    inside = rng.random(values.shape) > 0.2
    for held in (None, inside):
        means = SphereMeans(values, affine, held)
        found = means.of_box(np.zeros(3, int), np.array(values.shape))
        kernel = means.kernel
        half = np.array(kernel.shape) // 2
        known = np.ones(values.shape) if held is None else held.astype(float)
        for at in [(0, 0, 0), (6, 6, 5), (12, 11, 10), (2, 9, 3)]:
            total = weight = 0.0
            for offset in np.ndindex(kernel.shape):
                place = np.array(at) + offset - half
                if (place >= 0).all() and (place < values.shape).all():
                    w = kernel[offset] * known[tuple(place)]
                    total, weight = total + w * values[tuple(place)], weight + w
            expected = total / weight if weight >= 0.5 else np.nan
            assert found[at] == pytest.approx(expected, rel=1e-9, nan_ok=True)


def test_peak_is_the_highest_sphere_on_the_region_and_may_reach_beyond_it():
    values = np.zeros((21, 21, 21))
    values[10, 10, 10] = 100
    hot = image(values, (2, 2, 2))
    near = np.zeros(values.shape, bool)
    near[8, 10, 10] = True  # 4 mm beside: its sphere holds the hot voxel
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    row = measure(hot, [Region.cut("near", near, affine, "functional")])[0]
    assert row.max == 0
    assert row.peak == pytest.approx(100 * 0.008, rel=0.02)  # one voxel of 8 ul in 1 ml


def test_peaks_of_the_ibsi_phantom_are_those_published():
    """The rule of IBSI that the next test compares with: local peak 2.6, global peak 3.1."""
    values, mask, _ = ibsi_phantom()
    means = ibsi_means(values, mask, STEP_MM)
    hottest = values[mask] == values[mask].max()
    assert round(means[hottest].max(), 1) == 2.6
    assert round(means.max(), 1) == 3.1


def test_a_sphere_that_lies_mostly_outside_of_the_image_gives_no_peak():
    """The phantom is smaller than the sphere: IBSI has its peak at a corner, medfuse within."""
    values, mask, affine = ibsi_phantom()
    row = measure(image(values, affine), [Region.cut("m", mask, affine, "functional")])[0]
    assert 2.4 < row.peak < 2.6


def test_peak_agrees_with_the_global_peak_of_ibsi():
    """IBSI takes voxels wholly or not at all by their centers: near, and not equal."""
    x, y, z = np.meshgrid(*[np.arange(30.0)] * 3, indexing="ij")
    values = 8 * np.exp(-((x - 14) ** 2 + (y - 13) ** 2 + (z - 16) ** 2) / 18) + 1 + x / 30
    mask = np.zeros(values.shape, bool)
    mask[8:22, 9:20, 10:21] = True
    near = values[2:28, 3:27, 4:28], mask[2:28, 3:27, 4:28]
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    row = measure(image(values, affine), [Region.cut("m", mask, affine, "functional")])[0]
    assert row.peak == pytest.approx(ibsi_means(*near, 2.0).max(), rel=0.03)
