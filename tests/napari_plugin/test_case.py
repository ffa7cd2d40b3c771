"""A result folder out of the panel, beside one of the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image

from medfuse.case.pipeline import run_case
from medfuse.errors import InputError
from medfuse.results.export import is_complete, write_nifti
from napari_plugin import outputs
from napari_plugin.case import export_job, record_text
from napari_plugin.jobs import Done, Stopped
from napari_plugin.layers import layer_data
from napari_plugin.model import FusionModel
from napari_plugin.reader import get_reader
from napari_plugin.results import read_result

SAME = (
    "fused_rgb.nii.gz",
    "luminance.nii.gz",
    "weight_map.nii.gz",
    "anatomical_share.nii.gz",
    "functional_on_anatomical.nii.gz",
    "transform.tfm",
    "transform.json",
)


@pytest.fixture(scope="module")
def fused(tmp_path_factory, make):
    """A fusion in the panel of two files, and the files."""
    folder = tmp_path_factory.mktemp("case")
    files = {}
    for name, volume in (("t1", make.head()), ("pet", make.uptake())):
        path = folder / f"{name}.nii.gz"
        files[name] = write_nifti(path, np.asarray(volume)[0], np.asarray(volume.affine))
    from medfuse.imaging.reader import load

    viewer = ViewerModel()
    said = {
        "t1": {"modality": "MRI"},
        "pet": {"modality": "PET", "values_in": "SUVbw"},
    }
    for name, path in files.items():
        data, kwargs, _ = layer_data(load(path, **said[name]), name=name, path=str(path))
        viewer.add_layer(Image(data, **kwargs))
    model = FusionModel(viewer)
    model.choose(registration="identity", method="mean", bias=0.25)
    outcome = model.fusion_job().run()
    assert isinstance(outcome, Done), outcome
    return outcome.value, files


def test_export_has_the_same_bytes_as_the_command_line(fused, tmp_path):
    fusion, files = fused
    outcome = export_job(fusion, tmp_path / "panel").run()
    assert isinstance(outcome, Done), outcome
    settings = fusion.settings.model_copy(
        update={
            "anatomical_modality": "MRI",
            "functional_modality": "PET",
            "functional_unit": "SUVbw",
        }
    )
    run_case(files["t1"], files["pet"], tmp_path / "cli", settings, case="panel")
    names = {p.relative_to(tmp_path / "cli") for p in (tmp_path / "cli").rglob("*.*")}
    assert {p.relative_to(tmp_path / "panel") for p in (tmp_path / "panel").rglob("*.*")} == names
    figures = [str(name) for name in names if name.suffix == ".png"]
    for name in (*SAME, "audit.json", *figures):
        assert (tmp_path / "panel" / name).read_bytes() == (tmp_path / "cli" / name).read_bytes(), (
            name
        )
    assert is_complete(tmp_path / "panel", rehash=True)


def test_a_cancelled_export_leaves_nothing(fused, tmp_path):
    fusion, _ = fused
    job = export_job(fusion, tmp_path / "out")
    outcome = job.run(lambda fraction, text: job.cancel() if fraction >= 0.5 else None)
    assert isinstance(outcome, Stopped)
    assert list(tmp_path.iterdir()) == []


def test_the_record_names_what_was_done_and_no_paths(fused, tmp_path):
    fusion, files = fused
    record = json.loads(record_text(fusion))
    assert record["settings"]["bias"] == 0.25
    assert record["guide"]["name"] == "mean"
    assert record["inputs"]["functional"]["unit"] == "SUVbw"
    assert str(files["t1"].parent) not in record_text(fusion)


def test_an_exported_folder_opens_as_the_same_picture(fused, tmp_path):
    fusion, _ = fused
    folder = tmp_path / "case 7"
    assert isinstance(export_job(fusion, folder).run(), Done)
    layers = get_reader(str(folder))(str(folder))
    assert len(layers) == 5
    data, kwargs, _ = layers[-1]
    shown = {o.role: o.data for o in fusion.outputs}
    np.testing.assert_array_equal(data, shown[outputs.PICTURE])
    np.testing.assert_allclose(kwargs["scale"], fusion.pair.anatomical.transform["scale"])
    np.testing.assert_allclose(
        kwargs["translate"], fusion.pair.anatomical.transform["translate"], atol=1e-4
    )
    assert kwargs["name"].startswith("case 7: fused rgb")
    assert "provenance" in kwargs["metadata"]["medfuse"]


def test_a_damaged_result_folder_is_refused_in_one_line(tmp_path):
    (tmp_path / "provenance.json").write_text("{}")
    (tmp_path / "fused_rgb.nii.gz").write_bytes(b"")
    with pytest.raises(InputError, match=r"\[E_BAD_RESULT\]"):
        read_result(tmp_path)
