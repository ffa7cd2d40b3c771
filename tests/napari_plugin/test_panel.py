"""The panel in a real viewer, driven as a person would."""

from __future__ import annotations

import re
import threading
import time

import numpy as np
import pytest
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDropEvent
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QComboBox,
    QLabel,
    QLineEdit,
    QSlider,
    QTableWidget,
    QWidget,
)

from medfuse.settings import CaseSettings, label_of
from napari_plugin import outputs
from napari_plugin._qt.fields import WrappedLabel
from napari_plugin.cards import method_card
from napari_plugin.placing import linear_map
from napari_plugin.settings import WIDGETS, choices_of, tip_of, words

pytestmark = pytest.mark.gl


def pick(combo: QComboBox, text: str) -> None:
    """Choose as a click does."""
    combo.setCurrentText(text)
    combo.activated.emit(combo.currentIndex())


def click(qtbot, button) -> None:
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def fuse(qtbot, panel) -> None:
    click(qtbot, panel.fuse)
    qtbot.waitUntil(lambda: not panel.runner.is_busy, timeout=120_000)


@pytest.fixture
def fused(scene, qtbot):
    viewer, panel = scene
    pick(panel.fuse_tab.registration, "identity")
    pick(panel.fuse_tab.method, "mean")
    fuse(qtbot, panel)
    return viewer, panel


def test_one_click_fuses_and_shows_layers_audit_and_record(fused):
    viewer, panel = fused
    picture = outputs.find(viewer, outputs.PICTURE)
    assert picture.visible
    assert viewer.layers.selection.active is picture
    np.testing.assert_array_equal(linear_map(picture), linear_map(viewer.layers["T1"]))
    assert panel.status.text().startswith("Audit: ")
    table = panel.audit_tab.table
    assert table.rowCount() == len(panel.model.fusion.audit.checks)
    titles = [table.item(row, 0).text() for row in range(table.rowCount())]
    assert "Registration" in titles
    assert '"method": "mean"' in panel.record_tab.text.toPlainText()
    assert panel.progress.value() == 100


def test_choosing_a_check_explains_it(fused):
    _, panel = fused
    tab = panel.audit_tab
    tab.table.selectRow(1)
    assert tab.text.text().startswith(tab.table.item(1, 0).text())
    assert tab.rows[1].check.text in tab.text.text()
    verdicts = [row.check.verdict for row in tab.rows]
    assert verdicts == sorted(verdicts, key=["fail", "look", "pass"].index), "worst first"


def test_windows_are_filled_in_with_their_unit_and_edits_are_used(fused, qtbot):
    _, panel = fused
    field = panel.fuse_tab.window_field
    assert (field.low.value(), field.high.value(), field.unit.text()) == (0, 6, "SUVbw")
    assert field.value is None
    field.high.setValue(3.0)
    assert not field.auto.isChecked()
    fuse(qtbot, panel)
    assert panel.model.fusion.result.window.high == 3.0


def test_another_layer_gets_its_own_window_again(fused, make):
    viewer, panel = fused
    field = panel.fuse_tab.window_field
    field.high.setValue(3.0)
    viewer.add_layer(make.layer(make.uptake(), "PET 2"))
    pick(panel.fuse_tab.functional.combo, "PET 2")
    assert panel.model.functional.name == "PET 2"
    assert field.value is None


def test_the_slider_previews_the_slice_and_then_fuses_the_volume(fused, qtbot):
    viewer, panel = fused
    picture = outputs.find(viewer, outputs.PICTURE)
    before = picture.data.copy()
    panel.fuse_tab.bias.slider.setValue(15)
    qtbot.waitUntil(lambda: (picture.data != before).any(), timeout=20_000)
    changed = (picture.data != before).any(axis=(1, 2, 3)).sum()
    assert changed == 1
    qtbot.waitUntil(lambda: panel.model.fusion.settings.bias == 0.75, timeout=60_000)
    qtbot.waitUntil(lambda: not panel.runner.is_busy, timeout=60_000)
    assert (picture.data != before).any(axis=(1, 2, 3)).sum() > 10
    assert panel.fuse_tab.how.low.text() == "PET"


