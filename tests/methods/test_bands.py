"""Weights per band: the formula of local energy, and the network that starts from it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medfuse.kernel.blend import blend
from medfuse.methods import zoo
from medfuse.methods.bands import BandGuide, BandNet
from medfuse.methods.base import Method, MethodInfo
from medfuse.methods.energy import LEVELS, band_energy, energy_logits
from medfuse.methods.network import CHUNK_PIXELS, build_seeded, count_parameters, network_input
from medfuse.methods.registry import fuse_by, get_method

WIDTHS = (8, 8, 8, 8, 8)
SIZES = [(37, 70), (64, 64), (16, 16), (131, 33)]


def images(*shape: int, seed: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator), torch.rand(shape, generator=generator)


def small_net() -> BandNet:
    """A network whose U-Net has something to say."""
    net = build_seeded(lambda: BandNet(WIDTHS), 0)
    assert isinstance(net, BandNet)
    generator = torch.Generator().manual_seed(1)
    for leave in net.leave:
        leave.weight.data.normal_(0, 0.5, generator=generator)
    return net.eval()


def guide() -> BandGuide:
    return BandGuide(small_net(), MethodInfo("small", "", "guide"))


METHODS = {"local-energy": get_method("local-energy"), "bands": guide()}
methods = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


@methods
@pytest.mark.parametrize("size", SIZES)
def test_there_is_a_map_for_every_band_at_its_size(method: Method, size: tuple[int, int]) -> None:
    assert isinstance(method, Method)
    a, b = images(2, 1, *size)
    maps = method.weights(a, b)
    assert len(maps) == method.info.levels + 1 == LEVELS + 1
    for k, level in enumerate(maps):
        assert level.shape == (2, 1, *(-(-n // 2**k) for n in size))
        assert level.dtype == torch.float32
        assert level.min() >= 0
        assert level.max() <= 1


@methods
def test_a_picture_is_blended_band_by_band(method: Method) -> None:
    a, b = images(1, 1, 48, 56)
    expected = blend(a, b, method.weights(a, b), levels=LEVELS)
    torch.testing.assert_close(fuse_by(method, a, b), expected)


@methods
def test_twins_fuse_to_themselves(method: Method) -> None:
    a, _ = images(1, 1, 64, 64)
    torch.testing.assert_close(fuse_by(method, a, a.clone()), a, atol=1e-6, rtol=0)


@given(st.integers(0, 2**31 - 1))
@settings(max_examples=15, deadline=None)
def test_exchanged_sources_exchange_the_formula(seed: int) -> None:
    a, b = images(1, 1, 40, 40, seed=seed)
    for there, back in zip(energy_logits(a, b, 3), energy_logits(b, a, 3), strict=True):
        torch.testing.assert_close(there, -back, atol=1e-5, rtol=0)


def test_the_formula_by_hand() -> None:
    """Energies are 9e-4 and 4e-4 and the floor of 1e-5; the weight is of their squares."""
    bands = [torch.full((1, 1, 8, 8), value) for value in (0.03, 0.02)]
    energy_a, energy_b = (band_energy(band) for band in bands)
    assert float(energy_a[0, 0, 4, 4]) == pytest.approx(9e-4 + 1e-5, rel=1e-5)
    weight = float((energy_b**2 / (energy_a**2 + energy_b**2)).mean())
    assert weight == pytest.approx(4.1**2 / (9.1**2 + 4.1**2), rel=1e-4)


def test_a_source_without_detail_gives_none() -> None:
    a = torch.full((1, 1, 64, 64), 0.5)
    _, b = images(1, 1, 64, 64)
    *bands, base = get_method("local-energy").weights(a, b)
    assert all(level.mean() > 0.99 for level in bands[:3])
    assert (base - 0.5).abs().max() < 0.25  # about equally bright


def test_training_starts_from_the_formula() -> None:
    net = build_seeded(lambda: BandNet(WIDTHS), 5).eval()
    a, b = images(1, 1, 61, 80)
    with torch.inference_mode():
        found = net(network_input(a, b))
    for level, logit in zip(found, energy_logits(a, b, LEVELS), strict=True):
        torch.testing.assert_close(level, logit.sigmoid(), atol=1e-4, rtol=0)


def test_every_parameter_gets_a_gradient() -> None:
    net = small_net().train()
    sum(level.mean() for level in net(network_input(*images(2, 1, 64, 64)))).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_a_long_stack_is_answered_in_chunks() -> None:
    a, b = images(CHUNK_PIXELS // 128**2 + 3, 1, 128, 128)
    whole = guide().weights(a, b)
    last = guide().weights(a[-1:], b[-1:])
    for level, alone in zip(whole, last, strict=True):
        torch.testing.assert_close(level[-1:], alone, atol=1e-5, rtol=0)


def test_the_zoo_builds_and_wraps_it() -> None:
    net = zoo.build_network("bands", {"widths": list(WIDTHS)})
    assert isinstance(zoo.wrap_network(net, MethodInfo("x", "", "guide")), BandGuide)
    assert count_parameters(zoo.build_network("bands", {})) < 1_000_000
    with pytest.raises(ValueError, match="4 levels need 5 widths"):
        zoo.build_network("bands", {"widths": [8, 8]})
