"""The image-domain rule: bounded by its sources, contracting, independent of start and batch."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import medfuse
from medfuse.kernel.blend import fuse_luminance, overshoot
from medfuse.methods.base import Method, MethodInfo
from medfuse.methods.equilibrium import equilibrium, solve
from medfuse.methods.network import build_seeded, count_parameters, has_bfloat16, network_input
from medfuse.methods.unfolding import UnfoldingGuide, UnfoldingNet, descend

LARGEST = 99.0
UNIT = st.floats(0, 1, width=32)
TRUST = st.floats(0, LARGEST, width=32)
SETTINGS = settings(max_examples=200)


def stirred(seed: int = 0) -> UnfoldingNet:
    """A network whose trust varies from pixel to pixel, as after training."""
    net = build_seeded(UnfoldingNet, seed)
    generator = torch.Generator().manual_seed(seed)
    for layer in (net.estimate.leave, net.estimate.near):
        layer.weight.data.normal_(0, 0.5, generator=generator)
    return net


def guide(net: UnfoldingNet) -> UnfoldingGuide:
    return UnfoldingGuide(net, MethodInfo("unfolding", "", "guide", levels=0))


def certain(brighter: float, darker: float) -> UnfoldingGuide:
    """A guide whose trust is the same everywhere: these logits."""
    net = UnfoldingNet(trust=LARGEST)
    net.estimate.near.bias.data.copy_(torch.tensor([brighter, darker]))
    return guide(net)


def images(*shape: int, seed: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator), torch.rand(shape, generator=generator)


@pytest.fixture(scope="module")
def head(sample_data) -> tuple[Tensor, Tensor]:
    """A PET and an MRI slice on one grid, (1, 1, H, W) in [0, 1]."""
    folder = sample_data / "study/simulated-brain"
    out = []
    for name in ("simulated-pet.nii.gz", "t1.nii.gz"):
        volume = nibabel.load(folder / name).get_fdata()
        plane = np.ascontiguousarray(volume[:, :, volume.shape[2] // 2].T, dtype=np.float32)
        out.append(torch.from_numpy(plane / plane.max())[None, None])
    side = [min(x.shape[k] for x in out) for k in (2, 3)]
    return out[0][..., : side[0], : side[1]], out[1][..., : side[0], : side[1]]


@SETTINGS
@given(UNIT, UNIT, UNIT, UNIT, TRUST, TRUST)
def test_the_step_contracts_distances(x, other, y, z, plus, minus):
    """Section 3.2 of the specification: rate 1 - size or less, with size 1 / (1 + largest)."""
    size = 1 / (1 + LARGEST)
    fixed = [torch.tensor(v) for v in (y, z, plus, minus)]
    near, far = (descend(torch.tensor(v), *fixed, size) for v in (x, other))
    assert abs(near - far) <= (1 - size) * abs(x - other) + 1e-6


@SETTINGS
@given(UNIT, UNIT, UNIT, TRUST)
def test_one_step_of_the_pixels_own_size_reaches_the_minimum_from_anywhere_between(y, z, part, m):
    y, z, m = (torch.tensor(v) for v in (y, z, m))
    start = y + part * (z - y)
    reached = descend(start, y, z, m, m, 1 / (1 + m))
    wanted = (y.double() + m.double() * z) / (1 + m.double())
    assert abs(reached - wanted) <= 2e-6


def test_no_trust_gives_the_first_source_exactly():
    a, b = images(2, 1, 40, 33)
    weights = certain(-torch.inf, -torch.inf).weights(a, b)
    assert torch.equal(fuse_luminance(a, b, weights, levels=0).luminance, a)


def test_full_trust_in_a_brighter_source_gives_the_maximum_but_for_its_last_part():
    a, b = images(2, 1, 40, 33)
    fused = fuse_luminance(a, b, certain(torch.inf, -torch.inf).weights(a, b), levels=0).luminance
    missing = (fused - torch.maximum(a, b)).abs()
    assert (missing <= (b - a).abs() / (1 + LARGEST) + 1e-6).all()


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), rows=st.integers(1, 40), columns=st.integers(1, 40))
def test_the_result_stays_between_its_sources_for_every_size_and_network(seed, rows, columns):
    a, b = images(2, 1, rows, columns, seed=seed)
    weights = guide(stirred(seed)).weights(a, b)
    fused = fuse_luminance(a, b, weights, levels=0).luminance
    assert (fused >= torch.minimum(a, b)).all()
    assert (fused <= torch.maximum(a, b)).all()
    assert not overshoot(fused, a, b).any()


def test_the_result_is_recomputable_from_the_exported_weights(head):
    a, b = head
    weights = guide(stirred()).weights(a, b)
    trust = weights / (1 - weights)
    fused = fuse_luminance(a, b, weights, levels=0).luminance
    torch.testing.assert_close(fused, (a + trust * b) / (1 + trust), rtol=0, atol=1e-6)


def test_the_solver_finds_the_same_point_from_both_sources_and_stays_there(head):
    a, b = head
    net = stirred()
    weights, solution = net.solved(network_input(a, b))
    trust = (weights / (1 - weights)).detach()

    def step(x: Tensor) -> Tensor:
        return descend(x, a, b, trust, trust, 1 / (1 + trust))

    for start in (a, b):
        found = solve(step, start)
        assert (found.residual <= 1e-4).all()
        further = found.state
        for _ in range(10):
            further = step(further)
        for state in (found.state, further):
            torch.testing.assert_close(state, solution.state, rtol=0, atol=1e-3)
    assert (solution.residual <= 1e-4).all()
    fused = torch.lerp(a, b, weights)
    torch.testing.assert_close(solution.state, fused, rtol=0, atol=1e-5)


def test_the_closed_form_has_the_gradient_of_the_fixed_point():
    y, z = images(1, 1, 16, 16)
    grads = []
    for implicit in (True, False):
        trust = images(1, 1, 16, 16, seed=5)[0].mul(9).requires_grad_()
        if implicit:
            state, _ = equilibrium(
                lambda x, m=trust: descend(x, y, z, m, m, 1 / 10), y, backward="implicit",
                tolerance=1e-6, limit=100,
            )  # fmt: skip
        else:
            state = torch.lerp(y, z, trust / (1 + trust))
        (state**3).sum().backward()
        grads.append(trust.grad)
    assert (grads[0] - grads[1]).norm() <= 1e-3 * grads[1].norm()


def test_an_untrained_network_is_a_soft_choice_of_the_brighter_source():
    a, b = images(1, 1, 24, 24)
    weights = guide(UnfoldingNet()).weights(a, b)
    torch.testing.assert_close(weights, torch.where(b >= a, 0.75, 0.25))


def test_the_network_has_about_fifteen_thousand_parameters():
    assert count_parameters(UnfoldingNet()) == 15_762


def test_the_guide_is_a_method_and_every_size_is_welcome():
    assert isinstance(guide(UnfoldingNet()), Method)
    for size in ((1, 1), (37, 70), (8, 3)):
        weights = guide(stirred()).weights(*images(2, 1, *size))
        assert weights.shape == (2, 1, *size)


def test_a_slice_does_not_depend_on_its_batch_or_on_threads():
    a, b = images(3, 1, 60, 52)
    method = guide(stirred())
    together = method.weights(a, b)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = torch.cat([method.weights(a[k : k + 1], b[k : k + 1]) for k in range(3)])
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)


def test_diagnostics_count_what_all_threads_solved_and_are_given_once():
    method = guide(stirred())
    pair = images(2, 1, 20, 20)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: method.weights(*pair), range(8)))
    found = method.diagnostics()
    assert found["slices"] == 16
    assert found["converged"] is True
    assert 0 <= found["residual_max"] <= found["tolerance"] == 1e-4
    assert 1 <= found["iterations_max"] <= 2
    assert method.diagnostics() == {}


@pytest.mark.skipif(not has_bfloat16(), reason="this processor has no bfloat16 arithmetic")
def test_bfloat16_changes_weights_little_and_still_converges():
    method = guide(stirred())
    a, b = images(1, 1, 64, 64)
    rough = method.in_bfloat16()
    assert (rough.weights(a, b) - method.weights(a, b)).abs().mean() < 0.02
    assert rough.diagnostics()["converged"]


def test_the_shipped_guide_fuses_a_real_pair_without_overshoot_and_says_that_it_converged(head):
    a, b = (x[0].numpy() for x in head)
    result = medfuse.fuse(functional=a, anatomical=b, method="unfolding")
    assert result.levels == 0
    assert result.diagnostics["converged"] is True
    assert result.diagnostics["slices"] == 1
    assert result.overshoot is not None
    assert not result.overshoot.any()
