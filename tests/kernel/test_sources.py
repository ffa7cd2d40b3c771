"""Whether both sources are in a picture: values by hand, and what must hold for every image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter, uniform_filter
from scipy.stats import spearmanr

from medfuse.evaluation.images import prepare
from medfuse.evaluation.sources import rank_correlation
from medfuse.kernel.color import clip_gamut, rgb_to_ycbcr, ycbcr_to_rgb
from medfuse.kernel.gaussian import high_pass, low_pass
from medfuse.kernel.sources import (
    FLAGGED,
    contradiction,
    detail_kept,
    is_flagged,
)
from medfuse.methods.registry import fuse_by, get_method

seeds = st.integers(0, 2**31 - 1)


def noise(seed: int, *, count: int = 1, size: int = 48) -> torch.Tensor:
    """Images of 60 to 200 grey levels, so that every place has signal."""
    generator = torch.Generator().manual_seed(seed)
    return 60 + 140 * torch.rand(count, size, size, generator=generator)


def cyst(left: float, right: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A flat place of 50 in A and 200 in B, whose picture takes other weights left and right."""
    a, b = torch.full((1, 64, 64), 50.0), torch.full((1, 64, 64), 200.0)
    weights = torch.full((1, 64, 64), right)
    weights[..., :32] = left
    return a, b, torch.lerp(a, b, weights)


def test_a_gaussian_is_the_one_of_scipy():
    x = noise(0, size=37)
    expected = gaussian_filter(x[0].double().numpy(), 3.0, mode="reflect")
    np.testing.assert_allclose(low_pass(x.double(), 3.0)[0], expected, atol=1e-9)


def test_a_constant_has_no_detail():
    assert high_pass(torch.full((1, 20, 30), 77.0), 3.0).abs().max() < 1e-4


@given(seeds, st.floats(-0.5, 1.5), st.floats(-0.5, 1.5))
@settings(max_examples=20, deadline=None)
def test_the_coefficients_of_a_mixture_are_found(seed: int, p: float, q: float):
    a, b = noise(seed), noise(seed + 1)
    kept_a, kept_b = detail_kept(a, b, p * a + q * b + 12)
    assert float(kept_a) == pytest.approx(p, abs=2e-4)
    assert float(kept_b) == pytest.approx(q, abs=2e-4)


@given(seeds)
@settings(max_examples=10, deadline=None)
def test_exchanged_sources_exchange_the_figures(seed: int):
    a, b, picture = noise(seed), noise(seed + 1), noise(seed + 2)
    forth, back = detail_kept(a, b, picture), detail_kept(b, a, picture)
    torch.testing.assert_close(forth, back[::-1])


def test_each_picture_of_a_batch_has_its_own_figures():
    a, b = noise(0, count=11), noise(1, count=11)
    parts = torch.linspace(0, 1, 11).view(-1, 1, 1)
    kept_a, kept_b = detail_kept(a, b, torch.lerp(a, b, parts))
    torch.testing.assert_close(kept_b, parts.flatten().double(), atol=2e-4, rtol=0)
    torch.testing.assert_close(kept_a, 1 - kept_b, atol=4e-4, rtol=0)


def test_only_places_with_signal_of_both_count():
    a, b = noise(0), noise(1)
    a[:, :24] = 0
    picture = torch.where(a > 0, 0.25 * a + 0.5 * b, b)
    away = torch.zeros_like(a, dtype=torch.bool)
    away[:, 40:] = True  # more than four sigma from the change
    kept_a, kept_b = detail_kept(a, b, picture, mask=away)
    assert (float(kept_a), float(kept_b)) == pytest.approx((0.25, 0.5), abs=1e-3)


def test_detail_says_nothing_without_signal_or_of_twins():
    a, b = noise(0), noise(1)
    assert all(x.isnan().all() for x in detail_kept(torch.zeros_like(a), b, b))
    assert all(x.isnan().all() for x in detail_kept(a, a, a))


@pytest.mark.parametrize(
    ("left", "right", "count"),
    [
        (0.5, 0.5, 0),  # grey, but of one piece
        (1.0, 1.0, 0),
        # The step of 150 is in 12 of the windows of a row; n of 13 columns bright give
        # 150 sqrt(n (13 - n)) / 13 grey levels, 40 with one column and 75 with six.
        (0.0, 1.0, 12 * 52),
        (0.5, 0.52, 0),  # a step of 3 grey levels varies by 1.5, below 4
        (0.4, 0.5, 10 * 52),  # 15 levels: 3.997 with one column bright or dark, 5.4 with two
    ],
)
def test_a_fluid_level_between_flat_sources_is_a_contradiction(
    left: float, right: float, count: int
):
    found = contradiction(*cyst(left, right))
    assert int(found.sum()) == count
    assert bool(is_flagged(found)) == (count >= FLAGGED)


