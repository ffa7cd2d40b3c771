"""Finding a local deformation: a smooth displacement that raises mutual information.

Cubic B-splines on a coarse lattice, driven by mutual information inside the body and by its
outline, and held together by the energy of an elastic body. Each image is deformed onto the other
one. What is kept is found by deforming the anatomical image, whose edges are sharper, onto the
functional one; how far the other result lies from it tells how little both are known. The same on
every run and for every number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample

from medfuse.errors import RegistrationError, option
from medfuse.imaging.grid import Grid, Matrix, from_sitk, transform_points
from medfuse.kernel.threads import share_out
from medfuse.registration.deformation import Deformation, empty_image
from medfuse.registration.inputs import Prepared, at_resolution
from medfuse.registration.progress import Meter

BINS = 32
#: Weights against mutual information (nats), set on persons: docs/lab/registration.md.
OUTLINE, SHEAR, BENDING = 3.0, 5.0, 10.0
#: Skin that lies this near to where it should be pulls no more, as blur and breathing move it so
#: far; skin further away than the reach pulls like skin at the reach, mm.
NEAR_MM, REACH_MM = 3.0, 15.0
RATE_MM_PER_CONTROL_MM = 0.025
#: Depth in the body, and distance from it, of what mutual information looks at, mm.
DEPTH_MM, AIR_MM = 4.0, (8.0, 16.0)
#: The displacements are kept on a lattice of this step; in a large body, all steps grow.
LATTICE_MM, MOST_NODES, MOST_SAMPLES = 4.0, 1_000_000, 300_000
FEWEST_SAMPLES = 500
#: A deformation that squeezes a place below this part of its volume is weakened as a whole.
LEAST_VOLUME, WEAKER = 0.1, 0.8
SETTLING_STEPS = 15


@dataclass(frozen=True)
class Round:
    """One resolution: steps of samples and control points, blur, mm; iterations.

    `coarse` rounds look at the skin by mutual information too.
    """

    step_mm: float
    control_mm: float
    sigma_mm: float
    iterations: int
    coarse: bool = False


ROUNDS = {
    "fast": (Round(8.0, 60.0, 4.8, 40, coarse=True), Round(5.0, 40.0, 3.0, 15)),
    "default": (Round(8.0, 60.0, 4.8, 60, coarse=True), Round(4.0, 40.0, 2.5, 20)),
    "thorough": (Round(8.0, 60.0, 4.8, 90, coarse=True), Round(4.0, 40.0, 2.5, 40)),
}


def deform(
    fixed: Prepared, moving: Prepared, matrix: Matrix, *, preset: str, meter: Meter
) -> Deformation:
    """Find the deformation that remains after a linear map.

    Parameters
    ----------
    matrix : (4, 4) float64
        Fixed point -> moving point, RAS mm.
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
    back = np.asarray(np.linalg.inv(matrix))
    pairs = {"there": (fixed, moving, matrix), "back": (moving, fixed, back)}
    found: dict[str, Deformation] = {}
    meter.stage(0.0, 1.0, total=4 * sum(r.iterations for r in rounds), text="deforming")

    def work(name: str) -> None:
        one, other, map_ = pairs[name]
        found[name] = _one_way(one, other, map_, rounds, meter)

    share_out(work, list(pairs))
    meter.check()
    return _inverse(found["back"], found["there"], matrix, _inside(fixed, moving, matrix))


def _inverse(
    back: Deformation, there: Deformation, matrix: Matrix, body: NDArray[np.float64]
) -> Deformation:
    """The inverse of what was found from the moving image, on the lattice of the fixed one."""
    nodes = _nodes(there.lattice)
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


def _nodes(grid: Grid) -> NDArray[np.float64]:
    """(N, 3) world points of all voxels, last index fastest."""
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    return transform_points(grid.affine, index.reshape(-1, 3))


