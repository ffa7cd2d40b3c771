"""Both images back from pictures that medfuse wrote, as a user has them on disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

import medfuse
from medfuse.case.pipeline import run_case
from medfuse.cli.app import run
from medfuse.errors import InputError, UsageError
from medfuse.pictures.unfuse import unfuse
from medfuse.results.export import write_nifti
from medfuse.settings import CaseSettings


@pytest.fixture(scope="module")
def result(sample_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PET on CT of the sample study with the default colours, with PNG and DICOM."""
    study = sample_data / "study" / "sts001-aligned"
    out = tmp_path_factory.mktemp("unfuse") / "case"
    settings = CaseSettings(registration="identity", png=True, dicom="multiframe")
    run_case(study / "ct.nii.gz", study / "pet-suv-dicom", out, settings, case="case")
    return out


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def test_both_images_come_back_in_their_units_and_places(result: Path, tmp_path: Path) -> None:
    record = unfuse(result / "fused_rgb.nii.gz", tmp_path / "apart")
    assert (record["colormap"], record["brightness"]) == ("glow", "anatomical image")
    window = record["images"]["functional"]["window"]
    assert window["unit"] == "SUVbw"
    wanted = voxels(result / "functional_on_anatomical.nii.gz")
    found = nib.load(tmp_path / "apart" / "functional.nii.gz")
    assert np.allclose(found.affine, nib.load(result / "fused_rgb.nii.gz").affine)
    width = window["high"] - window["low"]
    error = np.abs(np.asarray(found.dataobj) - wanted.clip(window["low"], window["high"])) / width
    assert np.quantile(error, 0.95) <= 0.005
    bright = record["images"]["anatomical"]["window"]
    shown = voxels(result / "luminance.nii.gz") * (bright["high"] - bright["low"]) + bright["low"]
    error = np.abs(voxels(tmp_path / "apart" / "anatomical.nii.gz") - shown)
    assert np.quantile(error, 0.95) / (bright["high"] - bright["low"]) <= 0.005


def test_colors_on_a_fourth_axis_come_apart_alike(result: Path, tmp_path: Path) -> None:
    picture = medfuse.load_picture(result)
    shutil.copyfile(result / "provenance.json", tmp_path / "provenance.json")
    four = write_nifti(tmp_path / "fused_rgb.nii.gz", picture, picture.affine, colors="4d")
    assert nib.load(four).shape == (*picture.shape[1:], 3)
    records = [unfuse(result / four.name, tmp_path / "a"), unfuse(four, tmp_path / "b")]
    assert records[0] == records[1]
    for name in ("functional.nii.gz", "anatomical.nii.gz"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_stated_error_holds_for_nineteen_of_twenty_voxels(result: Path, tmp_path: Path) -> None:
    unfuse(result / "fused_rgb.nii.gz", tmp_path / "apart")
    found, stated = (
        voxels(tmp_path / "apart" / f"{name}.nii.gz") for name in ("functional", "functional_error")
    )
    wanted = voxels(result / "functional_on_anatomical.nii.gz").clip(0, 6)
    assert (np.abs(found - wanted) / 6 <= stated + 1e-6).mean() >= 0.95


def test_dicom_and_png_come_apart_too(result: Path, tmp_path: Path, capsys) -> None:
    record = result / "provenance.json"
    unfuse(result / "dicom" / "fused.dcm", tmp_path / "d", provenance=record)
    image = nib.load(tmp_path / "d" / "functional.nii.gz")
    whole = nib.load(result / "functional_on_anatomical.nii.gz")
    index = np.stack([np.random.default_rng(0).integers(0, n, 500) for n in whole.shape], axis=1)
    world = nib.affines.apply_affine(whole.affine, index)
    there = np.round(nib.affines.apply_affine(np.linalg.inv(image.affine), world)).astype(int)
    gap = np.asarray(image.dataobj)[tuple(there.T)] - np.asarray(whole.dataobj)[
        tuple(index.T)
    ].clip(0, 6)
    assert np.quantile(np.abs(gap) / 6, 0.95) <= 0.006
    picture = min(p for p in (result / "png").rglob("*.png") if "mip" not in p.name)
    assert run(["unfuse", str(picture), "-o", str(tmp_path / "p"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["colormap"] == "glow"
    assert (tmp_path / "p" / "functional.png").is_file()


def test_what_holds_no_second_image_is_refused_with_the_reason(
    result: Path, tmp_path: Path
) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(rgb).save(tmp_path / "noise.png")
    with pytest.raises(UsageError, match="E_NOT_TWO_WAY"):
        unfuse(tmp_path / "noise.png", tmp_path / "a")
    Image.fromarray(rgb).save(tmp_path / "noise.jpg")
    with pytest.raises(InputError, match=r"JPEG.*E_FORMAT"):
        unfuse(tmp_path / "noise.jpg", tmp_path / "a")
    with pytest.raises(InputError, match="no such file"):
        unfuse(tmp_path / "none.png", tmp_path / "a")
    with pytest.raises(InputError, match="neither RGB24 nor 4-D"):
        unfuse(result / "luminance.nii.gz", tmp_path / "a")
    assert not (tmp_path / "a").exists()
