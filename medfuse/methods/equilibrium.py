"""Fixed points of a map, many samples at a time, and gradients through them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Step = Callable[[Tensor], Tensor]
Backward = Literal["phantom", "implicit"]

TOLERANCE = 1e-4
LIMIT = 25
_MEMORY = 5
_RIDGE = 1e-4
_PATIENCE = 2  # times that the residual may rise before acceleration is given up


@dataclass(frozen=True)
class Solution:
    """Where a solver stopped, sample by sample.

    Attributes
    ----------
    state : (N, ...) float
        The state of the smallest residual.
    residual : (N,) float
        ``|T(x) - x| / (|x| + 1e-6)`` of that state, Euclidean norms over the sample.
    iterations : (N,) int64
        Evaluations of the map until the residual was small enough.
    """

    state: Tensor
    residual: Tensor
    iterations: Tensor


@torch.no_grad()
def solve(
    step: Step, start: Tensor, *, tolerance: float = TOLERANCE, limit: int = LIMIT
) -> Solution:
    """Find ``x = step(x)`` by Anderson acceleration, each sample on its own.

    A sample whose residual rises twice goes on by ``x <- (x + step(x)) / 2`` from its best state,
    which converges for every map that does not stretch distances and has a fixed point.

    Parameters
    ----------
    step : callable
        (N, ...) -> (N, ...); samples must not depend on each other.
    start : (N, ...) float
    tolerance : float
        A sample is solved, and stays as it is, at this residual.
    limit : int
        Most evaluations of ``step``.

    References
    ----------
    Walker & Ni, SIAM J. Numer. Anal. 49 (2011); Bai, Kolter & Koltun, NeurIPS 2019.
    """
    samples = len(start)
    x, best, best_image = start, start, start
    smallest = start.new_full((samples,), torch.inf)
    last, rises = smallest, start.new_zeros(samples, dtype=torch.long)
    iterations = torch.zeros_like(rises)
    history: list[tuple[Tensor, Tensor]] = []
    for _ in range(limit):
        image = step(x)
        change = (image - x).flatten(1)
        residual = change.norm(dim=1) / (x.flatten(1).norm(dim=1) + 1e-6)
        going = smallest > tolerance
        iterations += going
        rises += going & ~(residual <= last)  # also true for NaN
        better = going & (residual < smallest)
        best, best_image = _where(better, x, best), _where(better, image, best_image)
        smallest, last = torch.where(better, residual, smallest), residual
        if (smallest <= tolerance).all():
            break
        history = [*history, (change, image.flatten(1))][-_MEMORY:]
        accelerated = _anderson(history).view_as(x)
        x = _where(rises < _PATIENCE, accelerated, (best + best_image) / 2)
    return Solution(best, smallest, iterations)


def equilibrium(
    step: Step,
    start: Tensor,
    *,
    backward: Backward = "phantom",
    tolerance: float = TOLERANCE,
    limit: int = LIMIT,
) -> tuple[Tensor, Solution]:
    """A fixed point that carries gradients to whatever ``step`` depends on.

    Parameters
    ----------
    step, start, tolerance, limit
        As for :func:`solve`; ``start`` gets no gradient.
    backward : {"phantom", "implicit"}
        ``phantom`` differentiates one more application of ``step`` at the fixed point.
        ``implicit`` is exact: it solves ``g = v + J^T g`` for the incoming gradient ``v``.

    Returns
    -------
    state : (N, ...)
        ``step`` applied once more to the solution.
    solution : Solution

    References
    ----------
    Bai, Kolter & Koltun, NeurIPS 2019, theorem 1; Fung et al., AAAI 2022 (Jacobian-free).
    """
    solution = solve(step, start, tolerance=tolerance, limit=limit)
    state = step(solution.state)
    if backward == "implicit" and state.requires_grad:
        point = solution.state.detach().requires_grad_()
        with torch.enable_grad():
            image = step(point)

        def through(grad: Tensor) -> Tensor:
            def pull(g: Tensor) -> Tensor:
                return grad + torch.autograd.grad(image, point, g, retain_graph=True)[0]

            return solve(pull, grad, tolerance=tolerance, limit=limit).state

        state.register_hook(through)
    return state, solution


def _anderson(history: list[tuple[Tensor, Tensor]]) -> Tensor:
    """(N, D): the mean of the images whose mean change is smallest, a least-squares problem."""
    changes = torch.stack([change for change, _ in history], dim=1).double()
    gram = changes @ changes.mT
    # Relative to the newest change, so that the ridge does not outweigh small changes.
    ridge = _RIDGE * gram[:, -1, -1, None].clamp_min(1e-30).expand(-1, len(history))
    share = torch.linalg.solve(gram + torch.diag_embed(ridge), torch.ones_like(ridge))
    share = (share / share.sum(1, keepdim=True)).to(history[0][1])
    return torch.einsum("nm,mnd->nd", share, torch.stack([image for _, image in history]))


def _where(chosen: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(chosen.view(-1, *[1] * (yes.ndim - 1)), yes, no)
