"""What a deformation looks at: values of both images inside the body, and their outlines."""

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
from medfuse.registration.deformation import empty_image
from medfuse.registration.inputs import Prepared, at_resolution
from medfuse.registration.splines import Spline, cubic

BINS = 32
#: Skin that lies this near to where it should be pulls no more, as blur and breathing move it so
#: far; skin further away than the reach pulls like skin at the reach, mm.
NEAR_MM, REACH_MM = 3.0, 15.0
#: Depth in the body, and distance from it, of what mutual information looks at, mm.
DEPTH_MM, AIR_MM = 4.0, (8.0, 16.0)
FEWEST_SAMPLES = 500


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


class Views:
    """What one round looks at: values of both images inside the body, and their outlines."""

    def __init__(
        self, fixed: Prepared, moving: Prepared, matrix: Matrix, grid: Grid, round_: Round
    ) -> None:
        self.axes = axes_of(grid)
        points = nodes_of(grid)
        sigma = round_.sigma_mm
        shown = at_resolution(fixed.image, step_mm=round_.step_mm, sigma_mm=sigma)
        other = at_resolution(moving.image, step_mm=round_.step_mm / 2, sigma_mm=sigma)
        depth = _on(fixed.depth, grid)
        mapped = transform_points(matrix, points)
        edges = to_edge_mm(fixed.grid, points), to_edge_mm(moving.grid, mapped)
        both = (edges[0] >= 0) & (edges[1] >= 0)
        near, far = (-np.inf, AIR_MM[0]) if round_.coarse else AIR_MM
        looked_at = (depth <= far) & ((depth <= -DEPTH_MM) | (depth >= near))
        self.inside = np.flatnonzero(both & looked_at)
        if len(self.inside) < FEWEST_SAMPLES:
            raise too_little(len(self.inside))
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
    def gain(self, spline: Spline) -> float:
        """What a spline adds to the information, nats."""
        shifts = spline.dense(self.axes).flatten(1)
        return float(self.information(shifts) - self.information(torch.zeros_like(shifts)))

    @torch.no_grad()
    def skin_mm(self, spline: Spline) -> float:
        """Mean distance between both outlines after a deformation, mm; 0 where none is seen."""
        shifts = spline.dense(self.axes).flatten(1)
        return float(self._gap(shifts).abs().mean()) if len(self.skin) else 0.0

    def _gap(self, shifts: Tensor) -> Tensor:
        there = self.sample_depth(self.skin_points + shifts[:, self.skin].T)
        return there.clamp(-REACH_MM, REACH_MM) - self.skin_depth

    def loss(self, shifts: Tensor, outline: float) -> Tensor:
        """Less information is worse, and so is skin that lies elsewhere."""
        loss = -self.information(shifts)
        if outline and len(self.skin):
            off = (self._gap(shifts).abs() - NEAR_MM).clamp_min(0) / REACH_MM
            loss = loss + outline * (off**2).mean()
        return loss


def skin_limit_mm(fixed: Prepared, moving: Prepared) -> float:
    """What blur and the largest voxel of two images explain of a gap between their outlines, mm."""
    return NEAR_MM + max(*fixed.grid.spacing, *moving.grid.spacing) / 2


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


def lattice(low: NDArray[np.float64], high: NDArray[np.float64], step: float) -> Grid:
    """Points of a box, a step apart along the axes of the patient."""
    affine = np.diag([step, step, step, 1.0])
    affine[:3, 3] = low
    x, y, z = (np.ceil((high - low) / step).astype(int) + 1).tolist()
    return Grid((x, y, z), affine)


def axes_of(grid: Grid) -> list[NDArray[np.float64]]:
    """World coordinates along each axis of a lattice that lies along the axes of the patient."""
    return [
        grid.affine[axis, 3] + grid.affine[axis, axis] * np.arange(n)
        for axis, n in enumerate(grid.shape)
    ]


def nodes_of(grid: Grid) -> NDArray[np.float64]:
    """(N, 3) world points of all voxels, last index fastest."""
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    return transform_points(grid.affine, index.reshape(-1, 3))


def to_edge_mm(grid: Grid, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of points to the nearest face of a field of view, mm; negative outside."""
    index = transform_points(np.linalg.inv(grid.affine), points)
    inner = np.minimum(index + 0.5, np.array(grid.shape) - 0.5 - index)
    return np.asarray((inner * grid.spacing).min(axis=-1))


def too_little(samples: int) -> RegistrationError:
    return RegistrationError(
        "E_REGISTRATION",
        what="Cannot deform the functional image",
        cause=f"too little of the body lies in both fields of view ({samples} sample points, at "
        f"least {FEWEST_SAMPLES} are needed)",
        remedy=f"Use {option('method', 'rigid')}",
    )
