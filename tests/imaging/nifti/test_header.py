"""NIfTI headers as their standard means them, with a second reader where one can be had."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from medfuse.errors import MedfuseError
from medfuse.imaging.grid import from_sitk
from medfuse.imaging.nifti.volume import read_nifti
from medfuse.imaging.reader import read_volume
from tests._helpers import make

AFFINES = {
    "left-handed": make.affine_ras(),
    "right-handed": make.affine_ras() @ np.diag([-1, 1, 1, 1]),
    "half turn": np.diag([-1.5, 2.25, -4.0, 1.0]),
}


def _by_qform(path: Path, affine: np.ndarray, **fields: object) -> Path:
    """A file that has a qform alone, with some fields of its header changed."""

    def edit(header: nib.Nifti1Header) -> None:
        header.set_qform(affine, code=1)
        header["sform_code"] = 0
        for name, value in fields.items():
            header[name] = value

    make.write_nifti(path, edit=edit)
    return path


def _pixdim(qfac: float, sizes: tuple[float, ...] = make.SPACING) -> list[float]:
    return [qfac, *sizes, 0, 0, 0, 0]


@pytest.mark.parametrize("qfac", [0.0, 1.0, -1.0, 3.0, -2.0])
@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_the_sign_of_qfac_alone_counts_as_itk_has_it(
    tmp_path: Path, affine: np.ndarray, qfac: float
) -> None:
    path = _by_qform(tmp_path / "t1.nii", affine, pixdim=_pixdim(qfac))
    volume = read_nifti(path)
    values, theirs = from_sitk(sitk.ReadImage(str(path)))
    np.testing.assert_allclose(volume.affine, theirs, atol=2e-4)
    np.testing.assert_array_equal(volume.values, values)


def test_a_qfac_that_was_never_set_is_one(tmp_path: Path) -> None:
    affine = AFFINES["right-handed"]
    path = _by_qform(tmp_path / "t1.nii", affine, pixdim=_pixdim(0))
    np.testing.assert_allclose(read_nifti(path).affine, affine, atol=1e-4)


@pytest.mark.parametrize("length", [1 + 1e-7, 1.00001, 1.0003])
def test_a_quaternion_longer_than_one_by_rounding_is_a_half_turn(
    tmp_path: Path, length: float
) -> None:
    affine = AFFINES["half turn"]
    path = _by_qform(tmp_path / "t1.nii", affine, quatern_c=length)
    volume = read_nifti(path)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-4)
    _, theirs = from_sitk(sitk.ReadImage(str(path)))
    np.testing.assert_allclose(volume.affine, theirs, atol=1e-4)
    told = [n for n in volume.meta["notes"] if "quaternion" in n]
    assert len(told) == (length > 1.000001)


@pytest.mark.parametrize(
    "fields",
    [
        {"quatern_b": 0.5, "quatern_c": 1.0},
        {"quatern_b": np.nan},
        {"quatern_d": np.inf},
        {"qoffset_x": np.nan},
        {"pixdim": _pixdim(np.nan)},
        {"pixdim": _pixdim(1, (-1.5, 2.25, 4.0))},
        {"pixdim": _pixdim(1, (1.5, np.nan, 4.0))},
    ],
    ids=str,
)
def test_a_qform_that_is_no_place_is_refused(tmp_path: Path, fields: dict[str, object]) -> None:
    path = _by_qform(tmp_path / "t1.nii", AFFINES["half turn"], **fields)
    with pytest.raises(MedfuseError) as caught:
        read_nifti(path)
    assert caught.value.code == "E_BAD_AFFINE"


@pytest.mark.parametrize("sizes", [(0, 0, 0), (-1.5, 2.25, 4), (np.nan, 1, 1), (1, 1, 1)], ids=str)
def test_the_sform_needs_no_pixdim(tmp_path: Path, sizes: tuple[float, ...]) -> None:
    def edit(header: nib.Nifti1Header) -> None:
        header["pixdim"] = _pixdim(1, sizes)

    make.write_nifti(tmp_path / "t1.nii", edit=edit)
    volume = read_nifti(tmp_path / "t1.nii")
    np.testing.assert_allclose(volume.affine, make.affine_ras(), atol=1e-5)
    assert any("the sform was taken" in note for note in volume.meta["notes"])


def test_an_sform_of_zeros_gives_way_to_the_qform(tmp_path: Path) -> None:
    def edit(header: nib.Nifti1Header) -> None:
        header.set_qform(make.affine_ras(), code=1)
        header["srow_x"] = header["srow_y"] = header["srow_z"] = 0

    make.write_nifti(tmp_path / "t1.nii", edit=edit)
    np.testing.assert_allclose(read_nifti(tmp_path / "t1.nii").affine, make.affine_ras(), atol=1e-3)


@pytest.mark.parametrize("qfac", [1, -1, 0])
def test_forms_that_contradict_each_other_about_left_and_right(tmp_path: Path, qfac: int) -> None:
    sform = np.diag([-1.5 if qfac == 1 else 1.5, 2.25, 4.0, 1.0])

    def edit(header: nib.Nifti1Header) -> None:
        header.set_sform(sform, code=1)
        header["qform_code"], header["quatern_b"] = 1, 0
        header["quatern_c"] = header["quatern_d"] = 0
        header["pixdim"] = _pixdim(qfac)

    make.write_nifti(tmp_path / "t1.nii", edit=edit)
    if qfac == 0:
        np.testing.assert_allclose(read_nifti(tmp_path / "t1.nii").affine, sform)
        return
    with pytest.raises(MedfuseError, match="mirror image"):
        read_nifti(tmp_path / "t1.nii")


def _sized(path: Path, dim: list[int], **fields: object) -> Path:
    def edit(header: nib.Nifti1Header) -> None:
        header["dim"] = dim
        for name, value in fields.items():
            header[name] = value

    make.write_nifti(path, edit=edit)
    return path


X, Y, Z = make.SHAPE


@pytest.mark.parametrize(
    "dim",
    [
        [3, X, Y, Z, 0, 0, 0, 0],
        [3, X, Y, Z, 9, 9, 9, 9],
        [4, X, Y, Z, 1, 1, 1, 1],
        [4, X, Y, Z, 0, 1, 1, 1],
        [7, X, Y, Z, 1, 1, 1, 1],
    ],
    ids=str,
)
def test_axes_of_one_and_unused_ones_do_not_matter(tmp_path: Path, dim: list[int]) -> None:
    volume = read_nifti(_sized(tmp_path / "t1.nii", dim))
    np.testing.assert_array_equal(volume.values, make.phantom())


@pytest.mark.parametrize(
    "dim",
    [
        [5, X, Y, 3, 1, 2, 1, 1],
        [5, X, Y, 1, Z, 1, 1, 1],
        [2, X, Y, Z, 1, 1, 1, 1],
        [3, X, Y, 0, 1, 1, 1, 1],
        [3, X, -Y, Z, 1, 1, 1, 1],
        [4, X, Y, Z, -1, 1, 1, 1],
    ],
    ids=str,
)
def test_sizes_that_are_no_volume_are_refused(tmp_path: Path, dim: list[int]) -> None:
    with pytest.raises(MedfuseError) as caught:
        read_nifti(_sized(tmp_path / "t1.nii", dim))
    assert caught.value.code == "E_NOT_A_VOLUME"


@pytest.mark.parametrize("frames", [[4, X, Y, 3, 2, 1, 1, 1], [5, X, Y, 3, 2, 1, 1, 1]], ids=str)
def test_frames_are_read_beside_axes_of_one(tmp_path: Path, frames: list[int]) -> None:
    path = _sized(tmp_path / "t1.nii", frames)
    np.testing.assert_array_equal(read_nifti(path, frame=1).values, make.phantom()[:, :, 3:])


@pytest.mark.parametrize(
    ("offset", "code"),
    [(1e6, "E_TRUNCATED"), (1e30, "E_CORRUPT"), (400, "E_TRUNCATED"), (352.5, "E_CORRUPT"),
     (0, "E_CORRUPT"), (-352, "E_CORRUPT"), (np.nan, "E_CORRUPT"), (np.inf, "E_CORRUPT")],
)  # fmt: skip
@pytest.mark.parametrize("name", ["t1.nii", "t1.nii.gz"])
def test_voxels_that_start_elsewhere_are_refused(
    tmp_path: Path, offset: float, code: str, name: str
) -> None:
    def edit(header: nib.Nifti1Header) -> None:
        header["vox_offset"] = offset

    make.write_nifti(tmp_path / name, edit=edit)
    with pytest.raises(MedfuseError) as caught:
        read_nifti(tmp_path / name)
    assert caught.value.code == code


@pytest.mark.parametrize("slope", [0.0, np.nan, np.inf, 1.0])
def test_slopes_that_mean_none(tmp_path: Path, slope: float) -> None:
    def edit(header: nib.Nifti1Header) -> None:
        header["scl_slope"] = slope

    make.write_nifti(tmp_path / "t1.nii", make.phantom(), edit)
    np.testing.assert_array_equal(read_nifti(tmp_path / "t1.nii").values, make.phantom())


@pytest.mark.parametrize("code", [0, 2, 10, 18, 26])
def test_units_of_time_do_not_disturb_those_of_space(tmp_path: Path, code: int) -> None:
    def edit(header: nib.Nifti1Header) -> None:
        header["xyzt_units"] = code

    make.write_nifti(tmp_path / "t1.nii", edit=edit)
    volume = read_nifti(tmp_path / "t1.nii")
    np.testing.assert_allclose(volume.affine, make.affine_ras(), atol=1e-5)


@pytest.mark.parametrize("kind", [nib.Nifti1Pair, nib.Spm2AnalyzeImage, nib.AnalyzeImage])
@pytest.mark.parametrize("suffix", [".hdr", ".img"])
def test_image_pairs_are_refused_by_their_name(tmp_path: Path, kind: type, suffix: str) -> None:
    nib.save(kind(make.phantom(), np.diag([1.5, 2.25, 4, 1])), tmp_path / "t1.img")
    with pytest.raises(MedfuseError) as caught:
        read_volume(tmp_path / f"t1{suffix}")
    assert caught.value.code == "E_NOT_NIFTI"
    assert "pair" in str(caught.value)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_nifti_2_lies_where_nibabel_has_it(tmp_path: Path, affine: np.ndarray) -> None:
    image = nib.Nifti2Image(make.phantom(), None)
    image.set_qform(affine, code=1)
    nib.save(image, tmp_path / "t1.nii.gz")
    volume, theirs = read_nifti(tmp_path / "t1.nii.gz"), nib.load(tmp_path / "t1.nii.gz")
    np.testing.assert_allclose(volume.affine, theirs.affine, atol=1e-6)
