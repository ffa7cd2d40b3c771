"""A gantry tilt is removed or refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from medfuse.errors import GeometryError
from medfuse.imaging.dicom.series import read_dicom
from tests._helpers import make
from tests._helpers.series import move


def test_a_tilted_stack_becomes_the_straight_volume_that_was_scanned(tmp_path: Path) -> None:
    """The same blob, scanned straight and with the gantry leaning, lies at the same points."""

    def blob(points: np.ndarray) -> np.ndarray:
        return 1000 * np.exp(-((np.linalg.norm(points - [-10, 22, -26], axis=-1) / 9) ** 2))

    plan = make.SeriesPlan(np.zeros((24, 20, 6), np.int16))
    index = np.stack(np.meshgrid(*map(np.arange, (24, 20, 6)), indexing="ij"), -1)
    slide = index[..., 2:] * np.array([0.7, 1.0, 0.0])
    values = blob(np.array(plan.origin) + index * plan.spacing + slide).astype(np.int16)
    make.write_series(tmp_path, make.SeriesPlan(values))
    for k in range(6):
        move(k, 0.7 * k, axis=0)(tmp_path)
        move(k, 1.0 * k, axis=1)(tmp_path)
    volume = read_dicom(tmp_path)
    assert any("gantry tilt of 17.0 degrees was removed" in n for n in volume.meta["notes"])
    index = np.stack(np.meshgrid(*map(np.arange, volume.values.shape), indexing="ij"), -1)
    world = nib.affines.apply_affine(volume.affine, index) * [-1, -1, 1]
    inside = (index[..., 0] > 2) & (index[..., 0] < 22) & (index[..., 1] > 2) & (index[..., 1] < 18)
    assert np.abs(volume.values - blob(world))[inside].max() < 30, "linear interpolation of 1000"
    assert volume.values.shape == (24 + 3, 20 + 3, 6)


def test_a_tilt_against_the_axes_loses_no_slice(tmp_path: Path) -> None:
    make.write_series(tmp_path)
    for k in range(make.SHAPE[2]):
        move(k, -1.5 * k, axis=0)(tmp_path)
        move(k, -2.25 * k, axis=1)(tmp_path)
    volume = read_dicom(tmp_path)
    stored = make.phantom()
    for k in range(make.SHAPE[2]):  # whole pixels: nothing is interpolated
        x, y = 5 - k, 5 - k
        assert np.array_equal(volume.values[x : x + 11, y : y + 8, k], stored[:, :, k])
        world = (volume.affine @ [x, y, k, 1])[:3] * [-1, -1, 1]
        assert world == pytest.approx(make.SeriesPlan().position(0, 0, k) - [1.5 * k, 2.25 * k, 0])


def test_real_head_ct_with_gantry_tilt_is_straightened_or_refused(
    shared_data: Path, tmp_path: Path
) -> None:
    """The lower 14 slices: equal steps of 4 mm, gantry at 18.5 degrees."""
    series = shared_data / "volumes" / "ge-head-ct-tilt-dicom" / "ct"
    files = {p: pydicom.dcmread(p, stop_before_pixels=True) for p in series.iterdir()}
    lower = sorted(files, key=lambda p: files[p].ImagePositionPatient[2])[:14]
    for path in lower:
        shutil.copy(path, tmp_path)
    volume = read_dicom(tmp_path)
    assert any("gantry tilt of 18.5 degrees was removed" in n for n in volume.meta["notes"])
    assert volume.meta["spacing"] == pytest.approx([0.4882812, 0.4882812, 4.002], abs=1e-3)
    assert volume.values.shape == (512, 512 + 36, 14), "the last slice lies 17.4 mm further"
    header, pixel = files[lower[9]], (200, 260)
    stored = pydicom.dcmread(lower[9]).pixel_array * header.RescaleSlope + header.RescaleIntercept
    cosines = np.reshape(header.ImageOrientationPatient, (2, 3)).astype(float)
    place = np.array(header.ImagePositionPatient, dtype=float) + 0.4882812 * (
        cosines[0] * pixel[1] + cosines[1] * pixel[0]
    )
    i, j, k = nib.affines.apply_affine(np.linalg.inv(volume.affine), place * [-1, -1, 1])
    assert (i, k) == (pytest.approx(260, abs=0.01), pytest.approx(9, abs=0.01))
    low = int(np.floor(j))
    between = (1 - (j - low)) * volume.values[260, low, 9] + (j - low) * volume.values[
        260, low + 1, 9
    ]
    around = stored[pixel[0] - 1 : pixel[0] + 2, pixel[1]]
    assert around.min() <= between <= around.max()
    with pytest.raises(GeometryError, match=r"18\.5 degrees .*tilt_correction=True.*\[E_TILT\]"):
        read_dicom(tmp_path, tilt_correction=False)
