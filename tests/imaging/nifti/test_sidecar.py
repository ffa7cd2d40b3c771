"""JSON sidecars by the inheritance principle of BIDS."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medfuse.imaging.nifti.sidecar import read_sidecars, sidecar_files
from medfuse.imaging.reader import read_volume
from medfuse.results.folder import input_files
from tests._helpers import make

IMAGE = "sub-01/ses-b/pet/sub-01_ses-b_trc-FDG_run-1_pet.nii.gz"


def _tree(root: Path, files: dict[str, object]) -> Path:
    make.write_nifti(root / IMAGE)
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return root / IMAGE


@pytest.mark.parametrize(
    "name",
    [
        "pet.json",
        "trc-FDG_pet.json",
        "ses-b_pet.json",
        "sub-01/sub-01_pet.json",
        "sub-01/ses-b/sub-01_ses-b_pet.json",
        "sub-01/ses-b/pet/sub-01_ses-b_pet.json",
        "sub-01/ses-b/pet/sub-01_ses-b_run-1_trc-FDG_pet.json",
        IMAGE.replace(".nii.gz", ".json"),
    ],
)
def test_a_sidecar_at_any_level_counts(tmp_path: Path, name: str) -> None:
    image = _tree(tmp_path, {name: {"Units": "kBq/mL"}})
    assert read_sidecars(image).content == {"Units": "kBq/mL"}
    assert read_volume(image).meta["unit"] == "Bq/ml"
    assert input_files(image) == [image, tmp_path / name]


@pytest.mark.parametrize(
    "name",
    [
        "T1w.json",
        "trc-PIB_pet.json",
        "sub-02/pet/sub-02_pet.json",
        "sub-01/ses-a/pet/sub-01_ses-a_pet.json",
        "sub-01/ses-b/pet/sub-01_ses-b_trc-FDG_run-2_pet.json",
        "sub-01/ses-b/pet/sub-01_ses-b_trc-FDG_run-1_blood.json",
    ],
)
def test_a_sidecar_of_something_else_does_not(tmp_path: Path, name: str) -> None:
    assert sidecar_files(_tree(tmp_path, {name: {"Units": "kBq/mL"}})) == []


def test_the_nearest_word_counts_and_the_rest_is_inherited(tmp_path: Path) -> None:
    image = _tree(
        tmp_path,
        {
            "pet.json": {"Units": "kBq/mL", "TracerName": "FDG", "ScanStart": 1},
            "sub-01/sub-01_pet.json": {"ScanStart": 2},
            IMAGE.replace(".nii.gz", ".json"): {"Units": "Bq/mL"},
        },
    )
    sidecar = read_sidecars(image)
    assert sidecar.content == {"Units": "Bq/mL", "TracerName": "FDG", "ScanStart": 2}


def test_two_sidecars_of_one_folder_must_agree(tmp_path: Path) -> None:
    both = {"pet.json": {"Units": "Bq/mL", "A": 1}, "trc-FDG_pet.json": {"Units": "kBq/mL", "A": 1}}
    image = _tree(tmp_path, both)
    sidecar = read_sidecars(image)
    assert (sidecar.conflicts, sidecar.content) == ({"Units"}, {"A": 1})
    volume = read_volume(image)
    assert volume.meta["unit"] == "a.u."
    assert any("disagree on Units" in note for note in volume.meta["notes"])
    (tmp_path / "sub-01/sub-01_pet.json").write_text('{"Units": "Bq/mL"}')  # the lower one decides
    assert read_sidecars(image).conflicts == frozenset()
    assert read_volume(image).meta["unit"] == "Bq/ml"


@pytest.mark.parametrize("content", ["{", "[1]", '{"Units": "Bq/mL", "Units": "kBq/mL"}'])
@pytest.mark.parametrize("name", ["pet.json", IMAGE.replace(".nii.gz", ".json")])
def test_a_sidecar_that_cannot_be_read_leaves_nothing_to_believe(
    tmp_path: Path, name: str, content: str
) -> None:
    image = _tree(tmp_path, {"sub-01/sub-01_pet.json": {"Units": "Bq/mL"}, name: content})
    assert read_sidecars(image).readable is False
    assert read_volume(image).meta["unit"] == "a.u."


def test_a_sidecar_that_is_added_later_is_seen(tmp_path: Path) -> None:
    image = _tree(tmp_path, {})
    assert read_sidecars(image).sha256 is None
    (tmp_path / "pet.json").write_text('{"Units": "Bq/mL"}')
    assert read_sidecars(image).content["Units"] == "Bq/mL"


def test_a_plain_name_has_its_own_sidecar_alone(tmp_path: Path) -> None:
    make.write_nifti(tmp_path / "pet.nii.gz")
    for name in ("fdg_pet.json", "pet.json"):
        (tmp_path / name).write_text("{}")
    assert sidecar_files(tmp_path / "pet.nii.gz") == [[tmp_path / "pet.json"]]


def test_a_subject_file_outside_a_subject_folder_asks_its_own_folder(tmp_path: Path) -> None:
    make.write_nifti(tmp_path / "sub-01_pet.nii.gz")
    (tmp_path / "pet.json").write_text('{"Units": "Bq/mL"}')
    assert read_volume(tmp_path / "sub-01_pet.nii.gz").meta["unit"] == "Bq/ml"


def test_a_sidecar_that_is_a_link_to_nowhere_is_not_passed_over(tmp_path: Path) -> None:
    image = _tree(tmp_path, {"pet.json": {"Units": "Bq/mL"}})
    image.with_name(IMAGE.rpartition("/")[2].replace(".nii.gz", ".json")).symlink_to("nowhere")
    assert read_sidecars(image).readable is False
    assert input_files(image) == [image, tmp_path / "pet.json"]


def test_a_tracer_of_pet_makes_a_plain_name_one_of_pet(tmp_path: Path) -> None:
    make.write_nifti(tmp_path / "scan.nii.gz")
    for nuclide, modality in (("F18", "PET"), ("Tc99m", "unknown")):
        content = {"Units": "Bq/mL", "TracerRadionuclide": nuclide}
        (tmp_path / "scan.json").write_text(json.dumps(content))
        assert read_volume(tmp_path / "scan.nii.gz").meta["modality"] == modality


def test_nan_is_a_value_like_others(tmp_path: Path) -> None:
    both = {"pet.json": '{"A": NaN}', "trc-FDG_pet.json": '{"A": NaN, "Units": "Bq/mL"}'}
    assert read_sidecars(_tree(tmp_path, both)).content["Units"] == "Bq/mL"
