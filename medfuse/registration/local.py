"""Finding a local deformation: a smooth displacement that raises mutual information.

Cubic B-splines on a coarse lattice, driven by mutual information inside the body and by its
outline, and held together by the energy of an elastic body. Each image is deformed onto the other
one. What is kept is found by deforming the anatomical image, whose edges are sharper, onto the
functional one; how far the other result lies from it tells how little both are known. The same on
every run and for every number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from medfuse.imaging.grid import Matrix, from_sitk, transform_points
from medfuse.kernel.threads import share_out
from medfuse.registration.deformation import Deformation
from medfuse.registration.expected import Witness
from medfuse.registration.grounds import Grounds
from medfuse.registration.halves import apart_mm, halves_of, runs_through
from medfuse.registration.inputs import Prepared
from medfuse.registration.progress import Meter
from medfuse.registration.splines import Spline, energy, product
from medfuse.registration.views import (
    FEWEST_SAMPLES,
    Round,
    Views,
    axes_of,
    lattice,
    nodes_of,
    skin_limit_mm,
    to_edge_mm,
    too_little,
)

#: Weight against mutual information (nats), set on persons: docs/lab/registration.md.
OUTLINE = 3.0
RATE_MM_PER_CONTROL_MM = 0.025
#: The displacements are kept on a lattice of this step; in a large body, all steps grow.
LATTICE_MM, MOST_NODES, MOST_SAMPLES = 4.0, 1_000_000, 300_000
#: A deformation that squeezes a place below this part of its volume is weakened as a whole.
LEAST_VOLUME, WEAKER = 0.1, 0.8
SETTLING_STEPS = 15
#: (N, 3) points -> (N, 3) displacement, mm.
Start = Callable[[NDArray[np.float64]], NDArray[np.float64]]
ROUNDS = {
    "fast": (Round(8.0, 60.0, 4.8, 40, coarse=True), Round(5.0, 40.0, 3.0, 15)),
    "default": (Round(8.0, 60.0, 4.8, 60, coarse=True), Round(4.0, 40.0, 2.5, 20)),
    "thorough": (Round(8.0, 60.0, 4.8, 90, coarse=True), Round(4.0, 40.0, 2.5, 40)),
}


def deform(
    fixed: Prepared,
    moving: Prepared,
    matrix: Matrix,
    *,
    witnesses: tuple[Witness, ...] = (),
    preset: str,
    meter: Meter,
) -> Deformation:
    """Find the deformation that remains after a linear map; all 0 where nothing speaks for one.

    Parameters
    ----------
    matrix : (4, 4) float64
        Fixed point -> moving point, RAS mm.
    witnesses : tuple of Witness
        Of that map. Halves of the body that were registered alone are where the search begins.
    preset : str
        Name of an entry of `ROUNDS`.
    meter : Meter
        Told of every iteration.

    Raises
    ------
    RegistrationError
        ``E_REGISTRATION``: too little of the body lies in both fields of view.

    References
    ----------
    Rueckert et al., IEEE TMI 18(8), 1999 (free-form deformation). Mattes et al., IEEE TMI 22(1),
    2003.
    """
    rounds = ROUNDS[preset]
    body = _inside(fixed, moving, matrix)
    halves = halves_of(witnesses, matrix, body)
    inverse = np.asarray(np.linalg.inv(matrix))
    pairs = {"there": (fixed, moving, matrix), "back": (moving, fixed, inverse)}
    starts: dict[str, Start] = {}
    if halves is not None:
        starts["there"] = lambda p: transform_points(inverse, halves.there(p)) - p
        starts["back"] = lambda p: transform_points(matrix, halves.back(p, matrix)) - p
    found: dict[str, _Found] = {}
    meter.stage(0.0, 1.0, total=4 * sum(r.iterations for r in rounds), text="deforming")

    def work(name: str) -> None:
        one, other, map_ = pairs[name]
        found[name] = _one_way(one, other, map_, rounds, starts.get(name), meter)

    share_out(work, list(pairs))
    meter.check()
    there, kept = found["there"], found["back"]
    made = _inverse(kept.field, there.field, matrix, body)
    grounds = Grounds(
        skin_mm=kept.skin_mm,
        skin_after_mm=kept.skin_after_mm,
        skin_limit_mm=skin_limit_mm(fixed, moving),
        parts_mm=apart_mm(witnesses, matrix, body),
        runs_through=runs_through(fixed) or runs_through(moving),
        gain_nats=kept.gain,
        energy_nats=kept.energy,
        moved_mm=float(np.linalg.norm(made.shifts(body), axis=1).mean()),
        disagreement_mm=float(made.inverse_mm or 0.0),
    )
    if grounds.used:
        return replace(made, grounds=grounds)
    return Deformation(made.lattice, np.zeros_like(made.displacement), 0.0, grounds=grounds)


def _inverse(
    back: Deformation, there: Deformation, matrix: Matrix, body: NDArray[np.float64]
) -> Deformation:
    """The inverse of what was found from the moving image, on the lattice of the fixed one."""
    nodes = nodes_of(there.lattice)
    inverse = np.linalg.inv(matrix)
    start = transform_points(matrix, nodes)
    ends = start.copy()
    for _ in range(SETTLING_STEPS):
        ends = start - back.shifts(ends, beyond=True)
    shifts = (transform_points(inverse, ends) - nodes).reshape(*there.lattice.shape, 3)
    arrived = transform_points(matrix, body + there.shifts(body))
    returned = transform_points(inverse, arrived + back.shifts(arrived, beyond=True))
    off = float(np.linalg.norm(returned - body, axis=1).mean())
    result = Deformation(there.lattice, shifts.astype(np.float32), off)
    while result.least_jacobian < LEAST_VOLUME:
        weaker = (WEAKER * result.displacement).astype(np.float32)
        result = Deformation(there.lattice, weaker, off)
    return result


def _inside(fixed: Prepared, moving: Prepared, matrix: Matrix) -> NDArray[np.float64]:
    """(N, 3) points spread over the part of the fixed body that the moving image shows."""
    mask, affine = from_sitk(fixed.mask)
    points = transform_points(affine, np.argwhere(mask > 0))
    points = points[to_edge_mm(moving.grid, transform_points(matrix, points)) >= 0]
    if len(points) < FEWEST_SAMPLES:
        raise too_little(len(points))
    return points[:: max(1, len(points) // 2000)]


@dataclass(frozen=True)
class _Found:
    """A deformation of one image, and what was measured of it."""

    field: Deformation
    gain: float
    energy: float
    skin_mm: float
    skin_after_mm: float


def _one_way(
    fixed: Prepared,
    moving: Prepared,
    matrix: Matrix,
    rounds: tuple[Round, ...],
    start: Start | None,
    meter: Meter,
) -> _Found:
    """Deform one image, with the help of the skin where it does not fit: the inside decides."""
    corners = fixed.grid.corners()
    low, high = corners.min(axis=0), corners.max(axis=0)
    volume = float(np.prod(high - low))
    scales = [max(1.0, (volume / MOST_SAMPLES) ** (1 / 3) / r.step_mm) for r in rounds]
    views = [
        Views(fixed, moving, matrix, lattice(low, high, scale * r.step_mm), r)
        for r, scale in zip(rounds, scales, strict=True)
    ]
    still = Spline.over(low, high, scales[0] * rounds[0].control_mm)
    before = views[-1].skin_mm(still)
    found: list[tuple[float, Spline]] = []
    for outline in (0.0, OUTLINE) if before > skin_limit_mm(fixed, moving) else (0.0,):
        spline = still if start is None else still.filled(start)
        for seen, round_, scale in zip(views, rounds, scales, strict=True):
            finer = Spline.over(low, high, scale * round_.control_mm)
            finer.coefficients = spline.dense(finer.axes)
            spline = finer
            _climb(spline, seen, round_.iterations, outline, meter)
        found.append((views[-1].gain(spline), spline))
    gain, spline = max(found, key=lambda one: one[0])
    kept = lattice(low, high, max(LATTICE_MM, (volume / MOST_NODES) ** (1 / 3)))
    field = spline.dense(axes_of(kept)).permute(1, 2, 3, 0).contiguous().numpy()
    costs = float(energy(spline, spline.coefficients))
    return _Found(Deformation(kept, field), gain, costs, before, views[-1].skin_mm(spline))


def _climb(spline: Spline, views: Views, iterations: int, outline: float, meter: Meter) -> None:
    """Adam on the coefficients, with steps that become shorter."""
    weights = spline.weights(views.axes)
    coefficients = spline.coefficients.clone().requires_grad_(True)
    rate = RATE_MM_PER_CONTROL_MM * spline.step
    optimiser = torch.optim.Adam([coefficients], lr=rate)
    for number in range(iterations):
        optimiser.param_groups[0]["lr"] = rate * (1 - 0.9 * number / iterations)
        optimiser.zero_grad()
        shifts = product(coefficients, weights).flatten(1)
        (views.loss(shifts, outline) + energy(spline, coefficients)).backward()
        optimiser.step()
        meter.tick()
        meter.check()
    spline.coefficients = coefficients.detach()
