"""Edge between napari and medfuse: what a layer says, and what is asked."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Image

from medfuse.errors import UnitError, UsageError
from medfuse.imaging.grid import transform_points
from napari_plugin.layers import missing, read_layer
from napari_plugin.values import state
from tests._helpers.layers import as_layer, volume


def test_a_plain_array_is_read_in_naparis_axes_once_everything_is_stated():
    array = np.random.default_rng(0).random((4, 5, 6), dtype=np.float32)
    layer = Image(array, scale=(3, 1, 2), translate=(7, 8, 9))
    assert missing(layer) == ("modality", "unit", "voxel size in mm")
    with pytest.raises(UnitError, match=r"modality, unit, voxel size in mm.*\[E_NO_UNITS\]"):
        read_layer(layer)
    state(layer, modality="PET", unit="SUVbw", scale_is_mm=True)
    assert missing(layer) == ()
    source = read_layer(layer)
    tensor = source.volume()
    assert tensor.shape == (1, 6, 5, 4)
    assert tensor.meta["modality"] == "PET"
    assert tensor[0, 2, 3, 1] == array[1, 3, 2]
    ras = transform_points(source.affine, (2, 3, 1))
    np.testing.assert_allclose(ras, [-(9 + 2 * 2), -(8 + 3), -(7 + 3)])


def test_what_the_user_states_goes_before_the_file_and_is_told():
    layer = as_layer(volume(modality="PET", unit="a.u.", suv={"refusal": "no dose"}))
    layer.metadata["medfuse"]["meta"]["notes"] = ["SUV not available: no dose", "another note"]
    state(layer, unit="SUVbw")
    source = read_layer(layer)
    assert (source.meta["modality"], source.meta["unit"]) == ("PET", "SUVbw")
    assert source.meta["notes"] == ["another note", "unit SUVbw is as stated by the user"]
    assert source.meta["suv"] is None
    assert source.stated == {"unit": "SUVbw"}
    state(layer, modality="MRI")
    assert read_layer(layer).stated == {"unit": "SUVbw", "modality": "MRI"}
    assert read_layer(layer).meta["source"]["modality_told"] == "user: MRI"


def test_a_time_series_is_refused_with_a_remedy():
    with pytest.raises(UsageError, match=r'4 axes.*"Frame" below the layer.*E_NOT_A_VOLUME'):
        read_layer(Image(np.zeros((2, 2, 2, 2))))
