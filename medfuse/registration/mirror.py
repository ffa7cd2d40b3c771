"""Sides: whether the images fit mirrored, as a file with lost sides does, or on the other side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import SimpleITK as sitk

from medfuse.imaging.grid import Grid, Matrix, from_sitk, to_sitk, transform_points
from medfuse.registration.inputs import Prepared
from medfuse.registration.plan import Plan
from medfuse.registration.progress import Meter, in_parallel
from medfuse.registration.refine import Refined, Stage, nearest_rotation

#: Nearer than this there is no other side, or it is the same limb.
OTHER_SIDE_MM = 80.0
OTHER_SIDE_OVERLAP = 0.7


def side_fits(
    fixed: Prepared, moving: Prepared, plan: Plan, coarse: Stage, here: Matrix, meter: Meter
) -> tuple[Refined, Refined, Refined | None]:
    """Refine a place as it is, mirrored, and on the other side of the moving body.

    Returns
    -------
    plain, mirrored, other : Refined
        At the coarse level, where small differences of place count little. `mirrored` with the
        moving volume mirrored left to right; `other` where the fixed body would lie on the other
        side, as the other thigh does, or None where there is no other side.
    """
    side = _reflection(moving.grid.centre)
    start = side @ here @ _reflection(_middle(coarse))
    start[:3, :3] = nearest_rotation(start[:3, :3])

    def mirrored() -> Refined:
        stage = Stage.of(fixed, _mirrored(moving, side), plan.coarse, seed=coarse.seed)
        return stage.refine(start, meter)

    work: tuple[Callable[[], Refined | None], ...] = (
        mirrored,
        lambda: coarse.refine(here, meter),
        lambda: _other_side(moving, coarse, here, meter),
    )
    flipped, plain, other = in_parallel(lambda fit: fit(), work, meter)
    assert flipped is not None
    assert plain is not None
    return plain, flipped, other


def _other_side(moving: Prepared, coarse: Stage, here: Matrix, meter: Meter) -> Refined | None:
    """Refine where the fixed body would lie on the other side of the moving one.

    The middle of the moving field of view stands for that of the body, whose legs may be two
    separate parts. None where there is no other side that far away.
    """
    shift = 2.0 * (moving.grid.centre[0] - transform_points(here, _middle(coarse))[0])
    move = np.eye(4)
    move[0, 3] = shift
    start = move @ here
    if abs(shift) < OTHER_SIDE_MM or coarse.overlap(start) < OTHER_SIDE_OVERLAP:
        return None
    found = coarse.refine(start, meter)
    away = transform_points(found.matrix, _middle(coarse)) - transform_points(here, _middle(coarse))
    return found if np.linalg.norm(away) > OTHER_SIDE_MM / 2.0 else None


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
