"""Which files of a folder make the series that is read."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from medfuse.errors import MedfuseError
from medfuse.imaging.dicom.series import describe_dicom, read_dicom
from tests._helpers import make
from tests._helpers.series import assert_says


def test_two_real_series_in_one_folder_are_told_apart_by_number_or_uid_end(
    shared_data: Path,
) -> None:
    folder = shared_data / "volumes/sts001-pet-mr-dicom"
    by_number = read_dicom(folder, series="1")
    entries = describe_dicom(folder)
    by_end = read_dicom(folder, series=entries[0]["uid_end"])
    assert by_number.meta["modality"] == by_end.meta["modality"] == "PET"
    assert any("2 without pixels" in note for note in by_number.meta["notes"])


def test_one_file_stands_for_its_series(shared_data: Path) -> None:
    folder = shared_data / "volumes/brain-pd-mr-dicom/mr-pd"
    whole, by_file = read_dicom(folder), read_dicom(folder / "IM0001.dcm")
    assert by_file.values.shape == whole.values.shape
    assert by_file.meta["source"]["sha256"] == whole.meta["source"]["sha256"]


def test_junk_beside_the_series_is_ignored_and_counted(tmp_path: Path) -> None:
    make.write_series(tmp_path)
    (tmp_path / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (tmp_path / "readme.txt").write_text("ZZPHI")
    (tmp_path / ".DS_Store").write_bytes(b"")
    volume = read_dicom(tmp_path)
    assert volume.values.shape == make.SHAPE
    assert volume.meta["source"]["files"] == make.SHAPE[2]
    assert "3 other files" in volume.meta["notes"][-1]


def test_localisers_and_screen_saves_do_not_disturb_the_series(tmp_path: Path) -> None:
    make.write_series(tmp_path)
    localiser = make.SeriesPlan(
        values=make.phantom((11, 8, 1)), number=1, series_uid="1.2.3.1", orientation=make.CORONAL
    )
    make.write_series(tmp_path, _with_type(localiser, "LOCALIZER"), prefix="loc")
    screen = make.SeriesPlan(values=make.phantom((5, 5, 1)))  # in the very same series
    make.write_series(tmp_path, _with_type(screen, "SCREEN SAVE"), prefix="screen")
    volume = read_dicom(tmp_path)
    assert volume.values.shape == make.SHAPE
    assert any("1 localisers, screen saves or projections" in n for n in volume.meta["notes"])


def _with_type(plan: make.SeriesPlan, kind: str) -> make.SeriesPlan:
    def edit(dataset: Dataset, k: int) -> None:
        dataset.ImageType = ["DERIVED", "SECONDARY", kind]
        dataset.SOPInstanceUID = f"9.{k}"

    return make.SeriesPlan(**{**vars(plan), "edit": edit})


def test_links_that_leave_the_folder_are_not_followed(tmp_path: Path) -> None:
    make.write_series(tmp_path / "real")
    study = tmp_path / "study"
    study.mkdir()
    for path in (tmp_path / "real").iterdir():
        (study / path.name).symlink_to(path)
    (study / "loop").symlink_to(study)
    with pytest.raises(MedfuseError) as caught:
        read_dicom(study)
    assert_says(caught.value, "E_NO_IMAGES", ["6 link that leaves the folder"])


def test_a_series_that_is_not_there_is_refused_with_the_list(tmp_path: Path) -> None:
    make.write_series(tmp_path)
    with pytest.raises(MedfuseError) as caught:
        read_dicom(tmp_path, series="99")
    assert_says(caught.value, "E_SERIES_NOT_FOUND", ["'99'", "4 (MRI, 6 images"])


def test_two_series_of_one_number_are_told_apart_by_uid(tmp_path: Path) -> None:
    make.write_series(tmp_path)
    make.write_series(tmp_path, make.SeriesPlan(series_uid="1.2.3.77777"), prefix="b")
    with pytest.raises(MedfuseError) as caught:
        read_dicom(tmp_path, series="4")
    assert_says(caught.value, "E_AMBIGUOUS_SERIES", ["2 series", ".3.77777"])
    assert read_dicom(tmp_path, series="77777").values.shape == make.SHAPE
