"""Every voxel lies where the headers say; real data first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from medfuse.errors import MedfuseError
from medfuse.imaging.dicom.series import read_dicom
from medfuse.imaging.grid import from_sitk
from tests._helpers import make
from tests._helpers.series import LPS_TO_RAS, value_at


def test_real_oblique_slices_lie_where_their_headers_say(shared_data: Path) -> None:
    folder = shared_data / "volumes/sts001-pet-mr-dicom/mr-t2"
    volume = read_dicom(folder)
    for path in folder.glob("*.dcm"):
        header = pydicom.dcmread(path)
        corner = LPS_TO_RAS @ np.array(header.ImagePositionPatient, dtype=float)
        index = np.linalg.solve(volume.affine, [*corner, 1])
        k = round(index[2])
        np.testing.assert_allclose(index[:3], [0, 0, k], atol=5e-3)
        np.testing.assert_array_equal(volume.values[:, :, k], header.pixel_array.T)


def test_a_sound_real_series_agrees_with_simpleitk(shared_data: Path) -> None:
    folder = str(shared_data / "volumes/sts001-pet-mr-dicom/mr-t2")
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(folder)
    image = sitk.ReadImage(names, sitk.sitkFloat32)
    volume = read_dicom(Path(folder))
    np.testing.assert_array_equal(volume.values, sitk.GetArrayFromImage(image).transpose(2, 1, 0))
    for index in [(0, 0, 0), (383, 5, 32), (100, 383, 17)]:
        theirs = LPS_TO_RAS @ np.array(image.TransformIndexToPhysicalPoint(index))
        np.testing.assert_allclose((volume.affine @ [*index, 1])[:3], theirs, atol=5e-3)


@pytest.mark.parametrize("modality", ["MR", "CT", "PT"])
@pytest.mark.parametrize(
    "orientation",
    [make.AXIAL, make.CORONAL, make.SAGITTAL, make.oblique(), (-1.0, 0, 0, 0, -1.0, 0)],
    ids=["axial", "coronal", "sagittal", "oblique", "prone"],
)
def test_every_voxel_lies_at_its_patient_position(
    tmp_path: Path, orientation: tuple[float, ...], modality: str
) -> None:
    plan = make.SeriesPlan(orientation=orientation, modality=modality)
    make.write_series(tmp_path, plan)
    volume = read_dicom(tmp_path, values_in="a.u.")
    assert volume.meta["spacing"] == pytest.approx(make.SPACING)
    for i, j, k in np.ndindex(*make.SHAPE):
        assert value_at(volume, plan.position(i, j, k)) == plan.values[i, j, k]


def test_left_stays_left(tmp_path: Path) -> None:
    values = np.zeros(make.SHAPE, np.int16)
    plan = make.SeriesPlan(values=values)
    values[-2, 3, 1] = 500  # in an axial series, high columns are on the patient's left (LPS +x)
    make.write_series(tmp_path, plan)
    volume = read_dicom(tmp_path)
    index = np.unravel_index(volume.values.argmax(), volume.values.shape)
    right_to_left_mm = volume.affine @ [*index, 1]
    assert right_to_left_mm[0] == pytest.approx(-plan.position(-2 + make.SHAPE[0], 3, 1)[0])
    assert right_to_left_mm[0] < (volume.affine @ [0, 0, 0, 1])[0]


@settings(max_examples=15)
@given(
    angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 9.0)] * 3),
    origin=st.tuples(*[st.floats(-900, 900)] * 3),
)
def test_any_orthogonal_grid_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    angles: tuple[float, ...],
    spacing: tuple[float, ...],
    origin: tuple[float, ...],
) -> None:
    folder = tmp_path_factory.mktemp("grid")
    plan = make.SeriesPlan(
        values=make.phantom((5, 4, 3)), orientation=_turned(angles), spacing=spacing, origin=origin
    )
    make.write_series(folder, plan)
    volume = read_dicom(folder)
    for index in [(0, 0, 0), (4, 3, 2), (1, 0, 2)]:
        world = (volume.affine @ [*index, 1])[:3]
        np.testing.assert_allclose(world, LPS_TO_RAS @ plan.position(*index), atol=1e-3)
        assert volume.values[index] == plan.values[index]


def _turned(angles: tuple[float, ...]) -> tuple[float, ...]:
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        a, b = [n for n in range(3) if n != axis]
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return (*matrix[:, 0], *matrix[:, 1])


def test_small_drift_of_direction_cosines_is_repaired_and_noted(tmp_path: Path) -> None:
    make.write_series(tmp_path, make.SeriesPlan(orientation=(1.0004, 0, 0, 0, 1, 0)))
    volume = read_dicom(tmp_path)
    directions = volume.affine[:3, :3] / volume.meta["spacing"]
    np.testing.assert_allclose(directions.T @ directions, np.eye(3), atol=1e-12)
    assert any("made orthonormal" in note for note in volume.meta["notes"])


def test_rounded_positions_are_tolerated(tmp_path: Path) -> None:
    def edit(dataset: Dataset, k: int) -> None:
        z = float(dataset.ImagePositionPatient[2]) + 0.02 * (-1) ** k
        dataset.ImagePositionPatient = [*dataset.ImagePositionPatient[:2], round(z, 2)]

    make.write_series(tmp_path, make.SeriesPlan(edit=edit))
    assert read_dicom(tmp_path).meta["spacing"][2] == pytest.approx(4.0, abs=0.01)


def _stacked(
    folder: Path, along: list[float], spacing: float = 1.0, **plan: object
) -> make.SeriesPlan:
    """Slices at the given places along the normal, mm."""
    values = make.phantom((5, 4, len(along)))

    def edit(dataset: Dataset, k: int) -> None:
        dataset.ImagePositionPatient = [float(v) for v in whole.position(0, 0, along[k] / spacing)]

    whole = make.SeriesPlan(values=values, spacing=(1.5, 2.25, spacing), edit=edit, **plan)  # type: ignore[arg-type]
    make.write_series(folder, whole)
    return whole


def _beds(slices: int, step: float, seams: list[float]) -> list[float]:
    along = [0.0]
    for seam in [*seams, 0.0]:
        start = along[-1]
        along += [start + step * k for k in range(1, slices)]
        along += [along[-1] + seam] if seam else []
    return [round(z, 2) for z in along]


IRREGULAR = {
    "seams of PET beds": _beds(20, 3.27, [3.29, 3.29, 3.19, 3.29, 3.29]),
    "one wide seam": _beds(20, 4.0, [4.2]),
    "two decimals": [round(2.0833333 * k, 2) for k in range(40)],
    "one decimal": [round(1.25 * k + 0.04, 1) for k in range(40)],
    "one decimal, thin": [round(0.66 * k, 1) for k in range(50)],
    "three slices": [0.0, 5.0, 10.3],
}


@pytest.mark.parametrize("along", IRREGULAR.values(), ids=IRREGULAR)
def test_slices_close_to_a_regular_grid_are_read_within_its_limit(
    tmp_path: Path, along: list[float]
) -> None:
    plan = _stacked(tmp_path, along)
    volume = read_dicom(tmp_path)
    step = volume.meta["spacing"][2]
    assert volume.values.shape[2] == len(along)
    for k, z in enumerate(along):
        there = (volume.affine @ [0, 0, k, 1])[:3]
        off = np.linalg.norm(there - LPS_TO_RAS @ plan.position(0, 0, z))
        assert off <= min(max(0.1, 0.1 * step), 0.25 * step, 0.5) + 1e-6
        assert volume.values[0, 0, k] == plan.values[0, 0, k]


@pytest.mark.parametrize("lost", [1, 7, 25, 38])
@pytest.mark.parametrize("step", [0.1, 0.3, 0.7, 1.0, 3.27, 10.0])
def test_a_slice_that_is_missing_is_found_at_every_spacing(
    tmp_path: Path, step: float, lost: int
) -> None:
    along = [step * k for k in range(40) if k != lost]
    _stacked(tmp_path, along)
    with pytest.raises(MedfuseError) as caught:
        read_dicom(tmp_path)
    assert caught.value.code in ("E_MISSING_SLICE", "E_SPACING")


@pytest.mark.parametrize(
    ("lost", "slices"), [(1, 3), (1, 4), (2, 4), (1, 5), (2, 5), (3, 6), (4, 6)]
)
def test_a_missing_slice_is_found_in_short_stacks(tmp_path: Path, lost: int, slices: int) -> None:
    _stacked(tmp_path, [2.0 * k for k in range(slices + 1) if k != lost])
    with pytest.raises(MedfuseError) as caught:
        read_dicom(tmp_path)
    assert caught.value.code == "E_MISSING_SLICE"


@pytest.mark.parametrize(
    "along",
    [
        [0.0, 1.0, 2.3, 3.0, 4.0, 5.0],
        [0.0, 3.0, 6.0, 9.9, 12.0, 15.0],
        [0.0, 10.0, 21.2, 30.0, 40.0],
        [*range(10), *(10 + 1.4 * k for k in range(10))],
        [0.02 * k * k + k for k in range(20)],
    ],
    ids=["1 mm", "3 mm", "10 mm", "two spacings", "growing"],
)
def test_slices_off_every_regular_grid_are_refused(tmp_path: Path, along: list[float]) -> None:
    _stacked(tmp_path, along)
    with pytest.raises(MedfuseError) as caught:
        read_dicom(tmp_path)
    assert caught.value.code in ("E_SPACING", "E_MISSING_SLICE")


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("step", [0.5, 0.7, 1.0, 3.0])
def test_oblique_positions_with_one_decimal_are_read_where_they_were(
    tmp_path: Path, step: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    orientation = _turned(tuple(rng.uniform(-3, 3, 3)))
    values = make.phantom((5, 4, 60))

    def edit(dataset: Dataset, k: int) -> None:
        dataset.ImagePositionPatient = [round(float(v), 1) for v in dataset.ImagePositionPatient]

    plan = make.SeriesPlan(
        values=values, orientation=orientation, spacing=(1.5, 2.25, step), edit=edit
    )
    make.write_series(tmp_path, plan)
    volume = read_dicom(tmp_path)
    assert not any("tilt" in note for note in volume.meta["notes"])
    for k in range(60):
        there = (volume.affine @ [0, 0, k, 1])[:3]
        assert np.linalg.norm(there - LPS_TO_RAS @ plan.position(0, 0, k)) < 0.13


@pytest.mark.parametrize("decimals", [3, 4, 6])
@pytest.mark.parametrize("seed", range(4))
def test_rounded_direction_cosines_are_read_without_a_tilt(
    tmp_path: Path, decimals: int, seed: int
) -> None:
    orientation = _turned(tuple(np.random.default_rng(seed).uniform(-3, 3, 3)))

    def edit(dataset: Dataset, k: int) -> None:
        cosines = [round(float(v), decimals) for v in dataset.ImageOrientationPatient]
        dataset.ImageOrientationPatient = cosines

    values = make.phantom((5, 4, 40))
    plan = make.SeriesPlan(values=values, orientation=orientation, edit=edit)
    make.write_series(tmp_path, plan)
    volume = read_dicom(tmp_path)
    assert not any("tilt" in note for note in volume.meta["notes"])
    for index in [(0, 0, 0), (4, 3, 39), (0, 3, 20)]:
        there = (volume.affine @ [*index, 1])[:3]
        assert np.linalg.norm(there - LPS_TO_RAS @ plan.position(*index)) < 0.25


def test_a_sound_made_series_agrees_with_simpleitk(tmp_path: Path) -> None:
    make.write_series(tmp_path, make.SeriesPlan(orientation=make.oblique()))
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path))
    values, affine = from_sitk(sitk.ReadImage(names, sitk.sitkFloat32))
    volume = read_dicom(tmp_path)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-4)
    np.testing.assert_array_equal(volume.values, values)
