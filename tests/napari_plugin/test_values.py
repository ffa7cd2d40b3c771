"""Voxels of layers as files are read: no data outside the body, edits, statements."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from napari.layers import Image

import medfuse
from medfuse.errors import InputError
from medfuse.imaging.fingerprint import CHANGED, with_fingerprint
from napari_plugin.layers import layer_data, read_layer
from napari_plugin.values import checked, state


def plain(values: np.ndarray, unit: str = "SUVbw", modality: str = "PET") -> Image:
    layer = Image(values, name="plain", scale=(2.0,) * values.ndim)
    state(layer, modality=modality, unit=unit, scale_is_mm=True)
    return layer


def body(shape=(20, 24, 22)) -> np.ndarray:
    """A warm ellipsoid with structure, NaN outside."""
    points = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    values = 2 + np.sin(5 * points).sum(0)
    return np.where((points**2).sum(0) < 0.8, values, np.nan).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize(("unit", "fill"), [("SUVbw", 0.0), ("HU", -1000.0)])
def test_nan_outside_the_body_is_no_data(dtype, unit, fill):
    values = body().astype(dtype)
    source = checked(read_layer(plain(values, unit, "CT" if unit == "HU" else "PET")))
    assert np.isfinite(source.data).all()
    np.testing.assert_array_equal(source.data[np.isnan(values)], fill)
    assert "non-finite" in source.meta["notes"][-1]
    assert np.isnan(values).any()  # the user's own array is left as it is


def test_a_masked_array_is_no_data_where_it_is_masked():
    values = np.nan_to_num(body(), nan=99.0)
    layer = plain(np.zeros_like(values) + 1)
    layer._data = np.ma.masked_equal(values, 99.0)
    assert checked(read_layer(layer)).data.max() < 10


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_holes_in_the_body_are_refused_as_in_a_file(tmp_path, bad):
    values = body()
    values[9:12, 10:14, 9:13] = bad
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "x.nii.gz")
    with pytest.raises(InputError, match="E_NONFINITE"):
        medfuse.load(tmp_path / "x.nii.gz")
    with pytest.raises(InputError, match=r"plain.*E_NONFINITE"):
        checked(read_layer(plain(values)))


def test_a_flat_image_with_nan_outside_is_read():
    assert np.isfinite(checked(read_layer(plain(body()[10]))).data).all()


def test_a_constant_layer_is_refused():
    with pytest.raises(InputError, match="E_CONSTANT"):
        checked(read_layer(plain(np.full((8, 8, 8), 3.0))))


def ours(make) -> Image:
    volume = make.uptake()
    volume.meta = with_fingerprint(volume.meta, volume.numpy()[0], volume.affine.numpy())
    data, kwargs, _ = layer_data(volume, name="pet", path="/somewhere/pet.nii.gz")
    return Image(data.copy(), **kwargs)


def scaled(layer: Image) -> None:
    layer.data = layer.data / 10


def in_place(layer: Image) -> None:
    layer.data[...] = layer.data * 2


def clipped(layer: Image) -> None:
    layer.data = np.minimum(layer.data, 4)


def cast(layer: Image) -> None:
    layer.data = (layer.data / layer.data.max() * 255).astype(np.uint8)


@pytest.mark.parametrize("kind", ["ours", "stated"])
@pytest.mark.parametrize("edit", [scaled, in_place, cast])
def test_a_layer_that_was_scaled_loses_its_unit(make, kind, edit):
    layer = ours(make) if kind == "ours" else plain(np.nan_to_num(body()))
    edit(layer)
    source = checked(read_layer(layer))
    assert (source.meta["unit"], source.meta[CHANGED]) == ("a.u.", "scaled")
    assert "no longer in SUVbw" in source.meta["notes"][-1]
    assert source.path is None  # its voxels are no longer those of the file


def test_a_layer_that_was_clipped_is_told_of(make):
    layer = ours(make)
    clipped(layer)
    assert checked(read_layer(layer)).meta[CHANGED]


def moved(layer: Image) -> None:
    layer.translate = np.asarray(layer.translate) + np.array([30.0, 5.0, -12.0])


def cropped(layer: Image) -> None:
    start = np.array([3, 2, 5])
    layer.data = layer.data[3:, 2:-4, 5:]
    layer.translate = np.asarray(layer.translate) + start * np.asarray(layer.scale)


@pytest.mark.parametrize("kind", ["ours", "stated"])
@pytest.mark.parametrize("change", [lambda layer: None, moved])
def test_a_layer_that_was_only_moved_keeps_its_unit(make, kind, change):
    layer = ours(make) if kind == "ours" else plain(np.nan_to_num(body()))
    change(layer)
    assert checked(read_layer(layer)).meta["unit"] == "SUVbw"


def test_a_layer_that_was_cropped_keeps_its_unit(make):
    layer = ours(make)
    cropped(layer)
    source = checked(read_layer(layer))
    assert source.meta["unit"] == "SUVbw"
    assert CHANGED not in source.meta


def test_values_that_were_changed_can_be_described_anew(make):
    layer = ours(make)
    scaled(layer)
    state(layer, unit="Bq/ml")
    source = checked(read_layer(layer))
    assert source.meta["unit"] == "Bq/ml"
    assert CHANGED not in source.meta
