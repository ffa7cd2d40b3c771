"""Enhancing a layer: same place, other values, and a warning."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Image, Points

from medfuse.errors import UsageError
from medfuse.pictures.enhance import WARNING
from napari_plugin.enhance import enhance_shown, read_shown
from napari_plugin.layers import TAG, read_layer


def _quiet(fraction: float, text: str) -> None:
    """Progress that nobody looks at."""


def test_an_enhanced_volume_lies_where_its_source_lies_and_has_no_unit(make):
    layer = make.layer(make.head(shape=(24, 28, 6)), "T1")
    layer.contrast_limits = (0, 700)
    data, kwargs, kind = enhance_shown(read_shown(layer), _quiet)
    added = Image(data, **kwargs)
    assert kind == "image"
    assert data.shape == layer.data.shape
    assert 0 <= data.min() < data.max() <= 1
    assert added.name.startswith("T1 (enhanced")
    np.testing.assert_allclose(read_layer(added).affine, read_layer(layer).affine)
    np.testing.assert_array_equal(added.extent.world, layer.extent.world)
    assert added.units == layer.units
    entry = added.metadata[TAG]
    assert entry["meta"]["unit"] == "a.u."
    warning, numbers, *_ = entry["meta"]["notes"]
    assert warning == WARNING
    assert f"{entry['enhanced']['psnr_db']:.1f} dB" in numbers
    assert entry["enhanced"]["psnr_db"] > 10
    shown = np.clip(np.asarray(layer.data) / 700, 0, 1)
    assert np.corrcoef(shown.ravel(), data.ravel())[0, 1] > 0.9


def test_plain_and_coloured_layers_of_two_axes_are_enhanced_too():
    generator = np.random.default_rng(0)
    grey = Image(generator.random((20, 24)).astype(np.float32), scale=(2, 3), name="grey")
    data, kwargs, _ = enhance_shown(read_shown(grey), _quiet)
    assert data.shape == (20, 24)
    np.testing.assert_array_equal(Image(data, **kwargs).scale, (2, 3))
    colour = Image((255 * generator.random((20, 24, 3))).astype(np.uint8), rgb=True)
    data, kwargs, _ = enhance_shown(read_shown(colour), _quiet)
    assert data.shape == (20, 24, 3)
    assert Image(data, **kwargs).rgb


@pytest.mark.parametrize("layer", [None, Points(np.zeros((1, 3))), Image(np.zeros((2, 2, 4, 4)))])
def test_what_is_no_image_of_two_or_three_axes_is_refused(layer):
    with pytest.raises(UsageError, match="E_NOT_A_VOLUME"):
        read_shown(layer)


def test_the_command_adds_the_layer_and_shows_the_warning(scene, qtbot, monkeypatch):
    from napari.utils import notifications

    from napari_plugin._qt.enhance import enhance_layer

    viewer, _ = scene
    said = []
    monkeypatch.setattr(notifications, "show_warning", said.append)
    plane = np.asarray(viewer.layers["T1"].data)[10]
    viewer.layers.selection.active = viewer.add_image(plane, name="slice")
    enhance_layer(viewer)
    qtbot.waitUntil(lambda: len(viewer.layers) == 4, timeout=20_000)
    assert viewer.layers[-1].name.startswith("slice (enhanced")
    qtbot.waitUntil(lambda: len(said) == 1, timeout=5_000)
    assert said[0].startswith(WARNING)
    assert "dB, gradients" in said[0]
