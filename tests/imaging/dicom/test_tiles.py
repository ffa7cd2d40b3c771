"""Siemens mosaics and UIH grids: read by their tiles, or refused by their name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian

from medfuse.errors import MedfuseError
from medfuse.imaging.dicom.series import describe_dicom, read_dicom
from medfuse.imaging.volume import Volume
from tests._helpers import make, tiled
from tests._helpers.series import LPS_TO_RAS, value_at

Write = Callable[..., None]


def _assert_in_place(volume: Volume, plan: make.SeriesPlan) -> None:
    assert sorted(volume.values.shape) == sorted(plan.values.shape)
    for i, j, k in [(0, 0, 0), (10, 7, 6), (2, 6, 3), (5, 0, 4), (0, 7, 1)]:
        assert value_at(volume, plan.position(i, j, k)) == plan.values[i, j, k]


@pytest.mark.parametrize("downwards", [False, True])
def test_a_mosaic_is_one_volume_as_nibabel_has_it(tmp_path: Path, downwards: bool) -> None:
    plan = tiled.plan()
    tiled.write_mosaic(tmp_path / "a.dcm", plan, downwards=downwards)
    volume = read_dicom(tmp_path)
    _assert_in_place(volume, plan)
    from nibabel.nicom.dicomwrappers import MosaicWrapper  # it warns when it is imported

    theirs = MosaicWrapper(pydicom.dcmread(tmp_path / "a.dcm"))
    rows, columns, slices = theirs.image_shape
    for index in [(0, 0, 0), (rows - 1, 0, slices - 1), (3, columns - 1, 2)]:
        world = LPS_TO_RAS @ (theirs.affine @ [*index, 1])[:3]
        found = np.linalg.solve(volume.affine, [*world, 1])[:3]
        np.testing.assert_allclose(found, np.round(found), atol=1e-4)
        at = tuple(np.round(found).astype(int))
        assert volume.values[at] == theirs.get_unscaled_data()[index]


@pytest.mark.parametrize("write", [tiled.write_mosaic, tiled.write_grid])
def test_several_sheets_are_frames_each_at_its_place(tmp_path: Path, write: Write) -> None:
    plans = [tiled.plan(0), tiled.plan(1), tiled.plan(2, shift=(0, 1.5, -0.4))]
    for frame, plan in enumerate(plans):
        write(tmp_path / f"{frame}.dcm", plan, frame=frame)
    with pytest.raises(MedfuseError) as caught:
        read_dicom(tmp_path)
    assert caught.value.code == "E_DYNAMIC"
    assert "3 frames at each of 7 positions" in str(caught.value)
    for frame, plan in enumerate(plans):
        _assert_in_place(read_dicom(tmp_path, frame=frame), plan)
    with pytest.raises(MedfuseError, match=r"different places, up to 1.6 mm"):
        read_dicom(tmp_path, frame="mean")


@pytest.mark.parametrize("write", [tiled.write_mosaic, tiled.write_grid])
def test_sheets_at_one_place_have_a_mean(tmp_path: Path, write: Write) -> None:
    for frame in range(3):
        write(tmp_path / f"{frame}.dcm", tiled.plan(frame), frame=frame)
    volume = read_dicom(tmp_path, frame="mean")
    np.testing.assert_allclose(np.sort(volume.values, None), np.sort(tiled.plan(1).values, None))
    (entry,) = describe_dicom(tmp_path)
    assert (entry["frames"], entry["shape"]) == (3, [11, 8, 7])


def _without_creator(dataset: Dataset) -> None:
    del dataset[0x0029, 0x0010], dataset[0x0019, 0x0010]


def _implicit(dataset: Dataset) -> None:
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian


def _other_type(dataset: Dataset) -> None:
    dataset.ImageType = ["DERIVED", "SECONDARY", "MOCO"]


@pytest.mark.parametrize("change", [tiled.move_private, _without_creator, _implicit, _other_type])
def test_a_mosaic_is_known_wherever_its_private_elements_lie(
    tmp_path: Path, change: Callable[[Dataset], None]
) -> None:
    tiled.write_mosaic(tmp_path / "a.dcm", tiled.plan(), edit=change)
    _assert_in_place(read_dicom(tmp_path), tiled.plan())


def _drop(*tags: object) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        for tag in tags:
            del dataset[tag]  # type: ignore[index]

    return change


def _turn_normal(dataset: Dataset) -> None:
    raw = tiled.csa_header(NumberOfImagesInMosaic=["7"], SliceNormalVector=["1.0", "0.0", "0.0"])
    dataset[0x0029, 0x1010].value = raw


def _too_many(dataset: Dataset) -> None:
    dataset[0x0029, 0x1010].value = tiled.csa_header(
        NumberOfImagesInMosaic=["17"], SliceNormalVector=["0.0", "0.0", "1.0"]
    )
    dataset.ImageOrientationPatient = list(make.AXIAL)


def _anonymized(dataset: Dataset) -> None:
    dataset.remove_private_tags()


@pytest.mark.parametrize(
    ("change", "lack"),
    [
        (_anonymized, "without the number of its slices"),
        (_drop((0x0029, 0x1010)), "without its CSA header"),
        (_turn_normal, "contradicts its orientation"),
        (_too_many, "of 17 slices, which 33 x 24 pixels cannot hold"),
        (_drop("SpacingBetweenSlices"), "SpacingBetweenSlices"),
        (_drop("ImagePositionPatient"), "without its position"),
        (lambda d: setattr(d[0x0029, 0x1010], "value", b"SV10SliceNormalVector"), "CSA header"),
    ],
)
def test_a_mosaic_whose_header_is_not_enough_is_refused_by_its_name(
    tmp_path: Path, change: Callable[[Dataset], None], lack: str
) -> None:
    for frame in range(2):
        tiled.write_mosaic(tmp_path / f"{frame}.dcm", tiled.plan(frame), frame=frame, edit=change)
    with pytest.raises(MedfuseError) as caught:
        read_dicom(tmp_path, frame=0)
    assert caught.value.code == "E_MOSAIC"
    assert "Siemens mosaic" in str(caught.value)
    assert lack in str(caught.value)


def _no_positions(dataset: Dataset) -> None:
    for item in dataset[0x0065, 0x1051].value:
        del item.ImagePositionPatient


@pytest.mark.parametrize("change", [_anonymized, _no_positions, _drop((0x0065, 0x1051))])
def test_a_grid_without_its_places_is_refused_by_its_name(
    tmp_path: Path, change: Callable[[Dataset], None]
) -> None:
    tiled.write_grid(tmp_path / "a.dcm", tiled.plan(), edit=change)
    with pytest.raises(MedfuseError, match=r"UIH grid .* without the positions") as caught:
        read_dicom(tmp_path)
    assert caught.value.code == "E_MOSAIC"


def test_a_grid_is_known_by_its_slices_alone(tmp_path: Path) -> None:
    tiled.write_grid(tmp_path / "a.dcm", tiled.plan(), edit=_other_type)
    _assert_in_place(read_dicom(tmp_path), tiled.plan())


def test_what_was_unpacked_but_keeps_the_word_is_an_ordinary_series(tmp_path: Path) -> None:
    def edit(dataset: Dataset, k: int) -> None:
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
        dataset.AcquisitionMatrix = [11, 0, 0, 8]

    plan = make.write_series(tmp_path, make.SeriesPlan(edit=edit))
    np.testing.assert_array_equal(read_dicom(tmp_path).values, plan.values)


def test_an_enhanced_file_that_keeps_the_word_is_an_ordinary_one(tmp_path: Path) -> None:
    plan = make.SeriesPlan()
    make.write_enhanced(tmp_path / "a.dcm", plan, range(6))
    make.edit_file(
        tmp_path / "a.dcm", lambda d: setattr(d, "ImageType", ["ORIGINAL", "PRIMARY", "MOSAIC"])
    )
    assert read_dicom(tmp_path).values.shape == make.SHAPE


def test_an_enhanced_file_of_one_sheet_is_refused_by_its_name(tmp_path: Path) -> None:
    make.write_enhanced(tmp_path / "a.dcm", make.SeriesPlan(), [0])
    make.edit_file(
        tmp_path / "a.dcm", lambda d: setattr(d, "ImageType", ["ORIGINAL", "PRIMARY", "MOSAIC"])
    )
    with pytest.raises(MedfuseError, match="Siemens mosaic"):
        read_dicom(tmp_path)
