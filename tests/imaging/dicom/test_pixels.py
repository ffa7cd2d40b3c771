"""Pixels: every lossless encoding alike, rescaled, without padding and unused bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from medfuse.errors import MedfuseError
from medfuse.imaging.dicom.header import DicomFile, read_header
from medfuse.imaging.dicom.pixels import decode
from medfuse.imaging.dicom.series import read_dicom
from medfuse.imaging.volume import Place
from tests._helpers import make
from tests._helpers.series import THIRD, assert_says, set_tags


@pytest.mark.parametrize(
    ("image", "encodings", "shape"),
    [
        ("MR_small", ["bigendian", "implicit", "RLE"], (64, 64)),
        ("CT1", ["RLE", "J2KR", "JLSL", "JPLL"], (512, 512)),
        ("MR3", ["RLE", "J2KR", "JLSL", "JPLL"], (512, 512)),
    ],
)
def test_real_images_decode_alike_in_every_lossless_encoding(
    shared_data: Path, image: str, encodings: list[str], shape: tuple[int, int]
) -> None:
    folder = shared_data / "volumes/awkward-dicom/transfer-syntax"
    decoded = []
    for name in (f"{image}_{encoding}.dcm" for encoding in encodings):
        file = read_header(folder / name, name)
        assert isinstance(file, DicomFile)
        decoded.append(next(decode(file, [0], Place("Cannot read", name))[1]))
    for other in decoded:
        np.testing.assert_array_equal(decoded[0], other)
        assert other.shape == shape


def test_rescale_slope_is_applied_slice_by_slice(tmp_path: Path) -> None:
    def edit(dataset: Dataset, k: int) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = 0.5 + k, -3

    plan = make.write_series(tmp_path, make.SeriesPlan(modality="CT", edit=edit))
    expected = plan.values * (0.5 + np.arange(make.SHAPE[2])) - 3
    np.testing.assert_allclose(read_dicom(tmp_path).values, expected, rtol=1e-6)


def test_rubbish_in_unused_high_bits_is_removed(tmp_path: Path) -> None:
    values = make.phantom().astype(np.uint16)

    def edit(dataset: Dataset, k: int) -> None:
        dataset.PixelData = (values[:, :, k].T | np.uint16(0xA000)).tobytes()
        dataset.BitsStored, dataset.HighBit = 12, 11

    make.write_series(tmp_path, make.SeriesPlan(values=values, edit=edit))
    np.testing.assert_array_equal(read_dicom(tmp_path).values, values)


def test_monochrome1_is_inverted_once_where_values_have_no_unit(tmp_path: Path) -> None:
    values = make.phantom().astype(np.uint16)

    def edit(dataset: Dataset, k: int) -> None:
        dataset.PhotometricInterpretation = "MONOCHROME1"
        dataset.BitsStored, dataset.HighBit = 12, 11

    make.write_series(tmp_path / "mr", make.SeriesPlan(values=values, edit=edit))
    make.write_series(tmp_path / "ct", make.SeriesPlan(values=values, edit=edit, modality="CT"))
    np.testing.assert_array_equal(read_dicom(tmp_path / "mr").values, 4095.0 - values)
    np.testing.assert_array_equal(read_dicom(tmp_path / "ct").values, values)


@pytest.mark.parametrize(
    ("modality", "stored", "padding", "expected"),
    [("CT", -2000, -2000, -1000.0), ("CT", -2000, 63536, -1000.0), ("MR", -9, -9, 0.0)],
)
def test_padding_becomes_air_or_nothing(
    tmp_path: Path, modality: str, stored: int, padding: int, expected: float
) -> None:
    values = make.phantom()
    values[:3, :, :] = stored

    def edit(dataset: Dataset, k: int) -> None:
        dataset.add_new("PixelPaddingValue", "US" if padding > 32767 else "SS", padding)

    make.write_series(tmp_path, make.SeriesPlan(values=values, modality=modality, edit=edit))
    volume = read_dicom(tmp_path)
    assert (volume.values[:3] == expected).all()
    np.testing.assert_array_equal(volume.values[3:], values[3:])
    assert any("padding voxels" in note for note in volume.meta["notes"])


@pytest.mark.parametrize("modality", ["CT", "PT"])
@pytest.mark.parametrize("value", [None, "NaN", "0"])
def test_values_without_a_sound_slope_have_no_unit(
    tmp_path: Path, modality: str, value: str | None
) -> None:
    make.write_series(tmp_path, make.SeriesPlan(modality=modality))
    set_tags(2, RescaleSlope=value)(tmp_path)
    with pytest.raises(MedfuseError) as caught:
        read_dicom(tmp_path)
    assert_says(caught.value, "E_RESCALE", [THIRD, "RescaleSlope"])


def test_mr_images_of_which_some_are_scaled_and_some_are_not_have_no_common_scale(
    tmp_path: Path,
) -> None:
    make.write_series(tmp_path)
    for k in range(make.SHAPE[2]):
        set_tags(k, RescaleSlope=1, RescaleIntercept=0)(tmp_path) if k != 2 else None
    np.testing.assert_array_equal(read_dicom(tmp_path).values, make.phantom())
    set_tags(4, RescaleSlope=2.5, RescaleIntercept=0)(tmp_path)
    with pytest.raises(MedfuseError) as caught:
        read_dicom(tmp_path)
    assert_says(caught.value, "E_RESCALE", [THIRD, "5 of 6 images", "different scales"])


def test_bits_and_signs_of_every_image_are_its_own(tmp_path: Path) -> None:
    values = make.phantom()
    values[:, :, 3] -= 1500

    def edit(dataset: Dataset, k: int) -> None:
        if k != 3:  # unsigned, 12 bits, rubbish above them; slice 3 is signed, 16 bits
            dataset.PixelRepresentation = 0
            dataset.BitsStored, dataset.HighBit = 12, 11
            dataset.PixelData = (values[:, :, k].T.astype("u2") | np.uint16(0xB000)).tobytes()

    make.write_series(tmp_path, make.SeriesPlan(values=values, edit=edit))
    np.testing.assert_array_equal(read_dicom(tmp_path).values, values)
