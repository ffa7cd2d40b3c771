"""The plugin in napari's window: menus, drops, two viewers, closing, every widget."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from napari.utils.progress import progress
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDesktopServices, QDropEvent
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QFileDialog,
    QTableWidget,
)

from medfuse.results.export import is_complete
from napari_plugin import outputs
from napari_plugin.placing import linear_map

pytestmark = pytest.mark.gl
MENU = {
    "sample": ("File", "Open Sample", "medfuse", "Thigh, T1 MRI + CT"),
    "panel": ("Plugins", "medfuse", "Fuse MRI+PET"),
    "result": ("File", "IO Utilities", "Open medfuse result folder"),
}


def choose(viewer, name: str) -> None:
    """Choose an entry of the menu bar."""
    menu = viewer.window.main_menu
    for text in MENU[name]:
        action = next(a for a in menu.actions() if text in a.text().replace("&", ""))
        if action.menu() is None:
            action.trigger()
            return
        menu = action.menu()
        menu.aboutToShow.emit()


def drop(widget, path: Path) -> None:
    """Drop a file or folder on a widget."""
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(path))])
    left, no_key = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    widget.dropEvent(QDropEvent(QPointF(5, 5), Qt.DropAction.CopyAction, mime, left, no_key))


def run(qtbot, panel, method: str = "mean") -> None:
    """Fuse where the files lie."""
    panel.fuse_tab.registration.setCurrentText("identity")
    panel.fuse_tab.method.setCurrentText(method)
    qtbot.mouseClick(panel.fuse, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not panel.runner.is_busy, timeout=120_000)


@pytest.fixture
def window(gl, plugin, qtbot):
    """An empty napari window."""
    import napari

    viewer = napari.Viewer(show=False)
    yield viewer
    viewer.close()


def docked(viewer):
    """The panel of a viewer."""
    [dock] = viewer.window._wrapped_dock_widgets.values()
    return dock.inner_widget()


def test_from_the_menu_the_sample_opens_and_is_fused(window, qtbot):
    choose(window, "sample")
    choose(window, "panel")
    panel = docked(window)
    assert panel.fuse_tab.anatomical.combo.currentText() == "T1 thigh"
    assert panel.fuse_tab.functional.combo.currentText() == "CT thigh"
    run(qtbot, panel)
    assert outputs.find(window, outputs.PICTURE).visible


def test_the_choice_in_the_menu_hides_and_shows_one_panel(window):
    choose(window, "panel")
    panel = docked(window)
    choose(window, "panel")
    choose(window, "panel")
    assert docked(window) is panel


def test_what_is_dropped_on_the_canvas_or_opened_is_read_by_medfuse(window, sample_data):
    drop(window.window._qt_viewer, sample_data / "study/simulated-brain/simulated-pet.nii.gz")
    [layer] = window.layers
    assert layer.source.reader_plugin == "medfuse"
    [pet] = window.open(str(sample_data / "study/sts001/pet-fdg"), plugin="medfuse")
    meta = pet.metadata["medfuse"]["meta"]
    assert (meta["modality"], meta["unit"]) == ("PET", "SUVbw")
    assert len(window.layers) == 2


def test_a_result_is_exported_opened_from_the_menu_and_its_report_shown(
    scene, qtbot, tmp_path, monkeypatch
):
    viewer, panel = scene
    run(qtbot, panel)
    tab, folder, opened = panel.record_tab, tmp_path / "case 1", []
    tab.copy.click()
    assert QApplication.clipboard().text() == tab.text.toPlainText()
    saved = tmp_path / "p.json"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(saved), ""))
    tab.save.click()
    assert saved.read_text("utf-8").strip() == tab.text.toPlainText().strip()
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(folder), ""))
    tab.export.click()
    qtbot.waitUntil(lambda: not panel.runner.is_busy, timeout=120_000)
    assert is_complete(folder, rehash=True)
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile()))
    tab.report.click()
    assert opened == [str(folder / "report.html")]
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(folder))
    choose(viewer, "result")
    assert viewer.layers[-1].name.startswith("case 1: fused rgb")
    picture = outputs.find(viewer, outputs.PICTURE)
    np.testing.assert_array_equal(viewer.layers[-1].data, picture.data)


def test_the_slice_that_is_looked_at_is_shown_while_the_volume_is_fused(scene, qtbot):
    viewer, panel = scene
    early = []
    panel.runner.offered.connect(lambda _: early.append(outputs.find(viewer, outputs.PICTURE)))
    number = viewer.dims.current_step[0]
    run(qtbot, panel, "saliency")
    assert len(early) == 1
    picture = outputs.find(viewer, outputs.PICTURE)
    assert early[0] is picture
    assert not np.array_equal(picture.data[number], picture.data[number][..., :1].repeat(3, -1))


def test_a_run_that_is_cancelled_takes_its_first_slice_away(scene, qtbot):
    viewer, panel = scene
    names = [layer.name for layer in viewer.layers]
    cancelled = threading.Event()

    def cancel(_):
        panel.cancel.click()
        cancelled.set()

    panel.runner.offered.connect(cancel)
    # The run waits in its own thread: else it may be done before the window has seen the slice.
    wait = lambda _: cancelled.wait(30)  # noqa: E731
    panel.runner.offered.connect(wait, Qt.ConnectionType.DirectConnection)
    run(qtbot, panel)
    assert panel.status.text().startswith("Cancelled")
    assert [layer.name for layer in viewer.layers] == names


def test_naparis_own_cancel_button_stops_the_run(scene, qtbot):
    _, panel = scene
    panel.fuse_tab.registration.setCurrentText("rigid")
    panel.runner.progressed.connect(lambda *_: [bar.cancel() for bar in progress._all_instances])
    qtbot.mouseClick(panel.fuse, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not panel.runner.is_busy, timeout=60_000)
    assert panel.status.text().startswith("Cancelled")
    assert not progress._all_instances


def test_two_panels_in_two_windows_do_not_meet(scene, qtbot, make):
    import napari

    first, panel = scene
    second = napari.Viewer(show=False)
    second.add_layer(make.layer(make.head(shape=(30, 36, 20)), "other T1"))
    second.add_layer(make.layer(make.uptake(), "other PET"))
    _, other = second.window.add_plugin_dock_widget("medfuse", "Fuse MRI+PET")
    for each in (panel, other):
        each.fuse_tab.registration.setCurrentText("identity")
        each.fuse_tab.method.setCurrentText("mean")
        each.fuse.click()  # both run at once
    qtbot.waitUntil(lambda: not (panel.runner.is_busy or other.runner.is_busy), timeout=120_000)
    shapes = [outputs.find(v, outputs.PICTURE).data.shape for v in (first, second)]
    assert shapes == [(24, 48, 40, 3), (20, 36, 30, 3)]
    second.close()
    run(qtbot, panel)
    assert panel.status.text().startswith("Audit")


def test_layers_renamed_and_deleted_during_a_run_do_no_harm(scene, qtbot):
    viewer, panel = scene
    pet = viewer.layers["PET"]

    def meddle(*_):
        viewer.layers[0].name = "renamed"
        if pet in viewer.layers:
            viewer.layers.remove(pet)

    panel.runner.progressed.connect(meddle)
    run(qtbot, panel)
    assert outputs.find(viewer, outputs.PICTURE) is not None
    assert panel.fuse_tab.anatomical.combo.currentText() == "renamed"
    assert panel.fuse_tab.functional.combo.currentIndex() == -1
    qtbot.mouseClick(panel.fuse, Qt.MouseButton.LeftButton)
    assert "E_NO_LAYER" in panel.status.text()


@pytest.mark.parametrize("kind", ["plain", "flat", "coloured", "oblique"])
def test_images_of_every_kind_are_fused_in_the_place_of_the_anatomical_one(
    window, qtbot, make, kind
):
    _add_pair(window, make, kind)
    _, panel = window.window.add_plugin_dock_widget("medfuse", "Fuse MRI+PET")
    panel.fuse_tab.accept.setChecked(True)
    anatomical, functional = panel.model.anatomical, panel.model.functional
    run(qtbot, panel)
    picture = outputs.find(window, outputs.PICTURE)
    assert picture.data.shape == (*anatomical.data.shape, 3)
    np.testing.assert_allclose(linear_map(picture), linear_map(anatomical))
    assert picture.units == anatomical.units
    assert (picture.data[..., 0] != picture.data[..., 2]).any()
    assert functional.rgb == (kind == "coloured")


def _add_pair(viewer, make, kind: str) -> None:
    """Put an anatomical and a functional layer of a kind into a viewer."""
    from napari_plugin.values import state

    head, pet = make.head(), make.uptake()
    if kind == "oblique":
        turn = np.array(
            [[0.9, -0.3, 0.3, 1], [0.3, 0.95, 0, 2], [-0.3, 0.1, 0.95, 3], [0, 0, 0, 1]]
        )
        turn[:3, :3] = np.linalg.qr(turn[:3, :3])[0]
        head.affine = head.affine.new_tensor(turn @ np.diag([1, 1, 2.5, 1]) @ head.affine.numpy())
    layers = [make.layer(head, "T1"), make.layer(pet, "PET")]
    if kind == "oblique":
        for layer in layers:
            viewer.add_layer(layer)
        return
    place = {"scale": (3, 2, 2), "translate": (-30, -40, -40)}
    anatomical = layers[0].data
    functional = np.roll(anatomical, 3, axis=1) / anatomical.max()
    if kind == "flat":
        anatomical, functional = anatomical[12], functional[12]
        place = {key: value[1:] for key, value in place.items()}
    if kind == "coloured":
        functional = (255 * np.stack([functional, functional**2, 0 * functional], -1)).astype("u1")
    viewer.add_image(anatomical, name="T1", **place)
    viewer.add_image(functional, name="PET", rgb=kind == "coloured", **place)
    state(viewer.layers["T1"], modality="MRI", unit="a.u.", scale_is_mm=True)
    state(viewer.layers["PET"], modality="PET", unit="SUVbw", scale_is_mm=True)


def test_closing_the_window_during_an_export_leaves_no_thread_and_no_file(
    gl, plugin, qtbot, make, tmp_path
):
    import napari

    viewer = napari.Viewer(show=True)
    viewer.add_layer(make.layer(make.head(), "T1"))
    viewer.add_layer(make.layer(make.uptake(), "PET"))
    _, panel = viewer.window.add_plugin_dock_widget("medfuse", "Fuse MRI+PET")
    run(qtbot, panel)
    closed = []
    panel.runner.progressed.connect(lambda *_: closed or closed.append(viewer.close()))
    panel.export(tmp_path / "result")
    qtbot.waitUntil(lambda: bool(closed), timeout=60_000)
    assert panel.runner.stop()
    assert not any(t.name.startswith("Writing") for t in threading.enumerate())
    assert list(tmp_path.iterdir()) == []


def test_a_result_of_512_x_512_x_300_is_shown_read_and_updated(scene, qtbot):
    """Of full size for napari, but one plane repeated: the arrays need no memory of their own."""
    viewer, panel = scene
    panel.model.choose(registration="identity", method="mean")
    fusion = _large(panel.model.fusion_job().run().value)
    for _ in range(2):  # the second time in place
        for _ in panel.model.show(fusion):
            qtbot.wait(1)
    picture = outputs.find(viewer, outputs.PICTURE)
    assert picture.data.shape == (300, 512, 512, 3)
    assert len(viewer.layers) == 2 + len(fusion.outputs)
    for plane in ("coronal", "sagittal", "axial"):
        panel.view_buttons[plane].click()
        qtbot.wait(1)
    assert panel.model.read_out(picture.data_to_world((200, 256, 256))).startswith("MRI")


def _large(fusion):
    """A fusion whose every array is blown up to 300 slices of 512 x 512."""
    source = fusion.pair.anatomical
    source = replace(source, data=_blown_up(source.data))
    aligned = replace(fusion.aligned, pair=replace(fusion.pair, anatomical=source))
    shown = tuple(replace(output, data=_blown_up(output.data)) for output in fusion.outputs)
    plane = fusion.result.rgb[:, :1, :1, :1]  # of one color, which needs no memory of its own
    result = replace(fusion.result, rgb=plane.expand(3, 512, 512, 300))
    return replace(fusion, aligned=aligned, outputs=shown, result=result)


def _blown_up(data):
    plane = np.resize(data[12], (512, 512, *data.shape[3:]))
    return np.broadcast_to(plane, (300, *plane.shape))


def test_every_control_has_a_name_and_a_tip_and_the_tab_key_visits_it(scene, qtbot):
    _, panel = scene
    run(qtbot, panel)
    panel.window().show()
    kinds = (QAbstractButton, QComboBox, QAbstractSlider, QAbstractSpinBox, QTableWidget)
    for tab in range(panel.tabs.count()):
        panel.tabs.setCurrentIndex(tab)
        page = panel.tabs.currentWidget()
        controls = [w for kind in kinds for w in page.findChildren(kind) if _is_usable(w)]
        controls += [panel.fuse, panel.fuse_tab.bias.slider, *panel.view_buttons.values()]
        controls.append(panel.overlay)
        assert len(controls) >= 5
        for control in controls:
            told = control.accessibleName() or getattr(control, "text", str)()
            assert told, control
            assert control.toolTip(), told
        visited = _tab_chain(panel.fuse)
        missed = [c.accessibleName() or c for c in controls if c not in visited]
        assert not missed, missed
    panel.window().hide()


def _is_usable(widget) -> bool:
    inner = (QComboBox, QAbstractSpinBox, QTableWidget)
    parent, inside = widget.parentWidget(), False
    while parent is not None:
        inside, parent = inside or isinstance(parent, inner), parent.parentWidget()
    is_bar = type(widget).__name__ == "QScrollBar"
    return widget.isVisible() and widget.isEnabled() and not inside and not is_bar


def _tab_chain(start) -> list:
    """Widgets in the order in which the Tab key goes through the window, once around."""
    chain, widget = [start], start.nextInFocusChain()
    while widget is not None and widget is not start:
        if widget.focusPolicy() & Qt.FocusPolicy.TabFocus:
            chain.append(widget)
        widget = widget.nextInFocusChain()
    return chain


#: Of napari's actions: screenshot to a file, to the clipboard, a trace of its performance.
TAKEN = ("s", "c", "t")


def test_mnemonics_are_those_of_one_button_each_and_of_nothing_in_napari(scene, qtbot):
    viewer, panel = scene
    run(qtbot, panel)
    panel.window().show()
    menus = [action.text() for action in viewer.window._qt_window.menuBar().actions()]
    assert len(menus) > 4
    for tab in range(panel.tabs.count()):
        panel.tabs.setCurrentIndex(tab)
        texts = [b.text() for b in panel.findChildren(QAbstractButton) if b.isVisible()]
        letters = [text.split("&")[1][0].lower() for text in (*menus, *texts) if "&" in text]
        assert sorted([*letters, *TAKEN]) == sorted({*letters, *TAKEN})
        assert len(letters) > 12
    assert panel.fuse.shortcut().toString() == "Ctrl+Return"
    panel.window().hide()
