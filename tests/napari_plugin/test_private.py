"""A layer holds no path, no UID and no name, for it can be sent; the plugin remembers them."""

from __future__ import annotations

import copy

import pytest
from napari.components import ViewerModel
from napari.layers import Image

from medfuse.imaging.pairing import TOLD
from medfuse.imaging.reader import load
from napari_plugin import private, values
from napari_plugin.case import export_job
from napari_plugin.jobs import Done
from napari_plugin.layers import facts, read_layer
from napari_plugin.model import FusionModel
from napari_plugin.reader import get_reader
from tests._helpers.make import MARKER
from tests._helpers.marked import DATES, NAME, UIDS, traces, write_marked


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp(MARKER)
    for modality in ("MR", "PT"):
        write_marked(root / f"{NAME} {modality}", modality)
    return [root / f"{NAME} {modality}" for modality in ("MR", "PT")]


@pytest.fixture
def layers(folders):
    read = [get_reader(str(folder))(str(folder)) for folder in folders]
    return [Image(data, **kwargs) for [(data, kwargs, _)] in read]


def secrets_of(folder):
    """Words that lead to a person, and the hashes of UIDs that can be undone without a secret."""
    source = load(folder).meta["source"]
    hashes = [source[key] for key in ("patient", "series", "frame_of_reference", "secret")]
    return [MARKER, NAME, str(folder.parent), *DATES, *UIDS, *hashes]


def said_by(layer):
    return f"{layer.name} {layer.metadata!r}"


def test_layers_of_dicom_hold_nothing_that_leads_to_a_person(folders, layers):
    for folder, layer in zip(folders, layers, strict=True):
        assert [word for word in secrets_of(folder) if word in said_by(layer)] == []
        values.state(layer, modality="CT", unit="HU")
        assert [word for word in secrets_of(folder) if word in said_by(layer)] == []


def test_the_plugin_still_knows_the_file_and_what_it_says(folders, layers):
    for folder, layer in zip(folders, layers, strict=True):
        values.state(layer, modality="SPECT")
        source = read_layer(layer)
        assert source.path == str(folder)
        expected = load(folder).meta["source"]
        assert facts(layer)["source"] | {TOLD: ""} == expected | {TOLD: ""}


def test_a_layer_of_another_process_has_no_file_and_is_used_all_the_same(layers, monkeypatch):
    monkeypatch.setattr(private, "_KNOWN", {})
    layer = layers[0]
    source = read_layer(Image(layer.data, metadata=copy.deepcopy(layer.metadata), units="mm"))
    assert source.path is None
    assert source.meta["modality"] == "MRI"
    assert source.meta["source"]["name"] == source.name


def test_outputs_and_export_name_nobody(folders, layers, tmp_path):
    viewer = ViewerModel()
    for layer in layers:
        viewer.add_layer(layer)
    model = FusionModel(viewer)
    model.choose(registration="identity", method="mean")
    outcome = model.fusion_job().run()
    assert isinstance(outcome, Done), outcome
    words = [word for folder in folders for word in secrets_of(folder)]
    for output in outcome.value.outputs:
        assert [word for word in words if word in repr((output.name, output.style))] == []
    assert isinstance(export_job(outcome.value, tmp_path / "case").run(), Done)
    assert traces(tmp_path / "case", MARKER, NAME, *DATES, *UIDS, str(folders[0].parent)) == []
