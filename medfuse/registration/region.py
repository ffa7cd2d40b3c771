"""A region that a registration must get right: a tumor, the brain."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from medfuse.errors import InputError, UsageError
from medfuse.imaging.grid import Grid, Matrix, coverage, to_sitk, transform_points
from medfuse.imaging.lattice import same_lattice
from medfuse.registration.refine import Stage, itk_transform

if TYPE_CHECKING:
    from monai.data.meta_tensor import MetaTensor

#: The copy of the mask in a result, from which the registration is repeated.
REGION_FILE = "region.nii.gz"
#: What lies so near to the region counts, the outline too.
MARGIN_MM = 30.0
#: The whole body may lose so little of its score for the sake of the region, not more.
GUARD = 0.98
#: A region must lie in the field of view of the image in whose world it is, by so much.
LEAST_INSIDE = 0.95
POINTS = 400
#: Voxels are put together until a region has no more than so many.
MOST_VOXELS = 1 << 24


class Drawn(Protocol):
    """A region as `medfuse.measurement` reads it; see `medfuse.measurement.region.Region`."""

    @property
    def weights(self) -> NDArray[Any]: ...
    @property
    def grid(self) -> Grid: ...
    @property
    def space(self) -> Literal["anatomical", "functional"]: ...


@dataclass(frozen=True, eq=False)
class Region:
    """Voxels that matter most, in the world of one of the two images.

    Parameters
    ----------
    inside : (X, Y, Z) bool
    affine : (4, 4) float64
        Voxel index -> RAS mm.
    of : {"fixed", "moving"}
        The image in whose world it lies.
    """

    inside: NDArray[np.bool_]
    affine: Matrix
    of: Literal["fixed", "moving"]

    def points(self, matrix: Matrix) -> NDArray[np.float64]:
        """(N, 3) points in the fixed world, RAS mm, where `matrix` maps fixed to moving points."""
        index = np.argwhere(self.inside)
        world = transform_points(self.affine, index[:: max(1, len(index) // POINTS)])
        return world if self.of == "fixed" else transform_points(np.linalg.inv(matrix), world)

    def to_dict(self) -> dict[str, Any]:
        """What a record says of it; its voxels are a file beside that."""
        step = float(abs(np.linalg.det(self.affine[:3, :3])))
        return {
            "in_the_world_of": "anatomical" if self.of == "fixed" else "functional",
            "shape": list(self.inside.shape),
            "affine": self.affine.tolist(),
            "volume_ml": round(float(self.inside.sum()) * step / 1000.0, 3),
        }

    def exchanged(self) -> Region:
        """The same region for the pair with its roles exchanged."""
        return replace(self, of="moving" if self.of == "fixed" else "fixed")


def region_of(
    given: Region | Drawn | MetaTensor, fixed: MetaTensor, moving: MetaTensor, where: str = ""
) -> Region:
    """What a registration looks at, of a mask or of a region that was read from a file.

    Parameters
    ----------
    given : Region, measurement Region, or (1, X, Y, Z) MetaTensor
        Every voxel of 0.5 or more counts. A mask on the voxel lattice of the moving image alone
        lies in the world of that image, any other in that of the fixed one.
    fixed, moving : (C, X, Y, Z) MetaTensor
        Their grids alone are asked for.
    where : str
        Name for errors.

    Raises
    ------
    InputError
        ``E_REGION``: no single channel, empty, or outside of the field of view.
    UsageError
        ``E_SETTINGS``: neither a mask nor a region.
    """
    if isinstance(given, Region):
        return given
    grids = Grid.from_volume(fixed), Grid.from_volume(moving)
    if hasattr(given, "space"):
        drawn = cast(Drawn, given)
        weights, grid = drawn.weights, drawn.grid
        of: Literal["fixed", "moving"] = "fixed" if drawn.space == "anatomical" else "moving"
    elif not hasattr(given, "affine"):
        raise UsageError(
            "E_SETTINGS",
            what="Cannot use the region",
            cause=f"expected a mask with an affine or a region, got {type(given).__name__}",
            remedy="Read a file with medfuse.case.focus.read_region(FILE, fixed, moving)",
        )
    else:
        values = np.asarray(given.detach().cpu())
        if values.ndim != 4 or len(values) != 1:
            raise bad_region(where, f"expected one channel (1, X, Y, Z), got {values.shape}")
        weights, grid = values[0], Grid.from_volume(given)
        on_fixed, on_moving = (same_lattice(other, grid) for other in grids)
        of = "moving" if on_moving and not on_fixed else "fixed"
    inside, affine = _fewer(*_cut_out(np.nan_to_num(weights), grid.affine))
    if not inside.any():
        raise bad_region(where, f"none of its {weights.size} voxels is 0.5 or more")
    _require_inside(where, inside, affine, grids[of == "moving"], of)
    # As a NIfTI file holds it, so that the copy in a result is the same region.
    return Region(inside, affine.astype(np.float32).astype(np.float64), of)


def focused(stage: Stage, region: Region, here: Matrix) -> Stage:
    """Look only at what lies near the region."""
    mask = to_sitk(region.inside.astype(np.float32), region.affine)
    to_mask = itk_transform(np.eye(4) if region.of == "fixed" else here)
    there = sitk.Resample(mask, stage.fixed, to_mask, sitk.sitkLinear, 0.0) > 0.0
    if not sitk.GetArrayViewFromImage(there).any():
        return stage
    depth = sitk.SignedMaurerDistanceMap(there, squaredDistance=False, useImageSpacing=True)
    return stage.looking_at(depth <= MARGIN_MM)


def bad_region(where: str, cause: str, remedy: str = "") -> InputError:
    """The error of a region on which nothing can be registered."""
    return InputError(
        "E_REGION",
        what="Cannot use the region",
        where=where,
        cause=cause,
        remedy=remedy or "Give a region that was drawn on one of the two images",
    )


def _cut_out(weights: NDArray[Any], affine: Matrix) -> tuple[NDArray[Any], Matrix]:
    """A mask without its empty surroundings."""
    there = weights > 0
    rows = [np.flatnonzero(there.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    if not len(rows[0]):
        return weights, affine
    moved = affine.copy()
    moved[:3, 3] = transform_points(affine, np.array([row[0] for row in rows], dtype=float))
    return weights[tuple(slice(row[0], row[-1] + 1) for row in rows)], moved


def _fewer(weights: NDArray[Any], affine: Matrix) -> tuple[NDArray[np.bool_], Matrix]:
    """Voxels of at least half, of blocks of voxels where there are very many."""
    step = 1
    while weights.size > MOST_VOXELS * step**3:
        step += 1
    if step > 1:
        ends = [(0, -size % step) for size in weights.shape]
        x, y, z = np.pad(weights, ends).shape
        blocks = np.pad(weights, ends).reshape(x // step, step, y // step, step, z // step, step)
        weights = blocks.mean(axis=(1, 3, 5), dtype=np.float32)
        affine = affine @ np.diag([step, step, step, 1.0])
        affine[:3, 3] += affine[:3, :3] @ np.full(3, (step - 1) / (2 * step))
    return np.asarray(weights >= 0.5), affine


def _require_inside(
    where: str,
    inside: NDArray[np.bool_],
    affine: Matrix,
    field: Grid,
    of: Literal["fixed", "moving"],
) -> None:
    x, y, z = inside.shape
    covered = float(coverage(Grid((x, y, z), affine), field, np.eye(4))[inside].mean())
    if covered < LEAST_INSIDE:
        name = "anatomical" if of == "fixed" else "functional"
        raise bad_region(
            where, f"{100 * covered:.0f} % of it lie in the field of view of the {name} image"
        )
