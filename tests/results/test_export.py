"""NIfTI and PNG files: other tools must see the voxels we wrote, where we wrote them."""

from __future__ import annotations

import gzip
import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from medfuse.errors import OutputError
from medfuse.imaging.grid import Grid, from_sitk
from medfuse.results.described import About
from medfuse.results.export import (
    plane_orders,
    square_pixels,
    to_bytes,
    write_mip,
    write_nifti,
    write_pngs,
)

# Oblique, anisotropic, left-handed: an error in any axis or sign shows.
AFFINE = np.array(
    [[-0.9, 0.1, 0.3, 40.0], [0.1, 1.9, -0.2, -60.0], [0.15, 0.2, 3.1, 17.0], [0, 0, 0, 1.0]]
)
ORTHOGONAL = np.array([[-1.0, 0, 0, 9], [0, 2.0, 0, -5], [0, 0, 4.0, 3], [0, 0, 0, 1]])


def _rotated() -> np.ndarray:
    """An oblique affine without shear, which ITK asks for."""
    q, _ = np.linalg.qr(AFFINE[:3, :3])
    affine = AFFINE.copy()
    affine[:3, :3] = q * np.linalg.norm(AFFINE[:3, :3], axis=0)
    return affine


def _rgb(shape: tuple[int, int, int] = (5, 4, 3)) -> np.ndarray:
    levels = np.random.default_rng(0).integers(0, 256, (3, *shape))
    return (levels / 255).astype(np.float32)


def test_rgb24_returns_from_nibabel_with_colours_and_geometry(tmp_path: Path) -> None:
    rgb = _rgb()
    image = nib.load(write_nifti(tmp_path / "f.nii.gz", rgb, _rotated()))
    assert int(image.header["datatype"]) == 128
    voxels = np.asanyarray(image.dataobj)
    for channel, name in enumerate("RGB"):
        assert np.array_equal(voxels[name], np.rint(rgb[channel] * 255))
    assert np.allclose(image.get_sform(), _rotated(), atol=1e-5)
    assert np.allclose(image.get_qform(), _rotated(), atol=1e-5)
    assert int(image.header["sform_code"]) == int(image.header["qform_code"]) == 1
    assert image.header.get_xyzt_units()[0] == "mm"


def test_rgb24_returns_from_simpleitk_with_colours_and_geometry(tmp_path: Path) -> None:
    rgb = _rgb()
    image = sitk.ReadImage(str(write_nifti(tmp_path / "f.nii.gz", rgb, _rotated())))
    assert image.GetNumberOfComponentsPerPixel() == 3
    assert np.array_equal(sitk.GetArrayFromImage(image).T, np.rint(rgb * 255))
    _, affine = from_sitk(sitk.VectorIndexSelectionCast(image, 0))
    assert np.allclose(affine, _rotated(), atol=1e-4)


def test_float_volume_returns_bit_for_bit_from_both_libraries(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(size=(6, 5, 4)).astype(np.float32)
    path = write_nifti(tmp_path / "v.nii.gz", values, _rotated(), what=About("", "", (0, 1)))
    image = nib.load(path)
    assert np.array_equal(np.asanyarray(image.dataobj), values)
    assert (float(image.header["cal_min"]), float(image.header["cal_max"])) == (0, 1)
    array, affine = from_sitk(sitk.ReadImage(str(path)))
    assert np.array_equal(array, values)
    assert np.allclose(affine, _rotated(), atol=1e-4)


def test_real_brain_survives_writing_and_reading(tmp_path: Path, shared_data: Path) -> None:
    original = nib.load(shared_data / "volumes/mni-templates/cit168-t1-brain.nii.gz")
    values = original.get_fdata(dtype=np.float32)
    image = nib.load(write_nifti(tmp_path / "t1.nii.gz", values, original.affine))
    assert np.array_equal(image.get_fdata(dtype=np.float32), values)
    assert np.allclose(image.affine, original.affine)


def test_boolean_volume_is_stored_as_bytes(tmp_path: Path) -> None:
    mask = np.arange(24).reshape(2, 3, 4) % 2 == 0
    image = nib.load(write_nifti(tmp_path / "m.nii.gz", mask, ORTHOGONAL))
    assert image.get_data_dtype() == np.uint8
    assert np.array_equal(np.asanyarray(image.dataobj), mask)


def test_single_slice_becomes_a_volume_of_one_slice(tmp_path: Path) -> None:
    assert nib.load(write_nifti(tmp_path / "a.nii", np.ones((4, 3)), AFFINE)).shape == (4, 3, 1)
    colour = sitk.ReadImage(str(write_nifti(tmp_path / "b.nii", _rgb((4, 3, 1)), _rotated())))
    assert colour.GetSize() == (4, 3, 1)


def test_same_volume_gives_same_bytes_without_time_or_name(tmp_path: Path) -> None:
    for n in (1, 2):
        write_nifti(tmp_path / f"{n}.nii.gz", _rgb(), AFFINE, what=About("fused"))
    first = (tmp_path / "1.nii.gz").read_bytes()
    assert first == (tmp_path / "2.nii.gz").read_bytes()
    assert first[3] == 0, "gzip flags: no name, no comment"
    assert first[4:8] == b"\0\0\0\0", "gzip time"
    assert b"fused" in gzip.decompress(first)


def test_wrong_shape_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"got \(2, 5, 4, 3\)"):
        write_nifti(tmp_path / "x.nii", np.zeros((2, 5, 4, 3)), AFFINE)


