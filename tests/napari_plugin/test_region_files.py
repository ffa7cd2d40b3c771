"""Segmentations and structure sets in a real window: their names, outlines and numbers."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pydicom
import pytest
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDropEvent
from qtpy.QtWidgets import QFileDialog
from typer.testing import CliRunner

from napari_plugin import outputs
from napari_plugin.regions import color_of
from tests._helpers.regions import segmentation, structure_set

pytestmark = pytest.mark.gl
NUMBERS = ("max", "mean", "peak", "volume_ml", "tlg", "anatomical_mean", "registration_error_mm")


def idle(qtbot, panel) -> None:
    qtbot.waitUntil(
        lambda: not (panel.runner.is_busy or panel.quiet.is_busy or panel.views.is_busy),
        timeout=180_000,
    )


def drop(widget, *paths: Path) -> None:
    """As the window system does it."""
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    event = QDropEvent(QPointF(5, 5), Qt.DropAction.CopyAction, data,
                       Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier)  # fmt: skip
    widget.dropEvent(event)


@pytest.fixture(scope="module")
def drawn(sample_data, tmp_path_factory) -> tuple[Path, Path]:
    """A SEG with two segments and an RTSTRUCT with two structures, of the PET of the sample."""
    pytest.importorskip("highdicom")
    pet, folder = sample_data / "study" / "sts001" / "pet-fdg", tmp_path_factory.mktemp("drawn")
    files = sorted((pydicom.dcmread(path) for path in pet.iterdir()),
                   key=lambda file: file.ImagePositionPatient[2])  # fmt: skip
    first, middle = files[0], len(files) // 2
    masks = {name: np.zeros((len(files), first.Rows, first.Columns), bool) for name in ("GTV", "n")}
    rows, columns = first.Rows // 2, first.Columns // 2
    masks["GTV"][middle - 2 : middle + 2, rows - 6 : rows + 6, columns - 6 : columns + 6] = True
    masks["n"][middle, rows - 12 : rows - 6, columns - 4 : columns + 4] = True
    seg = segmentation(folder / "seg.dcm", pet, masks)
    x, y, _ = (float(n) for n in first.ImagePositionPatient)
    step = [float(n) for n in first.PixelSpacing]
    left, top = x + step[1] * (columns - 5.3), y + step[0] * (rows - 7.2)

    def ring(z: float, width: float) -> np.ndarray:
        right, low = left + width, top + width
        return np.array([(left, top, z), (right, top, z), (right, low, z), (left, low, z)])

    heights = [float(file.ImagePositionPatient[2]) for file in files[middle - 2 : middle + 2]]
    rings = {f"{name}": [ring(z, width) for z in heights]
             for name, width in (("PTV", 60.0), ("boost", 35.0))}  # fmt: skip
    person = {name: str(first.get(name, "")) for name in
              ("PatientID", "PatientBirthDate", "PatientSex")}  # fmt: skip
    structures = structure_set(folder / "rt.dcm", rings, frame=first.FrameOfReferenceUID,
                               series=first.SeriesInstanceUID, **person)  # fmt: skip
    return seg, structures


def test_dropped_and_opened_regions_have_the_numbers_of_the_command_line(
    gl, plugin, qtbot, sample_data, drawn, tmp_path, monkeypatch
):
    import napari

    from medfuse.cli.app import app

    study = sample_data / "study" / "sts001"
    viewer = napari.Viewer(show=False)
    _, panel = viewer.window.add_plugin_dock_widget("medfuse", "Fuse MRI+PET")
    try:
        seg, structures = drawn
        panel.open_paths([str(seg)])
        assert "fused first" in panel.status.text()
        panel.open_paths([str(study / name) for name in ("mr-t2", "pet-fdg")])
        idle(qtbot, panel)
        panel.fuse_tab.more.widgets["initial"].choose(str(study / "start.txt"))
        panel.model.choose(registration="identity", method="mean", accept_suspect=True)
        panel.fuse.click()
        idle(qtbot, panel)
        assert abs(panel.model.registration.matrix[:3, 3]).max() > 100, "that of the file"
        count, tab = len(viewer.layers), panel.regions_tab
        drop(panel, seg)  # on the panel, where images are dropped too
        qtbot.waitUntil(lambda: tab.table.rowCount() == 2, timeout=120_000)
        idle(qtbot, panel)
        chosen = ([str(structures)], "")
        monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *_, **__: chosen)
        tab.file.click()
        qtbot.waitUntil(lambda: tab.table.rowCount() == 4, timeout=120_000)
        idle(qtbot, panel)
        names = [tab.table.item(row, 0).text() for row in range(4)]
        assert names == ["GTV", "n", "PTV", "boost"]
        assert len(viewer.layers) == count + 1, "no image was opened"
        layer = outputs.find(viewer, outputs.REGIONS)
        assert layer.visible
        for number in range(4):
            assert (layer.data == color_of(number)).any(), names[number]
        panel.view_bar.link.click()
        panel.region_tools.go_to(0)
        assert panel.view_bar.linked is not None
        panel.export(tmp_path / "case")
        idle(qtbot, panel)
        rows = list(panel.regions_tab.found.table)
    finally:
        panel.shut_down()
        viewer.close()
    table = tmp_path / "t.tsv"
    call = ["measure", str(tmp_path / "case"), "--inputs", str(study), "-o", str(table)]
    call += [word for path in drawn for word in ("--regions", str(path))]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    with table.open(newline="") as stream:
        told = {row["region"]: row for row in csv.DictReader(stream, delimiter="\t")}
    assert list(told) == names
    for row in rows:
        for name in NUMBERS:
            assert float(told[row.region][name]) == pytest.approx(getattr(row, name), rel=1e-5)


def test_a_mask_that_may_lie_on_either_image_is_taken_as_the_tab_says(scene, qtbot, tmp_path):
    from medfuse.imaging.grid import Grid
    from medfuse.results.export import write_nifti

    _, panel = scene
    panel.model.choose(registration="identity", method="mean", accept_suspect=True)
    panel.fuse.click()
    idle(qtbot, panel)
    mask = np.zeros((10, 10, 10), np.uint8)
    mask[3:7, 3:7, 3:7] = 1
    affine = Grid.from_volume(panel.model.fusion.pair.functional.volume()).affine + 0.0
    affine[:3, 3] = (-14.0, -12.0, -16.0)  # a lattice of its own, in neither image
    affine[:3, :3] *= 0.7
    path = write_nifti(tmp_path / "own.nii.gz", mask, affine)
    tab = panel.regions_tab
    drop(tab, path)
    idle(qtbot, panel)
    assert '"Drawn on" in the Regions tab set to functional' in panel.status.text()
    assert tab.table.rowCount() == 0
    assert tab.found_box.isHidden()
    tab.drawn_on.setCurrentText("Drawn on: functional")
    drop(tab, path)
    qtbot.waitUntil(lambda: tab.table.rowCount() == 1, timeout=60_000)
    assert panel.regions_tab.found.table[0].space == "functional"
    assert not tab.found_box.isHidden()
