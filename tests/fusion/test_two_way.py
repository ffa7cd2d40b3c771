"""A fusion whose picture can be taken apart again, and the policy for pictures in colour."""

from __future__ import annotations

import pytest
import torch

import medfuse
from medfuse.kernel.color import luma
from medfuse.kernel.two_way_reading import take_apart


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand((2, 1, 40, 36, 3), generator=torch.Generator().manual_seed(4)).unbind(0)


@pytest.mark.parametrize("bias", [-0.4, 0.0, 0.4])
def test_both_sources_come_back_from_the_picture(bias):
    uptake, anatomy = pair()
    found = medfuse.fuse(
        functional=uptake, anatomical=anatomy, method="anatomical-luma", colormap="glow",
        gamut="band", bias=bias, audit=False,
    )  # fmt: skip
    apart = take_apart(found.rgb[None], "glow", bias=bias)
    warm = uptake[0] > 0.1
    assert (apart.uptake[0, 0] - uptake[0]).abs()[warm].quantile(0.95) < 0.009
    assert (apart.anatomy[0, 0] - anatomy[0]).abs().quantile(0.95) < 0.012
    assert torch.allclose(found.luminance, found.anatomical, atol=1e-6)
    assert found.gamut_change.max() == 0


def test_bias_shows_either_image_alone():
    uptake, anatomy = pair()
    shown = {
        bias: medfuse.fuse(
            functional=uptake, anatomical=anatomy, method="anatomical-luma", colormap="glow",
            gamut="band", bias=bias, audit=False,
        ).rgb
        for bias in (-1.0, 1.0)
    }  # fmt: skip
    nearest = (anatomy * 255).round() / 255  # not a level of colour is left
    assert torch.equal(shown[1.0], nearest.expand(3, -1, -1, -1))
    other = medfuse.fuse(
        functional=uptake, anatomical=1 - anatomy, method="anatomical-luma", colormap="glow",
        gamut="band", bias=-1.0, audit=False,
    )  # fmt: skip
    assert torch.equal(shown[-1.0], other.rgb)


def test_desaturation_keeps_the_fused_luminance_of_a_picture_in_colour():
    colours = torch.rand((3, 40, 36, 2), generator=torch.Generator().manual_seed(1))
    _, anatomy = pair()
    found = medfuse.fuse(
        functional=colours, anatomical=anatomy[..., :2], method="mean", gamut="desaturate",
        audit=False,
    )  # fmt: skip
    wanted = found.luminance.clamp(0, 1)
    assert torch.allclose(luma(found.rgb[None])[0], wanted, atol=1e-5)
    assert 0 <= found.gamut_change.min() < found.gamut_change.max() <= 1


def test_band_needs_a_scalar_and_a_two_way_map():
    uptake, anatomy = pair()
    for functional, name in ((uptake.expand(3, -1, -1, -1), None), (uptake, "hot")):
        with pytest.raises(ValueError, match="band"):
            medfuse.fuse(functional=functional, anatomical=anatomy, colormap=name, gamut="band")
