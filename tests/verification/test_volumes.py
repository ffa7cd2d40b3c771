"""Volumes explain themselves, and what they say of themselves is verified."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

import medfuse
from medfuse.errors import InputError
from medfuse.results.described import VOLUMES
from medfuse.verification.volumes import check_headers


def record_of(folder: Path) -> dict:
    return json.loads((folder / "provenance.json").read_text())


def test_headers_and_list_tell_unit_window_and_description(result: Path) -> None:
    window = next(s for s in record_of(result)["steps"] if s["name"] == "window")
    shown = window["parameters"]["functional"]
    listed = json.loads((result / VOLUMES).read_text())["volumes"]
    assert set(listed) == {path.name for path in result.glob("*.nii.gz")}
    for name, facts in listed.items():
        header = nib.load(result / name).header
        assert facts["description"] in header["descrip"].item().decode()
        assert header["intent_name"].item().decode() == facts["unit"]
        low, high = facts["display_window"] or (0, 0)
        assert np.allclose([header["cal_min"], header["cal_max"]], [low, high])
    functional = listed["functional_on_anatomical.nii.gz"]
    assert functional["unit"] == "SUVbw"
    assert functional["display_window"] == [shown["low"], shown["high"]]
    assert "PET" in functional["description"]
    assert sitk.ReadImage(str(result / "fused_rgb.nii.gz")).GetNumberOfComponentsPerPixel() == 3


def test_the_fused_image_is_read_in_color_with_its_place(result: Path, tmp_path: Path) -> None:
    picture = medfuse.load_picture(result)
    plain = nib.load(result / "fused_rgb.nii.gz")
    assert picture.shape == (3, *plain.shape)
    assert np.array_equal(picture.affine, plain.affine)
    red = np.asarray(plain.dataobj)["R"]
    assert np.array_equal(np.rint(picture[0].numpy() * 255), red)
    assert medfuse.load_picture(result / "fused_rgb.nii.gz").shape == picture.shape
    for other in (result / "luminance.nii.gz", result / "audit.json", tmp_path, tmp_path / "gone"):
        with pytest.raises(InputError, match="E_NOT_A_PICTURE"):
            medfuse.load_picture(other)


def test_what_a_volume_says_of_itself_is_verified(copy: Path) -> None:
    [sound] = check_headers(copy, record_of(copy))
    assert sound.ok
    content = json.loads((copy / VOLUMES).read_text())
    content["volumes"]["functional_on_anatomical.nii.gz"]["unit"] = "Bq/ml"
    (copy / VOLUMES).write_text(json.dumps(content))
    [forged] = check_headers(copy, record_of(copy))
    assert not forged.ok
    assert VOLUMES in forged.text
    path = copy / "functional_on_anatomical.nii.gz"
    voxels = bytearray(gzip.decompress(path.read_bytes()))
    voxels[148:153] = b"other"  # descrip
    path.write_bytes(gzip.compress(bytes(voxels), mtime=0))
    (copy / VOLUMES).unlink()
    [other] = check_headers(copy, record_of(copy))
    assert not other.ok


def test_volumes_of_versions_that_described_nothing_still_verify(copy: Path) -> None:
    (copy / VOLUMES).unlink()
    for path in copy.glob("*.nii.gz"):
        content = bytearray(gzip.decompress(path.read_bytes()))
        content[124:132] = bytes(8)  # cal_max, cal_min
        content[148:228] = bytes(80)  # descrip
        content[328:344] = bytes(16)  # intent_name
        packed = gzip.compress(bytes(content), mtime=0)
        path.write_bytes(packed[:8] + b"\x04\xff" + packed[10:])
    [finding] = check_headers(copy, record_of(copy))
    assert finding.ok, finding.text
