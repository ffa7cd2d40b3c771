"""Where layers lie: napari's world and that of the patient."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.layers import Image

from medfuse.errors import GeometryError
from medfuse.imaging.grid import Grid, transform_points
from napari_plugin.layers import read_layer
from napari_plugin.placing import AXIS_LABELS, RAS_FROM_NAPARI, linear_map
from napari_plugin.values import state
from tests._helpers.layers import as_layer, signed_permutations, volume


@settings(max_examples=25)
@given(signed_permutations(), st.tuples(*[st.floats(0.5, 5)] * 3))
def test_every_voxel_of_an_upright_volume_is_shown_at_its_place(way, spacing):
    axes, signs = way
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, list(axes)] * np.array(signs) * np.array(spacing)
    affine[:3, 3] = (10, -20, 30)
    there = volume(affine=affine)
    layer = as_layer(there)
    for index in [(0, 0, 0), (4, 5, 6), (1, 2, 3)]:
        ras = transform_points(affine, index)
        shown = layer.world_to_data(transform_points(np.linalg.inv(RAS_FROM_NAPARI), ras))
        where = tuple(round(float(i)) for i in shown)
        np.testing.assert_allclose(shown, where, atol=1e-6)
        assert layer.data[where] == there[(0, *index)]


def test_napari_world_is_inferior_posterior_left_and_keeps_handedness():
    inferior, posterior, left = (RAS_FROM_NAPARI @ [*unit, 0] for unit in np.eye(3))
    np.testing.assert_array_equal(inferior[:3], [0, 0, -1])
    np.testing.assert_array_equal(posterior[:3], [0, -1, 0])
    np.testing.assert_array_equal(left[:3], [-1, 0, 0])
    assert np.linalg.det(RAS_FROM_NAPARI) == pytest.approx(1)


def test_layers_have_millimetres_and_named_axes():
    layer = as_layer(volume())
    assert [str(unit) for unit in layer.units] == ["millimeter"] * 3
    assert layer.axis_labels == AXIS_LABELS


def test_an_oblique_volume_is_shown_upright_about_its_centre_and_keeps_its_true_affine():
    angle = np.deg2rad(20)
    affine = np.diag([1.0, 1.0, 3.0, 1.0])
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = turn @ affine
    layer = as_layer(volume(affine=affine))
    np.testing.assert_array_equal(linear_map(layer)[:3, :3], np.diag([3.0, 1.0, 1.0]))
    middle = layer.data_to_world((np.array(layer.data.shape) - 1) / 2)
    centre = Grid(shape=(5, 6, 7), affine=affine).centre
    np.testing.assert_allclose(transform_points(RAS_FROM_NAPARI, middle), centre, atol=1e-9)
    np.testing.assert_array_equal(read_layer(layer).affine, affine)


def test_a_layer_that_was_moved_by_hand_is_read_where_it_lies():
    layer = as_layer(volume())
    layer.translate = np.array(layer.translate) + np.array([5.0, 0.0, 2.0])
    moved = read_layer(layer).affine
    expected = np.diag([2.0, 3.0, 4.0, 1.0])
    expected[:3, 3] = (-2.0, 0.0, -5.0)  # left by 2 mm, inferior by 5 mm
    np.testing.assert_allclose(moved, expected, atol=1e-9)


def test_a_cropped_layer_is_read_where_it_lies():
    there = volume()
    whole = as_layer(there)
    crop = Image(
        whole.data[2:, 1:4, 3:],
        metadata=dict(whole.metadata),
        scale=whole.scale,
        translate=whole.data_to_world((2, 1, 3)),
        units=whole.units,
    )
    source = read_layer(crop)
    tensor = source.volume()[0]
    for index in [(0, 0, 0), (1, 1, 1)]:
        ras = transform_points(source.affine, index)
        origin = np.round(transform_points(np.linalg.inv(np.asarray(there.affine)), ras))
        assert tensor[index] == there[(0, *origin.astype(int))]


def test_lengths_in_other_units_become_millimetres():
    layer = Image(np.zeros((2, 3, 4)), scale=(1, 1, 1), units="cm")
    state(layer, modality="MRI", unit="a.u.")
    np.testing.assert_allclose(read_layer(layer).grid.spacing, [10, 10, 10])


def test_a_layer_scaled_to_nothing_is_refused_by_name():
    flat = np.array([[1, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1.0001, 0], [0, 0, 0, 1]])
    layer = Image(np.zeros((3, 3, 3)), name="broken", affine=flat, units="mm")
    state(layer, modality="MRI", unit="a.u.")
    with pytest.raises(GeometryError, match="broken"):
        read_layer(layer)
