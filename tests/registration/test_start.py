"""Starts from files of other programs: each against a map that is known by other means."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from monai.data.meta_tensor import MetaTensor

from medfuse.errors import InputError
from medfuse.imaging.grid import LPS_FROM_RAS, transform_points
from medfuse.imaging.reader import load
from medfuse.registration.search import rotation_matrix
from medfuse.registration.start import fit_landmarks, landmark_note, read_matrix

RIGID = np.eye(4)
RIGID[:3, :3] = rotation_matrix(np.array([9.0, -12.0, 6.0]))
RIGID[:3, 3] = 14.0, -22.0, 780.0
AFFINE = RIGID @ np.diag([1.1, 0.95, 1.02, 1.0])
POINTS = np.array([[60.0, -90, -40], [-60, 60, 70], [10, 20, -30], [0, 0, 0], [-7, 80, 4]])


def itk_affine(ras: np.ndarray) -> sitk.AffineTransform:
    lps = LPS_FROM_RAS @ ras @ LPS_FROM_RAS
    transform = sitk.AffineTransform(lps[:3, :3].ravel().tolist(), lps[:3, 3].tolist())
    about = np.array([11.0, -7.0, 5.0])  # as ANTs writes: the same map about another centre
    transform.SetCenter(about.tolist())
    transform.SetTranslation((lps[:3, :3] @ about + lps[:3, 3] - about).tolist())
    return transform


@pytest.mark.parametrize("name", ["t.tfm", "t.txt", "t.h5", "t.mat"])
def test_itk_file_is_read_as_the_map_that_itk_resamples_by(tmp_path: Path, name: str) -> None:
    sitk.WriteTransform(itk_affine(AFFINE), str(tmp_path / name))
    np.testing.assert_allclose(read_matrix(tmp_path / name), AFFINE, atol=1e-9)


def test_itk_resamples_with_the_file_what_the_read_matrix_says(tmp_path: Path) -> None:
    """One bright voxel: ITK's own resampling filter decides which way the file maps."""
    path = tmp_path / "shift.tfm"
    sitk.WriteTransform(sitk.TranslationTransform(3, (2.0, -3.0, 1.0)), str(path))
    moving = sitk.Image([9, 10, 11], sitk.sitkFloat32)
    moving[6, 2, 5] = 1.0
    found = sitk.Resample(moving, sitk.ReadTransform(str(path)), sitk.sitkNearestNeighbor)
    fixed_lps = np.argwhere(sitk.GetArrayFromImage(found) == 1)[0][::-1]
    moved = transform_points(read_matrix(path), fixed_lps * [-1, -1, 1])
    np.testing.assert_allclose(moved * [-1, -1, 1], [6, 2, 5])


@pytest.mark.parametrize("name", ["c.tfm", "c.h5"])
def test_composite_of_linear_parts_is_one_matrix(tmp_path: Path, name: str) -> None:
    parts = [itk_affine(RIGID), itk_affine(AFFINE)]  # ITK applies the last part first
    sitk.WriteTransform(sitk.CompositeTransform(parts), str(tmp_path / name))
    np.testing.assert_allclose(read_matrix(tmp_path / name), RIGID @ AFFINE, atol=1e-8)


def test_old_text_of_ants_is_read(tmp_path: Path) -> None:
    path = tmp_path / "ants.txt"
    path.write_text(
        "#Insight Transform File V1.0\n#Transform 0\n"
        "Transform: MatrixOffsetTransformBase_double_3_3\n"
        "Parameters: 1 0 0 0 1 0 0 0 1 1 2 3\nFixedParameters: 0 0 0\n"
    )
    np.testing.assert_array_equal(read_matrix(path)[:3, 3], [-1, -2, 3])


def test_plain_text_and_our_own_json_are_ras_maps(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "start.txt", RIGID, fmt="%.17g")
    (tmp_path / "transform.json").write_text(json.dumps({"matrix": RIGID.tolist()}))
    for name in ("start.txt", "transform.json"):
        np.testing.assert_array_equal(read_matrix(tmp_path / name), RIGID)


