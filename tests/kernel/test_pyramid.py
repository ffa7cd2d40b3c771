"""The pyramid is exact for every size, number of levels and dimension."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medfuse.kernel.pyramid import (
    collapse,
    expand,
    expand_part,
    gaussian_pyramid,
    laplacian_pyramid,
    reduce_part,
    sample_part,
    weight_pyramid,
)

sizes = st.one_of(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12)),
)
kernels = st.sampled_from(["binomial", "paper"])


def image(size: tuple[int, ...], seed: int = 0, batch: int = 2) -> torch.Tensor:
    return torch.rand(
        (batch, 1, *size), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


@settings(max_examples=60)
@given(st.tuples(*[st.integers(1, 24)] * 3), st.data(), kernels)
def test_some_slices_of_a_level_are_those_of_the_whole_level(size, data, kernel):
    x = image(size, batch=1)
    coarse = gaussian_pyramid(x, 1, kernel=kernel)[1]
    sampled = weight_pyramid(x, 1, kernel="paper")[1]
    half = list(coarse.shape[2:])

    def some(count):
        start = data.draw(st.integers(0, count - 1))
        return slice(start, data.draw(st.integers(start + 1, count)))

    low, high = some(half[0]), some(size[0])
    whole = expand(coarse, size, kernel=kernel)[0, 0, high]
    assert torch.allclose(reduce_part(x[0, 0], low, kernel=kernel), coarse[0, 0, low], atol=1e-12)
    assert torch.allclose(expand_part(coarse[0, 0], size, high, kernel=kernel), whole, atol=1e-12)
    assert torch.allclose(sample_part(x[0, 0], half, low), sampled[0, 0, low], atol=1e-12)


@settings(max_examples=60)
@given(sizes, st.integers(0, 6), kernels)
def test_collapse_restores_the_image_for_every_size_level_and_kernel(size, levels, kernel):
    x = image(size)
    assert (
        torch.max((collapse(laplacian_pyramid(x, levels, kernel=kernel), kernel=kernel) - x).abs())
        < 1e-12
    )


@settings(max_examples=40)
@given(sizes, st.integers(1, 5))
def test_binomial_kernel_keeps_a_constant_exactly_constant(size, levels):
    x = torch.full((1, 1, *size), 0.7, dtype=torch.float64)
    bands = laplacian_pyramid(x, levels)
    for band in bands[:-1]:
        assert band.abs().max() < 1e-14
    assert torch.allclose(bands[-1], torch.full_like(bands[-1], 0.7))


def test_binomial_expand_has_gain_one_in_both_phases():
    out = expand(torch.ones(1, 1, 32, 32, dtype=torch.float64), (64, 63))
    assert torch.allclose(out, torch.ones_like(out), atol=1e-15)


def test_paper_expand_has_the_published_gains():
    out = expand(torch.ones(1, 1, 32, 32, dtype=torch.float64), (64, 64), kernel="paper")
    rows = out[0, 0, 20:40, 20:40]
    assert rows[0, 0].item() == pytest.approx(1.0232**2, abs=2e-4)
    assert rows[1, 1].item() == pytest.approx(0.9768**2, abs=2e-4)


def naive_reduce(x: torch.Tensor) -> torch.Tensor:
    """The textbook form: mirror, convolve with the outer product, drop every second sample."""
    taps = torch.tensor([1.0, 4, 6, 4, 1], dtype=x.dtype) / 16
    padded = torch.nn.functional.pad(x, (2, 2, 2, 2), mode="reflect")
    return torch.nn.functional.conv2d(padded, torch.outer(taps, taps)[None, None], stride=2)


@pytest.mark.parametrize("size", [(16, 16), (17, 30), (31, 9)])
def test_reduce_equals_the_textbook_convolution(size):
    x = image(size)
    assert torch.allclose(gaussian_pyramid(x, 1)[1], naive_reduce(x), atol=1e-14)


def test_paper_kernel_equals_strided_and_transposed_convolution_with_zero_borders():
    x = image((18, 22))
    taps = torch.exp(-0.5 * torch.arange(-2, 3, dtype=x.dtype) ** 2)
    window = torch.outer(taps, taps)[None, None] / taps.sum() ** 2
    low = torch.nn.functional.conv2d(x, window, stride=2, padding=2)
    up = torch.nn.functional.conv_transpose2d(
        low, 4 * window, stride=2, padding=2, output_padding=1
    )
    assert torch.allclose(gaussian_pyramid(x, 1, kernel="paper")[1], low, atol=1e-14)
    assert torch.allclose(expand(low, (18, 22), kernel="paper"), up, atol=1e-14)


@pytest.mark.parametrize("size", [(33, 20), (64, 48)])
def test_paper_weights_are_sampled_bilinearly_from_full_resolution(size):
    x = image(size)
    for level in weight_pyramid(x, 4, kernel="paper")[1:]:
        expected = torch.nn.functional.interpolate(x, size=level.shape[2:], mode="bilinear")
        assert torch.allclose(level, expected, atol=1e-12)


@settings(max_examples=30)
@given(sizes, kernels)
def test_weights_stay_between_0_and_1_at_every_level(size, kernel):
    w = (image(size) > 0.5).double()
    for level in weight_pyramid(w, 5, kernel=kernel):
        assert level.min() >= 0
        assert level.max() <= 1 + 1e-12


def test_unknown_kernel_and_negative_levels_are_refused():
    with pytest.raises(ValueError, match="kernel must be one of"):
        gaussian_pyramid(image((8, 8)), 1, kernel="box")
    with pytest.raises(ValueError, match="levels must be 0 or more"):
        gaussian_pyramid(image((8, 8)), -1)
