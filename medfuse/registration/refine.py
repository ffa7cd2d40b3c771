"""Refining a start with ITK: Mattes mutual information inside the fixed foreground.

The one place where medfuse's 4x4 maps (RAS) and ITK's transforms (LPS) meet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from medfuse.imaging.grid import LPS_FROM_RAS, Grid, Matrix, coverage, from_sitk, lps_from_ras
from medfuse.registration.inputs import Prepared, at_resolution, on_grid_of
from medfuse.registration.progress import Meter, in_parallel

PAD_MM = 100.0
NEARBY_MM, NEARBY_DEG = 8.0, 8.0
EXACTLY_RIGID = 1e-6
#: Writes a RAS map as an ITK transform about a centre (LPS); its kind says what may be refined.
Build = Callable[[Matrix, Sequence[float]], sitk.Transform]


@dataclass(frozen=True)
class Level:
    """One resolution of the refinement.

    Parameters
    ----------
    step_mm : float
        Voxel step of the fixed volume, mm.
    sigma_mm : float
        Blur of both volumes, mm.
    samples : int
        About so many of the fixed voxels guide the optimiser, on a regular pattern.
    iterations : int
        Most iterations of the optimiser.
    bins : int
        Of the joint histogram, for each volume.
    deeper_mm : float
        Only fixed voxels that lie deeper than this in the foreground count, and
    air_mm : (from, to)
        air that far from it.
    """

    step_mm: float
    sigma_mm: float
    samples: int
    iterations: int
    bins: int
    deeper_mm: float
    air_mm: tuple[float, float]

    def region(self, depth: sitk.Image) -> sitk.Image:
        """Voxels that count, uint8, from the signed distance to the foreground's edge."""
        near, far = self.air_mm
        counts: sitk.Image = (depth <= -self.deeper_mm) | ((depth >= near) & (depth <= far))
        return counts


@dataclass(frozen=True)
class Refined:
    """What one refinement found.

    Parameters
    ----------
    matrix : (4, 4) float64
        Fixed point -> moving point, RAS mm.
    metric : float
        Mattes mutual information (nats), higher is better. Outside the moving field of view the
        moving volume counts as background.
    overlap : float
        Fraction of the fixed foreground inside the moving field of view.
    iterations : int
    stop_reason : str
    """

    matrix: Matrix
    metric: float
    overlap: float
    iterations: int
    stop_reason: str

    @property
    def score(self) -> float:
        """Information, weighed by how much of the fixed foreground it rests on."""
        return self.metric * self.overlap

    def then(self, later: Refined) -> Refined:
        """Count the iterations of this step to those of the next."""
        return replace(later, iterations=self.iterations + later.iterations)


