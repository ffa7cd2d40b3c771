"""Lines around regions: of each region, at its voxels, and on none of them."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.path import Path as Polygon

from medfuse.imaging.grid import DisplayOrder, Grid
from medfuse.results.outlines import Outlines, Piece, draw_outlines, region_rgb, rings

SHAPE = (9, 8, 7)


@pytest.fixture(scope="module")
def masks() -> dict[int, np.ndarray]:
    """A region with a hole, a smaller one inside of it, and one that touches a face of the grid."""
    large, small, edge = (np.zeros(SHAPE, bool) for _ in range(3))
    large[1:8, 1:7, 1:6] = True
    large[5:7, 4:6, 2:5] = False
    small[2:4, 2:4, 2:4] = True
    edge[0:2, 6:8, 5:7] = True
    return {1: small, 2: large, 3: edge}


@pytest.fixture(scope="module")
def outlines(masks: dict[int, np.ndarray]) -> Outlines:
    pieces = []
    for label, mask in masks.items():
        low, high = np.argwhere(mask).min(axis=0), np.argwhere(mask).max(axis=0) + 1
        x, y, z = low.tolist()
        cut = mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        pieces.append(Piece(label, cut, (x, y, z)))
    return Outlines(SHAPE, ("a", "b", "c"), tuple(pieces))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_slice_has_the_voxels_of_each_region_however_it_is_turned(
    masks: dict[int, np.ndarray], outlines: Outlines, axis: int, sign: int
) -> None:
    grid = Grid(SHAPE, np.diag([sign * 1.0, 2.0, sign * 3.0, 1.0]))
    order = DisplayOrder.from_grid(grid, axis=axis)
    turned = {label: np.asarray(order.apply(mask)) for label, mask in masks.items()}
    assert outlines.slices(order) == np.flatnonzero(
        np.any([t.any(axis=(1, 2)) for t in turned.values()], axis=0)
    ).tolist()  # fmt: skip
    for index in range(SHAPE[axis]):
        found = dict(outlines.cut(order, index))
        assert set(found) == {label for label, t in turned.items() if t[index].any()}
        for label, mask in found.items():
            assert np.array_equal(mask, turned[label][index])
    for label, mask in outlines.cut(order, None):
        assert np.array_equal(mask, turned[label].any(axis=0))


def test_where_regions_overlap_the_smaller_one_has_the_label(
    masks: dict[int, np.ndarray], outlines: Outlines
) -> None:
    labels = outlines.labels()
    assert np.array_equal(labels == 1, masks[1])
    assert np.array_equal(labels == 2, masks[2] & ~masks[1] & ~masks[3])


def test_no_voxel_of_a_region_is_hidden_by_its_line_and_an_inner_one_keeps_its_color(
    masks: dict[int, np.ndarray],
) -> None:
    image = np.zeros((SHAPE[0], SHAPE[1], 3), np.uint8)
    large, small = masks[2][..., 3], masks[1][..., 3]
    drawn = draw_outlines(image, [(1, small)])
    assert not drawn[small].any()
    line = (drawn == region_rgb(1)).all(axis=-1)
    near = np.zeros_like(small)
    near[1:5, 1:5] = True
    assert np.array_equal(line, near & ~small)
    both = draw_outlines(image, [(1, small), (2, large)])
    assert np.array_equal((both == region_rgb(1)).all(axis=-1), line), "the ring within the other"
    assert not image.any(), "the picture that was given is as it was"


def test_rings_enclose_the_pixels_of_a_mask_and_not_its_holes(masks: dict[int, np.ndarray]) -> None:
    for mask in (masks[2][..., 3], masks[3][..., 5], masks[1][..., 2]):
        lines = rings(mask)
        assert all(np.array_equal(line[0], line[-1]) for line in lines)
        rows, columns = np.indices(mask.shape) + 0.5
        centers = np.column_stack([columns.ravel(), rows.ravel()])
        inside = sum(Polygon(line).contains_points(centers).astype(int) for line in lines) % 2
        assert np.array_equal(inside.reshape(mask.shape).astype(bool), mask)
        assert min(line.min() for line in lines) >= 0
