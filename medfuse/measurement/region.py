"""What is measured: masks with weights on a grid of their own, spheres, and isocontours."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike, NDArray

from medfuse.errors import UsageError
from medfuse.imaging.grid import Grid, to_sitk, transform_points

#: The world in which a region lies: that of the anatomical or that of the functional image.
Space = Literal["anatomical", "functional"]

_CELLS = 40  # of the lattice of a sphere, along its radius
_THRESHOLD = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(%?)\s*")


@dataclass(frozen=True, eq=False)
class Region:
    """A region as it was drawn, cut out to its bounding box.

    Attributes
    ----------
    name : str
    weights : (X, Y, Z) uint8 (0 or 1) or float32 in [0, 1]
        Part of each voxel that belongs to the region.
    grid : Grid
        Of `weights`.
    space : {"anatomical", "functional"}
        In which world `grid` lies.
    label : int, optional
        Its number in a label map, segmentation or structure set.
    kind : str
        How it was made, for people: "mask", "contours", "sphere", "isocontour 41 %".
    notes : tuple of str
        What the reader of the region has to remark.
    """

    name: str
    weights: NDArray[Any]
    grid: Grid
    space: Space
    label: int | None = None
    kind: str = "mask"
    notes: tuple[str, ...] = ()

    @classmethod
    def cut(
        cls, name: str, weights: ArrayLike, affine: ArrayLike, space: Space, **more: Any
    ) -> Self:
        """A region of a mask, whose empty surroundings are cut off.

        Parameters
        ----------
        weights : (X, Y, Z) array-like
            bool, or the part of each voxel in [0, 1].
        affine : (4, 4) array-like
            Voxel index -> RAS mm.
        """
        array = np.asarray(weights)
        if array.dtype.kind in "biu":
            array = (array > 0).astype(np.uint8)
        filled = [
            np.flatnonzero(array.any(axis=tuple(a for a in range(3) if a != axis)))
            for axis in range(3)
        ]
        start = [int(found[0]) if len(found) else 0 for found in filled]
        stop = [int(found[-1]) + 1 if len(found) else 1 for found in filled]
        part = array[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
        return cls(name, part, cropped(affine, start, part.shape), space, **more)

    @property
    def volume_ml(self) -> float:
        """As drawn, whatever a field of view cuts off."""
        return float(self.weights.sum(dtype=np.float64)) * voxel_ml(self.grid)

    @property
    def centre(self) -> NDArray[np.float64]:
        """(3,) centre of gravity, RAS mm of its world; NaN where it is empty."""
        index = np.argwhere(self.weights)
        heavy = self.weights[tuple(index.T)].astype(np.float64)
        if not len(index):
            return np.full(3, np.nan)
        middle = (index * heavy[:, None]).sum(axis=0) / heavy.sum()
        return transform_points(self.grid.affine, middle)


@dataclass(frozen=True)
class Threshold:
    """A lowest value: a part of the maximum, or a number in the unit of the image.

    >>> Threshold.parse("41%"), Threshold.parse("4")
    (Threshold(value=0.41, relative=True), Threshold(value=4.0, relative=False))
    """

    value: float
    relative: bool

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``41%`` or ``2.5``.

        Raises
        ------
        UsageError
            ``E_SETTINGS``.
        """
        found = _THRESHOLD.fullmatch(str(text))
        value = float(found[1]) / (100 if found[2] else 1) if found else 0.0
        if found is None or value <= 0 or (found[2] and value > 1):
            cause = f"{text!r} is neither a percentage of the maximum nor a value"
            raise _unusable("threshold", cause, "Give for example 41% or 2.5")
        return cls(value, bool(found[2]))

    def above(self, maximum: float) -> float:
        """The lowest value that counts."""
        return self.value * maximum if self.relative else self.value

    def words(self, unit: str) -> str:
        """For people: ``41 %`` or ``2.5 SUVbw``."""
        return f"{100 * self.value:g} %" if self.relative else f"{self.value:g} {unit}"


