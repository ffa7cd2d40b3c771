"""Fixed points are found sample by sample, and gradients pass through them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medfuse.methods.equilibrium import equilibrium, solve

SIZE = 12


def linear(seed: int, samples: int, *, rate: float = 0.9) -> tuple[Tensor, Tensor]:
    """Matrices of norm ``rate`` (N, D, D) and offsets (N, D)."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(samples, SIZE, SIZE, generator=generator)
    matrix = rate * matrix / torch.linalg.matrix_norm(matrix, 2)[:, None, None]
    return matrix, torch.randn(samples, SIZE, generator=generator)


def apply(matrix: Tensor, offset: Tensor):
    return lambda x: torch.einsum("nij,nj->ni", matrix, x) + offset


def exact(matrix: Tensor, offset: Tensor) -> Tensor:
    return torch.linalg.solve(torch.eye(SIZE) - matrix, offset)


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), rate=st.floats(0.1, 0.9))
def test_the_fixed_point_of_a_linear_map_is_that_of_algebra(seed, rate):
    matrix, offset = linear(seed, 2, rate=rate)
    found = solve(apply(matrix, offset), torch.zeros(2, SIZE), tolerance=1e-5, limit=60)
    assert (found.residual <= 1e-5).all()
    wanted = exact(matrix, offset)
    assert (found.state - wanted).norm() <= 1e-3 * wanted.norm()


def test_acceleration_needs_far_fewer_steps_than_iteration():
    matrix, offset = linear(0, 1, rate=0.98)
    matrix = (matrix + matrix.mT) / 2  # slow: the eigenvalues are real and reach near 1
    step = apply(matrix, offset)
    accelerated = int(solve(step, torch.zeros(1, SIZE), limit=500).iterations)
    x, plain = torch.zeros(1, SIZE), 0
    while (step(x) - x).norm() / (x.norm() + 1e-6) > 1e-4:
        x, plain = step(x), plain + 1
    assert accelerated < plain / 2


def test_a_solved_sample_does_not_change_while_others_are_solved():
    matrix, offset = linear(1, 3)
    matrix[1] *= 0.1
    together = solve(apply(matrix, offset), torch.zeros(3, SIZE))
    assert together.iterations[1] < together.iterations.max()
    for k in range(3):
        alone = solve(apply(matrix[k : k + 1], offset[k : k + 1]), torch.zeros(1, SIZE))
        assert alone.iterations == together.iterations[k]
        torch.testing.assert_close(alone.state[0], together.state[k], rtol=1e-5, atol=1e-6)


def test_a_sample_that_breaks_is_reported_and_harms_no_other():
    matrix, offset = linear(2, 2)
    offset[0] = torch.nan
    found = solve(apply(matrix, offset), torch.zeros(2, SIZE), limit=50)
    assert found.residual[0] == torch.inf
    assert torch.equal(found.state[0], torch.zeros(SIZE))
    assert found.residual[1] <= 1e-4


def test_rising_residuals_fall_back_to_the_damped_iteration():
    """Rotations do not contract, and five steps of memory do not span forty of them."""
    turns = torch.linspace(1.0, 3.0, 40)
    rotation = torch.polar(torch.ones(40), turns)
    offset = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))

    def step(x: Tensor) -> Tensor:
        turned = torch.view_as_complex(x[0].contiguous()) * rotation
        return (torch.view_as_real(turned) + offset)[None]

    found = solve(step, torch.zeros(1, 40, 2), limit=150)
    assert found.residual <= 1e-4
    plain = torch.zeros(1, 40, 2)
    for _ in range(150):
        plain = step(plain)
    assert (step(plain) - plain).norm() / plain.norm() > 0.1


def test_a_solution_reports_the_residual_of_the_state_that_it_holds():
    matrix, offset = linear(3, 2, rate=0.95)
    step = apply(matrix, offset)
    found = solve(step, torch.zeros(2, SIZE), limit=4)
    residual = (step(found.state) - found.state).norm(dim=1) / (found.state.norm(dim=1) + 1e-6)
    torch.testing.assert_close(found.residual, residual)
    assert (found.iterations == 4).all()


@pytest.mark.parametrize("backward", ["implicit", "phantom"])
def test_the_implicit_gradient_is_that_of_algebra_and_the_phantom_one_points_the_same_way(backward):
    matrix, offset = linear(4, 2, rate=0.5)
    given_ = [t.clone().requires_grad_() for t in (matrix, offset)]
    state, solution = equilibrium(
        apply(*given_), torch.zeros(2, SIZE), backward=backward, tolerance=1e-6, limit=50
    )
    assert (solution.residual <= 1e-6).all()
    state.square().sum().backward()
    wanted = [t.clone().requires_grad_() for t in (matrix, offset)]
    exact(*wanted).square().sum().backward()
    for got, want in zip(given_, wanted, strict=True):
        if backward == "implicit":
            torch.testing.assert_close(got.grad, want.grad, rtol=1e-3, atol=1e-3)
        cosine = torch.cosine_similarity(got.grad.flatten(), want.grad.flatten(), dim=0)
        assert cosine > 0.8
