from __future__ import annotations

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from medfuse.errors import InputError, UsageError
from medfuse.training.data import find_pair_folders, load_pairs, split_validation


def test_pairs_are_found_by_name_whatever_the_suffix(pair_folders):
    a, b = pair_folders
    picture = Image.open(a / "case0.png")
    (a / "case0.png").unlink()
    picture.save(a / "case0.webp", lossless=True)
    pairs = load_pairs(a, b)
    assert pairs.names == tuple(f"case{k}" for k in range(6))
    assert pairs.a[0].dtype == torch.uint8
    assert np.array_equal(pairs.a[0].numpy(), np.asarray(picture))


def test_colour_becomes_bt601_luminance(pair_folders):
    a, b = pair_folders
    rgb = np.random.default_rng(0).integers(0, 256, (80, 64, 3), dtype=np.uint8)
    Image.fromarray(rgb).save(a / "case0.png")
    expected = np.round(rgb @ [0.299, 0.587, 0.114])
    assert np.abs(load_pairs(a, b).a[0].numpy() - expected).max() <= 1


def test_msrs_and_our_layouts_are_recognised(shared_data):
    a, b = find_pair_folders(shared_data / "msrs")
    assert (a.parent.name, a.name, b.name) == ("train", "vi", "ir")
    a, b = find_pair_folders(shared_data / "harvard" / "PET-MRI")
    assert (a.name, b.name) == ("PET", "MRI")


def test_real_test_pairs_are_read(shared_data):
    folder = shared_data / "harvard" / "CT-MRI" / "test"
    pairs = load_pairs(folder / "CT", folder / "MRI")
    assert len(pairs) == 12
    assert all(image.shape == (256, 256) for image in (*pairs.a, *pairs.b))


def test_folder_without_known_layout_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"vi/ir.*a=DIR.*\[E_NO_IMAGES\]"):
        find_pair_folders(tmp_path)


def test_missing_and_empty_folders_are_refused(tmp_path, pair_folders):
    with pytest.raises(InputError, match=r"nowhere: there is no such folder.*E_NO_IMAGES"):
        load_pairs(tmp_path / "nowhere", pair_folders[1])
    (tmp_path / "bare").mkdir()
    with pytest.raises(InputError, match=r"bare: no image files.*E_NO_IMAGES"):
        load_pairs(tmp_path / "bare", pair_folders[1])


def test_unpaired_files_are_all_named(pair_folders):
    a, b = pair_folders
    (a / "case1.png").unlink()
    (b / "case4.png").unlink()
    with pytest.raises(InputError, match=r"2 files .*functional/case4.png, anatomical/case1.png"):
        load_pairs(a, b)


def test_constant_image_is_refused_with_its_value(pair_folders):
    a, b = pair_folders
    Image.new("L", (64, 80), 7).save(b / "case2.png")
    with pytest.raises(InputError, match=r"anatomical/case2.png: every pixel is 7.*E_CONSTANT"):
        load_pairs(a, b)


def test_pair_of_different_sizes_is_refused(pair_folders):
    a, b = pair_folders
    Image.open(a / "case1.png").crop((0, 0, 50, 60)).save(a / "case1.png")
    with pytest.raises(InputError, match=r"case1.png: it is \(60, 50\) and its partner \(64, 96\)"):
        load_pairs(a, b)


def test_web_page_named_png_is_refused(pair_folders):
    (pair_folders[0] / "case3.png").write_text("<html></html>")
    with pytest.raises(InputError, match=r"functional/case3.png.*no readable picture"):
        load_pairs(*pair_folders)


def _write_volume(path, array, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine), path)


def _volume(seed):
    volume = np.random.default_rng(seed).random((40, 50, 6)).astype(np.float32)
    volume[..., 0] = 0  # a slice without contrast
    return volume


def test_slices_of_registered_volumes_become_pairs(tmp_path):
    _write_volume(tmp_path / "pet" / "case7" / "functional_on_anatomical.nii.gz", _volume(0))
    _write_volume(tmp_path / "mri" / "case7.nii.gz", _volume(1))
    pairs = load_pairs(tmp_path / "pet", tmp_path / "mri")
    assert pairs.names == tuple(f"case7#{k:04d}" for k in range(1, 6))
    assert pairs.a[0].shape == (50, 40)


def test_volumes_on_different_grids_are_refused(tmp_path):
    _write_volume(tmp_path / "pet" / "x.nii.gz", _volume(0))
    _write_volume(tmp_path / "mri" / "x.nii.gz", _volume(1), np.diag([2.0, 1, 1, 1]))
    with pytest.raises(InputError, match="register it first"):
        load_pairs(tmp_path / "pet", tmp_path / "mri")


def test_volume_with_nan_is_refused(tmp_path):
    broken = _volume(0)
    broken[3, 3, 3] = np.nan
    _write_volume(tmp_path / "pet" / "x.nii.gz", broken)
    _write_volume(tmp_path / "mri" / "x.nii.gz", _volume(1))
    with pytest.raises(InputError, match="NaN"):
        load_pairs(tmp_path / "pet", tmp_path / "mri")


def test_validation_holds_out_whole_patients(shared_data):
    folder = shared_data / "harvard" / "PET-MRI" / "train"
    pairs = load_pairs(folder / "PET", folder / "MRI")
    train, held = split_validation(pairs, fraction=0.3, group_digits=3)
    assert len(train) + len(held) == len(pairs) == 245
    assert len({name[:-3] for name in held.names}) == 1
    assert not {n[:-3] for n in train.names} & {n[:-3] for n in held.names}


def test_validation_is_evenly_spread_and_always_the_same(pair_folders):
    pairs = load_pairs(*pair_folders)
    train, held = split_validation(pairs, fraction=0.34)
    assert held.names == ("case1", "case4")
    assert len(train) == 4
    assert split_validation(pairs, fraction=0)[1].names == ()
    with pytest.raises(UsageError, match="6 independent"):
        split_validation(pairs, fraction=0.95)


def test_hash_follows_the_pixels_not_the_files(pair_folders, tmp_path):
    a, b = pair_folders
    before = load_pairs(a, b).sha256()
    for path in list(a.iterdir()):
        Image.open(path).save(a / f"{path.stem}.bmp")
        path.unlink()
    assert load_pairs(a, b).sha256() == before
    assert load_pairs(b, a).sha256() != before