def saved(path: Path, shape: tuple[int, ...], affine: np.ndarray) -> MetaTensor:
    values = np.random.default_rng(0).random(shape).astype(np.float32)
    nib.save(nib.Nifti1Image(values, affine), path)
    return load(path, modality="MRI")


def stored(flip: int, step: tuple[float, ...], corner: tuple[float, ...]) -> np.ndarray:
    """A NIfTI affine: +1 "neurological" (first index to the right), -1 "radiological"."""
    affine = np.diag([flip * step[0], step[1], step[2], 1.0])
    affine[:3, 3] = corner
    return affine


@pytest.mark.parametrize("fixed_flip", [1, -1])
@pytest.mark.parametrize("moving_flip", [1, -1])
def test_flirt_matrix_follows_its_handedness_rule(
    tmp_path: Path, fixed_flip: int, moving_flip: int
) -> None:
    """By hand, voxel by voxel: FLIRT sees mm = index * size, and x = (n - 1 - i) * size where
    the determinant of the affine is positive."""
    fixed_affine = stored(fixed_flip, (1.5, 2.0, 3.0), (-20.0, -31.0, 7.0))
    moving_affine = stored(moving_flip, (2.5, 1.25, 4.0), (33.0, 12.0, -50.0))
    fixed = saved(tmp_path / "fixed.nii.gz", (12, 9, 8), fixed_affine)
    moving = saved(tmp_path / "moving.nii.gz", (10, 14, 7), moving_affine)
    flirt = np.eye(4)  # moving mm -> fixed mm
    flirt[:3] = [[0.0, -1.0, 0.0, 20.0], [1.0, 0.0, 0.0, -3.0], [0.0, 0.0, 1.0, 2.5]]
    np.savetxt(tmp_path / "pet2mr.mat", flirt)

    i, j, k = 3, 8, 2  # a moving voxel
    x = (10 - 1 - i) * 2.5 if moving_flip > 0 else i * 2.5
    y, z = j * 1.25, k * 4.0
    x, y, z = -y + 20.0, x - 3.0, z + 2.5  # where FLIRT puts it in the fixed image
    index = np.array([x / 1.5, y / 2.0, z / 3.0])
    if fixed_flip > 0:
        index[0] = 12 - 1 - index[0]
    fixed_world = fixed_affine[:3, :3] @ index + fixed_affine[:3, 3]
    moving_world = moving_affine[:3, :3] @ [i, j, k] + moving_affine[:3, 3]

    matrix = read_matrix(tmp_path / "pet2mr.mat", kind="fsl", fixed=fixed, moving=moving)
    np.testing.assert_allclose(transform_points(matrix, fixed_world), moving_world, atol=1e-9)
    # A quarter turn in FLIRT's own frame; seen from the world its sense depends on the storage.
    assert np.linalg.det(matrix[:3, :3]) == pytest.approx(1.0)


def test_flirt_matrix_is_refused_for_dicom(shared_data: Path, tmp_path: Path) -> None:
    np.savetxt(tmp_path / "flirt.mat", np.eye(4))
    pet = load(shared_data / "volumes" / "sts001-aligned-pet-ct-mr" / "pet-suv-dicom")
    with pytest.raises(InputError, match=r"flirt.mat: FLIRT's matrix depends .* fixed.*NIfTI"):
        read_matrix(tmp_path / "flirt.mat", kind="fsl", fixed=pet, moving=pet)


def test_text_named_mat_is_no_guess(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "affine.mat", RIGID, fmt="%.17g")
    with pytest.raises(InputError, match=r"affine.mat: .*which program.*initial_kind=fsl"):
        read_matrix(tmp_path / "affine.mat")
    np.testing.assert_array_equal(read_matrix(tmp_path / "affine.mat", kind="ras"), RIGID)


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("s.txt", b"1 2 3", "4x4"),
        ("s.txt", b"a b", "not numbers"),
        ("s.txt", b"", "empty"),
        ("s.txt", b"\xff\xfe", "not numbers"),
        ("s.txt", b"0 0 0 0\n" * 4, "singular"),
        ("s.json", b"{}", "no transform.json"),
        ("s.json", b"[1]", "no transform.json"),
        ("s.tfm", b"#Insight Transform File V1.0\n#Transform 0\nTransform: Aff", "ITK cannot"),
        ("s.h5", b"\x89HDF\r\n\x1a\n\0\0\0\0", "ITK cannot"),
        ("s.mat", b"\0\0\0\0", "ITK cannot"),
    ],
)
def test_bad_file_is_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes, cause: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name}: .*{cause}.*E_BAD_TRANSFORM") as refused:
        read_matrix(tmp_path / name)
    assert "\n" not in str(refused.value)
    assert str(tmp_path) not in str(refused.value)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    for kind in ("auto", "ras", "landmarks"):
        with pytest.raises(InputError, match=r"none.tfm: No such file"):
            read_matrix(tmp_path / "none.tfm", kind=kind)


