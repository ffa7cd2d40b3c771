"""A region that a registration must get right: a tumor, the brain."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from medfuse.errors import InputError, MedfuseError
from medfuse.imaging.grid import Grid, Matrix, coverage, to_sitk, transform_points
from medfuse.imaging.reader import load
from medfuse.registration.refine import Stage, itk_transform

if TYPE_CHECKING:
    from monai.data.meta_tensor import MetaTensor

#: The copy of the mask in a result, from which the registration is repeated.
REGION_FILE = "region.nii.gz"
#: What lies so near to the region counts, the outline too.
MARGIN_MM = 30.0
#: The whole body may lose so little of its score for the sake of the region, not more.
GUARD = 0.98
#: A mask on a grid of its own must lie in the field of view of the anatomical image by so much.
LEAST_INSIDE = 0.95
SAME_GRID_MM = 0.01
POINTS = 400


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


def read_region(path: Path, fixed: MetaTensor, moving: MetaTensor) -> Region:
    """Read a mask or a label file; every label counts.

    Parameters
    ----------
    path : Path
        NIfTI. On the grid of one of the images it lies in the world of that image; on a grid of its
        own in that of the fixed one.
    fixed, moving : (C, X, Y, Z) MetaTensor
        Their grids alone are asked for.

    Raises
    ------
    InputError
        ``E_REGION``: empty, several channels, or outside of the fixed field of view.
    MedfuseError
        As ``medfuse.load``.
    """
    try:
        volume = load(path, modality="MRI", values_in="a.u.")
    except MedfuseError as error:
        if error.code != "E_CONSTANT":
            raise
        raise _bad(path, "every voxel of it has the same value") from error
    values = volume.detach().cpu().numpy()
    if len(values) != 1:
        raise _bad(path, f"expected one channel, got {len(values)}")
    inside = np.nan_to_num(values[0]) >= 0.5
    if not inside.any():
        raise _bad(path, f"none of its {inside.size} voxels is 0.5 or more")
    # As a NIfTI file holds it, so that the copy in a result is the same region.
    affine = np.asarray(volume.affine, dtype=np.float32).astype(np.float64)
    grid, grids = Grid(inside.shape, affine), [Grid.from_volume(v) for v in (fixed, moving)]
    if _is_same(grid, grids[0]) or not _is_same(grid, grids[1]):
        _require_inside(path, grid, inside, grids[0])
        return Region(inside, affine, "fixed")
    return Region(inside, affine, "moving")


def focused(stage: Stage, region: Region, here: Matrix) -> Stage:
    """Look only at what lies near the region."""
    mask = to_sitk(region.inside.astype(np.float32), region.affine)
    to_mask = itk_transform(np.eye(4) if region.of == "fixed" else here)
    there = sitk.Resample(mask, stage.fixed, to_mask, sitk.sitkLinear, 0.0) > 0.0
    if not sitk.GetArrayViewFromImage(there).any():
        return stage
    depth = sitk.SignedMaurerDistanceMap(there, squaredDistance=False, useImageSpacing=True)
    return stage.looking_at(depth <= MARGIN_MM)


def _is_same(one: Grid, other: Grid) -> bool:
    if one.shape != other.shape:
        return False
    return float(np.abs(one.corners() - other.corners()).max()) < SAME_GRID_MM


def _require_inside(path: Path, grid: Grid, inside: NDArray[np.bool_], fixed: Grid) -> None:
    covered = float(coverage(grid, fixed, np.eye(4))[inside].mean())
    if covered < LEAST_INSIDE:
        raise _bad(
            path,
            f"{100 * covered:.0f} % of it lie in the field of view of the anatomical image, whose "
            "grid it does not have; nor has it that of the functional image",
        )


def _bad(path: Path, cause: str) -> InputError:
    return InputError(
        "E_REGION",
        what="Cannot use the region",
        where=path.name,
        cause=cause,
        remedy="Give a mask that was drawn on one of the two images",
    )