@dataclass(frozen=True)
class Stage:
    """Both volumes at one level, made once and shared by all starts."""

    level: Level
    fixed: sitk.Image
    region: sitk.Image
    moving: sitk.Image
    inside: NDArray[np.bool_]
    grid: Grid
    moving_grid: Grid
    centre_lps: tuple[float, float, float]
    sampled: float
    seed: int

    @classmethod
    def of(cls, fixed: Prepared, moving: Prepared, level: Level, *, seed: int) -> Stage:
        """Blur and shrink both volumes for a level."""
        image = at_resolution(fixed.image, step_mm=level.step_mm, sigma_mm=level.sigma_mm)
        mask = on_grid_of(image, fixed.mask)
        region = on_grid_of(image, level.region(fixed.depth))
        finest = min(level.step_mm / 2.0, level.sigma_mm)
        other = at_resolution(moving.image, step_mm=finest, sigma_mm=level.sigma_mm)
        array, affine = from_sitk(mask)
        index = np.argwhere(array > 0).mean(axis=0)
        x, y, z = (LPS_FROM_RAS @ affine @ [*index, 1.0])[:3]
        return cls(
            level=level,
            fixed=image,
            region=region,
            moving=_padded(other, PAD_MM),
            inside=array > 0,
            grid=Grid(array.shape, affine),
            moving_grid=moving.grid,
            centre_lps=(float(x), float(y), float(z)),
            sampled=min(1.0, level.samples / np.count_nonzero(sitk.GetArrayViewFromImage(region))),
            seed=seed,
        )

    def looking_at(self, region: sitk.Image) -> Stage:
        """The same stage, looking at another part of the fixed volume (uint8 on its grid)."""
        count = max(1, int(np.count_nonzero(sitk.GetArrayViewFromImage(region))))
        return replace(self, region=region, sampled=min(1.0, self.level.samples / count))

    def overlap(self, matrix: Matrix) -> float:
        """Fraction of the fixed foreground inside the moving field of view."""
        covered = coverage(self.grid, self.moving_grid, matrix)
        return float(covered[self.inside].mean())

    def evaluate(self, matrix: Matrix) -> Refined:
        """Measure on all voxels, without moving anything."""
        method = self._method(itk_transform(matrix, self.centre_lps))
        try:
            metric = -float(method.MetricEvaluate(*self._pair()))
        except RuntimeError:  # ITK finds no fixed voxel inside even the surrounded moving volume
            metric = 0.0
        return Refined(matrix, max(metric, 0.0), self.overlap(matrix), 0, "evaluated only")

    def sharpness(self, here: Refined) -> float:
        """Information at a place divided by its mean 8 mm and 8 degrees away, each way round.

        At the true place of two images of one body it is well above 1; where the images fit by
        chance, by their outlines alone or not at all, the surroundings are nearly as good.
        """
        if here.metric <= 0:
            return 0.0

        def moved(step: NDArray[np.float64]) -> float:
            move = euler_transform(np.eye(4), self.centre_lps)
            move.SetParameters(step.tolist())
            return self.evaluate(here.matrix @ ras_matrix(move)).metric

        steps = np.diag([np.radians(NEARBY_DEG)] * 3 + [NEARBY_MM] * 3)
        around = in_parallel(
            moved, [sign * step for step in steps for sign in (1, -1)], Meter(None)
        )
        return here.metric / max(float(np.mean(around)), 1e-6)

    def refine(
        self,
        matrix: Matrix,
        meter: Meter,
        build: Build | None = None,
        *,
        iterations: int | None = None,
    ) -> Refined:
        """Climb mutual information from a start; the start itself where nothing better is found.

        All that the transform of `build` can do is refined, by default rotation and shift; in at
        most `iterations`, by default those of the level.
        """
        most = iterations or self.level.iterations
        transform = (build or euler_transform)(matrix, self.centre_lps)
        method = self._method(transform, most)
        ticks = []

        def on_iteration() -> None:
            ticks.append(1)
            meter.tick()
            if meter.failure is not None:
                method.StopRegistration()

        method.AddCommand(sitk.sitkIterationEvent, on_iteration)
        try:
            method.Execute(*self._pair())
            reason = str(method.GetOptimizerStopConditionDescription())
        except RuntimeError as error:
            reason = f"stopped by ITK: {str(error).strip().splitlines()[-1]}"
        meter.check()
        meter.tick(max(0, most - len(ticks)))
        before, after = self.evaluate(matrix), self.evaluate(ras_matrix(transform))
        if after.score <= before.score:
            return replace(before, stop_reason=f"start kept, nothing better near it ({reason})")
        return replace(after, iterations=len(ticks), stop_reason=reason)

    def _pair(self) -> tuple[sitk.Image, sitk.Image]:
        """Copies: two threads that share one SimpleITK image can crash."""
        return _own(self.fixed), _own(self.moving)

    def _method(
        self, transform: sitk.Transform, iterations: int = 1
    ) -> sitk.ImageRegistrationMethod:
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(self.level.bins)
        method.SetMetricSamplingStrategy(method.REGULAR)
        # ITK takes the seed 0 for the wall clock.
        method.SetMetricSamplingPercentage(self.sampled, self.seed + 1)
        method.SetMetricFixedMask(_own(self.region))
        method.SetInterpolator(sitk.sitkLinear)
        # Gradients at the samples alone: filtering the whole moving volume would cost more.
        method.MetricUseFixedImageGradientFilterOff()
        method.MetricUseMovingImageGradientFilterOff()
        method.SetOptimizerAsConjugateGradientLineSearch(
            learningRate=1.0,
            numberOfIterations=iterations,
            convergenceMinimumValue=1e-5,
            convergenceWindowSize=5,
            lineSearchLowerLimit=0.0,
            lineSearchUpperLimit=5.0,
            lineSearchEpsilon=0.1,
            lineSearchMaximumIterations=8,
            estimateLearningRate=method.EachIteration,
            maximumStepSizeInPhysicalUnits=self.level.step_mm,
        )
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetInitialTransform(transform, inPlace=True)
        return method


