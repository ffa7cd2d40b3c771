"""What a job gets of a layer: the volume as it was read."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.layers import Image

from napari_plugin.layers import read_layer
from napari_plugin.values import state
from tests._helpers.layers import as_layer, signed_permutations, volume


@settings(max_examples=25)
@given(
    signed_permutations(), st.tuples(*[st.floats(0.5, 5)] * 3), st.tuples(*[st.floats(-99, 99)] * 3)
)
def test_a_volume_comes_back_from_its_layer_unchanged(way, spacing, origin):
    axes, signs = way
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, list(axes)] * np.array(signs) * np.array(spacing)
    affine[:3, 3] = origin
    there = volume(affine=affine)
    back = read_layer(as_layer(there)).volume()
    assert torch.equal(back.as_tensor(), there.as_tensor())
    np.testing.assert_array_equal(back.affine, affine)


def test_colour_layers_have_three_channels_in_0_to_1():
    layer = Image(np.full((3, 4, 5, 3), 255, np.uint8), rgb=True, units="mm")
    state(layer, modality="PET")
    tensor = read_layer(layer).volume()
    assert tensor.shape == (3, 5, 4, 3)
    assert float(tensor.max()) == 1


def test_a_flat_image_is_one_slice_whatever_its_pixels():
    from medfuse.imaging.grid import slice_axis

    layer = Image(np.zeros((20, 30)), scale=(3, 1), units="mm")
    state(layer, modality="MRI", unit="a.u.")
    source = read_layer(layer)
    assert source.volume().shape == (1, 30, 20, 1)
    assert slice_axis(source.grid) == 2
