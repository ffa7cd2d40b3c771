"""The panel in a real viewer: what it says stays true, what it is asked is done in turn."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDialogButtonBox, QMessageBox

from napari_plugin import outputs
from napari_plugin._qt import files
from napari_plugin._qt.chooser import Chooser
from napari_plugin.dose import Injection
from napari_plugin.layers import facts
from napari_plugin.picking import Item, Pick

pytestmark = pytest.mark.gl


def idle(qtbot, panel) -> None:
    qtbot.waitUntil(
        lambda: not (panel.runner.is_busy or panel.quiet.is_busy or panel.views.is_busy),
        timeout=120_000,
    )


def fuse(qtbot, panel) -> None:
    panel.fuse_tab.registration.setCurrentText("identity")
    panel.fuse_tab.method.setCurrentText("mean")
    panel.fuse.click()
    idle(qtbot, panel)


def pick(combo, text: str) -> None:
    combo.setCurrentText(text)
    combo.activated.emit(combo.currentIndex())


def test_another_choice_is_said_everywhere_and_export_asks(
    scene, qtbot, make, tmp_path, monkeypatch
):
    viewer, panel = scene
    fuse(qtbot, panel)
    panel.export(tmp_path / "one")
    idle(qtbot, panel)
    assert panel.record_tab.exported.text() == "Written: one"
    viewer.add_layer(make.layer(make.uptake(), "PET 2"))
    pick(panel.fuse_tab.functional.combo, "PET 2")
    earlier = "of an earlier pair (T1 + PET)"
    texts = [panel.status, panel.audit_tab.headline, panel.record_tab.headline, panel.cursor]
    viewer.cursor.position = (-4.0, -14.0, 12.0)
    for label in texts:
        assert earlier in label.text().replace("Of", "of"), label.accessibleName()
    assert "of an earlier result" in panel.record_tab.exported.text()
    names = [layer.name for layer in viewer.layers if outputs.role_of(layer)]
    assert all(earlier in name for name in names)
    asked = []
    monkeypatch.setattr(files, "agrees", lambda parent, text: asked.append(text) or len(asked) > 1)
    panel.export(tmp_path / "two")
    idle(qtbot, panel)
    assert earlier in asked[0]
    assert not (tmp_path / "two").exists()
    panel.export(tmp_path / "two")
    idle(qtbot, panel)
    assert (tmp_path / "two" / "provenance.json").exists()
    panel.fuse.click()
    idle(qtbot, panel)
    assert panel.status.text().startswith("Audit")
    assert "earlier" in panel.record_tab.exported.text()


def test_the_question_is_answered_no_by_default(scene, qtbot, monkeypatch):
    _, panel = scene
    shown = []
    monkeypatch.setattr(QMessageBox, "exec", lambda box: shown.append(box.defaultButton().text()))
    assert not files.agrees(panel, "of an earlier pair")
    assert "Cancel" in shown[0].replace("&", "")


def test_boxes_follow_layers_that_are_hidden_or_deleted(scene, qtbot):
    viewer, panel = scene
    fuse(qtbot, panel)
    adjust = panel.fuse_tab.adjust
    adjust.checker.click()
    idle(qtbot, panel)
    layer = outputs.find(viewer, outputs.CHECKER)
    layer.visible = False
    assert not adjust.checker.isChecked()
    layer.visible = True
    assert adjust.checker.isChecked()
    viewer.layers.remove(layer)
    assert not adjust.checker.isChecked()
    adjust.before.click()
    idle(qtbot, panel)
    assert "where its file has it" in outputs.find(viewer, outputs.ON_GRID).name
    panel.fuse.click()
    idle(qtbot, panel)
    assert not adjust.before.isChecked()
    assert outputs.find(viewer, outputs.PICTURE).visible


def test_a_panel_that_is_closed_and_opened_again_shows_what_it_showed(scene, qtbot):
    viewer, panel = scene
    panel.fuse_tab.bias.value = 0.5
    fuse(qtbot, panel)
    viewer.window.remove_dock_widget(panel.parent())
    assert panel._closed
    _, again = viewer.window.add_plugin_dock_widget("medfuse", "Fuse MRI+PET")
    try:
        assert again.status.text().startswith("Audit")
        assert again.fuse_tab.bias.value == 0.5
        assert again.fuse_tab.method.currentText() == "mean"
        assert again.audit_tab.table.rowCount() == len(again.model.fusion.audit.checks)
        assert '"method": "mean"' in again.record_tab.text.toPlainText()
        viewer.cursor.position = (-4.0, -14.0, 12.0)
        assert again.cursor.text().startswith("MRI 900 a.u.")
        assert again.record_tab.export.isEnabled()
        assert again.fuse_tab.adjust.checker.isEnabled()
    finally:
        again.shut_down()


def test_drops_wait_their_turn_and_a_time_series_is_asked_for(
    scene, qtbot, sample_data, tmp_path, monkeypatch
):
    viewer, panel = scene
    image = nib.Nifti1Image(np.random.default_rng(0).random((9, 9, 9, 2), np.float32), np.eye(4))
    nib.save(image, tmp_path / "dynamic.nii.gz")
    asked = []

    def ask(items, parent):
        asked.append(items)
        return [Pick(items[0], "mean")]

    monkeypatch.setattr(files, "ask", ask)
    brain = sample_data / "study" / "simulated-brain" / "simulated-pet.nii.gz"
    panel.fuse_tab.registration.setCurrentText("identity")
    panel.fuse.click()  # busy from here
    panel.open_paths([str(brain)])
    panel.open_paths([str(tmp_path / "dynamic.nii.gz")])
    qtbot.waitUntil(lambda: len(viewer.layers) >= 11 and bool(asked), timeout=120_000)
    idle(qtbot, panel)
    names = [layer.name for layer in viewer.layers if not outputs.role_of(layer)]
    assert names[2:] == [f"PET {brain.name.split('.')[0]}", "dynamic, mean of frames"]
    assert [item.frames for item in asked[0]] == [2]


def test_the_chooser_gives_what_is_ticked(qtbot, gl):
    items = [
        Item(Path("a"), "a", "a", modality="MRI"),
        Item(Path("b"), "b", "b", modality="MRI"),
        Item(Path("c"), "c", "c", modality="PET", frames=3),
        Item(Path("d"), "d", "d", problem="broken [E_X]"),
    ]
    dialog = Chooser(items)
    qtbot.addWidget(dialog)
    assert [(p.item.name, p.frame) for p in dialog.picks()] == [("a", None), ("c", "mean")]
    dialog.frames[2].setCurrentText("2")
    dialog.table.item(0, 0).setCheckState(Qt.CheckState.Unchecked)
    assert [(p.item.name, p.frame) for p in dialog.picks()] == [("c", 2)]
    dialog.table.item(2, 0).setCheckState(Qt.CheckState.Unchecked)
    assert not dialog.buttons.button(QDialogButtonBox.StandardButton.Open).isEnabled()
    assert not dialog.table.item(3, 0).flags() & Qt.ItemFlag.ItemIsEnabled


def test_suv_is_one_click_away_for_a_layer_in_bq_per_ml(scene, qtbot, monkeypatch):
    viewer, panel = scene
    pet = viewer.layers["PET"]
    panel.model.state(pet, unit="Bq/ml")
    field = panel.fuse_tab.functional
    field.correct.click()
    assert not field.suv.isHidden()
    from napari_plugin._qt import describing

    pet.data = pet.data * 5000
    monkeypatch.setattr(describing, "ask_injection", lambda *_: Injection(250.0, 70.0))
    field.suv.click()
    assert facts(pet)["unit"] == "SUVbw"
    assert "SUVbw" in field.facts.text()
    assert field.suv.isHidden()


def test_a_frame_of_a_layer_with_four_axes_becomes_the_functional_layer(scene, qtbot):
    viewer, panel = scene
    viewer.add_image(np.random.default_rng(0).random((3, 9, 9, 9), np.float32), name="dynamic")
    field = panel.fuse_tab.functional
    pick(field.combo, "dynamic")
    assert not field.frame.isHidden()
    pick(field.frame, "1")
    idle(qtbot, panel)
    assert panel.model.functional.name == "dynamic, frame 1"
    assert field.frame.isHidden()


def test_a_session_is_saved_and_opened_by_a_drop(scene, qtbot, sample_data, tmp_path):
    viewer, panel = scene
    folder = tmp_path / "images"
    shutil.copytree(sample_data / "study" / "sts001" / "pet-fdg", folder)
    panel.open_paths([str(folder)])
    idle(qtbot, panel)
    pick(panel.fuse_tab.functional.combo, viewer.layers[-1].name)
    panel.files.save_session(tmp_path / "s.json")
    assert "E_NO_FILE" in panel.status.text(), "the MRI of the scene is no file"
    panel.model.anatomical = None
    panel.fuse_tab.colormap.setCurrentText("ember")
    panel.files.save_session(tmp_path / "s.json")
    assert panel.status.text() == "Session saved: s.json."
    panel.fuse_tab.colormap.setCurrentText("auto")
    count = len(viewer.layers)
    panel.open_paths([str(tmp_path / "s.json")])
    idle(qtbot, panel)
    assert len(viewer.layers) == count + 1
    assert panel.fuse_tab.colormap.currentText() == "ember"
    assert panel.model.functional.unique_id == viewer.layers[-1].unique_id