@dataclass(frozen=True)
class Sphere:
    """A ball about a point.

    Attributes
    ----------
    name : str
    centre : (3,) float
        RAS mm of `space`.
    radius_mm : float
    """

    name: str
    centre: tuple[float, float, float]
    radius_mm: float
    space: Space = "anatomical"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``liver=60,20,-15,15``: name, center and radius, of the anatomical image.

        Raises
        ------
        UsageError
            ``E_SETTINGS``.
        """
        name, _, rest = text.rpartition("=")
        numbers = _numbers(rest, 4)
        if numbers is None:
            raise _unusable("sphere", f"{text!r} is none", "Give for example liver=60,20,-15,15")
        x, y, z, radius = numbers
        return cls(name or "sphere", (x, y, z), radius)

    def region(self) -> Region:
        """The ball as a mask of cells of 1/40 of its radius.

        Raises
        ------
        UsageError
            ``E_SETTINGS``: no finite point, or no positive radius.
        """
        if not (np.isfinite([*self.centre, self.radius_mm]).all() and self.radius_mm > 0):
            cause = f"centre {self.centre}, radius {self.radius_mm:g} mm"
            raise _unusable("sphere", cause, "Give x, y, z and a positive radius in mm")
        cell = self.radius_mm / _CELLS
        axis = (np.arange(2 * _CELLS) + 0.5) / _CELLS - 1
        x, y, z = np.meshgrid(axis, axis, axis, indexing="ij", sparse=True)
        affine = np.diag([cell, cell, cell, 1.0])
        affine[:3, 3] = np.asarray(self.centre) - self.radius_mm + cell / 2
        ball = (x * x + y * y + z * z <= 1).astype(np.uint8)
        kind = f"sphere of {2 * self.radius_mm:g} mm"
        return Region(self.name, ball, Grid(ball.shape, affine), self.space, kind=kind)


@dataclass(frozen=True)
class Isocontour:
    """All voxels above a threshold that hang together with the hottest one.

    Attributes
    ----------
    name : str
    threshold : Threshold
        If relative, of the hottest voxel.
    seed : (3,) float, optional
        RAS mm of the functional image: from there the values are followed uphill to their local
        maximum, which then is the hottest voxel. Default: that of the whole image.
    """

    name: str
    threshold: Threshold
    seed: tuple[float, float, float] | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``41%``, ``lesion=2.5`` or ``lesion=41%@12,-30,44``.

        Raises
        ------
        UsageError
            ``E_SETTINGS``.
        """
        name, _, rest = text.rpartition("=")
        lowest, at, point = rest.partition("@")
        seed = _numbers(point, 3) if at else None
        if at and seed is None:
            raise _unusable(
                "isocontour", f"{text!r} is none", "Give for example lesion=41%@12,-30,44"
            )
        threshold = Threshold.parse(lowest)
        where = (seed[0], seed[1], seed[2]) if seed else None
        return cls(name or f"isocontour {lowest.strip()}", threshold, where)

    def region(self, values: NDArray[Any], grid: Grid, space: Space, unit: str) -> Region:
        """The contour in a functional image; voxels that touch by a face hang together.

        Raises
        ------
        UsageError
            ``E_SETTINGS``: the seed lies outside the image.
        """
        hottest = self._hottest(values, grid)
        low = self.threshold.above(float(values[hottest]))
        found = np.zeros_like(values, dtype=np.uint8)
        if values[hottest] >= low:
            image = sitk.ConnectedThreshold(
                to_sitk(values, grid.affine), [tuple(int(i) for i in hottest)], low, np.inf
            )
            found = sitk.GetArrayViewFromImage(image).transpose(2, 1, 0)
        kind = f"isocontour {self.threshold.words(unit)}"
        region = Region.cut(self.name, found, grid.affine, space, kind=kind)
        edge = _touches_edge(region, grid)
        notes = ("it reaches the edge of the image",) if edge else ()
        return Region(self.name, region.weights, region.grid, space, kind=kind, notes=notes)

    def _hottest(self, values: NDArray[Any], grid: Grid) -> tuple[int, ...]:
        if self.seed is None:
            return tuple(int(i) for i in np.unravel_index(int(values.argmax()), values.shape))
        index = np.rint(transform_points(np.linalg.inv(grid.affine), self.seed)).astype(int)
        if (index < 0).any() or (index >= values.shape).any():
            raise UsageError(
                "E_SETTINGS",
                what=f"Cannot draw the isocontour {self.name}",
                cause="its seed lies outside the functional image",
                remedy="Give a point of the functional image, in RAS mm",
            )
        at = tuple(int(i) for i in index)
        while True:
            near = tuple(slice(max(0, i - 1), i + 2) for i in at)
            best = np.unravel_index(int(values[near].argmax()), values[near].shape)
            there = tuple(s.start + int(b) for s, b in zip(near, best, strict=True))
            if values[there] <= values[at]:
                return at
            at = there


def voxel_ml(grid: Grid) -> float:
    """Volume of a voxel."""
    return float(abs(np.linalg.det(grid.affine[:3, :3]))) / 1000


def cropped(affine: ArrayLike, start: ArrayLike, shape: tuple[int, ...]) -> Grid:
    """The grid of a part of a volume, which begins at the voxel `start`."""
    moved = np.array(affine, dtype=np.float64)
    moved[:3, 3] = transform_points(moved, np.asarray(start, dtype=np.float64))
    x, y, z = shape
    return Grid((x, y, z), moved)


def _touches_edge(region: Region, grid: Grid) -> bool:
    start = np.rint(transform_points(np.linalg.inv(grid.affine), region.grid.affine[:3, 3]))
    stop = start + region.grid.shape
    flat = np.array(grid.shape) == 1
    return bool(((start <= 0) & ~flat).any() or ((stop >= grid.shape) & ~flat).any())


def _numbers(text: str, count: int) -> list[float] | None:
    """So many finite numbers, with commas between."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        return None
    return found if len(found) == count and np.isfinite(found).all() else None


def _unusable(what: str, cause: str, remedy: str) -> UsageError:
    return UsageError("E_SETTINGS", what=f"Cannot use the {what}", cause=cause, remedy=remedy)