def test_warp_is_refused_as_not_linear(tmp_path: Path) -> None:
    sitk.WriteTransform(sitk.BSplineTransform(3), str(tmp_path / "warp.tfm"))
    with pytest.raises(InputError, match=r"BSplineTransform is neither a linear"):
        read_matrix(tmp_path / "warp.tfm")


def test_plane_transform_is_refused(tmp_path: Path) -> None:
    sitk.WriteTransform(sitk.Euler2DTransform(), str(tmp_path / "plane.tfm"))
    with pytest.raises(InputError, match="2-D"):
        read_matrix(tmp_path / "plane.tfm")


def landmarks(path: Path, fixed: np.ndarray, moving: np.ndarray) -> Path:
    np.savetxt(path, np.hstack([fixed, moving]), delimiter=",", header="RAS mm")
    return path


@pytest.mark.parametrize("count", [3, 5])
def test_exact_landmarks_give_the_rigid_map(tmp_path: Path, count: int) -> None:
    path = landmarks(tmp_path / "p.csv", POINTS[:count], transform_points(RIGID, POINTS[:count]))
    matrix, residuals = fit_landmarks(path)
    np.testing.assert_allclose(matrix, RIGID, atol=1e-6)
    assert residuals.max() < 1e-6
    np.testing.assert_array_equal(read_matrix(path, kind="landmarks"), matrix)


def test_noisy_landmarks_are_fitted_best_and_their_residual_is_told(tmp_path: Path) -> None:
    """Oracle: Kabsch by SVD."""
    noise = np.random.default_rng(1).normal(0, 2, POINTS.shape)
    moving = transform_points(RIGID, POINTS) + noise
    matrix, residuals = fit_landmarks(landmarks(tmp_path / "p.csv", POINTS, moving))
    a, b = POINTS - POINTS.mean(0), moving - moving.mean(0)
    left, _, right = np.linalg.svd(b.T @ a)
    turn = left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right
    np.testing.assert_allclose(matrix[:3, :3], turn, atol=1e-6)
    best = moving.mean(0) + a @ turn.T - moving
    np.testing.assert_allclose(residuals, np.linalg.norm(best, axis=1), atol=1e-5)
    note = landmark_note(tmp_path / "p.csv")
    assert f"5 landmark pairs, residual {np.sqrt((residuals**2).mean()):.1f} mm RMS" in note
    assert f"(pair {residuals.argmax() + 1})" in note


LINE = np.array([[0.0, 0, 0], [10, 20, 30], [20, 40, 60], [30, 60, 90.5]])


@pytest.mark.parametrize(
    ("fixed", "moving", "cause"),
    [
        (POINTS[:2], POINTS[:2], "2 pairs, at least 3"),
        (LINE, POINTS[:4], "fixed points lie in one line"),
        (POINTS[:4], LINE, "moving points lie in one line"),
        (POINTS[:, :2], POINTS, "got 5"),
        (POINTS * np.nan, POINTS, "finite"),
    ],
)
def test_landmarks_that_fix_no_position_are_refused(
    tmp_path: Path, fixed: np.ndarray, moving: np.ndarray, cause: str
) -> None:
    path = landmarks(tmp_path / "p.csv", fixed, moving)
    with pytest.raises(InputError, match=rf"p.csv: .*{cause}.*E_BAD_TRANSFORM"):
        read_matrix(path, kind="landmarks")
