"""Grids: places of voxels, conversion to ITK, coverage, display order."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medfuse.errors import GeometryError
from medfuse.imaging.grid import (
    DisplayOrder,
    Grid,
    coverage,
    from_sitk,
    lps_from_ras,
    slice_axis,
    to_sitk,
    transform_points,
)

angles = st.floats(-180.0, 180.0)
small_shapes = st.tuples(*[st.integers(1, 7)] * 3)
spacings = st.tuples(*[st.floats(0.3, 6.0)] * 3)
offsets = st.tuples(*[st.floats(-20.0, 20.0)] * 3)


def rotation(x_deg: float, y_deg: float, z_deg: float) -> np.ndarray:
    """Rotation about the world axes, x first."""
    turned = np.eye(3)
    for axis, angle in enumerate(np.radians([x_deg, y_deg, z_deg])):
        step = np.eye(3)
        a, b = [k for k in range(3) if k != axis]
        step[[a, a, b, b], [a, b, a, b]] = [
            np.cos(angle),
            -np.sin(angle),
            np.sin(angle),
            np.cos(angle),
        ]
        turned = step @ turned
    return turned


def affine(turn: np.ndarray, spacing: tuple[float, ...], offset: tuple[float, ...]) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = turn * np.array(spacing)
    matrix[:3, 3] = offset
    return matrix


@st.composite
def affines(draw: st.DrawFn) -> np.ndarray:
    turn = rotation(draw(angles), draw(angles), draw(angles))
    flip = np.array(draw(st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3)))
    return affine(turn * flip, draw(spacings), draw(offsets))


@given(affines(), small_shapes)
@settings(max_examples=60)
def test_array_and_affine_survive_the_way_through_itk(matrix: np.ndarray, shape: tuple) -> None:
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    back, back_affine = from_sitk(to_sitk(array, matrix))
    np.testing.assert_array_equal(back, array)
    np.testing.assert_allclose(back_affine, matrix, atol=1e-9)


def test_voxel_of_known_value_is_at_its_place_in_itk_world() -> None:
    array = np.zeros((3, 4, 5), np.float32)
    array[2, 1, 3] = 7.0
    matrix = affine(rotation(10, -20, 30), (1.0, 2.0, 3.0), (4.0, -5.0, 6.0))
    image = to_sitk(array, matrix)
    assert image.GetSize() == (3, 4, 5)
    assert image.GetSpacing() == pytest.approx((1.0, 2.0, 3.0))
    ras = transform_points(matrix, [2, 1, 3])
    lps = (-ras[0], -ras[1], ras[2])
    assert image.TransformPhysicalPointToIndex(lps) == (2, 1, 3)
    assert image[2, 1, 3] == 7.0


def test_point_map_means_the_same_in_lps_as_in_ras() -> None:
    matrix = affine(rotation(5, 6, 7), (1, 1, 1), (1.0, 2.0, 3.0))
    point = np.array([10.0, 20.0, 30.0])
    flip = np.array([-1.0, -1.0, 1.0])
    mapped = transform_points(lps_from_ras(matrix), point * flip) * flip
    np.testing.assert_allclose(mapped, transform_points(matrix, point))


def covered_one_by_one(grid: Grid, source: Grid, source_from_grid: np.ndarray) -> np.ndarray:
    """Naive oracle: every voxel centre on its own."""
    to_index = np.linalg.inv(source.affine) @ source_from_grid @ grid.affine
    inside = np.zeros(grid.shape, bool)
    for index in np.ndindex(grid.shape):
        at = transform_points(to_index, index)
        inside[index] = all(
            -0.5 + 1e-6 <= a <= n - 0.5 - 1e-6 for a, n in zip(at, source.shape, strict=True)
        )
    return inside


@given(affines(), affines(), affines(), small_shapes, small_shapes)
@settings(max_examples=60)
def test_coverage_is_what_asking_every_voxel_gives(
    one: np.ndarray, two: np.ndarray, move: np.ndarray, shape: tuple, other_shape: tuple
) -> None:
    grid, source = Grid(shape, one), Grid(other_shape, two)
    move[:3, :3] /= np.linalg.norm(move[:3, :3], axis=0)
    expected = covered_one_by_one(grid, source, move)
    np.testing.assert_array_equal(coverage(grid, source, move), expected)


@pytest.mark.parametrize("quarter_turn", [0, 90, 180, 270])
def test_coverage_is_exact_on_axis_parallel_grids(quarter_turn: int) -> None:
    turn = rotation(0, 0, quarter_turn)
    grid = Grid((8, 7, 6), affine(turn, (1, 2, 3), tuple(turn @ [-4, -4, -4])))
    source = Grid((3, 4, 5), affine(np.eye(3), (2, 2, 2), (-3, -3, -3)))
    found = coverage(grid, source, np.eye(4))
    np.testing.assert_array_equal(found, covered_one_by_one(grid, source, np.eye(4)))
    assert 0 < found.sum() < found.size


def test_covered_voxels_are_inside_for_itk_too() -> None:
    grid = Grid((40, 30, 20), affine(rotation(12, -7, 33), (1.1, 0.9, 2.0), (-20, -15, -18)))
    source = Grid((11, 13, 9), affine(rotation(-3, 8, 1), (2.1, 1.7, 3.0), (-11, -12, -9)))
    ones = to_sitk(np.ones(source.shape, np.float32), source.affine)
    onto = to_sitk(np.zeros(grid.shape, np.float32), grid.affine)
    sampled, _ = from_sitk(sitk.Resample(ones, onto, sitk.Transform(), sitk.sitkLinear, 0.0))
    np.testing.assert_array_equal(coverage(grid, source, np.eye(4)), sampled > 0)


def test_corners_are_the_outer_faces_of_the_outer_voxels() -> None:
    corners = Grid((2, 3, 4), affine(np.eye(3), (1, 2, 3), (10, 20, 30))).corners()
    np.testing.assert_allclose(corners.min(axis=0), [9.5, 19, 28.5])
    np.testing.assert_allclose(corners.max(axis=0), [11.5, 25, 40.5])


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [((0.5, 0.5, 5.0), 2), ((5.0, 0.5, 0.5), 0), ((1, 1, 1), 1), ((4.7, 4.7, 2.0), 1)],
)
def test_slice_axis_is_the_thick_one_else_superior_inferior(
    spacing: tuple[float, ...], expected: int
) -> None:
    # Index axis 1 runs along superior-inferior here (a coronal acquisition).
    turn = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], dtype=float)
    assert slice_axis(Grid((5, 6, 7), affine(turn, spacing, (0, 0, 0)))) == expected


WAYS = {
    "axial": {"rows": "P", "columns": "L", "slices": "S"},
    "coronal": {"rows": "I", "columns": "L", "slices": "P"},
    "sagittal": {"rows": "I", "columns": "P", "slices": "L"},
}
DIRECTIONS = {
    "R": (1, 0, 0),
    "L": (-1, 0, 0),
    "A": (0, 1, 0),
    "P": (0, -1, 0),
    "S": (0, 0, 1),
    "I": (0, 0, -1),
}


@given(
    st.tuples(st.floats(-25, 25), st.floats(-25, 25), st.floats(-25, 25)),
    st.permutations([0, 1, 2]),
    st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3),
    st.integers(0, 2),
)
@settings(max_examples=80)
def test_display_order_goes_to_the_sides_a_radiologist_expects(
    tilt: tuple, order: list[int], flip: tuple, axis: int
) -> None:
    turn = (rotation(*tilt) * np.array(flip))[:, order]
    grid = Grid((5, 6, 7), affine(turn, (1.0, 2.0, 3.0), (9, 8, 7)))
    display = DisplayOrder.from_grid(grid, axis=axis)
    # Carry every voxel's world place along, then look at where it went.
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"))
    world = np.moveaxis(transform_points(grid.affine, np.moveaxis(index, 0, -1)), -1, 0)
    shown = display.apply(world)
    for dim, name in enumerate(["slices", "rows", "columns"], start=1):
        step = np.diff(shown, axis=dim).reshape(3, -1)[:, 0]
        way = np.array(DIRECTIONS[WAYS[display.plane][name]])
        assert step @ way > 0.5 * np.linalg.norm(step)
        assert np.linalg.norm(step) == pytest.approx(display.spacing[dim - 1])


@given(
    hnp.arrays(np.int32, st.tuples(st.integers(1, 2), *[st.integers(1, 5)] * 3)),
    affines(),
    st.integers(0, 2),
)
@settings(max_examples=60)
def test_display_order_is_undone_exactly_for_arrays_and_tensors(
    array: np.ndarray, matrix: np.ndarray, axis: int
) -> None:
    display = DisplayOrder.from_grid(Grid(array.shape[-3:], matrix), axis=axis)
    np.testing.assert_array_equal(display.invert(display.apply(array)), array)
    tensor = torch.from_numpy(array)
    assert torch.equal(display.invert(display.apply(tensor)), tensor)
    np.testing.assert_array_equal(display.apply(tensor).numpy(), display.apply(array))


@given(
    hnp.arrays(np.int32, st.tuples(st.integers(1, 2), *[st.integers(1, 5)] * 3)),
    affines(),
    st.integers(0, 2),
    st.integers(0, 2),
    st.integers(0, 4),
)
@settings(max_examples=60)
def test_one_display_order_follows_another_in_parts_or_at_once(
    array: np.ndarray, matrix: np.ndarray, axis: int, other: int, start: int
) -> None:
    grid = Grid(array.shape[-3:], matrix)
    first, second = (DisplayOrder.from_grid(grid, axis=a) for a in (axis, other))
    tensor, onward = torch.from_numpy(array), second.after(first)
    slices = second.apply(tensor)
    assert torch.equal(onward.apply(first.apply(tensor)), slices)
    part = slice(min(start, slices.shape[1] - 1), start + 2)
    shown = onward.turned(onward.cut(first.apply(tensor), part))
    assert torch.equal(shown, slices[:, part])


@pytest.mark.parametrize("dtype", [np.float32, np.int16, bool])
@pytest.mark.parametrize("most", [1, 30, 70, 10**6])
def test_a_large_image_is_handed_over_in_parts(monkeypatch, dtype: type, most: int) -> None:
    monkeypatch.setattr("medfuse.imaging.grid.MOST_AT_ONCE", most)
    array = np.random.default_rng(0).integers(0, 2000, (6, 5, 7)).astype(dtype)
    back, _ = from_sitk(to_sitk(array, np.eye(4)))
    np.testing.assert_array_equal(back, array)


def test_a_cut_shares_memory_with_its_volume() -> None:
    volume = torch.zeros(1, 4, 5, 6)
    order = DisplayOrder.from_grid(Grid((4, 5, 6), np.diag([1.0, 1.0, 1.0, 1.0])))
    order.cut(volume, slice(2, 3)).fill_(1)
    assert torch.equal(order.apply(volume)[:, 2], torch.ones(1, 5, 4))
    assert volume.sum() == 20


def test_marked_voxel_lands_in_the_corner_it_belongs_to() -> None:
    # Left-handed storage (LAS): index x grows to the left.
    grid = Grid((4, 5, 6), affine(np.diag([-1.0, 1.0, 1.0]), (1, 1, 1), (0, 0, 0)))
    volume = np.zeros((1, 4, 5, 6))
    volume[0, 3, 0, 5] = 1.0  # most left, most posterior, most superior
    shown = DisplayOrder.from_grid(grid).apply(volume)
    assert shown.shape == (1, 6, 5, 4)
    assert shown[0, -1, -1, -1] == 1.0


@pytest.mark.parametrize(
    ("shape", "matrix", "code", "words"),
    [
        ((2, 2), np.eye(4), "E_NOT_A_VOLUME", "three positive sizes"),
        ((2, 2, 0), np.eye(4), "E_NOT_A_VOLUME", "three positive sizes"),
        ((2, 2, 2), np.eye(3), "E_BAD_AFFINE", "4x4"),
        ((2, 2, 2), np.full((4, 4), np.nan), "E_BAD_AFFINE", "NaN"),
        ((2, 2, 2), np.ones((4, 4)), "E_BAD_AFFINE", "last row"),
        ((2, 2, 2), np.diag([1.0, 1.0, 0.0, 1.0]), "E_BAD_AFFINE", "singular"),
        ((2, 2, 2), np.diag([1.0, 1.0, 1e30, 1.0]), "E_BAD_AFFINE", "voxels are 1 x 1 x 1e.30 mm"),
        ((2, 2, 2), np.diag([1e-9, 1.0, 1.0, 1.0]), "E_BAD_AFFINE", "1e-09 x 1 x 1 mm"),
        ((2, 2, 2), np.diag([1e200, 1.0, 1.0, 1.0]), "E_BAD_AFFINE", "inf"),
        ((2, 2, 2), np.eye(4) + 1e30 * np.eye(4, k=3), "E_BAD_AFFINE", "1e.30 mm from the origin"),
    ],
)
def test_impossible_grid_is_refused_with_the_reason(
    shape: tuple, matrix: np.ndarray, code: str, words: str
) -> None:
    with pytest.raises(GeometryError, match=words) as caught:
        Grid(shape, matrix)
    assert caught.value.code == code


def test_same_grid_is_recognised_to_a_thousandth_of_a_millimetre() -> None:
    grid = Grid((3, 4, 5), np.eye(4))
    nudged, moved = np.eye(4), np.eye(4)
    nudged[0, 3], moved[0, 3] = 5e-4, 2e-3
    assert grid.same_as(Grid((3, 4, 5), nudged))
    assert not grid.same_as(Grid((3, 4, 5), moved))
    assert not grid.same_as(Grid((3, 4, 6), np.eye(4)))
