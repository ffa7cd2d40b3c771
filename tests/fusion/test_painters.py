"""Networks that make the luminance themselves: accepted everywhere, and told apart by the audit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import medfuse
from medfuse.evaluation.evaluate import evaluate
from medfuse.kernel.scratch import on_disk
from medfuse.methods.base import MethodInfo, Painter
from medfuse.methods.registry import fuse_by, get_method
from medfuse.transforms import FuseLuminanced


class Stamp:
    """Paints the mean of both sources and a bright square that neither has."""

    @property
    def info(self) -> MethodInfo:
        return MethodInfo("stamp", "for tests", "synthesis", levels=0)

    def luminance(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        painted = (a + b) / 2
        painted[..., 12:20, 12:20] = 1
        return painted


def pair(*shape: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    smooth = torch.from_numpy(rng.random((2, 1, 8, 8), np.float32))
    a, b = 0.6 * torch.nn.functional.interpolate(smooth, size=shape[:2], mode="bicubic").clamp(0, 1)
    grown = [x.reshape(1, *shape[:2], *[1] * len(shape[2:])).expand(1, *shape) for x in (a, b)]
    return grown[0].numpy().copy(), grown[1].numpy().copy()


@pytest.mark.parametrize("shape", [(48, 40), (48, 40, 5)])
def test_the_picture_is_the_painting_and_its_parts_add_up(shape):
    a, b = pair(*shape)
    result = medfuse.fuse(functional=a, anatomical=b, method=Stamp())
    assert result.luminance.max() == 1
    parts = result.from_functional + result.from_anatomical + result.painted
    assert torch.allclose(parts, result.luminance, atol=1e-6)
    assert result.weights.min() >= 0
    assert result.weights.max() <= 1


@pytest.mark.parametrize("mode", ["slices", "volume"])
def test_a_painting_on_disk_has_the_same_bytes(tmp_path, mode):
    a, b = pair(80, 72, 64)
    expected = medfuse.fuse(functional=a, anatomical=b, method=Stamp(), mode=mode)
    with on_disk(tmp_path, limit=0):
        found = medfuse.fuse(functional=a, anatomical=b, method=Stamp(), mode=mode)
    for name in ("rgb", "luminance", "weights", "share", "painted"):
        assert torch.equal(getattr(found, name), getattr(expected, name))
    assert found.audit == expected.audit


def test_the_audit_says_what_a_network_painted_and_a_blend_passes():
    a, b = pair(48, 40)
    painted = medfuse.fuse(functional=a, anatomical=b, method=Stamp()).audit
    assert painted is not None
    assert painted["linearity"].verdict == "fail"
    assert painted["linearity"].value > 0.3
    assert painted["linearity"].details["painted_fraction"] > 0.02
    assert painted["overshoot"].value > 0.02
    blended = medfuse.fuse(functional=a, anatomical=b, method="mean")
    assert blended.painted is None
    assert blended.audit["linearity"].verdict == "pass"


def test_weights_that_explain_a_painted_mean_are_one_half():
    a, b = pair(48, 40)
    weights = medfuse.fuse(functional=a, anatomical=b, method=Stamp()).weights
    apart = torch.from_numpy(np.abs(a - b)) > 0.2
    apart[:, :24, :24] = False
    assert apart.sum() > 50
    assert (weights[apart] - 0.5).abs().max() < 0.02


def test_bounded_takes_the_paint_out_of_the_picture_and_records_it():
    a, b = pair(48, 40)
    result = medfuse.fuse(functional=a, anatomical=b, method=Stamp(), bounded=True)
    assert result.audit["overshoot"].value == 0
    parts = result.from_functional + result.from_anatomical
    assert torch.allclose(parts + sum(result.additions().values()), result.luminance, atol=1e-6)


def test_a_bias_is_refused_because_there_are_no_weights_to_shift():
    a, b = pair(40, 40)
    with pytest.raises(ValueError, match="stamp paints"):
        medfuse.fuse(functional=a, anatomical=b, method=Stamp(), bias=0.2, colormap="ember")


def test_a_bias_acts_on_the_colours_of_a_two_way_picture_that_was_painted():
    a, b = pair(40, 40)
    plain, faded = (
        medfuse.fuse(functional=a, anatomical=b, method=Stamp(), bias=x) for x in (0, 0.6)
    )
    assert torch.equal(plain.luminance, faded.luminance)
    chroma = [(x.rgb.amax(0) - x.rgb.amin(0)).max() for x in (plain, faded)]
    assert 0.3 * chroma[0] < chroma[1] < 0.5 * chroma[0]


def test_the_transform_hands_the_paint_on():
    a, b = pair(40, 40)
    made = FuseLuminanced(method=Stamp())(
        {"anatomical": torch.from_numpy(b), "functional": torch.from_numpy(a)}
    )
    assert made["fusion"]["keys"]["painted"] == "painted"
    assert made["fusion"]["audit"]["verdict"] == "fail"
    assert made["painted"].abs().max() > 0.3


def test_a_painter_is_a_row_of_the_evaluation(tmp_path: Path):
    for name, image in zip("ab", pair(64, 64), strict=True):
        (tmp_path / name).mkdir()
        Image.fromarray((image[0] * 255).astype(np.uint8)).save(tmp_path / name / "one.png")
    table = evaluate(tmp_path / "a", tmp_path / "b", [Stamp()], profile="reference")
    assert table["stamp"].kind == "synthesis"
    assert table["stamp"].mean("Nabf") > table["mean"].mean("Nabf")


def test_a_painter_is_passed_through_the_registry_and_asked_for_its_picture():
    a, b = (torch.from_numpy(x)[None] for x in pair(40, 40))
    stamp = get_method(Stamp())
    assert isinstance(stamp, Painter)
    assert torch.equal(fuse_by(stamp, a, b), stamp.luminance(a, b))
