"""Both images come back from a two-way picture, and no other picture is taken for one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medfuse.kernel.color import (
    desaturate,
    fit_gamut,
    luma,
    luminance_band,
    rgb_to_ycbcr,
    ycbcr_to_rgb,
)
from medfuse.kernel.colormaps import apply_colormap
from medfuse.kernel.two_way import (
    paint_two_way,
    two_way_table,
)
from medfuse.kernel.two_way_maps import MAPS
from medfuse.kernel.two_way_reading import find_map, take_apart
from medfuse.kernel.two_way_rounding import round_two_way

BIASES = (-0.5, 0.0, 0.5)


def pairs(count: int = 40_000, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    uptake, anatomy = torch.rand((2, 1, 1, count // 40, 40), generator=generator)
    return uptake, anatomy


def in_8_bits(rgb: torch.Tensor) -> torch.Tensor:
    return (rgb * 255).round().to(torch.uint8)


@pytest.mark.parametrize("name", MAPS)
def test_every_colour_of_a_map_exists(name):
    for bias in (-1.0, *BIASES, 1.0):
        table = two_way_table(name, bias=bias)
        ends = torch.stack([table.dark, table.dark + table.width[:, None]])
        assert ends.min() >= -1e-9
        assert ends.max() <= 1 + 1e-9
        assert table.uptake[0] == 0
        assert table.uptake[-1] == 1
        assert torch.all(table.uptake.diff() > 0)


@pytest.mark.parametrize("name", ["glow", "glow-safe"])
def test_without_uptake_the_picture_is_the_anatomical_image_in_grey(name):
    anatomy = torch.rand((2, 1, 8, 9))
    rgb, changed = paint_two_way(torch.zeros_like(anatomy), anatomy, name)
    dimmed = MAPS[name].stops[0].high * anatomy
    assert torch.allclose(rgb, dimmed.expand(-1, 3, -1, -1), atol=1e-6)
    assert changed.max() == 0


@pytest.mark.parametrize("name", MAPS)
def test_painting_agrees_with_the_colours_of_the_stops(name):
    """Luminance at both ends of the band, and the band within that of RGB."""
    for stop in MAPS[name].stops:
        uptake = torch.full((1, 1, 2), float(stop.uptake))
        rgb, _ = paint_two_way(uptake, torch.tensor([[[0.0, 1.0]]]), name)
        assert luma(rgb)[0, 0].tolist() == pytest.approx([stop.low, stop.high], abs=2e-3)
        low, high = luminance_band(rgb_to_ycbcr(rgb)[:, 1:])
        assert low.max() <= stop.low + 2e-3
        assert high.min() >= stop.high - 2e-3


@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("name", MAPS)
def test_both_images_are_read_back_from_8_bits_within_the_stated_error(name, bias):
    uptake, anatomy = pairs()
    rgb, _ = paint_two_way(uptake, anatomy, name, bias=bias)
    found = take_apart(in_8_bits(rgb), name, bias=bias)
    for value, truth, error in (
        (found.uptake, uptake, found.uptake_error),
        (found.anatomy, anatomy, found.anatomy_error),
    ):
        within = ((value - truth).abs() <= error).float().mean()
        assert within > 0.9
    assert found.foreign < 1e-3


@pytest.mark.parametrize("name", ["glow", "glow-safe"])
def test_the_default_reads_within_half_a_percent_over_a_tenth_of_the_window(name):
    uptake, anatomy = pairs()
    found = take_apart(in_8_bits(paint_two_way(uptake, anatomy, name)[0]), name)
    warm = uptake > 0.1
    assert (found.uptake - uptake).abs()[warm].quantile(0.95) < 0.005
    assert (found.anatomy - anatomy).abs().quantile(0.95) < 0.008


def test_floats_and_bytes_are_read_alike():
    uptake, anatomy = pairs(2000)
    rgb, _ = paint_two_way(uptake, anatomy, "glow")
    one, other = take_apart(rgb, "glow"), take_apart(in_8_bits(rgb), "glow")
    assert torch.equal(one.uptake, other.uptake)
    assert torch.equal(one.anatomy, other.anatomy)


def test_a_luminance_outside_0_to_1_is_clamped_and_counted():
    anatomy = torch.tensor([[[-0.25, 0.5, 1.5]]])
    rgb, changed = paint_two_way(torch.full_like(anatomy, 0.7), anatomy, "glow")
    assert changed[0, 0].tolist() == pytest.approx([0.25, 0, 0.5])
    assert rgb.min() >= 0
    assert rgb.max() <= 1


@pytest.mark.parametrize("name", MAPS)
def test_emphasis_ends_in_either_image_alone(name):
    uptake, anatomy = pairs(2000)
    grey, _ = paint_two_way(uptake, anatomy, name, bias=1.0)
    assert torch.allclose(grey, anatomy.expand_as(grey), atol=1e-6)
    once, _ = paint_two_way(uptake, anatomy, name, bias=-1.0)
    other, _ = paint_two_way(uptake, 1 - anatomy, name, bias=-1.0)
    assert torch.allclose(once, other, atol=1e-6)
    lost = take_apart(grey, name, bias=1.0)
    assert lost.uptake_error.min() == 1
    assert take_apart(once, name, bias=-1.0).anatomy_error.min() == 1


def test_emphasis_acts_on_both_sides_of_the_middle():
    uptake, anatomy = torch.full((1, 1, 2), 0.9), torch.tensor([[[0.2, 0.8]]])
    colour, contrast = [], []
    for bias in (-1.0, -0.5, 0.0, 0.5, 1.0):
        rgb, _ = paint_two_way(uptake, anatomy, "glow", bias=bias)
        colour.append(float(rgb[0, 0, 0] - rgb[0, 2, 0]))
        contrast.append(float(luma(rgb)[0, 0].diff()))
    assert contrast == sorted(contrast)
    assert contrast[0] == pytest.approx(0, abs=1e-6)
    assert colour[2] > colour[3] > colour[4]


def test_pictures_of_another_making_are_refused():
    uptake, anatomy = pairs(4000)
    cbcr = rgb_to_ycbcr(apply_colormap(uptake, "hot"))[:, 1:]
    others = {
        "overlay": 0.5 * apply_colormap(uptake, "hot") + 0.5 * anatomy,
        "fit": fit_gamut(anatomy, cbcr)[0],
        "noise": torch.rand((1, 3, 100, 40)),
        "faded": paint_two_way(uptake, anatomy, "glow", bias=0.6)[0],
        "another map": paint_two_way(uptake, anatomy, "bone")[0],
    }
    for rgb in others.values():
        with pytest.raises(ValueError, match="colours that 'glow' does not have"):
            take_apart(rgb, "glow")
        assert take_apart(rgb, "glow", most_foreign=1.0).foreign > 0.05


def test_a_grey_picture_holds_an_anatomy_and_no_uptake():
    grey = torch.arange(200).view(1, 1, 10, 20) / 255
    found = take_apart(grey.expand(-1, 3, -1, -1), "glow")
    assert found.uptake.max() == 0
    assert torch.allclose(found.anatomy, grey / MAPS["glow"].stops[0].high, atol=1e-6)
    with pytest.raises(ValueError, match="does not have"):
        take_apart(torch.ones((1, 3, 4, 4)), "glow")


def test_the_map_of_a_picture_is_found():
    uptake, anatomy = pairs(4000)
    for name in MAPS:
        assert find_map(in_8_bits(paint_two_way(uptake, anatomy, name)[0])) == name
    assert find_map(apply_colormap(uptake, "hot")) is None
    assert find_map(0.5 * anatomy.expand(-1, 3, -1, -1)) is None


def test_unknown_names_and_biases_are_refused():
    with pytest.raises(ValueError, match="glow"):
        two_way_table("jet2000")
    with pytest.raises(ValueError, match="bias"):
        two_way_table("glow", bias=1.5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_desaturation_keeps_luminance_and_hue_and_takes_no_more_than_needed(seed):
    generator = torch.Generator().manual_seed(seed)
    cbcr = rgb_to_ycbcr(torch.rand((1, 3, 200), generator=generator))[:, 1:]
    wanted = torch.rand((1, 1, 200), generator=generator)
    rgb, lost = desaturate(wanted, cbcr)
    assert rgb.min() >= 0
    assert rgb.max() <= 1
    assert torch.allclose(luma(rgb), wanted, atol=1e-5)
    assert torch.allclose(rgb_to_ycbcr(rgb)[:, 1:] - 0.5, (1 - lost) * (cbcr - 0.5), atol=1e-5)
    short = lost[0, 0] > 1e-4
    more = ycbcr_to_rgb(torch.cat([wanted, 0.5 + (1.01 - lost) * (cbcr - 0.5)], dim=1))[0]
    assert torch.all((more[:, short].amin(0) < 0) | (more[:, short].amax(0) > 1))


def test_colours_that_exist_are_not_desaturated():
    ycbcr = rgb_to_ycbcr(torch.rand((1, 3, 300), generator=torch.Generator().manual_seed(5)))
    rgb, lost = desaturate(ycbcr[:, :1], ycbcr[:, 1:])
    assert lost.max() < 1e-5
    assert torch.allclose(rgb, ycbcr_to_rgb(ycbcr), atol=1e-5)


def test_black_and_white_are_grey_whatever_the_chroma():
    cbcr = torch.tensor([0.2, 0.9]).view(1, 2, 1).expand(1, 2, 2)
    rgb, lost = desaturate(torch.tensor([[[0.0, 1.0]]]), cbcr)
    assert rgb[0, :, 0].tolist() == [0, 0, 0]
    assert rgb[0, :, 1].tolist() == [1, 1, 1]
    assert lost.min() == 1


@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("name", MAPS)
def test_rounding_with_the_reading_in_mind_reads_better(name, bias):
    uptake, anatomy = pairs(8000)
    rgb, _ = paint_two_way(uptake, anatomy, name, bias=bias)
    chosen = round_two_way(rgb, uptake, anatomy, name, bias=bias)
    assert (chosen / 255 - rgb).abs().max() < 1 / 255 + 1e-6
    plain, better = (take_apart(x, name, bias=bias) for x in (in_8_bits(rgb), chosen))
    before, after = (
        (x.uptake - uptake).square() + (x.anatomy - anatomy).square() for x in (plain, better)
    )
    assert after.mean() < 0.8 * before.mean()
    assert better.foreign < 1e-3


def test_rounded_glow_reads_within_half_a_percent_wherever_there_is_uptake():
    uptake, anatomy = pairs()
    rgb, _ = paint_two_way(uptake, anatomy, "glow")
    found = take_apart(round_two_way(rgb, uptake, anatomy, "glow"), "glow")
    assert (found.uptake - uptake).abs().quantile(0.95) < 0.005
    assert (found.anatomy - anatomy).abs().quantile(0.95) < 0.005
