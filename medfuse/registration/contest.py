"""The search over all positions: starts, trials of a few steps, finalists."""

from __future__ import annotations

import numpy as np

from medfuse.errors import RegistrationError, option
from medfuse.imaging.grid import Matrix
from medfuse.registration.geometry import body_turn, distance_mm
from medfuse.registration.outcome import DISTINCT_MM, Volumes, Work
from medfuse.registration.progress import in_parallel
from medfuse.registration.refine import Refined
from medfuse.registration.search import body_turns, rotation_ball, search

#: The place where the headers put the volumes wins against any other that is not this much better.
HOME_ADVANTAGE = 1.05
#: So does an upright place against one that is turned by a half or a quarter.
UPRIGHT_ADVANTAGE = 1.05
#: Iterations after which only the most hopeful starts go on, and how many of them; then finalists.
TRIAL = 3
HOPEFUL = 3
FINALISTS = 2
#: Turned starts that are tried, and what part of the best upright score keeps one in the race.
TURNED = 3
TURNED_HOPE = 0.9


def everywhere(work: Work) -> list[Refined]:
    """Search, and refine what is found: the start first where it overlaps enough.

    Upright positions come first, so that the best of them can be looked at while turned ones are
    tried.
    """
    pair, plan, meter, coarse = work.pair, work.plan, work.meter, work.coarse
    starts = _upright(work)
    if work.at_home:
        starts.append(work.start)
    if not starts:
        raise nothing_found("the two volumes overlap nowhere by a third of the smaller one")
    meter.stage(0.25, 0.3, total=len(starts) * TRIAL, text="trying the starts")
    upright = _tried(work, starts)
    home = upright[-1] if work.at_home else None
    hopeful = _best_distinct(pair, upright, home=home, most=HOPEFUL)
    meter.found(best(work, [*hopeful[:1], *upright]).matrix)
    turned = _still_in_the_race(_tried(work, _turned(work)), hopeful)
    kept, hopeful = len(hopeful), hopeful + turned
    meter.stage(0.5, 0.65, total=len(hopeful) * plan.coarse.iterations, text="coarse refinement")
    rough = in_parallel(lambda r: r.then(coarse.refine(r.matrix, meter)), hopeful, meter)
    upright, turned = rough[:kept], rough[kept:]
    finalists = _best_distinct(
        pair, upright, home=rough[0] if work.at_home else None, most=FINALISTS
    )
    finalists += _still_in_the_race(turned, finalists)
    meter.found(best(work, finalists).matrix)
    meter.stage(0.65, 0.8, total=len(finalists) * plan.fine.iterations, text="fine refinement")
    return in_parallel(lambda r: r.then(work.fine.refine(r.matrix, meter)), finalists, meter)


def best(work: Work, found: list[Refined]) -> Refined:
    """Return the best score, with an advantage for the headers and for upright places."""

    def rank(result: Refined) -> float:
        at_home = work.at_home and result is found[0]
        turned = body_turn(result.matrix @ np.linalg.inv(work.start)) != ""
        return (
            result.score
            * (HOME_ADVANTAGE if at_home else 1.0)
            / (UPRIGHT_ADVANTAGE if turned else 1.0)
        )

    return max(found, key=rank)


def _still_in_the_race(turned: list[Refined], upright: list[Refined]) -> list[Refined]:
    best = max((r.score for r in upright), default=0.0)
    found = max(turned, key=lambda r: r.score, default=None)
    return [found] if found is not None and found.score >= TURNED_HOPE * best else []


def _tried(work: Work, starts: list[Matrix]) -> list[Refined]:
    """A few steps of the coarse refinement from each start."""
    return in_parallel(
        lambda s: work.coarse.refine(s, work.meter, iterations=TRIAL), starts, work.meter
    )


def _upright(work: Work) -> list[Matrix]:
    """Candidates of the search as the headers, or the given start, have the body."""
    plan, near = work.plan, work.given
    rotations = rotation_ball(
        step_deg=plan.near_step_deg if near else plan.step_deg,
        limit_deg=plan.near_limit_deg if near else plan.limit_deg,
    )
    work.meter.stage(0.1, 0.25, total=len(rotations), text="searching for a start")
    found = search(
        work.pair.fixed,
        work.pair.moving,
        rotations=rotations,
        step_mm=plan.search_mm,
        start=work.start if near else None,
        reach_mm=plan.near_mm if near else None,
        meter=work.meter,
    )
    return [c.matrix for c in found[: plan.starts]]


def _turned(work: Work) -> list[Matrix]:
    """Candidates of the search after half and quarter turns; none near a given start."""
    if work.given:
        return []
    around = rotation_ball(step_deg=30.0, limit_deg=27.0)
    rotations = [turn @ small for turn in body_turns() for small in around]
    total = len(rotations) + TURNED * TRIAL
    work.meter.stage(0.3, 0.5, total=total, text="searching among turned positions")
    fixed, moving = work.pair.fixed, work.pair.moving
    found = search(
        fixed, moving, rotations=rotations, step_mm=work.plan.turned_mm, meter=work.meter
    )
    return [c.matrix for c in found[:TURNED]]


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


def nothing_found(cause: str) -> RegistrationError:
    return RegistrationError(
        "E_REGISTRATION",
        what="Registration found no result",
        cause=cause,
        remedy=f"Check that both series show the same region, or give a start with "
        f"{option('initial', 'FILE')}",
    )
