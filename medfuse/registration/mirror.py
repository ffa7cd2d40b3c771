"""Whether the images fit better when one of them is mirrored, as a file with lost sides is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import SimpleITK as sitk

from medfuse.imaging.grid import Grid, Matrix, from_sitk, to_sitk
from medfuse.registration.inputs import Prepared
from medfuse.registration.plan import Plan
from medfuse.registration.progress import Meter
from medfuse.registration.refine import Refined, Stage, nearest_rotation


def mirrored_fit(
    fixed: Prepared, moving: Prepared, plan: Plan, coarse: Stage, here: Matrix, meter: Meter
) -> tuple[Refined, Refined]:
    """Refine a place as it is, and its mirror image with the moving volume mirrored left to right.

    Returns
    -------
    plain, mirrored : Refined
        Both at the coarse level, where small differences of place count little.
    """
    side = _reflection(moving.grid.centre)
    mirrored = Stage.of(fixed, _mirrored(moving, side), plan.coarse, seed=coarse.seed)
    start = side @ here @ _reflection(_middle(coarse))
    start[:3, :3] = nearest_rotation(start[:3, :3])
    return coarse.refine(here, meter), mirrored.refine(start, meter)


def _reflection(point: np.ndarray) -> Matrix:
    """(4, 4) RAS map that exchanges left and right about a point."""
    matrix = np.diag([-1.0, 1.0, 1.0, 1.0])
    matrix[0, 3] = 2.0 * point[0]
    return matrix


def _middle(stage: Stage) -> np.ndarray:
    return np.asarray(stage.centre_lps) * [-1.0, -1.0, 1.0]


def _mirrored(volume: Prepared, side: Matrix) -> Prepared:
    def flipped(image: sitk.Image) -> sitk.Image:
        array, affine = from_sitk(image)
        return to_sitk(array, side @ affine)

    grid = Grid(volume.grid.shape, side @ volume.grid.affine)
    image, mask, depth = (flipped(x) for x in (volume.image, volume.mask, volume.depth))
    return replace(volume, image=image, mask=mask, depth=depth, grid=grid)
