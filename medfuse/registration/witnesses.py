"""Optimising a pair again under other conditions, from a place that was found or given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from medfuse.imaging.grid import Matrix, from_sitk, transform_points
from medfuse.registration.expected import Witness
from medfuse.registration.inputs import Prepared, on_grid_of
from medfuse.registration.plan import Plan
from medfuse.registration.progress import Meter, in_parallel
from medfuse.registration.refine import Refined, Stage
from medfuse.registration.search import rotation_matrix

#: Each witness starts so far away, in its own direction.
AWAY_MM, AWAY_DEG = 4.0, 4.0
_SIDES = (("right", "left"), ("front", "back"), ("upper", "lower"))
_WAYS = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3.0)
#: A half of the body reaches so far (of its length) beyond the middle.
SHARED_PART = 0.1
BLUR = 1.8
#: Fewer than of the result itself: what counts is where a witness goes, not the last tenth of a mm.
SAMPLES, ITERATIONS = 15_000, 25
EXCHANGED = "roles exchanged"
NO_AIR_MM = (np.inf, np.inf)
#: The winner is climbed once more from so many starts around it.
AGAIN = 2
_Job = tuple[str, Callable[[], Stage]]


def half_of(name: str) -> tuple[int, float] | None:
    """Axis (RAS) and side (1 or -1) of a witness that looked at half of the body."""
    word = name.removesuffix(" half")
    for axis, words in enumerate(_SIDES):
        if name != word and word in words:
            return axis, (1.0, -1.0)[words.index(word)]
    return None


def nudged(matrix: Matrix, middle: NDArray[np.float64], number: int) -> Matrix:
    """A place near by, another one for each number; the same on every run."""
    move = np.eye(4)
    move[:3, :3] = rotation_matrix(AWAY_DEG * _WAYS[number % 4])
    shift = AWAY_MM * _WAYS[(number // 4 + number + 1) % 4] * (-1) ** number
    move[:3, 3] = middle - move[:3, :3] @ middle + shift
    return matrix @ move


def climb_again(stage: Stage, fixed: Prepared, here: Matrix, meter: Meter) -> list[Refined]:
    """Refine once more from starts around a place, and from the best one for the inside alone.

    The air around a brain whose skull was removed lies on the skull of the other image: such a
    place may hold a climb back that the inside alone leads on.
    """
    level = replace(stage.level, air_mm=NO_AIR_MM)
    inside = stage.looking_at(on_grid_of(stage.fixed, level.region(fixed.depth)))
    starts = [nudged(here, fixed.grid.centre, number) for number in range(AGAIN)]

    def climb(start: Matrix | None) -> Refined:
        if start is None:
            led = inside.refine(here, meter)
            return led.then(stage.refine(led.matrix, meter))
        return stage.refine(start, meter)

    return in_parallel(climb, [None, *starts], meter)


def call_witnesses(
    fixed: Prepared, moving: Prepared, plan: Plan, fine: Stage, here: Matrix, meter: Meter
) -> tuple[Witness, ...]:
    """Optimise again with the roles exchanged, more blur, the outline, and on halves of the body.

    Parameters
    ----------
    fine : Stage
        In which `here` was found.
    here : (4, 4) float64
        Fixed point -> moving point, RAS mm.
    """
    level, seed = replace(plan.fine, samples=SAMPLES, iterations=ITERATIONS), fine.seed
    fine = replace(fine, level=level)
    wide = replace(level, sigma_mm=BLUR * level.sigma_mm, step_mm=level.step_mm + 1.0)
    whole = replace(level, deeper_mm=0.0, air_mm=(0.0, level.air_mm[1]))
    outline = fine.looking_at(on_grid_of(fine.fixed, whole.region(fixed.depth)))
    work: list[_Job] = [
        (EXCHANGED, lambda: Stage.of(moving, fixed, level, seed=seed)),
        ("more blur", lambda: Stage.of(fixed, moving, wide, seed=seed)),
        ("with the outline", lambda: outline),
        *_halves(fine),
    ]
    work = work[: plan.witnesses]
    meter.stage(0.85, 0.95, total=len(work) * level.iterations, text="checking the result")

    def climb(numbered: tuple[int, _Job]) -> Witness:
        number, (name, stage) = numbered
        start = nudged(here, fixed.grid.centre, AGAIN + number)
        if name == EXCHANGED:
            back = stage().refine(np.asarray(np.linalg.inv(start)), meter).matrix
            return Witness(name, np.asarray(np.linalg.inv(back)))
        return Witness(name, stage().refine(start, meter).matrix)

    return tuple(in_parallel(climb, list(enumerate(work)), meter))


def _halves(stage: Stage) -> Iterator[_Job]:
    """Both halves of the body along its two longest axes, as parts of the stage's region."""
    region, affine = from_sitk(stage.region)
    points = transform_points(affine, np.argwhere(region > 0))
    body = transform_points(stage.grid.affine, np.argwhere(stage.inside))
    low, middle, high = (np.quantile(body, part, axis=0) for part in (0.03, 0.5, 0.97))
    length: NDArray[np.float64] = high - low
    for axis in np.argsort(-length, kind="stable")[:2]:
        for side, word in zip((1.0, -1.0), _SIDES[axis], strict=True):
            normal = side * np.eye(3)[axis]
            least = float(normal @ middle) - SHARED_PART * float(length[axis])
            part = np.zeros_like(region)
            part[region > 0] = points @ normal >= least
            image = sitk.GetImageFromArray(np.ascontiguousarray(part.T))
            image.CopyInformation(stage.region)
            half = stage.looking_at(image)
            yield f"{word} half", lambda half=half: half  # type: ignore[misc]
