"""What is opened, and what is left to others."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from medfuse.errors import MedfuseError
from medfuse.imaging.reader import load
from napari_plugin.layers import facts, read_layer
from napari_plugin.reader import get_reader


def as_layers(layer_data):
    from napari.layers import Image

    return [Image(data, **kwargs) for data, kwargs, _ in layer_data]


def test_a_dicom_folder_becomes_a_layer_in_suv_with_its_true_geometry(sample_data):
    path = sample_data / "study/sts001/pet-fdg"
    [layer] = as_layers(get_reader(str(path))(str(path)))
    expected = load(path)
    assert layer.name == "PET series 1"
    assert (facts(layer)["modality"], facts(layer)["unit"]) == ("PET", "SUVbw")
    back = read_layer(layer).volume()
    np.testing.assert_array_equal(back.as_tensor(), expected.as_tensor())
    np.testing.assert_array_equal(back.affine, expected.affine)


def test_the_files_of_a_series_that_are_dropped_together_are_one_volume(sample_data):
    files = sorted(str(p) for p in (sample_data / "study/sts001/mr-t2").iterdir())
    [layer] = as_layers(get_reader(files)(files))
    assert layer.data.shape == (24, 384, 384)


def test_a_nifti_file_becomes_a_layer(sample_data):
    path = str(sample_data / "study/simulated-brain/t1.nii.gz")
    [layer] = as_layers(get_reader(path)(path))
    assert layer.name.endswith("t1")
    assert [str(unit) for unit in layer.units] == ["millimeter"] * 3


def test_foreign_things_are_declined(tmp_path):
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG")
    named = tmp_path / "fake.dcm"
    named.write_bytes(b"no dicom")
    empty = tmp_path / "empty"
    empty.mkdir()
    for path in (picture, named, empty, tmp_path / "absent.nii"):
        assert get_reader(str(path)) is None, path.name
    assert get_reader([]) is None


def test_a_broken_file_gives_one_line_with_a_code(tmp_path):
    path = tmp_path / "broken.nii.gz"
    nib.save(nib.Nifti1Image(np.random.default_rng(0).random((9, 9, 9)), np.eye(4)), path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(MedfuseError, match=r"broken.nii.gz.*\[E_") as caught:
        get_reader(str(path))(str(path))
    assert "\n" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