def test_a_network_that_paints_has_no_emphasis_and_says_why(scene, painter):
    _, panel = scene
    tab = panel.fuse_tab
    tab.bias.value = 0.5
    tab.method.addItem(painter)
    pick(tab.method, painter)
    assert not tab.bias.slider.isEnabled()
    assert "paints the luminance itself" in tab.emphasis.toolTip()
    assert "paints the pixels itself" in method_card(painter, "")
    assert panel.model.settings.bias == 0
    pick(tab.method, "mean")
    assert tab.bias.slider.isEnabled()
    assert "Shift the image" in tab.bias.slider.toolTip()


def test_sliders_by_hand_move_the_registration(fused, qtbot):
    _, panel = fused
    adjust = panel.fuse_tab.adjust
    adjust.toggle.click()
    adjust.shifts[0].slider.setValue(8)
    np.testing.assert_allclose(panel.model.registration.matrix[0, 3], 4.0)
    qtbot.waitUntil(lambda: "by hand" in panel.model.fusion.registration.method, timeout=60_000)
    qtbot.waitUntil(lambda: not panel.runner.is_busy, timeout=60_000)
    assert adjust.shifts[0].value == 4.0
    adjust.reset.click()
    np.testing.assert_array_equal(panel.model.registration.matrix, np.eye(4))


def test_missing_facts_are_asked_and_never_assumed(scene, qtbot):
    viewer, panel = scene
    viewer.add_image(np.random.default_rng(0).random((24, 48, 40), np.float32), name="plain")
    tab = panel.fuse_tab
    pick(tab.functional.combo, "plain")
    questions = tab.functional.questions
    assert not questions.isHidden()
    assert not tab.register.isEnabled()
    click(qtbot, panel.fuse)
    assert "E_NO_UNITS" in panel.status.text()
    pick(tab.functional.modality, "PET")
    pick(tab.functional.unit, "SUVbw")
    assert not questions.isHidden()
    tab.functional.is_mm.click()
    assert questions.isHidden()
    assert tab.register.isEnabled()
    assert str(viewer.layers["plain"].units[0]) == "millimeter"


def test_errors_are_one_line_notifications_and_the_panel_works_on(scene, qtbot):
    from napari.utils.notifications import notification_manager

    viewer, panel = scene
    tab = panel.fuse_tab
    pick(tab.functional.combo, "T1")
    notification_manager.records.clear()
    click(qtbot, panel.fuse)
    texts = [record.message for record in notification_manager.records]
    assert texts == [panel.status.text()]
    assert texts[0].endswith("[E_SAME_LAYER]")
    assert "\n" not in texts[0]
    pick(tab.functional.combo, "PET")
    pick(tab.registration, "identity")
    pick(tab.method, "max")
    fuse(qtbot, panel)
    assert outputs.find(viewer, outputs.PICTURE) is not None


def test_cancel_stops_the_registration_and_changes_nothing(scene, qtbot):
    viewer, panel = scene
    pick(panel.fuse_tab.registration, "rigid")
    names = [layer.name for layer in viewer.layers]
    click(qtbot, panel.fuse)
    assert panel.cancel.isEnabled()
    assert not panel.fuse.isEnabled()
    qtbot.waitUntil(lambda: panel.progress.value() > 0, timeout=60_000)
    click(qtbot, panel.cancel)
    qtbot.waitUntil(lambda: not panel.runner.is_busy, timeout=60_000)
    assert panel.status.text().startswith("Cancelled")
    assert [layer.name for layer in viewer.layers] == names
    assert panel.fuse.isEnabled()


def test_the_window_stays_alive_while_it_works(scene, qtbot):
    """Time between turns of the event loop, less what a loaded machine takes by itself."""
    _, panel = scene
    pick(panel.fuse_tab.registration, "rigid")
    gaps, last = [], time.thread_time()
    click(qtbot, panel.fuse)
    while panel.runner.is_busy:
        qtbot.wait(1)
        now = time.thread_time()  # of the main thread alone
        gaps.append(now - last)
        last = now
    assert len(gaps) > 50
    assert max(gaps[1:]) < 0.25
    assert np.quantile(gaps, 0.95) < 0.1