def test_missing_folder_is_one_error_with_the_file_name(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"x\.nii: No such file.*\[E_WRITE\]") as caught:
        write_nifti(tmp_path / "nowhere" / "x.nii", np.zeros((2, 2, 2)), AFFINE)
    assert str(tmp_path) not in str(caught.value)


@settings(max_examples=30)
@given(
    hnp.arrays(np.float32, 20, elements=st.floats(-3, 3, width=32) | st.just(float("nan"))),
)
def test_bytes_are_the_nearest_of_256_levels(values: np.ndarray) -> None:
    found = to_bytes(values)
    expected = np.clip(np.nan_to_num(values.astype(np.float64)), 0, 1) * 255
    assert np.abs(found - expected).max() <= 0.5 + 1e-4


def test_square_pixels_keep_true_proportions() -> None:
    image = np.zeros((10, 30, 3), np.uint8)
    assert square_pixels(image, (5.0, 1.0)).shape == (50, 30, 3)
    assert square_pixels(image, (1.0, 1.0)).shape == (10, 30, 3)


@pytest.mark.parametrize("affine", [ORTHOGONAL, np.diag([2.0, 1.0, 4.0, 1.0])])
def test_slices_are_radiological_with_square_pixels(tmp_path: Path, affine: np.ndarray) -> None:
    """A red spot at the patient's front right and top must be left and up, in the last slice."""
    shape = (20, 10, 5)
    rgb = np.zeros((3, *shape), np.float32)
    index = np.stack(np.meshgrid(*map(range, shape), indexing="ij"), -1)
    world = index @ affine[:3, :3].T + affine[:3, 3]
    right, front, top = np.moveaxis(world, -1, 0)
    spot = (right > np.median(right)) & (front > np.median(front)) & (top == top.max())
    rgb[0][spot] = 1
    paths = write_pngs(tmp_path / "png", rgb, affine)
    assert [p.name for p in paths] == [f"fused_{k:03d}.png" for k in range(5)]
    assert all(np.asarray(Image.open(p)).max() == 0 for p in paths[:-1])
    picture = np.asarray(Image.open(paths[-1]), dtype=float)[..., 0]
    millimetres = np.array(shape[:2]) * np.abs(np.diag(affine)[:2])
    assert picture.shape[1] / picture.shape[0] == pytest.approx(millimetres[0] / millimetres[1])
    rows, columns = np.nonzero(picture > 128)
    assert rows.mean() < picture.shape[0] / 2
    assert columns.mean() < picture.shape[1] / 2


def test_projection_shows_the_hottest_voxel_of_a_ray_unmixed(tmp_path: Path) -> None:
    rank = np.random.default_rng(2).random((8, 9, 7))
    rgb = _rgb((8, 9, 7))
    paths = write_mip(tmp_path, rgb, np.eye(4), rank=rank, prefix="pet", frames=0)
    assert [p.name for p in paths] == ["pet_axial.png", "pet_coronal.png", "pet_sagittal.png"]
    picture = np.asarray(Image.open(paths[0]))
    levels = to_bytes(rgb)
    for x, y in itertools.product(range(8), range(9)):
        expected = levels[:, x, y, rank[x, y].argmax()]
        assert np.array_equal(picture[8 - y, 7 - x], expected)


def test_turning_projection_begins_with_the_front_and_turns_once(tmp_path: Path) -> None:
    rgb = np.zeros((3, 21, 21, 9), np.float32)
    rgb[0, 2:5, 9:12, 6:] = 1  # red: on the patient's left (RAS: low x), upper part
    path = write_mip(tmp_path, rgb, np.diag([1.0, 1, 1, 1]), frames=4)[-1]
    assert path.name == "mip_turning.png"
    with Image.open(path) as animation:
        assert animation.n_frames == 4
        centres = []
        for frame in range(4):
            animation.seek(frame)
            picture = np.asarray(animation.convert("RGB"))[..., 0]
            rows, columns = np.nonzero(picture)
            centres.append(columns.mean() - (picture.shape[1] - 1) / 2)
            assert rows.max() <= 3
    assert centres[0] == pytest.approx(7, abs=1), "patient left is on the right"
    assert centres[2] == pytest.approx(-7, abs=1)
    assert centres[1] == pytest.approx(0, abs=1)


def test_planes_are_found_whatever_the_storage_order() -> None:
    affine = np.array([[0, 0, 3.0, 0], [1.0, 0, 0, 0], [0, -2.0, 0, 0], [0, 0, 0, 1]])
    orders = plane_orders(Grid(shape=(4, 5, 6), affine=affine))
    assert list(orders) == ["axial", "coronal", "sagittal"]
    assert [order.axes[0] for order in orders.values()] == [1, 0, 2]
