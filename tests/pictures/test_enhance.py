"""One image, painted again: what is written, what it says of itself, what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import medfuse
from medfuse.cli.app import run
from medfuse.errors import UsageError
from medfuse.imaging.pictures import read_picture
from medfuse.kernel.color import rgb_to_ycbcr
from medfuse.methods.gifnet import GifNet
from medfuse.methods.network import build_seeded
from medfuse.pictures.enhance import WARNING, enhance, enhance_planes, find_painter

BRAIN = "study/simulated-brain/t1.nii.gz"


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> Path:
    """GIFNet that was never trained: it gives its input back, a little flatter."""
    path = tmp_path_factory.mktemp("weights") / "mine.safetensors"
    net = build_seeded(GifNet, 0)
    save_file(net.state_dict(), path, {"medfuse": json.dumps({"architecture": "gifnet"})})
    return path


@pytest.fixture(scope="session")
def brain(sample_data) -> np.ndarray:
    """(X, Y, Z) of the T1 image, cropped to the middle."""
    values = np.asarray(nib.load(sample_data / BRAIN).dataobj, dtype=np.float32)
    x, y, z = (n // 2 for n in values.shape)
    return values[x - 32 : x + 32, y - 36 : y + 36, z - 2 : z + 2]


@pytest.fixture
def picture(brain, tmp_path) -> Path:
    path = tmp_path / "slice.png"
    plane = brain[..., 2].T
    Image.fromarray((255 * plane / plane.max()).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def volume(brain, sample_data, tmp_path) -> Path:
    path = tmp_path / "t1.nii.gz"
    nib.save(nib.Nifti1Image(brain, nib.load(sample_data / BRAIN).affine), path)
    return path


def _command(*parts: object) -> int:
    return run(["enhance", *map(str, parts)])


def test_a_picture_gets_a_record_and_a_page_that_warn(picture, weights, tmp_path, capsys):
    out = tmp_path / "better.png"
    assert _command(picture, "-o", out, "-m", weights) == 0
    told = capsys.readouterr()
    assert WARNING in told.err
    assert "PSNR to the input" in told.out
    record = json.loads((tmp_path / "better.json").read_text())
    assert record["warning"] == WARNING
    before, after = (read_picture(path, "L") for path in (picture, out))
    assert after.shape == before.shape
    assert Image.open(out).mode == "L"
    mse = (after - before).double().square().mean()
    assert record["psnr_db"] == pytest.approx(float(-10 * mse.log10()), abs=0.05)
    assert record["gradient_gain"] < 0  # it was never trained
    assert "smoother, not sharper" in record["notes"][0]
    assert record["notes"][0] in told.err
    assert 0 <= record["invented"] <= record["invented_worst_slice"] <= 1
    page = (tmp_path / "better.html").read_text()
    assert WARNING in page
    assert record["notes"][0] in page
    assert page.count('src="data:image/png') == 3
    assert "slice.png" not in page + json.dumps(record)  # people name files after patients


def test_the_answer_as_json_is_the_record(picture, weights, tmp_path, capsys):
    out = tmp_path / "better.png"
    assert _command(picture, "-o", out, "-m", weights, "--json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "better.json").read_text())


def test_a_volume_keeps_its_place_and_says_that_its_unit_is_gone(volume, weights, tmp_path):
    out = tmp_path / "better.nii.gz"
    assert _command(volume, "-o", out, "-m", weights, "--modality", "MRI") == 0
    image, source = nib.load(out), nib.load(volume)
    np.testing.assert_allclose(image.affine, source.affine, atol=1e-4)
    values = image.get_fdata()
    assert values.shape == source.shape
    assert values.min() >= 0
    assert values.max() <= 1
    assert "no measurement" in image.header["descrip"].item().decode()
    record = json.loads((tmp_path / "better.json").read_text())
    assert record["output"]["unit"] == "windowed, 0 to 1"
    assert record["input"]["window"]["low"] < record["input"]["window"]["high"]
    low, high = (record["input"]["window"][end] for end in ("low", "high"))
    windowed = np.clip((source.get_fdata() - low) / (high - low), 0, 1)
    assert np.corrcoef(windowed.ravel(), values.ravel())[0, 1] > 0.98


def test_colour_is_kept_where_luminance_changes(brain, weights):
    plane = torch.from_numpy(brain[..., 1] / brain.max()).clamp(0.2, 0.8)
    rgb = torch.stack([plane, plane * 0.9, plane * 0.8])
    found = enhance(rgb, method=weights)
    chroma = (rgb_to_ycbcr(x[None])[:, 1:] for x in (rgb, found.image))
    assert found.image.shape == rgb.shape
    assert not torch.equal(found.before, found.after)
    assert torch.allclose(*chroma, atol=1e-5)


def test_the_same_input_gives_the_same_bytes_with_any_number_of_threads(volume, weights, tmp_path):
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            out = tmp_path / f"threads{threads}.nii.gz"
            assert _command(volume, "-o", out, "-m", weights) == 0
    finally:
        torch.set_num_threads(before)
    for suffix in (".nii.gz", ".json", ".html"):
        one, two = ((tmp_path / f"threads{n}{suffix}").read_bytes() for n in (1, 2))
        assert one == two, suffix


def test_measures_of_an_unchanged_image_are_those_of_the_identity(brain, weights):
    class Identity(type(find_painter(weights))):
        def enhance(self, image):
            return image

    planes = torch.from_numpy(brain / brain.max()).permute(2, 0, 1)[:, None].contiguous()
    found = enhance_planes(planes, Identity())
    assert math.isinf(found.psnr_db)
    assert found.gradient_gain == 0
    assert found.invented.value < 1e-4


@pytest.mark.parametrize(
    ("out", "more", "code"),
    [
        ("slice.png", (), "E_UNSAFE_PATH"),
        ("slice.jpg", (), "E_FORMAT"),
        ("better.nii.gz", (), "E_FORMAT"),
        ("better.png", ("-m", "swift"), "E_CANNOT_ENHANCE"),
        ("better.png", ("-m", "no-such"), "E_UNKNOWN_METHOD"),
        ("better.png", ("--window", "0", "1"), "E_USAGE"),
    ],
)
def test_wrong_use_is_refused_in_one_line_and_nothing_is_written(
    picture, weights, tmp_path, capsys, out, more, code
):
    before = picture.read_bytes()
    assert _command(picture, "-o", tmp_path / out, "-m", weights, *more) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert f"[{code}]" in line
    assert [p.name for p in tmp_path.iterdir()] == ["slice.png"]
    assert picture.read_bytes() == before


def test_a_result_inside_the_input_folder_is_refused(sample_data, weights, capsys):
    folder = sample_data / "study/sts001"
    [series] = [p for p in sorted(folder.iterdir()) if p.is_dir()][:1]
    assert _command(series, "-o", series / "better.nii.gz", "-m", weights) == 2
    assert "[E_UNSAFE_PATH]" in capsys.readouterr().err
    assert not list(series.glob("better*"))


def test_a_picture_that_is_missing_is_said_in_one_line(weights, tmp_path, capsys):
    assert _command(tmp_path / "no.png", "-o", tmp_path / "better.png", "-m", weights) == 8
    assert "no.png" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_values_outside_the_range_are_a_value_error(weights):
    with pytest.raises(ValueError, match="must lie in"):
        enhance(torch.full((1, 32, 32), 1.5), method=weights)
    with pytest.raises(ValueError, match="expected"):
        enhance(torch.zeros(2, 32, 32), method=weights)
    with pytest.raises(UsageError, match="E_CANNOT_ENHANCE"):
        enhance(torch.zeros(1, 32, 32), method="mean")


def test_the_shipped_network_sharpens_and_stays_close_to_real_images(shared_data, sample_data):
    volume = medfuse.load(sample_data / BRAIN, modality="MRI")
    street = next(iter(sorted((shared_data / "msrs/test/vi").glob("*"))))
    visible = read_picture(street, "RGB")[0][:, 150:350, 200:440]
    middle = volume[..., volume.shape[-1] // 2 : volume.shape[-1] // 2 + 1]
    for image in (middle, visible):
        found = enhance(image, method="gifnet")
        assert found.psnr_db >= 24
        assert found.gradient_gain > 0
