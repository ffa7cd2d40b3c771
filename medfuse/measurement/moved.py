"""What the error of a registration does to the numbers of a region, which is moved by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from medfuse.imaging.grid import Matrix
from medfuse.measurement.occupancy import Part
from medfuse.measurement.peak import SphereMeans
from medfuse.measurement.statistics import HALF, weighted

#: To the sides, edges and corners of a cube, all equally far.
_DIRECTIONS = np.array([d for d in product((-1, 0, 1), repeat=3) if any(d)], dtype=np.float64)
DIRECTIONS = _DIRECTIONS / np.linalg.norm(_DIRECTIONS, axis=1, keepdims=True)
#: Farther than this a range tells nothing.
FARTHEST_MM = 30.0


@dataclass(frozen=True)
class Effect:
    """What became of the numbers of a region where it was moved.

    Attributes
    ----------
    peak : float or None
        Of the region where it is; None where no voxel is half inside, or most was not measured.
    means, peaks : (low, high)
        Of all places, the unmoved one included.
    """

    peak: float | None
    means: tuple[float, float]
    peaks: tuple[float, float] | None


class Moved:
    """A region on the functional grid, moved by whole voxels.

    Parameters
    ----------
    values : (X, Y, Z) float32
    inside : (X, Y, Z) bool or None
        Voxels that were measured; None: all.
    part : Part
        The region where it is.
    """

    def __init__(
        self, values: NDArray[np.float32], inside: NDArray[np.bool_] | None, part: Part
    ) -> None:
        self.values, self.inside = np.ascontiguousarray(values), inside
        index = np.argwhere(part.weights > 0)
        self.weights = part.weights[tuple(index.T)].astype(np.float64)
        self.at = _Places(index + part.start)
        self.own = _Places(self.at.index[self.weights >= HALF])
        self._known: dict[tuple[int, ...], float] = {}

    def mean(self, voxels: NDArray[np.float64]) -> float:
        """Mean of the region moved by a part of voxels: of the eight whole moves around it."""
        low = np.floor(voxels).astype(int)
        part = voxels - low
        total = 0.0
        for corner in product((0, 1), repeat=3):
            share = float(np.prod(np.where(corner, part, 1 - part)))
            if share > 1e-9:
                total += share * self._mean(tuple(int(n) for n in low + corner))
        return total

    def peaks(self, moves: NDArray[np.int64], means: SphereMeans) -> list[float]:
        """Peak of the region at each of some whole moves; NaN where there is none."""
        if not len(self.own.index):
            return [np.nan] * len(moves)
        shape = np.array(self.values.shape)
        low = np.maximum(self.own.low + moves.min(axis=0), 0)
        high = np.minimum(self.own.high + moves.max(axis=0) + 1, shape)
        if (high <= low).any():
            return [np.nan] * len(moves)
        field = means.of_box(low, high)
        known = {
            move: self._peak(np.array(move) - low, field)
            for move in {tuple(int(n) for n in move) for move in moves}
        }
        return [known[tuple(int(n) for n in move)] for move in moves]

    def _peak(self, shift: NDArray[np.int64], field: NDArray[np.float64]) -> float:
        flat, _ = self.own.moved(shift, field.shape)
        found = field.ravel().take(flat)
        highest = float(found.max()) if len(found) else np.nan
        if np.isnan(highest):
            found = found[np.isfinite(found)]
            highest = float(found.max()) if len(found) else np.nan
        return highest

    def _mean(self, shift: tuple[int, ...]) -> float:
        if shift not in self._known:
            self._known[shift] = self._measured(np.array(shift))
        return self._known[shift]

    def _measured(self, shift: NDArray[np.int64]) -> float:
        flat, held = self.at.moved(shift, self.values.shape)
        heavy = self.weights if held is None else self.weights[held]
        if self.inside is not None:
            heavy = heavy * self.inside.ravel().take(flat)
        total = float(heavy.sum())
        return weighted(self.values.ravel().take(flat), heavy) / total if total else np.nan


class _Places:
    """Voxels, as places in an array of any shape."""

    def __init__(self, index: NDArray[np.int64]) -> None:
        self.index = index
        none = np.zeros(3, dtype=np.int64)
        self.low = index.min(axis=0) if len(index) else none
        self.high = index.max(axis=0) if len(index) else none
        self._flat: dict[tuple[int, ...], NDArray[np.int64]] = {}

    def moved(
        self, shift: NDArray[np.int64], shape: tuple[int, ...]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None]:
        """Flat places after a move, and which of them are left; None: all are."""
        steps = np.array([shape[1] * shape[2], shape[2], 1])
        if (self.low + shift >= 0).all() and (self.high + shift < shape).all():
            if shape not in self._flat:
                self._flat[shape] = self.index @ steps
            return self._flat[shape] + int(shift @ steps), None
        index = self.index + shift
        held = np.asarray(((index >= 0) & (index < shape)).all(axis=1))
        return index[held] @ steps, held


def effect_of(
    error_mm: float, moved: Moved, means: SphereMeans, world_from_region: Matrix, affine: Matrix
) -> Effect:
    """The range of mean and peak of a region that lies up to `error_mm` elsewhere.

    The region is moved by the error into 26 directions of its own world. The mean is interpolated
    between moves by whole voxels; the peak is that of the nearest whole move.

    Parameters
    ----------
    error_mm : float
        0 for a region that is where it is.
    moved : Moved
    means : SphereMeans
        Of the same values.
    world_from_region : (4, 4) array
        World point of the region -> world point of the values, RAS mm.
    affine : (4, 4) array
        Of the values.
    """
    steps = error_mm * DIRECTIONS @ (np.linalg.inv(affine[:3, :3]) @ world_from_region[:3, :3]).T
    places = np.vstack([np.zeros(3), steps]) if error_mm else np.zeros((1, 3))
    found = [moved.mean(step) for step in places]
    peaks = moved.peaks(np.rint(places).astype(int), means)
    here = None if np.isnan(peaks[0]) else float(peaks[0])
    return Effect(here, _range(found), None if np.isnan(peaks).all() else _range(peaks))


def _range(found: Sequence[float]) -> tuple[float, float]:
    return float(np.nanmin(found)), float(np.nanmax(found))