def _inside(fixed: Prepared, moving: Prepared, matrix: Matrix) -> NDArray[np.float64]:
    """(N, 3) points spread over the part of the fixed body that the moving image shows."""
    mask, affine = from_sitk(fixed.mask)
    points = transform_points(affine, np.argwhere(mask > 0))
    points = points[_to_edge(moving.grid, transform_points(matrix, points)) >= 0]
    if len(points) < FEWEST_SAMPLES:
        raise _too_little(len(points))
    return points[:: max(1, len(points) // 2000)]


def _to_edge(grid: Grid, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of points to the nearest face of a field of view, mm; negative outside."""
    index = transform_points(np.linalg.inv(grid.affine), points)
    inner = np.minimum(index + 0.5, np.array(grid.shape) - 0.5 - index)
    return np.asarray((inner * grid.spacing).min(axis=-1))


def _one_way(
    fixed: Prepared, moving: Prepared, matrix: Matrix, rounds: tuple[Round, ...], meter: Meter
) -> Deformation:
    """Deform one image, without and with the help of the skin: the inside says which is better."""
    corners = fixed.grid.corners()
    low, high = corners.min(axis=0), corners.max(axis=0)
    volume = float(np.prod(high - low))
    scales = [max(1.0, (volume / MOST_SAMPLES) ** (1 / 3) / r.step_mm) for r in rounds]
    views = [
        _Views(fixed, moving, matrix, _lattice(low, high, scale * r.step_mm), r)
        for r, scale in zip(rounds, scales, strict=True)
    ]
    found: list[tuple[float, _Spline]] = []
    for outline in (0.0, OUTLINE):
        spline = _Spline.over(low, high, scales[0] * rounds[0].control_mm)
        for seen, round_, scale in zip(views, rounds, scales, strict=True):
            finer = _Spline.over(low, high, scale * round_.control_mm)
            finer.coefficients = spline.dense(finer.axes)
            spline = finer
            _climb(spline, seen, round_.iterations, outline, meter)
        found.append((views[-1].gain(spline), spline))
    spline = max(found, key=lambda one: one[0])[1]
    kept = _lattice(low, high, max(LATTICE_MM, (volume / MOST_NODES) ** (1 / 3)))
    field = spline.dense(_axes(kept)).permute(1, 2, 3, 0).contiguous().numpy()
    return Deformation(kept, field)


def _lattice(low: NDArray[np.float64], high: NDArray[np.float64], step: float) -> Grid:
    """Points of a box, a step apart along the axes of the patient."""
    affine = np.diag([step, step, step, 1.0])
    affine[:3, 3] = low
    x, y, z = (np.ceil((high - low) / step).astype(int) + 1).tolist()
    return Grid((x, y, z), affine)


def _axes(grid: Grid) -> list[NDArray[np.float64]]:
    """World coordinates along each axis of a lattice that lies along the axes of the patient."""
    return [
        grid.affine[axis, 3] + grid.affine[axis, axis] * np.arange(n)
        for axis, n in enumerate(grid.shape)
    ]


@dataclass
class _Spline:
    """Displacements as cubic B-splines: coefficients (3, I, J, K), mm, at `axes`."""

    axes: list[NDArray[np.float64]]
    step: float
    coefficients: Tensor

    @classmethod
    def over(cls, low: NDArray[np.float64], high: NDArray[np.float64], step: float) -> _Spline:
        counts = [int(np.ceil((h - lo) / step)) + 3 for lo, h in zip(low, high, strict=True)]
        axes = [lo + step * (np.arange(n) - 1) for lo, n in zip(low, counts, strict=True)]
        return cls(axes, step, torch.zeros((3, *counts)))

    def weights(self, at: list[NDArray[np.float64]]) -> list[Tensor]:
        """(len(at), n) value of each spline at coordinates along each axis."""
        found = []
        for axis, points in zip(self.axes, at, strict=True):
            away = np.abs(points[:, None] - axis[None]) / self.step
            found.append(cubic(torch.from_numpy(away)).float())
        return found

    def dense(self, at: list[NDArray[np.float64]]) -> Tensor:
        """(3, X, Y, Z) displacement on a lattice; beyond the splines that of their edge."""
        inner = [np.clip(p, a[1], a[-2]) for p, a in zip(at, self.axes, strict=True)]
        return _product(self.coefficients, self.weights(inner))


def cubic(away: Tensor) -> Tensor:
    """The cubic B-spline at distances from its middle, in steps."""
    near, far = 2 / 3 - away**2 + away**3 / 2, (2 - away).clamp_min(0) ** 3 / 6
    return torch.where(away < 1, near, far)


def _product(coefficients: Tensor, weights: list[Tensor]) -> Tensor:
    x, y, z = weights
    along_x = torch.einsum("cijk,xi->cxjk", coefficients, x)
    return torch.einsum("cxyk,zk->cxyz", torch.einsum("cxjk,yj->cxyk", along_x, y), z)


class _Views:
    """What one round looks at: values of both images inside the body, and their outlines."""

    def __init__(
        self, fixed: Prepared, moving: Prepared, matrix: Matrix, grid: Grid, round_: Round
    ) -> None:
        self.axes = _axes(grid)
        points = _nodes(grid)
        sigma = round_.sigma_mm
        shown = at_resolution(fixed.image, step_mm=round_.step_mm, sigma_mm=sigma)
        other = at_resolution(moving.image, step_mm=round_.step_mm / 2, sigma_mm=sigma)
        depth = _on(fixed.depth, grid)
        mapped = transform_points(matrix, points)
        edges = _to_edge(fixed.grid, points), _to_edge(moving.grid, mapped)
        both = (edges[0] >= 0) & (edges[1] >= 0)
        near, far = (-np.inf, AIR_MM[0]) if round_.coarse else AIR_MM
        looked_at = (depth <= far) & ((depth <= -DEPTH_MM) | (depth >= near))
        self.inside = np.flatnonzero(both & looked_at)
        if len(self.inside) < FEWEST_SAMPLES:
            raise _too_little(len(self.inside))
        self.points = torch.from_numpy(points[self.inside]).float()
        self.parzen = _parzen(torch.from_numpy(_on(shown, grid)[self.inside]))
        self.sample = _sampler(other, matrix)
        # Where a field of view ends before the skin does, the depth is not known.
        self.sample_depth = _sampler(moving.depth, matrix)
        there = self.sample_depth(torch.from_numpy(points).float()).numpy()
        known = (edges[0] >= np.abs(depth)) & (edges[1] >= np.minimum(np.abs(there), REACH_MM))
        self.skin = np.flatnonzero(both & known & (np.abs(depth) < REACH_MM))
        self.skin_points = torch.from_numpy(points[self.skin]).float()
        self.skin_depth = torch.from_numpy(depth[self.skin])

    def information(self, shifts: Tensor) -> Tensor:
        """Mutual information inside the body, nats, after (3, N) shifts, mm."""
        values = self.sample(self.points + shifts[:, self.inside].T)
        return _information(self.parzen.T @ _parzen(values.clamp(0, 1)))

    @torch.no_grad()
    def gain(self, spline: _Spline) -> float:
        """What a spline adds to the information, nats."""
        shifts = spline.dense(self.axes).flatten(1)
        return float(self.information(shifts) - self.information(torch.zeros_like(shifts)))

    def loss(self, shifts: Tensor, outline: float) -> Tensor:
        """Less information is worse, and so is skin that lies elsewhere."""
        loss = -self.information(shifts)
        if outline and len(self.skin):
            there = self.sample_depth(self.skin_points + shifts[:, self.skin].T)
            gap = there.clamp(-REACH_MM, REACH_MM) - self.skin_depth
            off = (gap.abs() - NEAR_MM).clamp_min(0) / REACH_MM
            loss = loss + outline * (off**2).mean()
        return loss


def _on(image: sitk.Image, grid: Grid) -> NDArray[np.float32]:
    """(N,) values on a lattice, last index fastest; at the nearest edge outside of the image."""
    sample = sitk.ResampleImageFilter()
    sample.SetReferenceImage(empty_image(grid))
    sample.SetOutputPixelType(sitk.sitkFloat32)
    sample.SetUseNearestNeighborExtrapolator(True)
    sample.SetNumberOfThreads(1)
    return np.asarray(from_sitk(sample.Execute(image))[0].ravel())


def _sampler(image: sitk.Image, matrix: Matrix) -> Callable[[Tensor], Tensor]:
    """A function of (N, 3) fixed points, RAS mm, that reads the image there: (N,)."""
    array, affine = from_sitk(image)
    values = torch.from_numpy(array.astype(np.float32, copy=False))[None, None]
    to_index = torch.from_numpy(np.linalg.inv(affine) @ matrix).float()
    last = (torch.tensor(array.shape, dtype=torch.float32) - 1).clamp_min(1)

    def read(points: Tensor) -> Tensor:
        index = points @ to_index[:3, :3].T + to_index[:3, 3]
        at = (2 * index / last - 1).flip(-1)[None, :, None, None]
        return grid_sample(values, at, align_corners=True, padding_mode="border").flatten()

    return read


def _parzen(values: Tensor) -> Tensor:
    """(N, bins) weights of values in [0, 1] in a smooth histogram."""
    position = values[:, None] * (BINS - 3) + 1
    return cubic((position - torch.arange(BINS, dtype=values.dtype)).abs())


def _information(counts: Tensor) -> Tensor:
    """Mutual information of a joint histogram, nats."""
    joint = counts / counts.sum()
    apart = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    return (joint * ((joint + 1e-10).log() - (apart + 1e-10).log())).sum()


def _energy(spline: _Spline, coefficients: Tensor) -> Tensor:
    """Mean squared strain and curvature of a spline, which rigid motion is nearly free of."""
    inner = (slice(None), slice(1, -1), slice(1, -1), slice(1, -1))
    h = spline.step

    def moved(*steps: int) -> Tensor:
        return coefficients.roll(steps, (1, 2, 3))[inner]

    unit = torch.eye(3, dtype=torch.long).tolist()
    slopes = torch.stack([(moved(*[-s for s in e]) - moved(*e)) / (2 * h) for e in unit], dim=1)
    strain = 0.5 * (slopes + slopes.transpose(0, 1))
    energy = SHEAR * (strain**2).sum((0, 1)).mean()
    for a in range(3):
        there, back = [-s for s in unit[a]], unit[a]
        bent = (moved(*there) - 2 * moved(0, 0, 0) + moved(*back)) / h
        energy = energy + BENDING * (bent**2).sum(0).mean()
        for b in range(a + 1, 3):
            both = [x + y for x, y in zip(unit[a], unit[b], strict=True)]
            across = [x - y for x, y in zip(unit[a], unit[b], strict=True)]
            twist = moved(*both) + moved(*[-s for s in both])
            twist = (twist - moved(*across) - moved(*[-s for s in across])) / (4 * h)
            energy = energy + 2 * BENDING * (twist**2).sum(0).mean()
    return energy


def _climb(spline: _Spline, views: _Views, iterations: int, outline: float, meter: Meter) -> None:
    """Adam on the coefficients, with steps that become shorter."""
    weights = spline.weights(views.axes)
    coefficients = spline.coefficients.clone().requires_grad_(True)
    rate = RATE_MM_PER_CONTROL_MM * spline.step
    optimiser = torch.optim.Adam([coefficients], lr=rate)
    for number in range(iterations):
        optimiser.param_groups[0]["lr"] = rate * (1 - 0.9 * number / iterations)
        optimiser.zero_grad()
        shifts = _product(coefficients, weights).flatten(1)
        (views.loss(shifts, outline) + _energy(spline, coefficients)).backward()
        optimiser.step()
        meter.tick()
        meter.check()
    spline.coefficients = coefficients.detach()


def _too_little(samples: int) -> RegistrationError:
    return RegistrationError(
        "E_REGISTRATION",
        what="Cannot deform the functional image",
        cause=f"too little of the body lies in both fields of view ({samples} sample points, at "
        f"least {FEWEST_SAMPLES} are needed)",
        remedy=f"Use {option('method', 'rigid')}",
    )
