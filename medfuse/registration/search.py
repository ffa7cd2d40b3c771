"""Where to start: mutual information of all translations at once, for a set of rotations.

For every rotation the joint histogram at every translation is a set of correlations of bin
indicators, computed by FFT; fields of view that only partly overlap are counted exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from medfuse.imaging.grid import (
    LPS_FROM_RAS,
    Grid,
    Matrix,
    coverage,
    from_sitk,
    to_sitk,
    transform_points,
)
from medfuse.registration.inputs import Prepared, at_resolution, on_grid_of
from medfuse.registration.progress import Meter, in_parallel

BINS = 6
MARGIN = 2


@dataclass(frozen=True)
class Candidate:
    """A possible start.

    Parameters
    ----------
    matrix : (4, 4) float64
        Fixed point -> moving point, RAS mm.
    score : float
        Mutual information (nats) of the coarse volumes times `overlap`.
    overlap : float
        Overlap of the fields of view as a fraction of the smaller one.
    """

    matrix: Matrix
    score: float
    overlap: float


@dataclass(frozen=True)
class _Lattice:
    """Bin labels on an isotropic lattice; `known` is false outside the field of view."""

    labels: NDArray[np.int64]
    known: NDArray[np.bool_]
    affine: Matrix


@dataclass(frozen=True)
class _Coarse:
    """A blurred volume cut to its foreground; `edges` are the lower limits of the bins 1, 2, ..."""

    array: NDArray[Any]
    affine: Matrix
    edges: NDArray[np.float64]


def rotation_ball(*, step_deg: float, limit_deg: float) -> list[NDArray[np.float64]]:
    """Rotations covering a ball of angles, the identity first.

    Rotation vectors on a body-centred cubic lattice with cubic edge `step_deg`: no rotation within
    the limit is further than about 0.56 `step_deg` from one of them.

    Returns
    -------
    rotations : list of (3, 3) float64
    """
    reach = int(np.ceil(limit_deg / step_deg))
    line = np.arange(-reach, reach + 1, dtype=np.float64)
    cube = np.stack(np.meshgrid(line, line, line, indexing="ij"), axis=-1).reshape(-1, 3)
    vectors = np.concatenate([cube, cube + 0.5]) * step_deg
    size = np.linalg.norm(vectors, axis=1)
    order = np.lexsort((*vectors.T, size.round(6)))
    return [rotation_matrix(vectors[i]) for i in order if size[i] <= limit_deg]


def rotation_matrix(vector_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3) rotation about the direction of a (3,) vector by its length in degrees (Rodrigues)."""
    angle = np.radians(np.linalg.norm(vector_deg))
    if angle == 0:
        return np.eye(3)
    x, y, z = np.asarray(vector_deg) / np.linalg.norm(vector_deg)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k)


def body_turns() -> list[NDArray[np.float64]]:
    """Half and quarter turns about the axes of the patient: how headers are wrong when they are.

    A scan whose patient position was entered wrongly (feet first for head first, prone for supine)
    or whose file lost its orientation lies so.

    Returns
    -------
    turns : list of (3, 3) float64
        Three half turns, then six quarter turns.
    """
    half, quarter = np.eye(3) * 180.0, np.concatenate([np.eye(3), -np.eye(3)]) * 90.0
    return [rotation_matrix(vector).round() for vector in (*half, *quarter)]


def search(
    fixed: Prepared,
    moving: Prepared,
    *,
    rotations: list[NDArray[np.float64]],
    step_mm: float,
    start: Matrix | None = None,
    reach_mm: float | None = None,
    min_overlap: float = 0.35,
    meter: Meter,
) -> list[Candidate]:
    """Return the best translation for every rotation, best score first.

    Parameters
    ----------
    rotations : list of (3, 3) float64
        Tried in turn, applied before `start`.
    step_mm : float
        Voxel size of the coarse volumes.
    start : (4, 4) float64, optional
        Fixed -> moving map around which is searched.
    reach_mm : float, optional
        Largest shift of the middle of the fixed volume away from `start`.
    min_overlap : float
        Least overlap of the fields of view, fraction of the smaller one.
    """
    around = np.eye(4) if start is None else start
    still = _coarse(fixed, step_mm)
    other = _lattice(_coarse(moving, step_mm), turn=np.eye(3), step_mm=step_mm)
    centre = fixed.grid.centre
    limit = None if reach_mm is None else (centre, transform_points(around, centre), reach_mm)

    def best_of(rotation: NDArray[np.float64]) -> Candidate | None:
        turn = around[:3, :3] @ rotation
        turned = _lattice(still, turn=turn, step_mm=step_mm)
        found = _best_translation(turned, other, limit=limit, min_overlap=min_overlap)
        meter.tick()
        return found

    found = in_parallel(best_of, rotations, meter)
    return sorted((c for c in found if c is not None), key=lambda c: -c.score)


def _coarse(volume: Prepared, step_mm: float) -> _Coarse:
    """Return the blurred volume, cut to its foreground and a margin, and its bin edges."""
    image = at_resolution(volume.image, step_mm=step_mm / 2, sigma_mm=step_mm / 2)
    inside = sitk.GetArrayFromImage(on_grid_of(image, volume.mask)) > 0
    values = sitk.GetArrayViewFromImage(image)[inside]
    box = []
    for axis, step in enumerate(image.GetSpacing()):
        others = tuple(k for k in range(3) if k != 2 - axis)
        used = np.flatnonzero(inside.any(axis=others))
        margin = int(np.ceil(MARGIN * step_mm / step))
        box.append(slice(max(0, int(used[0]) - margin), int(used[-1]) + 1 + margin))
    quantiles = np.linspace(0.0, 1.0, BINS)[:-1]
    quantiles[0] = 0.02
    return _Coarse(*from_sitk(image[tuple(box)]), edges=np.quantile(values, quantiles))


