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

from medfuse.imaging.dicom.series import read_dicom
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