def _own(image: sitk.Image) -> sitk.Image:
    copy = sitk.Image(image)
    copy.MakeUnique()
    return copy


def _padded(image: sitk.Image, margin_mm: float) -> sitk.Image:
    """Surround by background, so that leaving the field of view loses information.

    ITK's metric looks at the samples inside the moving volume alone, and can then rise by moving
    out of it.
    """
    margin = [int(np.ceil(margin_mm / step)) for step in image.GetSpacing()]
    padded: sitk.Image = sitk.ConstantPad(image, margin, margin, 0.0)
    return padded


def euler_transform(matrix: Matrix, centre_lps: Sequence[float]) -> sitk.Euler3DTransform:
    """Write a rigid RAS map as an ITK transform (LPS) about a centre."""
    lps = lps_from_ras(matrix)
    transform = sitk.Euler3DTransform()
    transform.SetCenter(list(centre_lps))
    transform.SetMatrix(nearest_rotation(lps[:3, :3]).ravel().tolist(), 1e-6)
    transform.SetTranslation(_translation(lps, centre_lps))
    return transform


def affine_transform(matrix: Matrix, centre_lps: Sequence[float]) -> sitk.AffineTransform:
    """Write a linear RAS map as an ITK transform (LPS) with 12 parameters about a centre."""
    lps = lps_from_ras(matrix)
    transform = sitk.AffineTransform(3)
    transform.SetCenter(list(centre_lps))
    transform.SetMatrix(lps[:3, :3].ravel().tolist())
    transform.SetTranslation(_translation(lps, centre_lps))
    return transform


def itk_transform(matrix: Matrix, centre_lps: Sequence[float] = (0.0, 0.0, 0.0)) -> sitk.Transform:
    """Write a linear RAS map as an ITK transform (LPS): Euler where rigid, else affine."""
    build: Build = euler_transform if is_rigid(matrix) else affine_transform
    return build(matrix, centre_lps)


def is_rigid(matrix: Matrix, tolerance: float = EXACTLY_RIGID) -> bool:
    """Tell whether a map keeps lengths and sides."""
    turn = matrix[:3, :3]
    square = np.abs(turn.T @ turn - np.eye(3)).max()
    return bool(square < tolerance and np.linalg.det(turn) > 0)


def _translation(lps: Matrix, centre_lps: Sequence[float]) -> list[float]:
    centre = np.asarray(centre_lps)
    shift: list[float] = (lps[:3, :3] @ centre + lps[:3, 3] - centre).tolist()
    return shift


def ras_matrix(transform: sitk.Transform) -> Matrix:
    """Read a linear 3-D ITK transform (LPS point map), composite too, as a 4x4 RAS map."""
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    axes = [transform.TransformPoint(axis) for axis in np.eye(3).tolist()]
    lps = np.eye(4)
    lps[:3, :3] = (np.array(axes) - origin).T
    lps[:3, 3] = origin
    return lps_from_ras(lps)


def nearest_rotation(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Remove rounding from a (3, 3) rotation (polar decomposition by SVD)."""
    left, _, right = np.linalg.svd(matrix)
    return np.asarray(left @ right)
