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
from medfuse.kernel.colormaps import (
    COLORMAPS,
    READABLE,
    apply_colormap,
    measure_readability,
    read_back,
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


@pytest.mark.parametrize("name", COLORMAPS)
def test_colour_map_hits_its_table_entries_and_interpolates(name):
    table = COLORMAPS[name]
    assert table.shape == (256, 3)
    exact = apply_colormap(torch.linspace(0, 1, 256).view(1, 1, 256), name)
    assert torch.allclose(exact[0].T, table, atol=1e-5)
    middle = apply_colormap(torch.tensor([[[10.5 / 255]]]), name)[0, :, 0]
    assert torch.allclose(middle, table[10:12].mean(0), atol=1e-5)


def test_values_outside_the_window_take_the_end_colours():
    ends = apply_colormap(torch.tensor([[[-3.0, 7.0]]]), "hot")[0]
    assert ends[:, 0].tolist() == [0, 0, 0]
    assert ends[:, 1].tolist() == [1, 1, 1]


def test_unknown_colour_map_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="hot"):
        apply_colormap(torch.zeros(1, 1, 2), "jet2000")


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


@pytest.mark.parametrize("name", READABLE)
def test_readable_maps_leave_their_promised_band_to_the_anatomy(name):
    low, high = luminance_band(rgb_to_ycbcr(COLORMAPS[name].T[None])[:, 1:])
    band = (high - low)[0, 0]
    assert band[0] == pytest.approx(1)
    assert band.min() == pytest.approx(band[-1].item(), abs=1e-4) == pytest.approx(0.3, abs=1e-4)


@pytest.mark.parametrize("name", READABLE)
def test_values_are_read_back_from_8_bits_whatever_the_luminance(name):
    generator = torch.Generator().manual_seed(2)
    values, luminance = torch.rand((2, 1, 1, 120, 100), generator=generator)
    cbcr = rgb_to_ycbcr(apply_colormap(values, name))[:, 1:]
    picture, _ = fit_gamut(luminance, cbcr)
    found, uncertainty = read_back((picture * 255).round() / 255, name)
    error = (found - values).abs()
    assert error.median() < 0.005
    assert error.quantile(0.95) < 0.01
    assert (error <= uncertainty + 1 / 255).float().mean() > 0.99


def test_hot_is_ambiguous_between_black_and_white_and_says_so():
    ends = apply_colormap(torch.tensor([[[0.0, 1.0]]]), "hot")
    _, uncertainty = read_back(ends, "hot")
    assert uncertainty.min() == 0.5


def test_measured_readability_tells_the_readable_maps_from_the_customary_ones():
    for name in COLORMAPS:
        found = measure_readability(name)
        readable = found.median < 0.005 and found.p95 < 0.01 and found.band > 0.25
        assert readable == (name in READABLE), name
    assert measure_readability("hot").worst == pytest.approx(1)
    assert measure_readability("ember", gamut="clip").p95 > 10 * measure_readability("ember").p95


def test_matplotlib_maps_are_its_own():
    from matplotlib import colormaps

    middle = COLORMAPS["viridis"][100].numpy()
    assert middle == pytest.approx(colormaps["viridis"](100)[:3], abs=1e-6)


def test_an_unknown_colour_map_is_no_key():
    assert "jet2000" not in COLORMAPS
    assert set(READABLE) < set(COLORMAPS)
