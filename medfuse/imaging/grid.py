"""Where voxels are: grids in RAS millimetres, and the one conversion to ITK's LPS world.

Also the order in which slices are shown, and which voxels of one grid lie inside another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike, NDArray

from medfuse.errors import GeometryError
from medfuse.imaging.volume import out_of_this_world

if TYPE_CHECKING:
    import torch
    from monai.data.meta_tensor import MetaTensor

    Array = TypeVar("Array", NDArray[Any], torch.Tensor)
else:
    Array = TypeVar("Array")

Matrix = NDArray[np.float64]

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
SLICE_ANISOTROPY = 1.5
EDGE_TOLERANCE = 1e-6
MOST_AT_ONCE = 1 << 24  # voxels


@dataclass(frozen=True, eq=False)
class Grid:
    """A voxel lattice in the patient's world.

    Parameters
    ----------
    shape : (X, Y, Z) int
        Number of voxels along each index axis.
    affine : (4, 4) float64
        Voxel index -> world point, RAS+, mm; an integer index is a voxel centre.

    Raises
    ------
    GeometryError
        ``E_BAD_AFFINE`` where the affine is not finite, not invertible, or places voxels as no
        scanner does; ``E_NOT_A_VOLUME`` where the shape is not three positive numbers.
    """

    shape: tuple[int, int, int]
    affine: Matrix

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        if len(shape) != 3 or min(shape) < 1:
            raise GeometryError(
                "E_NOT_A_VOLUME",
                what="Cannot place the image in space",
                cause=f"expected three positive sizes, got {shape}",
                remedy="Give a three-dimensional volume",
            )
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", _checked_affine(self.affine))

    @classmethod
    def from_volume(cls, volume: MetaTensor) -> Grid:
        """Return the grid of a (C, X, Y, Z) MetaTensor."""
        x, y, z = volume.shape[-3:]
        return cls(shape=(x, y, z), affine=np.asarray(volume.affine, dtype=np.float64))

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxel centres along each index axis, mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def centre(self) -> NDArray[np.float64]:
        """(3,) world point of the middle of the grid, RAS mm."""
        return transform_points(self.affine, (np.array(self.shape) - 1.0) / 2.0)

    def corners(self) -> NDArray[np.float64]:
        """(8, 3) outer corners of the voxel extents (index -0.5 and n - 0.5), RAS mm."""
        ends = [(-0.5, n - 0.5) for n in self.shape]
        index = np.stack(np.meshgrid(*ends, indexing="ij"), axis=-1).reshape(-1, 3)
        return transform_points(self.affine, index)

    def same_as(self, other: Grid, *, tolerance_mm: float = 1e-3) -> bool:
        """Tell whether both grids hold the same voxels, to a tolerance at the outer corners."""
        if self.shape != other.shape:
            return False
        return bool(np.abs(self.corners() - other.corners()).max() <= tolerance_mm)


def transform_points(matrix: ArrayLike, points: ArrayLike) -> NDArray[np.float64]:
    """Map points by a homogeneous matrix.

    Parameters
    ----------
    matrix : (4, 4) array-like
    points : (..., 3) array-like

    Returns
    -------
    mapped : (..., 3) float64
    """
    m = np.asarray(matrix, dtype=np.float64)
    return np.asarray(np.asarray(points, dtype=np.float64) @ m[:3, :3].T + m[:3, 3])


def lps_from_ras(matrix: ArrayLike) -> Matrix:
    """Rewrite a 4x4 point map between RAS worlds as one between LPS worlds, or back (same rule)."""
    return np.asarray(LPS_FROM_RAS @ np.asarray(matrix, dtype=np.float64) @ LPS_FROM_RAS)


def to_sitk(array: ArrayLike, affine: ArrayLike) -> sitk.Image:
    """Make a SimpleITK image (LPS, mm) of an array with a RAS affine.

    Parameters
    ----------
    array : (X, Y, Z) array-like
        Copied; bool becomes uint8.
    affine : (4, 4) array-like
        Voxel index -> RAS mm. Left-handed storage is kept as it is.

    Raises
    ------
    GeometryError
        ``E_BAD_AFFINE``, ``E_NOT_A_VOLUME``.
    """
    values = np.asarray(array)
    grid = Grid(shape=values.shape, affine=np.asarray(affine, dtype=np.float64))
    if values.dtype == np.bool_:
        values = values.astype(np.uint8)
    image = _image_of(values)
    lps = LPS_FROM_RAS @ grid.affine
    image.SetSpacing(grid.spacing)
    image.SetDirection((lps[:3, :3] / np.array(grid.spacing)).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def _image_of(values: NDArray[Any]) -> sitk.Image:
    """Copy (X, Y, Z); a large volume a few slices at a time, so that there is one copy only."""
    x, y, z = values.shape
    step = max(1, MOST_AT_ONCE // (x * y))
    if step >= z:
        return sitk.GetImageFromArray(np.ascontiguousarray(values.transpose(2, 1, 0)))
    kind = sitk.GetImageFromArray(np.empty((1, 1, 1), values.dtype)).GetPixelID()
    image = sitk.Image([x, y, z], kind)
    for k in range(0, z, step):
        part = np.ascontiguousarray(values[..., k : k + step].transpose(2, 1, 0))
        image[:, :, k : k + step] = sitk.GetImageFromArray(part)
    return image


def from_sitk(image: sitk.Image) -> tuple[NDArray[Any], Matrix]:
    """Return (array (X, Y, Z), affine index -> RAS mm) of a scalar 3-D SimpleITK image."""
    # The view dies with the image: always copy.
    array = np.array(sitk.GetArrayViewFromImage(image).transpose(2, 1, 0), order="C", copy=True)
    lps = np.eye(4)
    lps[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.array(image.GetSpacing())
    lps[:3, 3] = image.GetOrigin()
    return array, np.asarray(LPS_FROM_RAS @ lps)


def coverage(grid: Grid, source: Grid, source_from_grid: ArrayLike) -> NDArray[np.bool_]:
    """Tell which voxels of a grid have their centre inside another grid's field of view.

    Inside means within the voxel extents [-0.5, n - 0.5] of `source`, as ITK's interpolators have
    it, less 1e-6 of a voxel: what is called covered here is always inside for ITK too.
    Along the last index axis an affine map makes the covered voxels one interval, so only X * Y
    intervals are computed instead of X * Y * Z points.

    Parameters
    ----------
    grid : Grid
        Grid that is asked about.
    source : Grid
        Grid of the volume that gives the values.
    source_from_grid : (4, 4) array-like
        World point of `grid` -> world point of `source`, RAS mm (``Registration.matrix``).

    Returns
    -------
    inside : (X, Y, Z) bool
    """
    m = np.linalg.inv(source.affine) @ np.asarray(source_from_grid, dtype=np.float64) @ grid.affine
    i = np.arange(grid.shape[0], dtype=np.float64)[:, None]
    j = np.arange(grid.shape[1], dtype=np.float64)[None, :]
    first = np.zeros(grid.shape[:2])
    last = np.full(grid.shape[:2], grid.shape[2] - 1.0)
    for row, size in zip(m[:3], source.shape, strict=True):
        start = row[0] * i + row[1] * j + row[3]
        low, high = -0.5 + EDGE_TOLERANCE, size - 0.5 - EDGE_TOLERANCE
        step = row[2]
        if abs(step) < 1e-12:
            last[(start < low) | (start > high)] = -1.0
            continue
        entry, leave = (low - start) / step, (high - start) / step
        first = np.maximum(first, np.ceil(np.minimum(entry, leave)))
        last = np.minimum(last, np.floor(np.maximum(entry, leave)))
    first = np.minimum(first, grid.shape[2]).astype(np.int32)
    last = np.maximum(last, -1.0).astype(np.int32)
    k = np.arange(grid.shape[2], dtype=np.int32)
    return np.asarray((k >= first[..., None]) & (k <= last[..., None]))


def slice_axis(grid: Grid) -> int:
    """Return the index axis along which the volume is shown and fused slice by slice.

    The coarsest axis if it is more than 1.5 times as coarse as the next one (thick slices were
    acquired along it), else the axis nearest to superior-inferior.
    """
    order = np.argsort(grid.spacing, kind="stable")
    if grid.spacing[order[2]] > SLICE_ANISOTROPY * grid.spacing[order[1]]:
        return int(order[2])
    return int(np.flatnonzero(_world_axes(grid)[0] == 2)[0])


@dataclass(frozen=True)
class DisplayOrder:
    """Permutation and flips from (X, Y, Z) to (slices, rows, columns) as radiologists look at it.

    Axial: rows go to posterior, columns to patient left, slices to superior. Coronal: rows to
    inferior, columns to left, slices to posterior. Sagittal: rows to inferior, columns to
    posterior, slices to left. Nothing is interpolated, so the inverse is exact.

    Parameters
    ----------
    plane : {"axial", "coronal", "sagittal"}
        Nearest anatomical plane of the slices.
    axes : (3,) int
        Index axes that become slices, rows, columns.
    flips : (3,) bool
        Whether slices, rows, columns run against their index axis.
    spacing : (3,) float
        Step between slices, rows, columns, mm.
    """

    plane: str
    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    spacing: tuple[float, float, float]

    @classmethod
    def from_grid(cls, grid: Grid, *, axis: int | None = None) -> DisplayOrder:
        """Find the order for a grid; `axis` is the slice axis (default: `slice_axis`)."""
        slices = slice_axis(grid) if axis is None else axis
        world, sign = _world_axes(grid)
        plane = ("sagittal", "coronal", "axial")[world[slices]]
        # Wanted world direction of slices, rows, columns: (world axis, sign in RAS).
        wanted = {
            "axial": ((2, 1), (1, -1), (0, -1)),
            "coronal": ((1, -1), (2, -1), (0, -1)),
            "sagittal": ((0, -1), (2, -1), (1, -1)),
        }[plane]
        axes = [int(np.flatnonzero(world == axis_of_world)[0]) for axis_of_world, _ in wanted]
        flips = [bool(sign[a] != way) for a, (_, way) in zip(axes, wanted, strict=True)]
        s, r, c = axes
        step = grid.spacing
        return cls(plane, (s, r, c), (flips[0], flips[1], flips[2]), (step[s], step[r], step[c]))

    def apply(self, array: Array) -> Array:
        """(..., X, Y, Z) -> (..., slices, rows, columns); tensor or array, no copy of a tensor."""
        lead: int = array.ndim - 3
        order = [*range(lead), *(lead + a for a in self.axes)]
        return _flip(_permute(array, order), _shifted(self.flips, lead))

    def invert(self, array: Array) -> Array:
        """(..., slices, rows, columns) -> (..., X, Y, Z): exactly undoes `apply`."""
        lead: int = array.ndim - 3
        order = [*range(lead), *(lead + self.axes.index(a) for a in range(3))]
        return _permute(_flip(array, _shifted(self.flips, lead)), order)

    def after(self, first: DisplayOrder) -> DisplayOrder:
        """The order from the slices, rows and columns of another one to those of this one."""
        s, r, c = (first.axes.index(axis) for axis in self.axes)
        turns = [first.flips[a] != flip for a, flip in zip((s, r, c), self.flips, strict=True)]
        return DisplayOrder(self.plane, (s, r, c), (turns[0], turns[1], turns[2]), self.spacing)

    def cut(self, volume: torch.Tensor, part: slice) -> torch.Tensor:
        """Some slices as a view that shares memory with (..., X, Y, Z); `turned` is `apply`."""
        lead = volume.ndim - 3
        axis = lead + self.axes[0]
        start, stop, _ = part.indices(volume.shape[axis])
        if self.flips[0]:
            start, stop = volume.shape[axis] - stop, volume.shape[axis] - start
        view = volume.narrow(axis, start, stop - start)
        return _permute(view, [*range(lead), *(lead + a for a in self.axes)])

    def turned(self, slices: Array) -> Array:
        """Flip (..., slices, rows, columns) where the order runs against its index axes."""
        return _flip(slices, _shifted(self.flips, slices.ndim - 3))


def _shifted(flips: tuple[bool, bool, bool], lead: int) -> tuple[int, ...]:
    return tuple(lead + a for a, flip in enumerate(flips) if flip)


def _permute(array: Array, order: list[int]) -> Array:
    if isinstance(array, np.ndarray):
        return array.transpose(order)
    return array.permute(order)


def _flip(array: Array, axes: tuple[int, ...]) -> Array:
    if not axes:
        return array
    if isinstance(array, np.ndarray):
        return np.flip(array, axes)
    return array.flip(axes)


def _world_axes(grid: Grid) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """World axis (0 R, 1 A, 2 S) nearest to each index axis, all different, and its sign."""
    orientation = nib.orientations.io_orientation(grid.affine)
    return orientation[:, 0].astype(np.int64), orientation[:, 1].astype(np.int64)


def _checked_affine(affine: ArrayLike) -> Matrix:
    checked = np.array(affine, dtype=np.float64)
    if checked.shape != (4, 4):
        cause = f"expected a 4x4 affine, got shape {checked.shape}"
    elif not np.isfinite(checked).all():
        cause = "the affine holds NaN or infinite numbers"
    elif not np.array_equal(checked[3], [0.0, 0.0, 0.0, 1.0]):
        cause = f"the last row of the affine must be 0 0 0 1, got {checked[3].tolist()}"
    else:
        with np.errstate(over="ignore"):
            length = np.linalg.norm(checked[:3, :3], axis=0)
        if not (length.min() > 0 and abs(np.linalg.det(checked[:3, :3] / length)) > 1e-3):
            cause = f"the affine is singular (voxel sizes {np.round(length, 4).tolist()} mm)"
        elif not (cause := out_of_this_world(checked) or ""):
            checked.setflags(write=False)
            return checked
    raise GeometryError(
        "E_BAD_AFFINE",
        what="Cannot place the image in space",
        cause=cause,
        remedy="Export the image again with its geometry",
    )
