"""Folders with several images, time series, BIDS subjects; SUV by dose and weight."""

from __future__ import annotations

import shutil

import nibabel as nib
import numpy as np
import pytest
from napari.layers import Image

from medfuse.errors import MedfuseError
from napari_plugin import dose, reader
from napari_plugin.dose import Injection, to_suv
from napari_plugin.frames import frames_of, take_frame
from napari_plugin.layers import facts, missing, read_layer
from napari_plugin.picking import Pick, first_guess, must_choose, unasked
from napari_plugin.placing import linear_map
from napari_plugin.private import opened_of
from napari_plugin.values import checked, state


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    """A BIDS subject with two MRI and a dynamic PET."""
    root = tmp_path_factory.mktemp("bids") / "sub-01"
    rng = np.random.default_rng(0)
    for name in ("anat/sub-01_T1w", "anat/sub-01_T2w", "pet/sub-01_pet"):
        path = root / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (8, 9, 7, 3) if name.endswith("pet") else (8, 9, 7)
        image = nib.Nifti1Image(rng.random(shape, np.float32), np.diag([3, 3, 4, 1]))
        image.header.set_xyzt_units("mm", "sec")
        nib.save(image, path)
    return root


def test_a_bids_subject_offers_its_images_and_one_of_each_is_ticked(subject):
    items = reader.items_of([subject])
    assert must_choose(items)
    assert {item.title.split()[0] for item in items} == {
        "anat/sub-01_T1w.nii.gz", "anat/sub-01_T2w.nii.gz", "pet/sub-01_pet.nii.gz"
    }  # fmt: skip
    assert [item.name for item in first_guess(items)] == ["sub-01_T1w", "sub-01_pet"]
    assert [item.frames for item in items] == [1, 1, 3]
    with pytest.raises(MedfuseError, match=r"Open\.\.\..*\[E_AMBIGUOUS_SERIES\]"):
        unasked(items)


@pytest.mark.parametrize(("frame", "note"), [(1, "frame 1 of 0 to 2"), ("mean", "mean of 3")])
def test_a_frame_that_was_chosen_is_read_and_remembered(subject, frame, note):
    item = next(i for i in reader.items_of([subject]) if i.frames == 3)
    [(data, options, _)] = reader.read_picks([Pick(item, frame)])
    voxels = np.asarray(nib.load(item.path).dataobj, dtype=np.float32)
    expected = voxels.mean(-1) if frame == "mean" else voxels[..., 1]
    np.testing.assert_allclose(data, expected.transpose(2, 1, 0)[::-1, ::-1, ::-1], rtol=1e-6)
    layer = Image(data, **options)
    assert any(note in n for n in facts(layer)["notes"])
    assert opened_of(layer.metadata["medfuse"]) == {"frame": frame}
    assert read_layer_stated(layer).opened == {"frame": frame}


def read_layer_stated(layer):
    state(layer, modality="PET", unit="Bq/ml")
    return read_layer(layer)


def test_a_dynamic_file_without_a_choice_speaks_of_the_panel(subject):
    path = str(subject / "pet" / "sub-01_pet.nii.gz")
    with pytest.raises(MedfuseError, match=r'"Frame" under "Open\.\.\." set to mean.*E_DYNAMIC'):
        reader.read_paths(path)


def test_series_of_a_folder_are_listed_with_their_modality(sample_data, tmp_path):
    for series in ("mr-t2", "pet-fdg"):
        shutil.copytree(sample_data / "study/sts001" / series, tmp_path / "all" / series)
    items = reader.items_of([tmp_path / "all"])
    assert sorted(item.modality for item in items) == ["MRI", "PET"]
    assert not must_choose(items)
    assert None not in {item.series for item in items}


def test_four_axes_ask_for_a_frame_that_becomes_a_layer_in_the_same_place():
    values = np.random.default_rng(1).random((4, 5, 6, 7), np.float32)
    layer = Image(values, name="dynamic", scale=(1, 3, 2, 2), translate=(0, -5, 7, 1))
    assert missing(layer) == ("frame",)
    with pytest.raises(MedfuseError, match=r'"Frame" below the layer'):
        read_layer(layer)
    assert frames_of(layer) == 4
    for frame, expected in ((2, values[2]), ("mean", values.mean(0))):
        data, options, _ = take_frame(layer, frame)
        np.testing.assert_allclose(data, expected, rtol=1e-6)
        made = Image(data, **options)
        np.testing.assert_allclose(linear_map(made), linear_map(layer)[1:, 1:])
        state(made, modality="PET", unit="SUVbw", scale_is_mm=True)
        assert "frame" in " ".join(read_layer(made).meta["notes"])
    with pytest.raises(MedfuseError, match="E_FRAME"):
        take_frame(layer, 4)


def pet(unit: str = "Bq/ml") -> Image:
    values = np.random.default_rng(2).random((6, 7, 8)).astype(np.float32) * 20_000
    layer = Image(values, name="pet", scale=(2, 2, 2))
    state(layer, modality="PET", unit=unit, scale_is_mm=True)
    return layer


@pytest.mark.parametrize(("minutes", "decayed"), [(None, 1.0), (60.0, 2 ** (-3600 / 6586.2))])
def test_dose_and_weight_give_suv_and_stand_in_the_record(minutes, decayed):
    layer = pet()
    before = layer.data.copy()
    to_suv(layer, Injection(250.0, 70.0, "F-18", minutes))
    np.testing.assert_allclose(layer.data, before * 70_000 / (250e6 * decayed), rtol=1e-4)
    source = checked(read_layer(layer))
    assert source.meta["unit"] == "SUVbw"
    assert source.meta["suv"]["refusal"] is None
    assert "250 MBq F-18, 70 kg" in source.meta["notes"][-1]
    assert "stated by the user" in source.meta["notes"][-1]


@pytest.mark.parametrize(
    ("layer", "injection"),
    [
        (pet("SUVbw"), Injection(250, 70)),
        (pet(), Injection(0.25, 70)),
        (pet(), Injection(250, 0)),
        (pet(), Injection(250, 70, "F-18", 60 * 30)),
    ],
)
def test_an_implausible_injection_changes_nothing(layer, injection):
    before = layer.data
    with pytest.raises(MedfuseError, match=r"pet.*\[E_SUV\]"):
        to_suv(layer, injection)
    assert layer.data is before
    assert set(dose.NUCLIDES) <= set(dose.HALF_LIVES_S)
