"""The feature-domain rule: its frozen map contracts, its gradients are those of unrolling."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from medfuse.methods.base import MethodInfo, Painter
from medfuse.methods.network import build_seeded, network_input
from medfuse.methods.unfolding_features import BoundedConv, FeatureNet, FeaturePainter


def stirred(seed: int = 0, channels: int = 8) -> FeatureNet:
    """A network whose mask varies from pixel to pixel, as after training."""
    net = build_seeded(lambda: FeatureNet(channels), seed)
    generator = torch.Generator().manual_seed(seed)
    for layer in (net.mask.leave, net.mask.near):
        layer.weight.data.normal_(0, 0.5, generator=generator)
    # Large weights, so that the bounds act.
    for layer in (net.keep, net.lift[0], net.lift[2]):
        layer.weight.data.mul_(5)
    return net


def painter(net: FeatureNet) -> FeaturePainter:
    return FeaturePainter(net, MethodInfo("unfolding-features", "", "synthesis", levels=0))


def images(*shape: int, seed: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator), torch.rand(shape, generator=generator)


@pytest.mark.parametrize("seed", range(3))
def test_a_bounded_convolution_stretches_nothing_by_more_than_its_bound(seed):
    """The true norm, from the matrix of the convolution on a small image."""
    torch.manual_seed(seed)
    conv = BoundedConv(3, 4, 0.5)
    conv.weight.data.mul_(10)
    units = torch.eye(3 * 6 * 5).view(-1, 3, 6, 5)
    matrix = conv(units).flatten(1)
    assert 0.2 < torch.linalg.matrix_norm(matrix, 2) <= 0.5


@pytest.mark.parametrize("seed", range(3))
@torch.no_grad()
def test_the_frozen_map_contracts(seed):
    net = stirred(seed)
    step, start = net.frozen(network_input(*images(1, 1, 24, 20)))
    generator = torch.Generator().manual_seed(seed)
    for scale in (0.01, 1.0, 100.0):
        first = start + scale * torch.randn(start.shape, generator=generator)
        second = start + scale * torch.randn(start.shape, generator=generator)
        assert (step(first) - step(second)).norm() <= 0.975 * (first - second).norm()


@torch.no_grad()
def test_the_fixed_point_does_not_depend_on_the_start_and_stays():
    net = stirred()
    x = network_input(*images(2, 1, 24, 20))
    state = painter(net).net.solved(x)[1].state
    step, _ = net.frozen(x)
    other = net.encode(x)[1]
    for _ in range(200):
        other = step(other)
    assert (other - state).norm() <= 1e-3 * state.norm()
    further = state
    for _ in range(10):
        further = step(further)
    assert (further - state).norm() <= 1e-3 * state.norm()


def gradients(net: FeatureNet, x: Tensor, state: Tensor) -> Tensor:
    """Of a smooth function of the picture, in all parameters of the frozen map."""
    net.zero_grad()
    net.decoder(state).square().sum().backward()
    return torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])


def test_the_implicit_gradient_is_that_of_fifty_unrolled_steps_and_the_phantom_one_is_near():
    net = stirred().double().eval()  # as accurate as when fusing
    x = torch.cat(images(1, 1, 16, 16), dim=1).double() * 2 - 1
    step, start = net.frozen(x)
    state = start.detach()
    for _ in range(50):
        state = step(state)
    unrolled = gradients(net, x, state)
    found = {}
    for backward in ("implicit", "phantom"):
        net.backward = backward
        net.zero_grad()
        picture, _ = net.solved(x)
        picture.square().sum().backward()
        grads = [p.grad.flatten() for p in net.parameters() if p.grad is not None]
        found[backward] = torch.cat(grads)
    assert (found["implicit"] - unrolled).norm() <= 1e-3 * unrolled.norm()
    assert torch.cosine_similarity(found["phantom"], unrolled, dim=0) > 0.9


def test_a_painter_paints_every_size_in_the_unit_range():
    method = painter(stirred())
    assert isinstance(method, Painter)
    for size in ((1, 1), (37, 50), (8, 3)):
        painted = method.luminance(*images(2, 1, *size))
        assert painted.shape == (2, 1, *size)
        assert painted.min() >= 0
        assert painted.max() <= 1


def test_a_slice_does_not_depend_on_its_batch():
    a, b = images(3, 1, 30, 26)
    method = painter(stirred())
    together = method.luminance(a, b)
    for k in range(3):
        assert torch.equal(together[k], method.luminance(a[k : k + 1], b[k : k + 1])[0])
    found = method.diagnostics()
    assert found["slices"] == 6
    assert found["converged"]
