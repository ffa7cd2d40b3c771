"""Colour maps: their colours, and values read back from them."""

from __future__ import annotations

import pytest
import torch

from medfuse.kernel.color import fit_gamut, luminance_band, rgb_to_ycbcr
from medfuse.kernel.colormaps import (
    COLORMAPS,
    READABLE,
    apply_colormap,
    measure_readability,
    read_back,
)


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


@pytest.mark.parametrize("name", ["ember", "dusk", "amber"])
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
        readable = found.median < 0.005 and found.p95 < 0.01 and found.band > 0.2
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
