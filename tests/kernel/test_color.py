"""Colour conversion is exact, and the gamut is counted where it is left."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medfuse.kernel.color import (
    clip_gamut,
    fit_gamut,
    luma,
    luminance_band,
    rgb_to_ycbcr,
    ycbcr_to_rgb,
)


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_rgb_survives_the_round_trip(seed):
    rgb = torch.rand((2, 3, 5, 4), generator=torch.Generator().manual_seed(seed))
    assert torch.allclose(ycbcr_to_rgb(rgb_to_ycbcr(rgb)), rgb, atol=2e-6)


def test_conversion_agrees_with_pillow_to_one_grey_level():
    rgb = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(rgb).convert("YCbCr"), dtype=float)
    ours = rgb_to_ycbcr(torch.from_numpy(rgb).permute(2, 0, 1)[None] / 255)[0]
    # Pillow centres chroma at 128, we at 127.5
    ours = ours.permute(1, 2, 0).numpy() * 255 + np.array([0, 0.5, 0.5])
    assert np.abs(ours - expected).max() <= 1.01


def test_grey_has_neutral_chroma_and_its_own_value_as_luma():
    grey = torch.linspace(0, 1, 11).view(1, 1, 11).expand(1, 3, 11)
    ycbcr = rgb_to_ycbcr(grey)
    assert torch.allclose(ycbcr[:, 1:], torch.full((1, 2, 11), 0.5), atol=1e-6)
    assert torch.allclose(luma(grey), grey[:, :1], atol=1e-6)


def test_clipping_counts_only_colours_outside_the_gamut():
    inside = torch.tensor([0.2, 0.5, 0.9]).view(1, 3, 1)
    outside = torch.tensor([-0.1, 0.5, 1.3]).view(1, 3, 1)
    clipped, changed = clip_gamut(torch.cat([inside, outside], dim=2))
    assert changed[0, 0].tolist() == pytest.approx([0, 0.3])
    assert clipped.min() == 0
    assert clipped.max() == 1


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_fitted_luminance_keeps_chroma_and_stays_inside_the_gamut(seed):
    generator = torch.Generator().manual_seed(seed)
    cbcr = rgb_to_ycbcr(torch.rand((1, 3, 60), generator=generator))[:, 1:]
    wanted = torch.rand((1, 1, 60), generator=generator) * 1.4 - 0.2
    rgb, changed = fit_gamut(wanted, cbcr)
    assert rgb.min() >= 0
    assert rgb.max() <= 1
    assert torch.allclose(rgb_to_ycbcr(rgb)[:, 1:], cbcr, atol=1e-5)
    assert torch.allclose((luma(rgb) - wanted).abs(), changed, atol=1e-5)


def test_every_colour_exists_inside_its_own_luminance_band():
    ycbcr = rgb_to_ycbcr(torch.rand((1, 3, 500), generator=torch.Generator().manual_seed(1)))
    low, high = luminance_band(ycbcr[:, 1:])
    assert torch.all(low <= ycbcr[:, :1] + 1e-6)
    assert torch.all(ycbcr[:, :1] <= high + 1e-6)
    grey_low, grey_high = luminance_band(torch.full((1, 2, 1), 0.5))
    assert (grey_low.item(), grey_high.item()) == (0, 1)
