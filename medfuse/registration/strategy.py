"""Which starts are tried, and which result wins: headers, a given start, or everywhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from medfuse.errors import UsageError, option
from medfuse.imaging.grid import Matrix
from medfuse.registration.contest import best, everywhere, nothing_found
from medfuse.registration.expected import Witness
from medfuse.registration.geometry import distance_mm, rotation_angle
from medfuse.registration.inputs import MIN_SLICES
from medfuse.registration.mirror import side_fits
from medfuse.registration.outcome import DISTINCT_MM, Outcome, Volumes, Work, gain, outcome_of
from medfuse.registration.plan import Plan
from medfuse.registration.progress import Meter, in_parallel
from medfuse.registration.refine import Refined, Stage, affine_transform, is_rigid
from medfuse.registration.region import GUARD, Region, focused
from medfuse.registration.witnesses import call_witnesses, climb_again

#: A refinement smaller than this, or telling this much less, is no reason to leave the headers.
SAME_PLACE_MM = 2.0
MARGIN_OF_GAIN = 0.05
#: Within one frame of reference the images may correct the headers by so much, not by more.
SMALL_MM, SMALL_DEG = 5.0, 5.0
#: Where the witnesses spread so far, the images do not decide; the headers are then kept if they
#: lie elsewhere and explain at least this part of what the result explains.
UNDECIDED_MM = 5.0
HEADERS_PART = 0.8


def solve(
    pair: Volumes,
    plan: Plan,
    *,
    method: str,
    start: Matrix,
    given: bool,
    seed: int,
    meter: Meter,
    choose: str | None = None,
    region: Region | None = None,
) -> Outcome:
    """Register a pair.

    Parameters
    ----------
    method : {"auto", "rigid", "affine", "identity"}
    start : (4, 4) float64
        The initial map, or the identity (headers as they are).
    given : bool
        Whether `start` came from the user.
    choose : str, optional
        Name of an `Alternative` to take instead of the best.
    region : Region, optional
        What the last refinement looks at above all.
    """
    coarse, fine = in_parallel(
        lambda level: Stage.of(pair.fixed, pair.moving, level, seed=seed),
        (plan.coarse, plan.fine),
        meter,
    )
    meter.tick()
    work = Work(pair, plan, coarse, fine, fine.evaluate(start), given, meter, region)
    if method == "identity":
        kept = _as_it_is(work)
        return _with_witnesses(work, _chosen(work, kept, choose) if choose else kept)
    trusted = method == "auto" and pair.shares_frame and not given
    outcome = _near_headers(work) if trusted and work.at_home else _free(work, method)
    if choose:
        return _with_witnesses(work, _chosen(work, outcome, choose))
    outcome = _with_witnesses(work, outcome)
    return _headers_if_undecided(work, outcome) if method == "auto" and not given else outcome


def _headers_if_undecided(work: Work, outcome: Outcome) -> Outcome:
    """Stay where the headers have the volumes, where the images cannot tell where else to go."""
    before, points = work.before, work.pair.landmarks()
    score = outcome.metric_after * outcome.overlap
    away = distance_mm(outcome.matrix, before.matrix, points)
    believable = work.at_home and before.score >= HEADERS_PART * score
    off = np.array([w.off_mm(outcome.matrix, points) for w in outcome.witnesses])
    if not len(off) or not believable or away <= DISTINCT_MM:
        return outcome
    if float(np.sqrt((off**2).mean(axis=0)).mean()) <= UNDECIDED_MM:
        return outcome
    kept = _with_witnesses(work, outcome_of(work, before, outcome.matrix, "identity"))
    return replace(kept, alternatives=outcome.alternatives, undecided=True)


def _free(work: Work, method: str) -> Outcome:
    """Go where the images say, from a search or from a start that is not rigid."""
    name, winner, all_found = "rigid", work.before, [work.before]
    whole: tuple[Witness, ...] = ()
    if is_rigid(work.start):
        all_found = everywhere(work)
        winner = best(work, all_found)
        again = climb_again(work.fine, work.pair.fixed, winner.matrix, work.meter)
        winner = max([winner, *again], key=lambda r: r.score)
        if work.region:
            whole = (Witness("the whole body", winner.matrix),)
            winner = _for_region(work, winner, work.region)
    if method == "affine":
        name = "affine"
        stages = (work.coarse, work.fine)
        work.meter.stage(0.8, 0.85, total=2 * work.fine.level.iterations, text="affine refinement")
        for stage in stages:
            winner = winner.then(stage.refine(winner.matrix, work.meter, affine_transform))
    if winner.metric <= 0:
        raise nothing_found("the two volumes share no information wherever they are placed")
    found = outcome_of(work, winner, work.start, name, all_found=all_found)
    return replace(found, witnesses=whole)


def _for_region(work: Work, whole: Refined, region: Region) -> Refined:
    """Refine where the region lies; the whole body may lose a little by that, not more."""
    near = focused(work.fine, region, whole.matrix).refine(whole.matrix, work.meter)
    there = work.fine.evaluate(near.matrix)
    if there.score < GUARD * whole.score:
        return whole
    return whole.then(replace(there, iterations=near.iterations, stop_reason=near.stop_reason))


def _as_it_is(work: Work) -> Outcome:
    """Keep the start, but look whether the images fit much better near by."""
    pair, before, coarse, meter = work.pair, work.before, work.coarse, work.meter
    here = there = before
    if min(*pair.fixed.grid.shape, *pair.moving.grid.shape) >= MIN_SLICES:
        meter.stage(0.1, 0.8, total=coarse.level.iterations, text="looking near by")
        here, there = coarse.evaluate(before.matrix), coarse.refine(before.matrix, meter)
    kept = outcome_of(work, before, there.matrix, "identity")
    return replace(kept, gain=gain(here, there))


def _near_headers(work: Work) -> Outcome:
    before, meter, pair = work.before, work.meter, work.pair
    meter.found(before.matrix)
    meter.stage(0.1, 0.4, total=work.coarse.level.iterations, text="checking the headers, coarse")
    rough = work.coarse.refine(before.matrix, meter)
    meter.stage(0.4, 0.8, total=work.fine.level.iterations, text="checking the headers, fine")
    refined = rough.then(work.fine.refine(rough.matrix, meter))
    change = distance_mm(refined.matrix, before.matrix, pair.landmarks())
    turn = rotation_angle(refined.matrix @ np.linalg.inv(before.matrix))
    gained = change > SAME_PLACE_MM and gain(before, refined) > MARGIN_OF_GAIN
    if gained and change <= SMALL_MM and turn <= SMALL_DEG:
        return outcome_of(work, refined, before.matrix, "rigid", all_found=[refined])
    kept = replace(
        before,
        iterations=refined.iterations,
        stop_reason="headers kept: " + refined.stop_reason,
    )
    outcome = outcome_of(work, kept, refined.matrix, "identity", all_found=[refined])
    return replace(outcome, gain=gain(before, refined))


def _chosen(work: Work, outcome: Outcome, choose: str) -> Outcome:
    """Take the alternative of that name, as it is."""
    found = {alternative.name: alternative for alternative in outcome.alternatives}
    if choose not in found:
        raise UsageError(
            "E_SETTINGS",
            what="Cannot choose a position",
            cause=f"{option('choose', choose)}: this pair has {', '.join(found)}",
            remedy="Choose one of these",
        )
    here = work.fine.evaluate(found[choose].matrix)
    near = work.fine.refine(here.matrix, work.meter)
    taken = outcome_of(work, here, near.matrix, "identity" if choose == "headers" else "rigid")
    return replace(taken, alternatives=outcome.alternatives, chosen=choose, gain=gain(here, near))


def _with_witnesses(work: Work, outcome: Outcome) -> Outcome:
    """Optimise again from the result, and once with the moving volume mirrored."""
    pair, plan, here = work.pair, work.plan, outcome.matrix
    thin = min(*pair.fixed.grid.shape, *pair.moving.grid.shape) < MIN_SLICES
    if thin or not is_rigid(here) or outcome.metric_after <= 0:
        return outcome
    witnesses = call_witnesses(pair.fixed, pair.moving, plan, work.fine, here, work.meter)
    plain, mirrored, other = side_fits(pair.fixed, pair.moving, plan, work.coarse, here, work.meter)
    return replace(
        outcome,
        witnesses=(*outcome.witnesses, *witnesses),
        other_side=other.score / plain.score if other and plain.score > 0 else 0.0,
        mirrored=mirrored.metric / plain.metric if plain.metric > 0 else 0.0,
    )
