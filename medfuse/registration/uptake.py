"""What a deformation does to the hottest region of a functional image: volume and values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from medfuse.imaging.grid import Grid, Matrix, to_sitk, transform_points
from medfuse.registration.deformation import Deformation, HotRegion, empty_image

if TYPE_CHECKING:
    from monai.data.meta_tensor import MetaTensor

#: Part of the highest value from which on a voxel belongs to the region.
HOT = 0.5
MOST_POINTS = 5000


def hot_region(
    moving: MetaTensor, fixed_grid: Grid, matrix: Matrix, deformation: Deformation
) -> HotRegion | None:
    """Measure the hottest region in the functional image and on the fixed grid.

    Parameters
    ----------
    moving : (1, X, Y, Z) MetaTensor
        As loaded.
    fixed_grid : Grid
    matrix : (4, 4) float64
        Fixed point -> moving point, RAS mm.
    deformation : Deformation
        Applied before it.

    Returns
    -------
    region : HotRegion or None
        None where the image shows no uptake, or none of it in the fixed field of view.
    """
    if moving.meta.get("modality") not in ("PET", "SPECT"):
        return None
    grid = Grid.from_volume(moving)
    values = np.nan_to_num(moving.detach().cpu().numpy()[0].astype(np.float32))
    back = np.linalg.inv(matrix) @ grid.affine
    hot = _hottest(values, grid, _seen(fixed_grid, grid, back))
    if hot is None:
        return None
    index = np.argwhere(hot)
    some = index[:: max(1, len(index) // MOST_POINTS)]
    factors = deformation.volume_factors(deformation.origins(transform_points(back, some)))
    after = _on_fixed_grid(values, hot, grid, fixed_grid, matrix, deformation)
    before = values[hot]
    if not len(after):
        return None
    return HotRegion(
        volume_ml=float(len(index) * abs(np.linalg.det(grid.affine[:3, :3])) / 1000),
        # The fixed image is deformed onto the moving one, so its inverse changes the uptake.
        volume_change=float((1 / factors).mean()),
        mean_before=float(before.mean(dtype=np.float64)),
        mean_after=float(after.mean(dtype=np.float64)),
        highest_before=float(before.max()),
        highest_after=float(after.max()),
        unit=str(moving.meta.get("unit", "a.u.")),
    )


def _seen(fixed: Grid, moving: Grid, fixed_from_index: Matrix) -> NDArray[np.bool_]:
    """(X, Y, Z) moving voxels that lie in the fixed field of view."""
    to_index = np.linalg.inv(fixed.affine) @ fixed_from_index
    index = np.argwhere(np.ones(moving.shape, dtype=bool))
    at = transform_points(to_index, index)
    inside = ((at >= -0.5) & (at <= np.array(fixed.shape) - 0.5)).all(axis=1)
    return np.asarray(inside.reshape(moving.shape))


def _hottest(
    values: NDArray[np.float32], grid: Grid, seen: NDArray[np.bool_]
) -> NDArray[np.bool_] | None:
    """(X, Y, Z) connected voxels above half of the highest value, around it."""
    if not seen.any():
        return None
    peak = np.unravel_index(int(np.where(seen, values, -np.inf).argmax()), values.shape)
    highest = float(values[peak])
    if highest <= 0:
        return None
    image = to_sitk(np.where(seen, values, 0), grid.affine)
    seed = [int(n) for n in peak]
    part = sitk.ConnectedThreshold(image, [seed], HOT * highest, highest)
    return np.asarray(sitk.GetArrayFromImage(part).transpose(2, 1, 0) > 0)


def _on_fixed_grid(
    values: NDArray[np.float32],
    hot: NDArray[np.bool_],
    grid: Grid,
    fixed: Grid,
    matrix: Matrix,
    deformation: Deformation,
) -> NDArray[np.float32]:
    """(N,) values of the fixed voxels to which the region comes."""
    corners = np.array(np.meshgrid(*[(a.min() - 1, a.max() + 1) for a in np.nonzero(hot)]))
    world = transform_points(np.linalg.inv(matrix) @ grid.affine, corners.reshape(3, -1).T)
    reach = np.abs(deformation.displacement).max(axis=(0, 1, 2))
    ends = np.array(np.meshgrid(*np.stack([world.min(0) - reach, world.max(0) + reach], axis=1)))
    index = transform_points(np.linalg.inv(fixed.affine), ends.reshape(3, -1).T)
    low = np.clip(np.floor(index.min(0)), 0, np.array(fixed.shape) - 1).astype(int)
    high = np.clip(np.ceil(index.max(0)), 0, np.array(fixed.shape) - 1).astype(int)
    affine = fixed.affine.copy()
    affine[:3, 3] = transform_points(fixed.affine, low)
    x, y, z = (high - low + 1).tolist()
    onto, map_ = empty_image(Grid((x, y, z), affine)), deformation.itk(matrix)
    place = to_sitk(hot, grid.affine)
    inside = sitk.GetArrayFromImage(sitk.Resample(place, onto, map_, sitk.sitkNearestNeighbor, 0))
    brought = sitk.Resample(to_sitk(values, grid.affine), onto, map_, sitk.sitkLinear, 0.0)
    return np.asarray(sitk.GetArrayFromImage(brought)[inside > 0])
