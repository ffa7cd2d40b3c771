"""Which starts are tried, and which result wins: headers, a given start, or everywhere."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from medfuse.errors import RegistrationError, UsageError, option
from medfuse.imaging.grid import Grid, Matrix, coverage, from_sitk, transform_points
from medfuse.registration.evidence import Alternative
from medfuse.registration.expected import Witness
from medfuse.registration.geometry import body_turn, distance_mm, rotation_angle
from medfuse.registration.inputs import MIN_SLICES, Prepared
from medfuse.registration.mirror import mirrored_fit, other_side_fit
from medfuse.registration.plan import Plan
from medfuse.registration.progress import Meter, in_parallel
from medfuse.registration.refine import Refined, Stage, affine_transform, is_rigid
from medfuse.registration.region import GUARD, Region, focused
from medfuse.registration.search import body_turns, rotation_ball, search
from medfuse.registration.witnesses import call_witnesses, climb_again

#: Headers are believed for a start only if at least this much of the fixed foreground is covered.
TRUSTED_OVERLAP = 0.5
#: A position is offered as a choice if it overlaps that much.
LEAST_OVERLAP = 0.1
#: A refinement smaller than this, or telling this much less, is no reason to leave the headers.
SAME_PLACE_MM = 2.0
MARGIN_OF_GAIN = 0.05
#: Within one frame of reference the images may correct the headers by so much, not by more.
SMALL_MM, SMALL_DEG = 5.0, 5.0
#: Results nearer than this are one solution; a rival is further away than that.
DISTINCT_MM = 10.0
RIVAL_MM = 25.0
#: Where the witnesses spread so far, the images do not decide; the headers are then kept if they
#: lie elsewhere and explain at least this part of what the result explains.
UNDECIDED_MM = 5.0
HEADERS_PART = 0.8
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

    def overlap(self, matrix: Matrix) -> float:
        """Fraction of the fixed foreground inside the moving field of view."""
        mask, affine = from_sitk(self.fixed.mask)
        covered = coverage(Grid(mask.shape, affine), self.moving.grid, matrix)
        return float(covered[mask > 0].mean())

    def exchanged(self) -> Volumes:
        """The same pair with its roles exchanged."""
        return Volumes(self.moving, self.fixed, self.shares_frame)


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
    other_side : float
        Score on the other side of the moving body as a fraction of that here; 0: there is none.
    mirrored : float
        Information with the moving volume mirrored, as a fraction of that without; 0: not measured.
    turned : str
        The half or quarter turn by which the result differs from the headers; empty for none.
    witnesses : tuple of Witness
        Further optimisations from here.
    alternatives : tuple of Alternative
        Positions that can be chosen instead.
    chosen : str
        What the user chose among them.
    undecided : bool
        The search ended elsewhere, but its witnesses spread too far, and the headers were kept.
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
    mirrored: float = 0.0
    other_side: float = 0.0
    turned: str = ""
    witnesses: tuple[Witness, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    chosen: str = ""
    undecided: bool = False

    def exchanged(self) -> Outcome:
        """The same result for the exchanged pair."""
        return replace(
            self,
            matrix=np.asarray(np.linalg.inv(self.matrix)),
            witnesses=tuple(w.exchanged() for w in self.witnesses),
            alternatives=tuple(
                replace(a, matrix=np.asarray(np.linalg.inv(a.matrix))) for a in self.alternatives
            ),
        )


@dataclass(frozen=True)
class _Work:
    """What all steps of one registration need."""

    pair: Volumes
    plan: Plan
    coarse: Stage
    fine: Stage
    before: Refined
    given: bool
    meter: Meter
    region: Region | None

    @property
    def start(self) -> Matrix:
        return self.before.matrix

    @property
    def at_home(self) -> bool:
        return self.before.overlap >= TRUSTED_OVERLAP


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
    fine = Stage.of(pair.fixed, pair.moving, plan.fine, seed=seed)
    meter.tick()
    coarse = Stage.of(pair.fixed, pair.moving, plan.coarse, seed=seed)
    work = _Work(pair, plan, coarse, fine, fine.evaluate(start), given, meter, region)
    if method == "identity":
        kept = _as_it_is(work)
        return _with_witnesses(work, _chosen(work, kept, choose) if choose else kept)
    trusted = method == "auto" and pair.shares_frame and not given
    outcome = _near_headers(work) if trusted and work.at_home else _free(work, method)
    if choose:
        return _with_witnesses(work, _chosen(work, outcome, choose))
    outcome = _with_witnesses(work, outcome)
    return _headers_if_undecided(work, outcome) if method == "auto" and not given else outcome


def _headers_if_undecided(work: _Work, outcome: Outcome) -> Outcome:
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
    kept = _with_witnesses(work, _outcome(work, before, outcome.matrix, "identity"))
    return replace(kept, alternatives=outcome.alternatives, undecided=True)


def _free(work: _Work, method: str) -> Outcome:
    """Go where the images say, from a search or from a start that is not rigid."""
    name, winner, all_found = "rigid", work.before, [work.before]
    whole: tuple[Witness, ...] = ()
    if is_rigid(work.start):
        all_found = _everywhere(work)
        winner = _best(work, all_found)
        centre = work.pair.fixed.grid.centre
        again = climb_again(work.fine, winner.matrix, centre, work.meter)
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
        raise _nothing_found("the two volumes share no information wherever they are placed")
    found = _outcome(work, winner, work.start, name, all_found=all_found)
    return replace(found, witnesses=whole)


def _for_region(work: _Work, whole: Refined, region: Region) -> Refined:
    """Refine where the region lies; the whole body may lose a little by that, not more."""
    near = focused(work.fine, region, whole.matrix).refine(whole.matrix, work.meter)
    there = work.fine.evaluate(near.matrix)
    if there.score < GUARD * whole.score:
        return whole
    return whole.then(replace(there, iterations=near.iterations, stop_reason=near.stop_reason))


def _best(work: _Work, found: list[Refined]) -> Refined:
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


def _everywhere(work: _Work) -> list[Refined]:
    """Search, and refine what is found: the start first where it overlaps enough."""
    pair, plan, meter, coarse = work.pair, work.plan, work.meter, work.coarse
    starts, turned = _starts(work)
    if work.at_home:
        starts.append(work.start)
    if not starts:
        raise _nothing_found("the two volumes overlap nowhere by a third of the smaller one")
    meter.stage(0.4, 0.5, total=(len(starts) + len(turned)) * TRIAL, text="trying the starts")
    tried = in_parallel(
        lambda s: coarse.refine(s, meter, iterations=TRIAL), [*starts, *turned], meter
    )
    upright, turned_tried = tried[: len(starts)], tried[len(starts) :]
    home = upright[-1] if work.at_home else None
    hopeful = _best_distinct(pair, upright, home=home, most=HOPEFUL)
    meter.found(_best(work, [*hopeful[:1], *upright]).matrix)
    hopeful += _still_in_the_race(turned_tried, hopeful)
    meter.stage(0.5, 0.65, total=len(hopeful) * plan.coarse.iterations, text="coarse refinement")
    rough = in_parallel(lambda r: r.then(coarse.refine(r.matrix, meter)), hopeful, meter)
    upright, turned_tried = rough[:HOPEFUL], rough[HOPEFUL:]
    finalists = _best_distinct(
        pair, upright, home=rough[0] if work.at_home else None, most=FINALISTS
    )
    finalists += _still_in_the_race(turned_tried, finalists)
    meter.found(_best(work, finalists).matrix)
    meter.stage(0.65, 0.8, total=len(finalists) * plan.fine.iterations, text="fine refinement")
    return in_parallel(lambda r: r.then(work.fine.refine(r.matrix, meter)), finalists, meter)


def _still_in_the_race(turned: list[Refined], upright: list[Refined]) -> list[Refined]:
    best = max((r.score for r in upright), default=0.0)
    found = max(turned, key=lambda r: r.score, default=None)
    return [found] if found is not None and found.score >= TURNED_HOPE * best else []


def _as_it_is(work: _Work) -> Outcome:
    """Keep the start, but look whether the images fit much better near by."""
    pair, before, coarse, meter = work.pair, work.before, work.coarse, work.meter
    here = there = before
    if min(*pair.fixed.grid.shape, *pair.moving.grid.shape) >= MIN_SLICES:
        meter.stage(0.1, 0.8, total=coarse.level.iterations, text="looking near by")
        here, there = coarse.evaluate(before.matrix), coarse.refine(before.matrix, meter)
    kept = _outcome(work, before, there.matrix, "identity")
    return replace(kept, gain=_gain(here, there))


def _near_headers(work: _Work) -> Outcome:
    before, meter, pair = work.before, work.meter, work.pair
    meter.found(before.matrix)
    meter.stage(0.1, 0.4, total=work.coarse.level.iterations, text="checking the headers, coarse")
    rough = work.coarse.refine(before.matrix, meter)
    meter.stage(0.4, 0.8, total=work.fine.level.iterations, text="checking the headers, fine")
    refined = rough.then(work.fine.refine(rough.matrix, meter))
    change = distance_mm(refined.matrix, before.matrix, pair.landmarks())
    turn = rotation_angle(refined.matrix @ np.linalg.inv(before.matrix))
    gained = change > SAME_PLACE_MM and _gain(before, refined) > MARGIN_OF_GAIN
    if gained and change <= SMALL_MM and turn <= SMALL_DEG:
        return _outcome(work, refined, before.matrix, "rigid", all_found=[refined])
    kept = replace(
        before,
        iterations=refined.iterations,
        stop_reason="headers kept: " + refined.stop_reason,
    )
    outcome = _outcome(work, kept, refined.matrix, "identity", all_found=[refined])
    return replace(outcome, gain=_gain(before, refined))


def _chosen(work: _Work, outcome: Outcome, choose: str) -> Outcome:
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
    taken = _outcome(work, here, near.matrix, "identity" if choose == "headers" else "rigid")
    return replace(taken, alternatives=outcome.alternatives, chosen=choose, gain=_gain(here, near))


def _starts(work: _Work) -> tuple[list[Matrix], list[Matrix]]:
    """Candidates of the search: upright ones, and ones after half and quarter turns."""
    plan, pair, meter = work.plan, work.pair, work.meter
    near = work.given
    rotations = rotation_ball(
        step_deg=plan.near_step_deg if near else plan.step_deg,
        limit_deg=plan.near_limit_deg if near else plan.limit_deg,
    )
    around = rotation_ball(step_deg=30.0, limit_deg=27.0)
    turned = [] if near else [turn @ small for turn in body_turns() for small in around]
    meter.stage(0.1, 0.4, total=len(rotations) + len(turned), text="searching for a start")
    found = search(
        pair.fixed,
        pair.moving,
        rotations=rotations,
        step_mm=plan.search_mm,
        start=work.start if near else None,
        reach_mm=plan.near_mm if near else None,
        meter=meter,
    )
    others = (
        search(pair.fixed, pair.moving, rotations=turned, step_mm=plan.turned_mm, meter=meter)
        if turned
        else []
    )
    return [c.matrix for c in found[: plan.starts]], [c.matrix for c in others[:TURNED]]


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


def _outcome(
    work: _Work,
    after: Refined,
    seen: Matrix,
    method: str,
    *,
    all_found: list[Refined] | None = None,
) -> Outcome:
    pair, before = work.pair, work.before
    points = pair.landmarks()
    found = all_found or []
    rivals = [r.score for r in found if distance_mm(r.matrix, after.matrix, points) > RIVAL_MM]
    return Outcome(
        matrix=after.matrix,
        method=method,
        metric_before=before.metric,
        metric_after=after.metric,
        overlap=after.overlap,
        iterations=after.iterations,
        stop_reason=after.stop_reason,
        shares_frame=pair.shares_frame,
        given=work.given,
        change_mm=distance_mm(after.matrix, seen, points),
        change_deg=rotation_angle(after.matrix @ np.linalg.inv(seen)),
        rival=max(rivals, default=0.0) / after.score if after.score > 0 else 1.0,
        gain=_gain(before, after),
        sharpness=work.fine.sharpness(after),
        turned=body_turn(after.matrix @ np.linalg.inv(work.start)),
        alternatives=_alternatives(work, after, found, points),
    )


def _alternatives(
    work: _Work, after: Refined, found: list[Refined], points: np.ndarray
) -> tuple[Alternative, ...]:
    """Where the volumes lie, the best place that was found, and others that lie apart."""
    before = work.before
    others = sorted(found, key=lambda r: -r.score)
    if all(after.matrix is not r.matrix for r in (before, *others)):
        others.insert(0, after)
    named = [("start" if work.given else "headers", before)] if before.overlap else []
    kept: list[Refined] = []
    for result in others:
        apart = all(distance_mm(result.matrix, k.matrix, points) > DISTINCT_MM for k in kept)
        if apart and result.overlap >= LEAST_OVERLAP:
            kept.append(result)
            named.append(("search" if len(kept) == 1 else str(len(kept)), result))
    return tuple(
        Alternative(
            name=name,
            matrix=result.matrix,
            metric=result.metric,
            overlap=result.overlap,
            away_mm=distance_mm(result.matrix, before.matrix, points),
            away_deg=rotation_angle(result.matrix @ np.linalg.inv(before.matrix)),
        )
        for name, result in named
    )


def _with_witnesses(work: _Work, outcome: Outcome) -> Outcome:
    """Optimise again from the result, and once with the moving volume mirrored."""
    pair, plan, here = work.pair, work.plan, outcome.matrix
    thin = min(*pair.fixed.grid.shape, *pair.moving.grid.shape) < MIN_SLICES
    if thin or not is_rigid(here) or outcome.metric_after <= 0:
        return outcome
    witnesses = call_witnesses(pair.fixed, pair.moving, plan, work.fine, here, work.meter)
    plain, mirrored = mirrored_fit(pair.fixed, pair.moving, plan, work.coarse, here, work.meter)
    other = other_side_fit(pair.fixed, pair.moving, work.coarse, here, work.meter)
    return replace(
        outcome,
        witnesses=(*outcome.witnesses, *witnesses),
        other_side=other.score / plain.score if other and plain.score > 0 else 0.0,
        mirrored=mirrored.metric / plain.metric if plain.metric > 0 else 0.0,
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
