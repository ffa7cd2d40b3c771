from __future__ import annotations

import pytest
import torch

from medfuse.errors import UsageError
from medfuse.methods import zoo
from medfuse.methods.base import Method
from medfuse.methods.network import (
    CHUNK_PIXELS,
    build_seeded,
    count_parameters,
    fold_batch_norm,
    has_bfloat16,
    level_maps,
    network_input,
    pad_to_multiple,
)
from medfuse.methods.registry import get_method
from medfuse.methods.swift import SwiftGuide, SwiftNet
from medfuse.methods.unet import UNet, UnetGuide
from medfuse.training.recipes import get_recipe

FINE = SwiftNet((16, 24, 48), 2, skip=True)
GUIDES = {"swift": SwiftGuide(), "swift with skip": SwiftGuide(FINE), "unet": UnetGuide(12)}
ODD_SIZES = [(37, 70), (64, 64), (1, 1), (131, 33)]


def _images(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(shape, generator=generator), torch.rand(shape, generator=generator)


def _trained_like(net: torch.nn.Module) -> torch.nn.Module:
    """Give batch norms statistics that are not the identity."""
    generator = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.3, 3, generator=generator)
            module.weight.data.uniform_(0.5, 2, generator=generator)
            module.bias.data.normal_(0, 0.3, generator=generator)
    return net.eval()


@pytest.mark.parametrize("guide", GUIDES.values(), ids=GUIDES)
@pytest.mark.parametrize("size", ODD_SIZES)
def test_weights_have_the_shape_of_the_images_and_lie_in_unit_range(guide, size):
    a, b = _images(2, 1, *size)
    weights = guide.weights(a, b)
    assert weights.shape == a.shape
    assert weights.dtype == torch.float32
    assert weights.min() >= 0
    assert weights.max() <= 1


@pytest.mark.parametrize("guide", GUIDES.values(), ids=GUIDES)
def test_guide_is_a_method(guide):
    assert isinstance(guide, Method)
    assert guide.info.kind == "guide"
    assert guide.info.parameters > 10_000


def test_parameter_counts_are_as_documented():
    shipped = zoo.build_network("swift", get_recipe("swift-msrs").options)
    assert count_parameters(shipped) == 474_601
    assert count_parameters(UNet(64)) == 17_262_466
    # The paper's 608,642 has four input channels instead of two: 12 * 2 * 9 values more.
    assert count_parameters(UNet(12)) == 608_642 - 216


@pytest.mark.parametrize("build", [SwiftNet, lambda: UNet(12)], ids=["swift", "unet"])
def test_folding_batch_norms_changes_nothing_but_rounding(build):
    net = _trained_like(build_seeded(build, 0))
    x = network_input(*_images(1, 1, 64, 96))
    with torch.inference_mode():
        before = net(x)
        folded = fold_batch_norm(net)
        after = folded(x)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    assert before.std() > 1e-3
    torch.testing.assert_close(before, after, atol=2e-5, rtol=0)


def test_result_does_not_depend_on_batch_or_chunk_size():
    count = CHUNK_PIXELS // (64 * 64) + 3
    a, b = _images(count, 1, 64, 64)
    together = GUIDES["swift"].weights(a, b)
    for k in (0, 5, count - 1):
        alone = GUIDES["swift"].weights(a[k : k + 1], b[k : k + 1])
        torch.testing.assert_close(alone, together[k : k + 1], atol=1e-6, rtol=0)


def test_same_input_gives_the_same_bits():
    a, b = _images(3, 1, 50, 60)
    assert torch.equal(GUIDES["swift"].weights(a, b), GUIDES["swift"].weights(a, b))


def test_bfloat16_is_asked_for_by_name_and_close_to_float32():
    plain, fast = get_method("swift"), get_method("swift+bf16")
    assert fast.info.name == plain.info.name + "+bf16"
    assert fast.info.weights_sha256 == plain.info.weights_sha256
    a, b = _images(1, 1, 64, 64)
    if not has_bfloat16():
        with pytest.raises(UsageError, match="E_PRECISION"):
            fast.weights(a, b)
        return
    difference = (fast.weights(a, b) - plain.weights(a, b)).abs()
    assert 0 < difference.mean() < 0.01
    assert fast.weights(a, b).dtype == torch.float32


def test_a_rule_has_no_bfloat16():
    with pytest.raises(UsageError, match="bfloat16"):
        get_method("mean+bf16")


def test_initial_values_depend_on_the_seed_alone():
    torch.manual_seed(5)
    first = build_seeded(SwiftNet, 7).state_dict()
    torch.manual_seed(6)
    drawn = torch.rand(1)
    second = build_seeded(SwiftNet, 7).state_dict()
    other = build_seeded(SwiftNet, 8).state_dict()
    assert all(torch.equal(first[n], second[n]) for n in first)
    assert not torch.equal(first["leave.weight"], other["leave.weight"])
    torch.manual_seed(6)
    assert torch.equal(drawn, torch.rand(1))  # building drew nothing from the global generator


def test_padding_repeats_the_border_and_only_where_needed():
    x = torch.arange(6.0).view(1, 1, 2, 3)
    padded = pad_to_multiple(x, 4)
    assert padded.shape == (1, 1, 4, 4)
    assert torch.equal(padded[0, 0, 3], torch.tensor([3.0, 4.0, 5.0, 5.0]))
    assert pad_to_multiple(padded, 4) is padded


def test_images_of_different_shapes_are_refused():
    a, b = _images(1, 1, 32, 32)
    with pytest.raises(ValueError, match=r"\(1, 1, 32, 31\)"):
        GUIDES["swift"].weights(a, b[..., :31])
    with pytest.raises(ValueError, match="N, 1, H, W"):
        GUIDES["swift"].weights(a[0], b[0])


def test_the_skip_alone_is_a_soft_form_of_the_brighter_source():
    net = build_seeded(lambda: SwiftNet((8, 8), 2, skip=True), 0).eval()
    torch.nn.init.zeros_(net.leave.weight)
    torch.nn.init.zeros_(net.leave.bias)
    torch.nn.init.zeros_(net.near.bias)
    a, b = _images(1, 1, 33, 20)
    with torch.inference_mode():
        weights = net(network_input(a, b))
    assert torch.equal(weights > 0.5, b > a)
    torch.testing.assert_close(weights, torch.sigmoid(16 * (b - a)), atol=1e-5, rtol=0)


def test_one_map_is_passed_through_and_several_go_to_their_levels():
    one, five = torch.rand(2, 1, 20, 31), torch.rand(2, 5, 20, 31)
    assert level_maps(one) is one
    maps = level_maps(five)
    assert [tuple(m.shape[2:]) for m in maps] == [(20, 31), (10, 16), (5, 8), (3, 4), (2, 2)]
    assert torch.equal(maps[0], five[:, :1])
    constant = level_maps(torch.full((1, 5, 20, 31), 0.25))
    torch.testing.assert_close(constant[4], torch.full((1, 1, 2, 2), 0.25))
