"""The linked views and the glass over the canvas, in a real window."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent

from napari_plugin import outputs
from napari_plugin._qt.canvas import find_canvas, pixel_of
from napari_plugin._qt.linked import LAYOUTS
from napari_plugin._qt.paint import as_image
from napari_plugin.sight import ANATOMICAL

pytestmark = pytest.mark.gl


@pytest.fixture
def linked(scene, qtbot):
    viewer, panel = scene
    panel.fuse_tab.registration.setCurrentText("identity")
    panel.fuse_tab.method.setCurrentText("mean")
    panel.fuse_tab.colormap.setCurrentText("ember")
    panel.fuse.click()
    qtbot.waitUntil(lambda: not panel.runner.is_busy, timeout=120_000)
    viewer.window.resize(1280, 900)
    viewer.window.show()
    panel.view_bar.link.click()
    qtbot.wait(50)
    return viewer, panel, panel.view_bar.linked


def test_a_click_in_one_view_moves_the_cross_hair_of_all_and_of_napari(linked, qtbot):
    viewer, panel, views = linked
    axial, coronal, sagittal = views.views
    wanted = (12.0, 14.0, 11.0)
    x, y = axial.pixel_of(wanted)
    qtbot.mouseClick(axial, Qt.MouseButton.LeftButton, pos=QPoint(round(x), round(y)))
    picture = outputs.find(viewer, outputs.PICTURE)
    index = picture.world_to_data(viewer.dims.point)
    np.testing.assert_allclose(index[1:], wanted[1:], atol=0.6)
    for view in (axial, coronal, sagittal):
        np.testing.assert_allclose(view.at, index, atol=1e-6)
    assert panel.cursor.text().startswith("MRI")
    viewer.dims.set_point(0, picture.data_to_world((5, 0, 0))[0])
    before = coronal.at[0]
    assert before == pytest.approx(5, abs=0.6)  # napari's sliders go in steps of their own
    qtbot.keyClick(coronal, Qt.Key.Key_Down)
    assert axial.at[0] == pytest.approx(before + 1)
    place = axial.furniture(axial.sight).place
    assert place.endswith("mm")
    wheel = QWheelEvent(
        QPointF(5, 5), QPointF(5, 5), QPoint(0, 0), QPoint(0, 120), Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    axial.wheelEvent(wheel)
    assert axial.at[0] == pytest.approx(before)


def test_every_arrangement_draws_its_slices_and_says_what_they_are_of(linked, qtbot):
    _, panel, views = linked
    for name, rows in LAYOUTS.items():
        views.layout_choice.setCurrentText(name)
        assert len(views.views) == sum(map(len, rows))
        for view in views.views:
            assert not view.grab().toImage().isNull()
    assert views.views[0].kind == ANATOMICAL
    panel.fuse_tab.functional.combo.setCurrentText("T1")
    panel.fuse_tab.functional.combo.activated.emit(0)
    assert all("of an earlier pair" in v.furniture(v.sight).title for v in views.views)


def test_a_drag_with_the_right_button_widens_the_window(linked, qtbot):
    _, panel, views = linked
    field = panel.fuse_tab.window_field
    width = field.high.value() - field.low.value()
    panel.runs.refuse_timer.setInterval(10**8)
    views.views[0].windowed.emit(False, 0.25, 0.0)
    assert field.high.value() - field.low.value() == pytest.approx(width * 2**0.5, rel=0.01)
    assert panel.model.settings.window is not None
    assert views.views[0].sight.limits["functional"] == panel.model.settings.window
    names = [action.text() for action in field.presets.menu().actions()]
    assert "FDG body, SUV 0 to 6" in names
    field.presets.menu().actions()[0].trigger()
    assert panel.model.settings.window == (0.0, 6.0)


def test_the_glass_is_where_napari_draws(linked, qtbot):
    """Pins what is taken from napari: its canvas is found and its camera means what it says."""
    viewer, panel, _ = linked
    glass = panel.view_bar.glass
    assert glass is not None
    assert glass.canvas is find_canvas(panel.window())
    what = glass.furniture()
    assert (what.letters.left, what.letters.top) == ("R", "A")
    assert what.bar.unit == "SUVbw"
    viewer.camera.zoom, viewer.camera.center = 4.0, (0.0, -6.0, 3.0)
    x, y, zoom = pixel_of(viewer, glass.canvas, viewer.dims.point)
    assert zoom == 4.0
    assert x == pytest.approx((viewer.dims.point[2] - 3) * 4 + glass.width() / 2)
    assert y == pytest.approx((viewer.dims.point[1] + 6) * 4 + glass.height() / 2)
    panel.view_buttons["sagittal"].click()
    assert glass.furniture().letters.left == "A"
    panel.view_buttons["3d"].click()
    qtbot.waitUntil(lambda: not panel.view_bar.is_turning)
    solid = glass.furniture()
    assert (solid.letters, solid.cross) == (None, None)
    assert solid.bar.high == pytest.approx(outputs.find(viewer, outputs.ON_GRID).data.max())


def test_a_marked_voxel_is_drawn_where_the_cross_hair_says(linked, qtbot):
    """The camera of napari and the glass agree to a pixel of the voxel."""
    viewer, panel, _ = linked
    panel.view_buttons["axial"].click()
    qtbot.waitUntil(lambda: not panel.view_bar.is_turning)
    viewer.theme = "dark"  # whatever napari remembers: only the voxel is bright
    picture = outputs.find(viewer, outputs.PICTURE)
    picture.data[...] = 0
    picture.data[10, 20, 13] = 255
    picture.refresh()
    world = picture.data_to_world((10, 20, 13))
    for axis, value in enumerate(world):
        viewer.dims.set_point(axis, value)
    qtbot.wait(100)
    shot = viewer.screenshot(canvas_only=True, flash=False)[..., :3].min(axis=-1)
    rows, columns = np.nonzero(shot > 128)
    glass = panel.view_bar.glass
    x, y, _ = pixel_of(viewer, glass.canvas, world)
    scale = shot.shape[1] / glass.width()
    assert abs(np.median(columns) / scale - x) < 3
    assert abs(np.median(rows) / scale - y) < 3


def test_closing_the_dock_or_the_panel_lets_go(linked, qtbot):
    viewer, panel, views = linked
    assert panel.view_bar.link.isChecked()
    panel.shut_down()
    viewer.dims.set_point(0, 0)
    assert panel.view_bar.glass is None
    assert views._closed


def test_images_keep_their_colors():
    rgb = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    image = as_image(rgb)
    assert (image.width(), image.height()) == (3, 2)
    assert image.pixelColor(2, 1).getRgb()[:3] == (15, 16, 17)