def test_the_place_is_shown():
    rows, columns = contradiction(*cyst(0.0, 1.0))[0].nonzero().unbind(1)
    assert (int(rows.min()), int(rows.max())) == (6, 57)
    assert (int(columns.min()), int(columns.max())) == (26, 37)


def test_sources_that_agree_or_vary_contradict_nothing():
    a, b, picture = cyst(0.0, 1.0)
    assert not contradiction(a, a + 50, picture).any()  # 50 apart are no contradiction
    ramp = torch.linspace(0, 200, 64).expand(1, 64, 64)  # varies by 12 a window, picture by less
    assert not contradiction(a, b, torch.lerp(a, b, 0.5) + 0.1 * ramp).any()


def test_a_small_picture_has_no_window():
    small = torch.zeros(2, 12, 40)
    assert contradiction(small, small, small).shape == (2, 12, 40)


@given(seeds)
@settings(max_examples=10, deadline=None)
def test_windows_are_those_of_a_plain_filter(seed: int):
    generator = torch.Generator().manual_seed(seed)
    low = torch.nn.functional.interpolate(
        torch.rand(3, 1, 6, 6, generator=generator) * 255, size=(50, 61), mode="bilinear"
    )[:, 0].round()
    a, b, picture = (x[None] for x in low)
    mean, std = {}, {}
    for name, x in (("a", a), ("b", b), ("f", picture)):
        values = x[0].double().numpy()
        mean[name] = uniform_filter(values, 13)
        std[name] = np.sqrt(np.maximum(uniform_filter(values**2, 13) - mean[name] ** 2, 0))
    livelier = np.maximum(std["a"], std["b"])
    expected = (livelier < 15) & (np.abs(mean["a"] - mean["b"]) > 60)
    expected &= std["f"] > 1.6 * livelier + 4
    inner = np.s_[6:-6, 6:-6]
    found = contradiction(a, b, picture)[0].numpy()
    # Rounding may decide at a limit.
    assert (found[inner] != expected[inner]).mean() < 2e-3
    assert not found[:6].any()
    assert not found[:, -6:].any()


@given(seeds)
@settings(max_examples=10, deadline=None)
def test_rank_correlation_is_that_of_scipy(seed: int):
    a = (noise(seed) / 255 * 20).round() / 20  # many equal values
    picture = 0.5 * a + 0.5 * noise(seed + 1) / 255
    mask = noise(seed + 2) > 100
    expected = spearmanr(a[mask], picture[mask]).statistic
    assert float(rank_correlation(a, picture, mask)) == pytest.approx(expected, abs=1e-4)


def test_rank_correlation_sees_order_alone():
    a = noise(0) / 255
    everywhere = torch.ones_like(a, dtype=torch.bool)
    assert float(rank_correlation(a, a**3, everywhere)) == pytest.approx(1, abs=1e-6)
    assert float(rank_correlation(a, 1 - a, everywhere)) == pytest.approx(-1, abs=1e-6)
    assert rank_correlation(a, torch.zeros_like(a), everywhere).isnan().all()


def _pair(shared_data: Path, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    folder = shared_data / "harvard/CT-MRI/test"
    a = np.array(Image.open(folder / "CT" / name).convert("RGB"), dtype=np.float32) / 255
    b = np.array(Image.open(folder / "MRI" / name).convert("L"), dtype=np.float32) / 255
    return torch.from_numpy(a).permute(2, 0, 1)[None], torch.from_numpy(b)[None, None]


@pytest.mark.parametrize(("method", "flagged"), [("swift-msrs", True), ("local-energy", False)])
def test_the_cyst_of_41011_is_found(shared_data: Path, method: str, flagged: bool) -> None:
    """All dark on CT and all bright on T2, drawn half and half by weights from street scenes."""
    a, b = _pair(shared_data, "41011.png")
    ycbcr = rgb_to_ycbcr(a)
    luminance = fuse_by(get_method(method), ycbcr[:, :1], b)
    rgb, _ = clip_gamut(ycbcr_to_rgb(torch.cat([luminance, ycbcr[:, 1:]], dim=1)))
    found = contradiction(*(prepare(x, "reference").gray for x in (a, b, rgb)))
    assert bool(is_flagged(found)) == flagged
    if flagged:
        middle = found[0].nonzero().double().mean(0)
        assert 185 < float(middle[0]) < 235
        assert 100 < float(middle[1]) < 140