def test_closing_the_viewer_during_a_run_leaves_no_thread(gl, plugin, qtbot, make):
    import napari

    viewer = napari.Viewer(show=True)
    viewer.add_layer(make.layer(make.head(), "T1"))
    viewer.add_layer(make.layer(make.uptake(), "PET"))
    _, panel = viewer.window.add_plugin_dock_widget("medfuse", "Fuse MRI+PET")
    pick(panel.fuse_tab.registration, "rigid")
    before = threading.active_count()
    click(qtbot, panel.fuse)
    qtbot.waitUntil(lambda: panel.progress.value() > 0, timeout=60_000)
    viewer.close()
    assert panel.runner.stop()
    assert panel.model.fusion is None
    assert threading.active_count() <= before


def test_closing_the_dock_lets_go_of_the_viewer(scene, qtbot):
    viewer, panel = scene
    dock = panel.parent()
    dock.destroyOnClose()
    assert panel._closed
    offered = panel.fuse_tab.functional.combo.count()
    viewer.layers.remove("PET")
    assert panel.fuse_tab.functional.combo.count() == offered  # it does not listen any more
    click(qtbot, panel.fuse)
    assert not panel.runner.is_busy


def test_the_cursor_line_is_also_napari_status(fused, qtbot):
    viewer, panel = fused
    viewer.cursor.position = (-4.0, -14.0, 12.0)
    assert panel.cursor.text().startswith("MRI 900 a.u.  |  PET 7.00 SUVbw")
    assert viewer.status == panel.cursor.text()


def test_dropping_a_folder_opens_it(scene, qtbot, sample_data):
    viewer, panel = scene
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(sample_data / "study/sts001-aligned/pet-suv-dicom"))])
    event = QDropEvent(
        QPointF(5, 5),
        Qt.DropAction.CopyAction,
        mime,
        Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )
    panel.dropEvent(event)
    qtbot.waitUntil(lambda: len(viewer.layers) == 3, timeout=60_000)
    assert viewer.layers[-1].metadata["medfuse"]["meta"]["unit"] == "SUVbw"


def test_plane_buttons_turn_the_viewer(fused):
    viewer, panel = fused
    panel.view_buttons["coronal"].click()
    assert viewer.dims.order == (1, 0, 2)
    panel.view_buttons["3d"].click()
    assert viewer.dims.ndisplay == 3
    panel.view_buttons["axial"].click()
    assert (viewer.dims.ndisplay, viewer.dims.order) == (2, (0, 1, 2))


def test_of_two_turns_at_once_the_last_one_counts(fused, qtbot):
    viewer, panel = fused
    before = {layer.name: layer.visible for layer in viewer.layers}
    panel.view_buttons["3d"].click()
    panel.view_buttons["sagittal"].click()
    qtbot.waitUntil(lambda: not panel.view_bar.is_turning)
    assert {layer.name: layer.visible for layer in viewer.layers} == before
    panel.view_buttons["3d"].click()
    panel.stop_work()  # as closing does: nothing is shown any more
    qtbot.wait(100)
    assert not any(layer.visible for layer in viewer.layers)


def test_3d_shows_uptake_over_anatomy_and_slices_what_was_seen_before(fused, qtbot):
    viewer, _ = fused
    before = {layer.name for layer in viewer.layers if layer.visible}
    assert before == {"T1", "Fusion: PET + MRI"}
    viewer.dims.ndisplay = 3  # as napari's own button does
    uptake, t1 = outputs.find(viewer, outputs.ON_GRID), viewer.layers["T1"]
    qtbot.waitUntil(lambda: uptake.visible)
    assert {layer.name for layer in viewer.layers if layer.visible} == {t1.name, uptake.name}
    assert (uptake.rendering, uptake.blending) == ("mip", "additive")
    assert (t1.rendering, t1.opacity < 0.5) == ("attenuated_mip", True)
    viewer.dims.ndisplay = 2
    qtbot.waitUntil(lambda: {layer.name for layer in viewer.layers if layer.visible} == before)
    assert (t1.opacity, t1.rendering) == (1.0, "mip")