def _lattice(coarse: _Coarse, *, turn: NDArray[np.float64], step_mm: float) -> _Lattice:
    """Sample an image on a lattice whose axes, turned by `turn`, lie along the world's."""
    grid = Grid(coarse.array.shape, coarse.affine)
    turned = grid.corners() @ turn.T
    low = turned.min(axis=0)
    shape = np.ceil((turned.max(axis=0) - low) / step_mm).astype(int)
    lattice = np.eye(4)
    lattice[:3, :3] = turn.T * step_mm
    lattice[:3, 3] = turn.T @ (low + step_mm / 2.0)
    onto = Grid((int(shape[0]), int(shape[1]), int(shape[2])), lattice)
    known = coverage(onto, grid, np.eye(4))
    lps = LPS_FROM_RAS @ lattice
    sampled = sitk.Resample(
        to_sitk(coarse.array, coarse.affine),
        onto.shape,
        sitk.Transform(),
        sitk.sitkLinear,
        lps[:3, 3].tolist(),
        (step_mm,) * 3,
        (lps[:3, :3] / step_mm).ravel().tolist(),
        0.0,
    )
    return _Lattice(np.digitize(from_sitk(sampled)[0], coarse.edges), known, lattice)


def _best_translation(
    fixed: _Lattice,
    moving: _Lattice,
    *,
    limit: tuple[NDArray[np.float64], NDArray[np.float64], float] | None,
    min_overlap: float,
) -> Candidate | None:
    """Find the whole-voxel shift (moving index = fixed index + shift) of the best score."""
    size = tuple(
        _fast_length(a + b) for a, b in zip(fixed.known.shape, moving.known.shape, strict=True)
    )
    of_fixed = [np.conj(s) for s in _spectra(fixed, BINS, size)]
    of_moving = _spectra(moving, BINS, size)
    smaller = float(min(fixed.known.sum(), moving.known.sum()))
    both = _correlate(np.sum(of_fixed, axis=0), np.sum(of_moving, axis=0), size)
    allowed = both >= min_overlap * smaller
    shifts = _shifts(np.nonzero(allowed), size, moving.known.shape)
    if limit is not None:
        centre, target, reach = limit
        at = transform_points(np.linalg.inv(fixed.affine), centre) + shifts
        near = np.linalg.norm(transform_points(moving.affine, at) - target, axis=1) <= reach
        allowed[allowed] = near
        shifts = shifts[near]
    if not len(shifts):
        return None
    count = both[allowed]
    score = _information(of_fixed, of_moving, size, allowed, count) * (count / smaller)
    best = int(np.argmax(score))
    move = np.eye(4)
    move[:3, 3] = shifts[best]
    matrix = moving.affine @ move @ np.linalg.inv(fixed.affine)
    return Candidate(matrix, float(score[best]), float(count[best] / smaller))


def _spectra(lattice: _Lattice, bins: int, size: tuple[int, ...]) -> list[NDArray[Any]]:
    known = lattice.known
    return [
        np.fft.rfftn(((lattice.labels == b) & known).astype(np.float32), s=size, axes=(0, 1, 2))
        for b in range(bins)
    ]


def _correlate(fixed: NDArray[Any], moving: NDArray[Any], size: tuple[int, ...]) -> NDArray[Any]:
    return np.asarray(np.fft.irfftn(fixed * moving, s=size, axes=(0, 1, 2)))


def _information(
    of_fixed: list[NDArray[Any]],
    of_moving: list[NDArray[Any]],
    size: tuple[int, ...],
    allowed: NDArray[np.bool_],
    count: NDArray[Any],
) -> NDArray[Any]:
    """Mutual information (nats) at every allowed shift, from the joint histogram of the overlap."""
    information = np.zeros_like(count)
    by_moving = [np.zeros_like(count) for _ in of_moving]
    for f in of_fixed:
        by_fixed = np.zeros_like(count)
        for k, m in enumerate(of_moving):
            joint = np.maximum(_correlate(f, m, size)[allowed], 0.0) / count
            information += _x_log_x(joint)
            by_fixed += joint
            by_moving[k] += joint
        information -= _x_log_x(by_fixed)
    for marginal in by_moving:
        information -= _x_log_x(marginal)
    return information


def _x_log_x(x: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(x * np.log(np.maximum(x, np.float32(1e-9))))


def _shifts(
    index: tuple[NDArray[np.int64], ...], size: tuple[int, ...], moving_shape: tuple[int, ...]
) -> NDArray[np.int64]:
    """Correlation index -> signed shift: what is past the moving volume's end is negative."""
    wrapped = [
        np.where(i >= n, i - s, i) for i, s, n in zip(index, size, moving_shape, strict=True)
    ]
    return np.stack(wrapped, axis=-1)


def _fast_length(least: int) -> int:
    """Return the next length with only the factors 2, 3 and 5."""
    length = least
    while True:
        rest = length
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
        length += 1
