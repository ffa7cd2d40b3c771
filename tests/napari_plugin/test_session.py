"""Sessions: saved, opened again, refused where they are hostile; results that are opened again."""

from __future__ import annotations

import json

import numpy as np
import pytest
from napari.components import ViewerModel

from medfuse.errors import InputError, MedfuseError, UsageError
from medfuse.results.export import write_nifti
from medfuse.settings import CaseSettings
from napari_plugin import outputs
from napari_plugin.case import export_job
from napari_plugin.jobs import Done
from napari_plugin.layers import facts
from napari_plugin.model import FusionModel
from napari_plugin.picking import unasked
from napari_plugin.reader import items_of, read_paths, read_picks
from napari_plugin.session import apply_session, read_session, save_session

SMALL = (16, 18, 12)


def add(viewer, path) -> None:
    for data, options, _ in read_paths(str(path)):
        viewer.add_image(data, **options)


def fuse(model) -> None:
    outcome = model.fusion_job().run()
    assert isinstance(outcome, Done), outcome
    for _ in model.show(outcome.value):
        pass


@pytest.fixture(scope="module")
def study(tmp_path_factory, make):
    """A folder with an MRI, a dynamic PET, a fused result and a session."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "images").mkdir()
    spacing = (80 / SMALL[0], 90 / SMALL[1], 70 / SMALL[2])
    head, pet = make.head(SMALL, spacing), make.uptake(SMALL, spacing)
    write_nifti(folder / "images" / "t1.nii.gz", np.asarray(head)[0], np.asarray(head.affine))
    write_nifti(folder / "images" / "pet.nii.gz", np.asarray(pet)[0], np.asarray(pet.affine))
    viewer = ViewerModel()
    for name in ("t1", "pet"):
        add(viewer, folder / "images" / f"{name}.nii.gz")
    model = FusionModel(viewer)
    t1, pet = viewer.layers
    model.state(t1, modality="MRI", unit="a.u.")
    model.state(pet, modality="PET", unit="SUVbw")
    model.anatomical, model.functional = t1, pet
    model.choose(registration="identity", method="mean", bias=0.25, accept_suspect=True)
    fuse(model)
    model.nudge((4.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    fuse(model)
    assert isinstance(export_job(model.fusion, folder / "case 7").run(), Done)
    save_session(model, folder / "session.json", folder / "case 7")
    return folder, model


def test_a_session_names_files_relative_to_itself_and_no_layers(study):
    folder, _ = study
    text = (folder / "session.json").read_text("utf-8")
    values = json.loads(text)
    assert values["anatomical"]["file"] == "images/t1.nii.gz"
    assert values["result"] == "case 7"
    assert values["settings"]["bias"] == 0.25
    assert str(folder) not in text
    assert "name" not in values["anatomical"]


def test_a_session_restores_images_statements_settings_result_and_registration(study, tmp_path):
    folder, before = study
    moved = tmp_path / "elsewhere"
    folder.rename(moved)
    try:
        viewer = ViewerModel()
        model = FusionModel(viewer)
        apply_session(model, read_session(moved / "session.json"))
        assert facts(model.functional)["unit"] == "SUVbw"
        assert model.settings == before.settings
        assert model.result.fusion.opened == "case 7"
        point = viewer.layers[0].data_to_world((6, 9, 8))
        told, true = (m.read_out(point).split(": ")[-1].split("  |  ") for m in (model, before))
        assert told[0] == "MRI no value a.u."
        assert told[1:] == true[1:], "PET, weight, share and what the color tells"
        opened = outputs.find(viewer, outputs.PICTURE).data.copy()
        fuse(model)
        assert model.result.is_current
        assert "by hand" in model.registration.method
        np.testing.assert_array_equal(outputs.find(viewer, outputs.PICTURE).data, opened)
    finally:
        moved.rename(folder)


def test_a_session_keeps_region_start_and_how_images_are_read(study, tmp_path):
    folder, _ = study
    viewer = ViewerModel()
    model = FusionModel(viewer)
    settings = CaseSettings(assume_identity=True)
    for name in ("t1.nii.gz", "pet.nii.gz"):
        picks = unasked(items_of([folder / "images" / name]))
        [(data, options, _)] = read_picks(picks, settings)
        viewer.add_image(data, **options)
    model.anatomical, model.functional = viewer.layers
    model.state(viewer.layers[0], modality="MRI", unit="a.u.")
    model.state(viewer.layers[1], modality="PET", unit="SUVbw")
    mask, start = folder / "masks.nii.gz", folder / "start.txt"
    model.choose(region=f"GTV={mask}", initial=str(start))
    path = folder / "with-region.json"
    save_session(model, path)
    told = json.loads(path.read_text("utf-8"))
    assert told["files"] == {"region": "GTV=masks.nii.gz", "initial": "start.txt"}
    assert told["anatomical"]["reading"] == {"assume_identity": True}
    again = FusionModel(ViewerModel())
    apply_session(again, read_session(path))
    assert again.settings.region == f"GTV={mask.resolve()}"
    assert again.settings.initial == str(start.resolve())
    assert again.pair().statements["assume_identity"] is True
    told["files"] = {"initial": "/etc/passwd"}
    path.write_text(json.dumps(told), "utf-8")
    with pytest.raises(InputError, match="absolute path"):
        read_session(path)
    model.choose_region(viewer.add_labels(np.ones((2, 2, 2), np.uint8), name="brain"))
    with pytest.raises(UsageError, match=r"brain.*painted.*\"Region\".*E_NO_FILE"):
        save_session(model, path)


def test_an_opened_result_brings_audit_record_and_colour_limits_to_the_panel(study):
    folder, before = study
    viewer = ViewerModel()
    model = FusionModel(viewer)
    add(viewer, folder / "case 7")
    assert [c.id for c in model.fusion.audit.checks] == [c.id for c in before.fusion.audit.checks]
    assert json.loads(model.fusion.record)["settings"]["bias"] == 0.25
    window = before.fusion.result.window
    limits = outputs.find(viewer, outputs.ON_GRID).contrast_limits
    assert limits == pytest.approx([window.low, window.high])
    assert "case 7" in model.summary()
    assert model.result.why == "of the opened result case 7"
    assert model.go_to(model.fusion.audit["hot_spots"])
    outcome = export_job(model.fusion, folder / "again").run()
    assert outcome.code == "E_EDITED"


def test_a_panel_that_is_opened_again_goes_on(viewer):
    first = FusionModel(viewer)
    first.choose(registration="identity", method="mean", bias=0.5, accept_suspect=True)
    fuse(first)
    first.close()
    viewer.layers["PET"].name = "renamed"
    second = FusionModel(viewer)
    assert second.result.is_current
    assert second.settings == first.settings
    assert second.functional.name == "renamed"
    second.close()
    layer = viewer.layers["renamed"]
    layer.translate = np.asarray(layer.translate) + 5
    third = FusionModel(viewer)
    assert not third.result.is_current
    assert "place of" in outputs.find(viewer, outputs.PICTURE).name


def test_a_layer_that_came_from_no_file_cannot_be_saved(viewer, tmp_path):
    with pytest.raises(MedfuseError, match=r"T1.*\[E_NO_FILE\]"):
        save_session(FusionModel(viewer), tmp_path / "s.json")


GOOD = {"schema": "medfuse/napari-session/1"}
HOSTILE = {
    "no JSON": "{",
    "a list": "[]",
    "deep": "[" * 100_000,
    "NaN": '{"schema": "medfuse/napari-session/1", "look": {"point": [NaN]}}',
    "huge": " " * (2**20 + 1),
    "not text": b"\xff\xfe\x00",
    "other schema": {"schema": "x"},
    "unknown field": GOOD | {"run": "rm"},
    "absolute": GOOD | {"functional": {"file": "/etc/passwd"}},
    "drive": GOOD | {"functional": {"file": "C:\\x.nii"}},
    "share": GOOD | {"functional": {"file": "\\\\host\\x.nii"}},
    "null byte": GOOD | {"functional": {"file": "a\0b.nii"}},
    "no image": GOOD | {"functional": {"file": "session.json"}},
    "gone": GOOD | {"functional": {"file": "gone.nii.gz"}},
    "device": GOOD | {"functional": {"file": "../" * 30 + "dev/zero"}},
    "number as text": GOOD | {"functional": {"file": 7}},
    "frame": GOOD | {"functional": {"file": "a.nii", "frame": "all"}},
    "unit": GOOD | {"functional": {"file": "a.nii", "unit": "SUV\n"}},
    "setting": GOOD | {"settings": {"magic": 1}},
    "value": GOOD | {"settings": {"bias": 7}},
    "text value": GOOD | {"settings": {"window": "x"}},
    "initial": GOOD | {"settings": {"initial": "/etc/passwd"}},
    "weights": GOOD | {"settings": {"method": "../evil.pt"}},
    "point": GOOD | {"look": {"point": [1, 2, 3, 4]}},
    "plane": GOOD | {"look": {"plane": "x"}},
    "absolute result": GOOD | {"result": "/tmp"},
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_session_is_refused_in_one_line(kind, tmp_path):
    content = HOSTILE[kind]
    path = tmp_path / "session.json"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        text = content if isinstance(content, str) else json.dumps(content)
        path.write_text(text, encoding="utf-8")
    with pytest.raises(MedfuseError) as raised:
        read_session(path)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500
    assert str(tmp_path) not in str(raised.value)
