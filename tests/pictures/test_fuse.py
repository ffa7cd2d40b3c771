"""Two registered pictures of any kind become one, and the file says how."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from medfuse.cli.app import run
from medfuse.errors import UsageError
from medfuse.imaging.pictures import read_picture
from medfuse.kernel.color import luma, rgb_to_ycbcr, ycbcr_to_rgb
from medfuse.methods.registry import get_method
from medfuse.pictures.fuse import fuse_files, fuse_pictures
from medfuse.training.synthetic import exposure_pair, focus_pair

PAIRS = {"focus": focus_pair, "exposure": exposure_pair}


@pytest.fixture(scope="module")
def scene(sample_data: Path) -> torch.Tensor:
    """A real MRI slice (3, H, W) in [0, 1], tinted so that it has colour."""
    whole = sample_data / "study" / "sts001-aligned" / "mr-t1.nii.gz"
    voxels = nib.load(whole).dataobj[..., 18]
    piece = torch.from_numpy(np.asarray(voxels, np.float32))[30:174, 40:158]
    grey = (piece / piece.quantile(0.99)).clamp(0, 1) * 0.8 + 0.1
    tint = torch.linspace(-0.08, 0.08, grey.shape[1]).expand_as(grey)
    return torch.stack([grey + tint, grey, grey - tint]).clamp(0, 1)


def with_luminance(rgb: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    ycbcr = rgb_to_ycbcr(rgb[None])
    return ycbcr_to_rgb(torch.cat([y, ycbcr[:, 1:]], 1))[0].clamp(0, 1)


def pair_of(rgb: torch.Tensor, task: str, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    a, b = PAIRS[task](luma(rgb[None]), torch.Generator().manual_seed(seed))
    return with_luminance(rgb, a), with_luminance(rgb, b)


def psnr(found: torch.Tensor, truth: torch.Tensor) -> float:
    return float(-10 * (found - truth).square().mean().log10())


@pytest.mark.parametrize("method", ["swift", "saliency"])
def test_a_focus_stack_becomes_sharper_than_both_of_its_pictures(scene, method: str) -> None:
    sharp = scene
    a, b = pair_of(sharp, "focus")
    found = fuse_pictures(a, b, method=method)
    assert found.task == "focus"
    assert psnr(found.rgb, sharp) > max(psnr(a, sharp), psnr(b, sharp)) + 3


@pytest.mark.parametrize("method", ["swift", "saliency", "max", "mean"])
def test_exposures_come_back_to_the_scene_by_every_method(scene, method: str) -> None:
    rgb = scene
    a, b = pair_of(rgb, "exposure")
    found = fuse_pictures(a, b, method=method)
    assert found.task == "exposure"
    assert found.gammas is not None
    assert psnr(found.rgb, rgb) > max(psnr(a, rgb), psnr(b, rgb)) + 3


def test_colour_beside_grey_is_kept_whichever_picture_has_it(scene) -> None:
    rgb = scene
    grey = luma(scene[None].flip(3)).expand(1, 3, -1, -1)[0]
    for a, b in ((rgb, grey), (grey, rgb)):
        found = fuse_pictures(a, b, method="mean")
        assert found.task == "modality"
        chroma = rgb_to_ycbcr(torch.stack([found.rgb, rgb]))[:, 1:]
        assert (chroma[0] - chroma[1]).abs().max() < 1e-4


def test_the_same_picture_twice_comes_back(scene) -> None:
    rgb = scene
    assert torch.allclose(fuse_pictures(rgb, rgb, task="focus").rgb, rgb, atol=1e-4)
    assert torch.allclose(fuse_pictures(rgb, rgb, task="exposure").rgb, rgb, atol=1e-4)


def test_an_unknown_task_and_other_shapes_are_refused(scene) -> None:
    rgb = scene
    with pytest.raises(ValueError, match="unknown task"):
        fuse_pictures(rgb, rgb, task="blur")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="both must be"):
        fuse_pictures(rgb, rgb[:, :50])


@pytest.fixture
def files(scene, tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "near.png", tmp_path / "far.png"
    for path, image in zip(paths, pair_of(scene, "focus"), strict=True):
        Image.fromarray((image.permute(1, 2, 0) * 255).round().byte().numpy()).save(path)
    return paths


def test_the_command_writes_a_picture_and_says_what_was_done(files, tmp_path, capsys) -> None:
    out = tmp_path / "sharp.png"
    assert run(["fuse-images", *map(str, files), "-o", str(out), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record == json.loads(out.with_suffix(".json").read_text())
    assert record["task"] == "focus"
    assert record["method"]["weights_sha256"] == get_method("swift").info.weights_sha256
    assert {c["id"] for c in record["checks"]} >= {"linearity", "invented", "overshoot"}
    assert str(tmp_path) not in out.with_suffix(".json").read_text()
    assert read_picture(out, "RGB").shape == (1, 3, 144, 118)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda a, b, out: (a, b, a), "E_UNSAFE_PATH"),
        (lambda a, b, out: (a, b, out.with_suffix(".jpg")), "E_FORMAT"),
        (lambda a, b, out: (a, b.with_name("none.png"), out), "E_CORRUPT"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(files, tmp_path, capsys, change, code) -> None:
    a, b, out = change(*files, tmp_path / "sharp.png")
    before = {p.name: p.read_bytes() for p in files}
    assert run(["fuse-images", str(a), str(b), "-o", str(out)]) != 0
    assert code in capsys.readouterr().err
    assert before == {p.name: p.read_bytes() for p in files}


def test_pictures_of_two_sizes_are_refused(files, tmp_path, capsys) -> None:
    Image.new("RGB", (50, 60)).save(files[1])
    out = tmp_path / "out.png"
    assert run(["fuse-images", *map(str, files), "-o", str(out)]) != 0
    assert "118 x 144" in capsys.readouterr().err
    assert not out.exists()


def test_one_picture_twice_is_refused(tmp_path, scene):
    pixels = (scene.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    for name in ("a.png", "b.tif"):
        Image.fromarray(pixels).save(tmp_path / name)
    with pytest.raises(UsageError, match=r"a.png and b.tif: both .* \[E_SAME_IMAGE\]"):
        fuse_files(tmp_path / "a.png", tmp_path / "b.tif", tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()