def test_at_900_pixels_height_every_control_is_seen_without_scrolling(fused, qtbot):
    viewer, panel = fused
    viewer.window.resize(1400, 900)
    panel.window().show()
    qtbot.wait(100)
    area = panel.tabs.currentWidget()
    assert area.verticalScrollBar().maximum() == 0
    assert panel.fuse_tab.emphasis.isVisible()
    assert panel.fuse.isVisible()


@pytest.mark.parametrize("width", [380, 640])
def test_no_text_is_cut_off_in_a_narrow_or_a_wide_panel(fused, qtbot, width):
    viewer, panel = fused
    dock = panel.parent()
    viewer.window.resize(1300, 800)
    panel.window().show()
    panel.window().resizeDocks([dock], [width], Qt.Orientation.Horizontal)
    qtbot.wait(100)
    for tab in range(panel.tabs.count()):
        panel.tabs.setCurrentIndex(tab)
        qtbot.wait(50)
        area = panel.tabs.currentWidget()
        assert area.widget().width() <= area.viewport().width()
        for label in panel.findChildren(WrappedLabel):
            if label.isVisible():
                assert label.height() >= label.heightForWidth(label.width()), label.text()
        for button in panel.findChildren(QAbstractButton):
            if button.isVisible() and _is_ours(button):
                assert button.width() >= button.minimumSizeHint().width(), button.text()


def test_every_control_is_reachable_by_keyboard_and_has_a_tooltip(fused):
    _, panel = fused
    kinds = (QAbstractButton, QComboBox, QSlider, QAbstractSpinBox, QTableWidget)
    controls = [w for kind in kinds for w in panel.findChildren(kind) if _is_ours(w)]
    assert len(controls) > 35
    for control in controls:
        name = f"{type(control).__name__} {control.accessibleName() or control.objectName()}"
        assert control.toolTip(), name
        assert control.focusPolicy() & Qt.FocusPolicy.TabFocus, name


def test_every_setting_with_a_widget_has_its_label_its_help_and_its_choices(scene, monkeypatch):
    """Also those that are only shown when they are needed."""
    viewer, panel = scene
    for name in ("plain 1", "plain 2"):
        viewer.add_image(np.zeros((4, 5, 6), np.float32), name=name)
    tab = panel.fuse_tab
    pick(tab.anatomical.combo, "plain 1")
    pick(tab.functional.combo, "plain 2")
    monkeypatch.setattr(panel.model, "registration_text", lambda: ("SUSPECT", True))
    monkeypatch.setattr(panel.model, "patients_differ", lambda: True)
    tab.refresh()
    tab.align.show_registration()
    shown = [
        widget
        for kind in (QLabel, QAbstractButton)
        for widget in panel.findChildren(kind)
        if widget.isVisibleTo(panel)
    ]
    tips = {widget.text(): widget.toolTip() for widget in shown}
    asked = {"anatomical_modality", "functional_modality", "functional_unit"}  # of the layer
    for name in WIDGETS:
        assert label_of(name) in tips
        assert name in asked or tips[label_of(name)] == tip_of(name)
        for value in ("", "True", "VALUE"):
            said = re.findall(r'"([^"]+)"', words(name, value))
            assert said == [label_of(name)]
    for combo in (tab.registration, tab.mode):
        name = combo.accessibleName().lower()
        offered = [combo.itemText(index) for index in range(combo.count())]
        assert tuple(offered) == choices_of(name)
        assert combo.currentText() == getattr(panel.model.settings, name)


def test_what_the_widgets_show_at_first_are_the_defaults(scene):
    _, panel = scene
    tab, settings = panel.fuse_tab, panel.model.settings
    assert settings == CaseSettings()
    assert tab.method.currentText() == settings.method
    assert (tab.bias.value, tab.window_field.value) == (settings.bias, settings.window)
    assert (tab.accept.isChecked(), tab.mismatch.isChecked()) == (False, False)


def _is_ours(widget: QWidget) -> bool:
    parents = []
    parent = widget.parent()
    while parent is not None:
        parents.append(parent)
        parent = parent.parent()
    inner = (QComboBox, QAbstractSpinBox, QTableWidget, QLineEdit, QLabel)
    hidden = any(isinstance(p, inner) for p in parents)
    tab_bar = any(type(p).__name__ == "QTabBar" for p in parents)
    return not hidden and not tab_bar
