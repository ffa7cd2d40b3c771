"""Volumes explain themselves, and what they say of themselves is verified."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

import medfuse
from medfuse.case.pipeline import run_case
from medfuse.errors import InputError
from medfuse.results.described import VOLUMES, Facts, about
from medfuse.results.export import write_nifti
from medfuse.verification.verify import verify
from medfuse.verification.volumes import check_headers
from tests._helpers.forger import CHOSEN, reseal, wrong


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


@pytest.fixture(scope="module")
def four(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same case with its colors on a fourth axis, and a report without a viewer."""
    out = tmp_path_factory.mktemp("four") / "results" / "case"
    settings = CHOSEN.model_copy(update={"rgb": "4d", "report": "static"})
    run_case(study / "mr-t1.nii.gz", study / "pet-suv-dicom", out, settings, case="case")
    return out


def test_colors_on_a_fourth_axis_are_the_same_for_all_that_read_them(
    result: Path, four: Path
) -> None:
    from monai.transforms import LoadImage

    from medfuse.imaging.monai_reader import ClinicalReader
    from napari_plugin.results import read_result

    path, wanted = four / "fused_rgb.nii.gz", medfuse.load_picture(result)
    shape = (*wanted.shape[1:], 3)
    image = nib.load(path)
    assert (image.shape, image.get_data_dtype()) == (shape, np.dtype("u1"))
    colors = np.rint(np.moveaxis(wanted.numpy(), 0, -1) * 255)
    assert np.array_equal(np.asarray(image.dataobj), colors)
    other = sitk.ReadImage(str(path))
    assert other.GetSize() == shape
    assert np.array_equal(sitk.GetArrayFromImage(other).T, colors)
    found = medfuse.load_picture(four)
    assert np.array_equal(found, wanted)
    assert np.array_equal(found.affine, wanted.affine)
    read = LoadImage(reader=ClinicalReader, ensure_channel_first=True)(path)
    assert np.array_equal(read, wanted)
    layers = [next(x for x in read_result(f) if x[1].get("rgb")) for f in (result, four)]
    assert np.array_equal(layers[0][0], layers[1][0])
    listed = json.loads((four / VOLUMES).read_text())["volumes"]
    assert "4th axis" in listed["fused_rgb.nii.gz"]["description"]
    with pytest.raises(InputError, match=r"RGB.*E_DTYPE"):
        medfuse.load(path, frame=0)  # three colors are no frames


def test_a_result_with_a_fourth_axis_verifies_and_a_forged_one_does_not(
    study: Path, four: Path, tmp_path: Path
) -> None:
    assert not wrong(verify(four, inputs=study))
    forged = Path(shutil.copytree(four, tmp_path / "results" / "case"))
    path = forged / "fused_rgb.nii.gz"
    picture = medfuse.load_picture(path)
    what = about("fused_rgb", Facts(None, "", "", "4d"))
    write_nifti(path, picture.flip(0), picture.affine, what=what, colors="4d")  # blue is red
    reseal(forged)
    assert wrong(verify(forged)) == {"fused image"}
    write_nifti(path, picture, picture.affine, what=about("fused_rgb", Facts(None, "", "")))
    reseal(forged)
    [finding] = check_headers(forged, record_of(forged))
    assert not finding.ok


def test_a_static_report_has_no_viewer_and_is_smaller(result: Path, four: Path) -> None:
    live, static = ((f / "report.html").read_text() for f in (result, four))
    assert "niivue" in live
    assert "niivue" not in static
    assert len(static) < len(live) < 8e6
    assert not list((four / "figures").glob("viewer_*"))
    assert list((result / "figures").glob("viewer_*"))


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
