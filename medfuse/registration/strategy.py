"""Which starts are tried, and which result wins: headers, a given start, or everywhere."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medfuse.errors import RegistrationError, option
from medfuse.imaging.grid import Matrix, from_sitk, transform_points
from medfuse.registration.inputs import MIN_SLICES, Prepared
from medfuse.registration.progress import Meter, in_parallel
from medfuse.registration.refine import (
    Level,
    Refined,
    Stage,
    affine_transform,
    is_rigid,
    nearest_rotation,
)
from medfuse.registration.search import rotation_ball, search

#: Headers are believed for a start only if at least this much of the fixed foreground is covered.
TRUSTED_OVERLAP = 0.5
#: A refinement smaller than this, or telling this much less, is no reason to leave the headers.
SAME_PLACE_MM = 2.0
MARGIN_OF_GAIN = 0.05
#: Results nearer than this are one solution; a rival is further away than that.
DISTINCT_MM = 10.0
RIVAL_MM = 25.0
#: The place where the headers put the volumes wins against any other that is not this much better.
HOME_ADVANTAGE = 1.05
#: Iterations after which only the most hopeful starts go on, and how many of them; then finalists.
TRIAL = 3
HOPEFUL = 3
FINALISTS = 2
#: Where a start is sought, the outline is what leads there. At the end it is left out: blur,
#: breathing and clothing put it at another place in either scan, and along a limb or neck that
#: tapers the error of a few millimetres becomes one of ten.
_COARSE: dict[str, Any] = {"bins": 32, "deeper_mm": 0.0, "air_mm": (0.0, 16.0)}
_FINE: dict[str, Any] = {"bins": 50, "deeper_mm": 4.0, "air_mm": (8.0, 16.0)}


@dataclass(frozen=True)
class Plan:
    """One preset.

    Parameters
    ----------
    base_mm : float
        Finer voxels are averaged to about this size first.
    search_mm : float
        Voxel size of the exhaustive search.
    step_deg, limit_deg : float
        Lattice of rotations searched everywhere.
    near_step_deg, near_limit_deg, near_mm : float
        Rotations and shifts searched around a given start.
    starts : int
        Candidates refined at the coarse level.
    coarse, fine : Level
    """

    base_mm: float
    search_mm: float
    step_deg: float
    limit_deg: float
    starts: int
    coarse: Level
    fine: Level
    near_step_deg: float = 16.0
    near_limit_deg: float = 24.0
    near_mm: float = 60.0


PRESETS = {
    "fast": Plan(
        base_mm=2.0,
        search_mm=16.0,
        step_deg=30.0,
        limit_deg=45.0,
        starts=4,
        coarse=Level(step_mm=7.0, sigma_mm=5.0, samples=10_000, iterations=30, **_COARSE),
        fine=Level(step_mm=4.0, sigma_mm=3.0, samples=20_000, iterations=30, **_FINE),
    ),
    "default": Plan(
        base_mm=2.0,
        search_mm=13.0,
        step_deg=24.0,
        limit_deg=45.0,
        starts=6,
        coarse=Level(step_mm=6.0, sigma_mm=4.0, samples=10_000, iterations=40, **_COARSE),
        fine=Level(step_mm=3.0, sigma_mm=2.5, samples=30_000, iterations=40, **_FINE),
    ),
    "thorough": Plan(
        base_mm=1.5,
        search_mm=11.0,
        step_deg=20.0,
        limit_deg=60.0,
        starts=12,
        coarse=Level(step_mm=5.0, sigma_mm=4.0, samples=20_000, iterations=60, **_COARSE),
        fine=Level(step_mm=2.0, sigma_mm=1.5, samples=100_000, iterations=60, **_FINE),
    ),
}


@dataclass(frozen=True)
class Volumes:
    """Both volumes, prepared; `shares_frame` where the headers name one frame of reference."""

    fixed: Prepared
    moving: Prepared
    shares_frame: bool

    def landmarks(self) -> np.ndarray:
        """(N, 3) points spread over the fixed foreground, RAS mm."""
        mask, affine = from_sitk(self.fixed.mask)
        index = np.argwhere(mask > 0)
        return transform_points(affine, index[:: max(1, len(index) // 500)])


@dataclass(frozen=True)
class Outcome:
    """The winning map with the evidence for and against it.

    Parameters
    ----------
    shares_frame, given : bool
        The headers name one frame of reference; the start came from the user. In either case a
        large motion from the start speaks against the result.
    change_mm, change_deg : float
        Mean motion of the fixed foreground, and angle, from the start to what the images say
        (`matrix`, or the refinement that was not taken when the headers were kept).
    rival : float
        Score of the best clearly different solution as a fraction of the winner's; 0 if none.
    gain : float
        Relative gain of information over the start; where it was kept, what leaving it would gain.
    sharpness : float
        By what factor the images fit better here than near by (`Stage.sharpness`).
    """

    matrix: Matrix
    method: str
    metric_before: float
    metric_after: float
    overlap: float
    iterations: int
    stop_reason: str
    shares_frame: bool
    given: bool
    change_mm: float
    change_deg: float
    rival: float
    gain: float
    sharpness: float


def solve(
    pair: Volumes, plan: Plan, *, method: str, start: Matrix, given: bool, seed: int, meter: Meter
) -> Outcome:
    """Register a pair.

    Parameters
    ----------
    method : {"auto", "rigid", "affine", "identity"}
    start : (4, 4) float64
        The initial map, or the identity (headers as they are).
    given : bool
        Whether `start` came from the user.
    """
    fine = Stage.of(pair.fixed, pair.moving, plan.fine, seed=seed)
    meter.tick()
    before = fine.evaluate(start)
    coarse = Stage.of(pair.fixed, pair.moving, plan.coarse, seed=seed)
    if method == "identity":
        return _as_it_is(pair, coarse, fine, before, given=given, meter=meter)
    trusted = method == "auto" and pair.shares_frame and not given
    if trusted and before.overlap >= TRUSTED_OVERLAP:
        return _near_headers(pair, coarse, fine, before, meter)
    name, winner, all_found = "rigid", before, [before]
    if is_rigid(start):
        all_found = _everywhere(pair, plan, coarse, fine, before, given=given, meter=meter)
        winner = max(all_found, key=lambda r: r.score)
        if _at_home(before) and winner.score < HOME_ADVANTAGE * all_found[0].score:
            winner = all_found[0]
    if method == "affine":
        name = "affine"
        meter.stage(0.9, 1.0, total=2 * fine.level.iterations, text="affine refinement")
        for stage in (coarse, fine):
            winner = winner.then(stage.refine(winner.matrix, meter, affine_transform))
    if winner.metric <= 0:
        raise _nothing_found("the two volumes share no information wherever they are placed")
    return _outcome(pair, fine, before, winner, start, name, given=given, all_found=all_found)


def _at_home(before: Refined) -> bool:
    return before.overlap >= TRUSTED_OVERLAP


def _everywhere(
    pair: Volumes,
    plan: Plan,
    coarse: Stage,
    fine: Stage,
    before: Refined,
    *,
    given: bool,
    meter: Meter,
) -> list[Refined]:
    """Search, and refine what is found: the start first where it overlaps enough."""
    start = before.matrix
    starts = _starts(pair, plan, start if given else None, meter)
    at_home = _at_home(before)
    if at_home:
        starts.append(start)
    if not starts:
        raise _nothing_found("the two volumes overlap nowhere by a third of the smaller one")
    meter.stage(0.4, 0.55, total=len(starts) * TRIAL, text="trying the starts")
    tried = in_parallel(lambda s: coarse.refine(s, meter, iterations=TRIAL), starts, meter)
    hopeful = _best_distinct(pair, tried, home=tried[-1] if at_home else None, most=HOPEFUL)
    meter.stage(0.55, 0.7, total=len(hopeful) * plan.coarse.iterations, text="coarse refinement")
    rough = in_parallel(lambda r: r.then(coarse.refine(r.matrix, meter)), hopeful, meter)
    finalists = _best_distinct(pair, rough, home=rough[0] if at_home else None, most=FINALISTS)
    meter.stage(0.7, 0.9, total=len(finalists) * plan.fine.iterations, text="fine refinement")
    return in_parallel(lambda r: r.then(fine.refine(r.matrix, meter)), finalists, meter)


def _as_it_is(
    pair: Volumes, coarse: Stage, fine: Stage, before: Refined, *, given: bool, meter: Meter
) -> Outcome:
    """Keep the start, but look whether the images fit much better near by."""
    here = there = before
    if min(*pair.fixed.grid.shape, *pair.moving.grid.shape) >= MIN_SLICES:
        meter.stage(0.1, 1.0, total=coarse.level.iterations, text="looking near by")
        here, there = coarse.evaluate(before.matrix), coarse.refine(before.matrix, meter)
    kept = _outcome(pair, fine, before, before, there.matrix, "identity", given=given)
    return replace(kept, gain=_gain(here, there))


def _near_headers(
    pair: Volumes, coarse: Stage, fine: Stage, before: Refined, meter: Meter
) -> Outcome:
    meter.stage(0.1, 0.5, total=coarse.level.iterations, text="checking the headers, coarse")
    rough = coarse.refine(before.matrix, meter)
    meter.stage(0.5, 1.0, total=fine.level.iterations, text="checking the headers, fine")
    refined = rough.then(fine.refine(rough.matrix, meter))
    change = distance_mm(refined.matrix, before.matrix, pair.landmarks())
    if change > SAME_PLACE_MM and _gain(before, refined) > MARGIN_OF_GAIN:
        return _outcome(pair, fine, before, refined, before.matrix, "rigid", given=False)
    kept = Refined(
        before.matrix,
        before.metric,
        before.overlap,
        refined.iterations,
        "headers kept: " + refined.stop_reason,
    )
    return _outcome(pair, fine, before, kept, refined.matrix, "identity", given=False)


def _starts(pair: Volumes, plan: Plan, start: Matrix | None, meter: Meter) -> list[Matrix]:
    near = start is not None
    rotations = rotation_ball(
        step_deg=plan.near_step_deg if near else plan.step_deg,
        limit_deg=plan.near_limit_deg if near else plan.limit_deg,
    )
    meter.stage(0.1, 0.4, total=len(rotations), text="searching for a start")
    found = search(
        pair.fixed,
        pair.moving,
        rotations=rotations,
        step_mm=plan.search_mm,
        start=start,
        reach_mm=plan.near_mm if near else None,
        meter=meter,
    )
    return [candidate.matrix for candidate in found[: plan.starts]]


def _best_distinct(
    pair: Volumes, results: list[Refined], *, home: Refined | None, most: int
) -> list[Refined]:
    """Return `home` (if any) and the best results that lie apart from it and from each other."""
    points = pair.landmarks()
    kept = [] if home is None else [home]
    for result in sorted(results, key=lambda r: -r.score):
        apart = all(distance_mm(result.matrix, k.matrix, points) > DISTINCT_MM for k in kept)
        if apart and len(kept) < most:
            kept.append(result)
    return kept


def distance_mm(one: Matrix, two: Matrix, points: np.ndarray) -> float:
    """Mean distance between where two maps put points, mm."""
    gap = transform_points(one, points) - transform_points(two, points)
    return float(np.linalg.norm(gap, axis=1).mean())


def rotation_angle(matrix: Matrix) -> float:
    """Angle of the rotation in a map, degrees; of an affine map, of its nearest rotation."""
    # From the antisymmetric part too: the arc cosine alone is blind to small angles.
    r = nearest_rotation(matrix[:3, :3])
    sine = np.linalg.norm([r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]]) / 2.0
    return float(np.degrees(np.arctan2(sine, (np.trace(r) - 1.0) / 2.0)))


def _outcome(
    pair: Volumes,
    fine: Stage,
    before: Refined,
    after: Refined,
    seen: Matrix,
    method: str,
    *,
    given: bool,
    all_found: list[Refined] | None = None,
) -> Outcome:
    points = pair.landmarks()
    rivals = [
        r.score for r in all_found or [] if distance_mm(r.matrix, after.matrix, points) > RIVAL_MM
    ]
    return Outcome(
        matrix=after.matrix,
        method=method,
        metric_before=before.metric,
        metric_after=after.metric,
        overlap=after.overlap,
        iterations=after.iterations,
        stop_reason=after.stop_reason,
        shares_frame=pair.shares_frame,
        given=given,
        change_mm=distance_mm(after.matrix, seen, points),
        change_deg=rotation_angle(after.matrix @ np.linalg.inv(seen)),
        rival=max(rivals, default=0.0) / after.score if after.score > 0 else 1.0,
        gain=_gain(before, after),
        sharpness=fine.sharpness(after),
    )


def _gain(before: Refined, after: Refined) -> float:
    return after.metric / before.metric - 1.0 if before.metric > 0 else np.inf


def _nothing_found(cause: str) -> RegistrationError:
    return RegistrationError(
        "E_REGISTRATION",
        what="Registration found no result",
        cause=cause,
        remedy=f"Check that both series show the same region, or give a start with "
        f"{option('initial', 'FILE')}",
    )
