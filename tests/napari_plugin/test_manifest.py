"""The manifest: valid, and every name in it exists."""

from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
import sys

import pytest


def test_the_manifest_is_valid_and_found_under_the_distribution_name(plugin):
    manifest = plugin.get_manifest("medfuse")
    assert manifest.name == "medfuse"
    [entry] = importlib.metadata.entry_points(group="napari.manifest", name="medfuse")
    assert entry.value == "medfuse_napari:napari.yaml"
    manifest.validate_imports()


def test_every_command_can_be_imported_and_called(plugin):
    for command in plugin.get_manifest("medfuse").contributions.commands:
        module, name = command.python_name.split(":")
        assert callable(getattr(importlib.import_module(module), name)), command.python_name


def test_the_panel_has_the_name_that_people_look_for(plugin):
    names = [w.display_name for w in plugin.get_manifest("medfuse").contributions.widgets]
    assert names == ["Fuse MRI+PET", "Open result folder"]


def test_the_reader_takes_folders_and_leaves_other_files_alone(plugin, tmp_path):
    assert [r.command for r in plugin.iter_compatible_readers([str(tmp_path)])] == ["medfuse.read"]
    assert not list(plugin.iter_compatible_readers(["picture.tif"]))
    for name in ("t1.nii", "t1.nii.gz", "0001.DCM"):
        assert list(plugin.iter_compatible_readers([name])), name


@pytest.mark.parametrize("key", ["brain", "sarcoma", "ct-mri"])
def test_every_sample_opens_as_two_layers_that_make_a_pair(plugin, key):
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_plugin.model import FusionModel

    [(_, samples)] = list(plugin.iter_sample_data())
    sample = next(s for s in samples if s.key == key)
    viewer = ViewerModel()
    for data, kwargs, _ in sample.open():
        viewer.add_layer(Image(data, **kwargs))
    model = FusionModel(viewer)
    pair = model.pair()
    assert pair.words == (("CT", "MRI") if key == "ct-mri" else ("PET", "MRI"))
    assert len({layer.units for layer in viewer.layers}) == 1


def test_importing_the_plugin_is_cheap():
    code = "import napari_plugin, sys; assert not {'torch', 'qtpy', 'napari'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
