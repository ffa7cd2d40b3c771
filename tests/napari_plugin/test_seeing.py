"""Letters, scale, color bars, presets, slices of the linked views; without a window."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_plugin import outputs
from napari_plugin.furniture import Bar, letters, nice, palette, place_words, scale_length
from napari_plugin.jobs import Done
from napari_plugin.layers import layer_data, read_layer, read_placed
from napari_plugin.model import FusionModel
from napari_plugin.places import index_of_point
from napari_plugin.presets import PRESETS, dragged, presets_for
from napari_plugin.sight import ANATOMICAL, FUNCTIONAL, FUSED, OVERLAID
from napari_plugin.values import state

UPRIGHT = {"axial": "RLAP", "coronal": "RLSI", "sagittal": "APSI"}


def turned(degrees: float) -> np.ndarray:
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


@pytest.mark.parametrize("flip", [(1, 1, 1), (-1, -1, 1), (1, -1, -1)])
@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_letters_come_from_the_affine_in_every_plane(make, flip, axes):
    volume = make.head(shape=(8, 9, 10))
    affine = volume.affine.numpy() @ np.diag([*flip, 1])
    volume.affine = volume.affine.new_tensor(affine[:, [*axes, 3]])
    source = read_layer(make.layer(volume, "T1"))
    for plane, expected in UPRIGHT.items():
        found = letters(source, plane)
        assert (found.left, found.right, found.top, found.bottom) == tuple(expected)


def test_an_oblique_plane_has_two_letters_on_a_side(make):
    volume = make.head(shape=(8, 9, 10))
    volume.affine = volume.affine.new_tensor(turned(30) @ volume.affine.numpy())
    found = letters(read_layer(make.layer(volume, "T1")), "axial")
    assert len(found.left) == len(found.top) == 2
    assert found.left[0] == "R"
    assert found.top[0] == "A"
    assert letters(read_layer(make.layer(volume, "T1")), "coronal").top == "S"


def test_the_place_of_a_voxel_is_said_in_the_patient(make):
    volume = make.head()
    layer = make.layer(volume, "T1")
    source = read_layer(layer)
    point = (-12.0, 14.0, 4.0)  # the bright spot: left, anterior, superior
    index = index_of_point(source, point)
    assert place_words(source, index) == "L 12.0  A 14.0  S 4.0 mm"
    assert layer.data[tuple(round(i) for i in index)] == 900


def test_outputs_and_plain_layers_are_placed_alike(viewer):
    model = FusionModel(viewer)
    model.choose(registration="identity", method="mean")
    for _ in model.show(model.fusion_job().run().value):
        pass
    picture, t1 = outputs.find(viewer, outputs.PICTURE), viewer.layers["T1"]
    placed = [read_placed(layer) for layer in (picture, t1)]
    np.testing.assert_allclose(placed[0].affine, placed[1].affine)
    assert placed[0].order == placed[1].order


def test_scales_and_ticks_are_round():
    assert [nice(x) for x in (0.7, 1.0, 4.9, 37, 99)] == [0.5, 1.0, 2.0, 20.0, 50.0]
    assert [nice(x, up=True) for x in (0.7, 1.0, 4.9, 37)] == [1.0, 1.0, 5.0, 50.0]
    assert scale_length(2.0, 400) == (50.0, "5 cm")
    assert scale_length(20.0, 400) == (5.0, "5 mm")
    assert Bar(palette("hot"), 0.0, 6.0, "SUVbw").ticks() == [0, 2, 4, 6]
    assert Bar(palette("gray"), -160.0, 240.0, "HU").ticks() == [-100, 0, 100, 200]
    assert str(Bar(palette("gray"), 0.0, 6.0, "").ticks()[0]) == "0.0"


def test_presets_fit_modality_and_unit_and_drags_keep_windows_open():
    assert all(p.low < p.high for p in PRESETS)
    assert {p.low for p in presets_for("PET", "SUVbw")} == {0.0}
    assert presets_for("PET", "a.u.") == []
    assert dragged((0.0, 6.0), 0.0, 0.0) == (0.0, 6.0)
    wide = dragged((0.0, 6.0), 0.5, 0.0)
    assert wide == (-3.0, 9.0)
    low, high = dragged((-160.0, 240.0), 0.0, 0.25)
    assert (low, high) == (-260.0, 140.0), "a lower level is brighter"
    assert np.diff(dragged((0.0, 6.0), -50.0, 0.0))[0] > 0


@pytest.fixture
def seen(viewer):
    model = FusionModel(viewer)
    model.choose(registration="identity", method="mean", colormap="ember", window=(0.0, 6.0))
    outcome = model.fusion_job().run()
    assert isinstance(outcome, Done), outcome
    for _ in model.show(outcome.value):
        pass
    return model


def test_every_view_shows_the_same_voxel_under_the_cross_hair(seen):
    sight = seen.sight()
    picture = outputs.find(seen.viewer, outputs.PICTURE).data
    s, r, c = 11, 17, 14
    for plane, number, at in (
        ("axial", s, (r, c)),
        ("coronal", r, (s, c)),
        ("sagittal", c, (s, r)),
    ):
        np.testing.assert_array_equal(sight.picture(FUSED, plane, number)[at], picture[s, r, c])
        gray = sight.picture(ANATOMICAL, plane, number)[at]
        low, high = sight.limits[ANATOMICAL]
        value = (seen.anatomical.data[s, r, c] - low) / (high - low)
        assert abs(int(gray[0]) - 255 * np.clip(value, 0, 1)) <= 1
        hot = sight.picture(FUNCTIONAL, plane, number)[at]
        mixed = sight.picture(OVERLAID, plane, number)[at]
        assert hot.shape == mixed.shape == (3,)
    assert sight.title(FUSED) == "PET + MRI"
    assert sight.bar(FUNCTIONAL).unit == "SUVbw"
    assert seen.sight() is sight, "made once"


def test_the_overlay_follows_the_emphasis_to_both_sides(seen):
    before = seen.sight().picture(OVERLAID, "axial", 11).astype(int)
    apart = []
    for bias in (-0.8, 0.8):
        seen.choose(bias=bias)
        sight = seen.sight()
        assert "settings changed" in sight.title(FUSED)
        apart.append(np.abs(sight.picture(OVERLAID, "axial", 11).astype(int) - before).max())
        gray = sight.picture(ANATOMICAL, "axial", 11).astype(int)
        apart[-1] = np.abs(sight.picture(OVERLAID, "axial", 11).astype(int) - gray).max()
    assert apart[0] > 2 * apart[1] > 0


def test_jumps_go_to_the_hottest_voxel_and_the_worst_registration(seen):
    jumps = seen.jumps()
    assert jumps["Hottest voxel"]()
    layer = outputs.find(seen.viewer, outputs.ON_GRID)
    index = tuple(np.rint(layer.world_to_data(seen.viewer.dims.point)).astype(int))
    assert layer.data[index] == layer.data.max()
    if seen.registration.places:
        assert jumps["Place with the largest registration error"]()
        worst = max(seen.registration.places, key=lambda place: place.within_mm)
        ras = -np.asarray(seen.viewer.dims.point)[::-1]
        np.testing.assert_allclose(ras, worst.point, atol=3.0)


def test_flat_images_have_no_linked_views(make):
    viewer = ViewerModel()
    for volume, name in (
        (make.head(), "T1"),
        (make.uptake(shape=(40, 48, 24), spacing=(2, 2, 3)), "P"),
    ):
        data, options, _ = layer_data(volume, name=name)
        meta = options["metadata"]["medfuse"]["meta"]
        layer = viewer.add_image(data[12], name=name, scale=(2, 2))
        state(layer, modality=meta["modality"], unit=meta["unit"], scale_is_mm=True)
    model = FusionModel(viewer)
    model.choose(registration="identity", method="mean", accept_suspect=True)
    for _ in model.show(model.fusion_job().run().value):
        pass
    assert model.result is not None
    assert model.sight() is None
