"""The unit of CT and PET values is asked of every file and frame."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from medfuse.errors import MedfuseError
from medfuse.imaging.dicom.header import DicomFile
from medfuse.imaging.dicom.series import read_dicom
from medfuse.imaging.dicom.units import ct_rescale_types, pet_units
from tests._helpers import make
from tests._helpers.pet_headers import enhanced
from tests._helpers.series import assert_says, set_tags


def _ct(folder: Path, kinds: list[str | None]) -> Path:
    def edit(dataset: Dataset, k: int) -> None:
        dataset.RescaleIntercept = -1024
        if kinds[k] is not None:
            dataset.RescaleType = kinds[k]

    make.write_series(folder, make.SeriesPlan(modality="CT", edit=edit))
    return folder


@pytest.mark.parametrize(
    "kinds",
    [["HU", *["Z_EFF"] * 5], ["Z_EFF", *["HU"] * 5], [*[None] * 5, "US"], ["ED", *["Z_EFF"] * 5]],
)
def test_a_ct_of_several_rescale_types_is_refused(tmp_path: Path, kinds: list[str | None]) -> None:
    with pytest.raises(MedfuseError) as caught:
        read_dicom(_ct(tmp_path, kinds))
    assert_says(caught.value, "E_UNIT_MIXED", ["RescaleType", "CT series 4"])


@pytest.mark.parametrize(
    ("kinds", "unit"),
    [(["HU"] * 6, "HU"), ([None] * 6, "HU"), ([None, *["HU"] * 5], "HU"), (["Z_EFF"] * 6, "a.u.")],
)
def test_a_ct_is_in_hu_where_all_images_are(
    tmp_path: Path, kinds: list[str | None], unit: str
) -> None:
    assert read_dicom(_ct(tmp_path, kinds)).meta["unit"] == unit


@pytest.mark.parametrize("where", ["shared", "frame"])
def test_an_enhanced_ct_says_it_in_its_functional_groups(where: str) -> None:
    dataset, transform, other = Dataset(), Dataset(), Dataset()
    transform.RescaleType, other.RescaleType = "Z_EFF", "HU"
    group, first, second = Dataset(), Dataset(), Dataset()
    owner = group if where == "shared" else second
    owner.PixelValueTransformationSequence = [transform]
    first.PixelValueTransformationSequence = [other]
    dataset.SharedFunctionalGroupsSequence = [group]
    dataset.PerFrameFunctionalGroupsSequence = [first, second]
    files = [DicomFile(Path("x"), "x", dataset, 9)]
    assert ct_rescale_types(files) == {"HU", "Z_EFF"}


def test_two_mappings_of_one_line_are_no_unit() -> None:
    dataset = enhanced()
    assert pet_units(dataset) == "BQML"
    for group in dataset.PerFrameFunctionalGroupsSequence:
        more = Dataset()
        more.RealWorldValueSlope = group.RealWorldValueMappingSequence[0].RealWorldValueSlope
        more.RealWorldValueIntercept = 0.0
        unit = Dataset()
        unit.CodeValue = "g/ml{SUVbw}"
        more.MeasurementUnitsCodeSequence = [unit]
        group.RealWorldValueMappingSequence.append(more)
    assert pet_units(dataset) is None
    for group in dataset.PerFrameFunctionalGroupsSequence:  # SUV by a line of its own
        group.RealWorldValueMappingSequence[1].RealWorldValueSlope = 1e-4
    assert pet_units(dataset) == "BQML"


def test_units_of_any_later_file_are_asked(tmp_path: Path) -> None:
    make.write_series(tmp_path, make.SeriesPlan(modality="PT"))
    set_tags(0, Units="CNTS")(tmp_path)
    with pytest.raises(MedfuseError) as caught:
        read_dicom(tmp_path)
    assert_says(caught.value, "E_UNIT_MIXED", ["units"])
