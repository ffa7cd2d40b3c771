"""Fused luminance holds nothing but the two sources."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import max_pool2d, max_pool3d

from medfuse.kernel.blend import (
    blend,
    bound_luminance,
    fuse_luminance,
    fuse_volume,
    local_bounds,
    overshoot,
)

sizes = st.one_of(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12)),
)
kernels = st.sampled_from(["binomial", "paper"])


def pair(size: tuple[int, ...], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a, b, w = torch.rand((3, 2, 1, *size), generator=generator, dtype=torch.float64)
    return a, b, w


@settings(max_examples=50)
@given(sizes, kernels, st.floats(0, 1), st.integers(0, 6))
def test_constant_weight_reproduces_the_plain_blend(size, kernel, weight, levels):
    a, b, _ = pair(size)
    fused = fuse_luminance(a, b, torch.full_like(a, weight), levels=levels, kernel=kernel)
    assert torch.allclose(fused.luminance, (1 - weight) * a + weight * b, atol=1e-6)


@pytest.mark.parametrize("kernel", ["binomial", "paper"])
@pytest.mark.parametrize("size", [(64, 48), (33, 17), (9, 10, 11)])
def test_weights_0_and_1_reproduce_the_sources(kernel, size):
    a, b, _ = pair(size)
    only_a = fuse_luminance(a, b, torch.zeros_like(a), kernel=kernel)
    only_b = fuse_luminance(a, b, torch.ones_like(a), kernel=kernel)
    assert torch.allclose(only_a.luminance, a, atol=1e-12)
    assert torch.allclose(only_b.luminance, b, atol=1e-12)
    assert only_a.from_b.abs().max() == 0
    assert only_b.from_a.abs().max() == 0


@settings(max_examples=40)
@given(sizes, kernels, st.integers(0, 5), st.integers(0, 99))
def test_contributions_sum_to_the_result(size, kernel, levels, seed):
    a, b, w = pair(size, seed)
    fused = fuse_luminance(a, b, w, levels=levels, kernel=kernel)
    assert torch.allclose(fused.from_a + fused.from_b, fused.luminance, atol=1e-12)


@settings(max_examples=40)
@given(st.tuples(*[st.integers(1, 40)] * 3), kernels, st.integers(0, 5), st.integers(0, 99))
def test_a_volume_in_slabs_is_the_volume_at_once(size, kernel, levels, seed):
    a, b, w = (x[0, 0] for x in pair(size, seed))
    slabs = fuse_volume(a, b, w, levels=levels, kernel=kernel)
    whole = fuse_luminance(
        a[None, None], b[None, None], w[None, None], levels=levels, kernel=kernel
    )
    for name in ("luminance", "from_a", "from_b"):
        assert torch.allclose(getattr(slabs, name), getattr(whole, name)[0, 0], atol=1e-12)


@pytest.mark.parametrize("kernel", ["binomial", "paper"])
def test_a_volume_takes_a_map_a_band(kernel):
    a, b, _ = (x[0, 0] for x in pair((21, 18, 19)))
    maps, size = [], a.shape
    for seed in range(4):
        maps.append(pair(tuple(size), seed)[2][0, 0])
        size = [-(-n // 2) for n in size]
    slabs = fuse_volume(a, b, maps, levels=3, kernel=kernel)
    whole = fuse_luminance(
        a[None, None], b[None, None], [w[None, None] for w in maps], levels=3, kernel=kernel
    )
    torch.testing.assert_close(slabs.luminance, whole.luminance[0, 0], atol=1e-12, rtol=0)
    with pytest.raises(ValueError, match="expected 4 weight maps"):
        fuse_volume(a, b, maps[:3], levels=3)


def test_a_volume_is_the_same_to_the_bit_for_any_number_of_threads():
    a, b, w = (x[0, 0].float() for x in pair((50, 37, 41)))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(fuse_volume(a, b, w).luminance)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)


def test_weights_of_a_volume_outside_0_and_1_are_refused():
    a, b, w = (x[0, 0] for x in pair((9, 8, 7)))
    w[4, 4, 4] = torch.nan
    with pytest.raises(ValueError, match=r"weights must lie in \[0, 1\]"):
        fuse_volume(a, b, w)


def test_result_is_linear_in_the_sources_for_fixed_weights():
    a, b, w = pair((40, 36))
    c, d, _ = pair((40, 36), seed=5)
    whole = blend(2 * a + c, 2 * b + d, w)
    assert torch.allclose(whole, 2 * blend(a, b, w) + blend(c, d, w), atol=1e-12)


def test_float32_residual_stays_below_the_audit_threshold():
    a, b, w = (t.float() for t in pair((256, 256)))
    fused = fuse_luminance(a, b, w)
    assert (fused.luminance - fused.from_a - fused.from_b).abs().max() < 1e-5


def test_swapping_sources_and_weights_gives_the_same_image():
    a, b, w = pair((31, 50))
    assert torch.allclose(blend(a, b, w), blend(b, a, 1 - w), atol=1e-12)


def test_one_map_a_level_equals_the_map_brought_to_every_level():
    from medfuse.kernel.pyramid import weight_pyramid

    a, b, w = pair((30, 30))
    assert torch.equal(blend(a, b, w), blend(a, b, weight_pyramid(w, 4)))


def test_blend_is_differentiable_in_the_weights():
    a, b, w = pair((12, 10))
    w.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: blend(a, b, x, levels=2), (w * 0.8 + 0.1,))


def test_share_is_the_part_of_b():
    a, b, _ = pair((20, 20))
    fused = fuse_luminance(a, torch.zeros_like(b), torch.full_like(a, 0.3))
    assert fused.share().max() == 0
    fused = fuse_luminance(torch.zeros_like(a), torch.zeros_like(b), torch.full_like(a, 0.3))
    assert torch.all(fused.share() == 0.5)


@pytest.mark.parametrize("bad", [1.01, -0.01, float("nan")])
def test_weights_outside_0_and_1_are_refused(bad):
    a, b, w = pair((8, 8))
    w[0, 0, 3, 3] = bad
    with pytest.raises(ValueError, match=r"weights must lie in \[0, 1\]"):
        fuse_luminance(a, b, w)


def test_wrong_shapes_are_refused_with_both_shapes():
    a, b, w = pair((8, 8))
    with pytest.raises(ValueError, match="must both be"):
        fuse_luminance(a, b[..., :4], w)
    with pytest.raises(ValueError, match="shape of the sources"):
        fuse_luminance(a, b, w[..., :4])
    with pytest.raises(ValueError, match="expected 5 weight maps"):
        fuse_luminance(a, b, [w, w])


@settings(max_examples=40)
@given(sizes, st.integers(0, 99))
def test_bounds_are_the_extremes_of_both_sources_nearby(size, seed):
    a, b, _ = pair(size, seed)
    low, high = local_bounds(a, b)
    pool = max_pool2d if a.ndim == 4 else max_pool3d
    assert torch.equal(high, pool(torch.maximum(a, b), 3, 1, 1))
    assert torch.equal(low, -pool(-torch.minimum(a, b), 3, 1, 1))


@settings(max_examples=40)
@given(sizes, st.integers(0, 99))
def test_bounding_takes_the_overshoot_away_and_accounts_for_it(size, seed):
    a, b, w = pair(size, seed)
    fused = fuse_luminance(a, b, w)
    excess = overshoot(fused.luminance, a, b)
    bounded, change = bound_luminance(fused.luminance, a, b)
    assert torch.equal(overshoot(bounded, a, b), torch.zeros_like(a))
    assert torch.allclose(change, -excess, atol=1e-12)
    assert torch.allclose(fused.from_a + fused.from_b + change, bounded, atol=1e-12)


def test_overshoot_is_positive_where_brighter_and_negative_where_darker():
    a = torch.full((1, 1, 5, 5), 0.4)
    excess = overshoot(a + torch.eye(5) * 0.2 - 0.1, a, a)
    assert torch.allclose(excess, torch.eye(5) * 0.2 - 0.1)
