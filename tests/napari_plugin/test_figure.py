"""Figures and movies: what they are of stands in the file; 3-D turns."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from medfuse.errors import MedfuseError
from napari_plugin import outputs
from napari_plugin.figure import About, write_figure, write_movie

ABOUT = About("case 7", "ab12" * 16, "look")


def frames(count: int) -> list[np.ndarray]:
    made = np.zeros((count, 20, 30, 3), np.uint8)
    for number in range(count):
        made[number, :, number : number + 5] = 200
    return list(made)


def test_a_figure_says_case_and_provenance_in_its_file(tmp_path):
    [rgb] = frames(1)
    path = write_figure(tmp_path / "a.png", rgb, ABOUT)
    with Image.open(path) as image:
        np.testing.assert_array_equal(np.asarray(image), rgb)
        assert image.text["Case"] == "case 7"
        assert image.text["Provenance"] == "ab12" * 16
        assert "Warning" not in image.text
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    assert "provenance ab12ab12ab12" in ABOUT.caption


@pytest.mark.parametrize("ending", ["gif", "png"])
def test_a_movie_has_all_frames_and_says_what_it_is_of(tmp_path, ending):
    path = write_movie(tmp_path / f"a.{ending}", frames(4), ABOUT)
    with Image.open(path) as image:
        assert image.n_frames == 4
        facts = json.loads(image.info["comment"]) if ending == "gif" else image.text
        assert facts["Case"] == "case 7"
        assert image.info["loop"] == 0


def test_another_ending_or_folder_is_refused_in_one_line(tmp_path):
    for path, code in ((tmp_path / "a.mp4", "E_USAGE"), (tmp_path / "no" / "a.png", "E_WRITE")):
        with pytest.raises(MedfuseError, match=code) as raised:
            write_figure(path, frames(1)[0], ABOUT)
        assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_result_is_called_so_without_names_of_layers():
    fusion = SimpleNamespace(
        record='{"key": "k"}', opened="", pair=SimpleNamespace(words=("PET", "MRI")),
        audit=SimpleNamespace(verdict="pass"),
    )  # fmt: skip
    about = About.of(SimpleNamespace(fusion=fusion, is_current=False))
    assert about.case == "PET + MRI"
    assert "an earlier result" in about.caption
    assert about.facts["Warning"] == "an earlier result"


@pytest.mark.gl
def test_figures_and_movies_of_the_window(scene, qtbot, tmp_path):
    from napari_plugin._qt import figures

    viewer, panel = scene
    panel.fuse_tab.registration.setCurrentText("identity")
    panel.fuse_tab.method.setCurrentText("mean")
    panel.fuse.click()
    qtbot.waitUntil(lambda: not panel.runner.is_busy, timeout=120_000)
    viewer.window.resize(900, 700)
    viewer.window.show()
    panel.view_bar.link.click()
    qtbot.wait(50)
    key = json.loads(panel.model.fusion.record)["key"]
    for what, name in (
        (figures.CANVAS, "canvas.png"),
        (figures.LINKED, "linked.png"),
        (figures.SLICES, "slices.gif"),
    ):
        panel.figures.save(what, tmp_path / name)
        qtbot.waitUntil(lambda name=name: (tmp_path / name).exists(), timeout=60_000)
        qtbot.waitUntil(lambda: not panel.runner.is_busy, timeout=20_000)
        with Image.open(tmp_path / name) as image:
            assert np.asarray(image.convert("RGB")).max() > 150, "something is drawn"
            facts = image.text if name.endswith("png") else json.loads(image.info["comment"])
            assert facts["Provenance"] == key
            if what == figures.SLICES:
                assert image.n_frames == outputs.find(viewer, outputs.PICTURE).data.shape[0]
    before = viewer.camera.angles
    panel.figures.rotate.setChecked(True)
    assert viewer.dims.ndisplay == 3
    qtbot.waitUntil(lambda: viewer.camera.angles != before, timeout=5_000)
    panel.view_buttons["axial"].click()
    qtbot.waitUntil(lambda: not panel.figures.rotate.isChecked(), timeout=5_000)
    assert figures.turned((0.0, 170.0, 90.0), 20.0) == (0.0, -170.0, 90.0)
