"""What a registration ends with, and the evidence for and against it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from medfuse.imaging.grid import Grid, Matrix, coverage, from_sitk, transform_points
from medfuse.registration.evidence import Alternative
from medfuse.registration.expected import Witness
from medfuse.registration.geometry import body_turn, distance_mm, rotation_angle
from medfuse.registration.inputs import Prepared
from medfuse.registration.plan import Plan
from medfuse.registration.progress import Meter
from medfuse.registration.refine import Refined, Stage
from medfuse.registration.region import Region

#: Headers are believed for a start only if at least this much of the fixed foreground is covered.
TRUSTED_OVERLAP = 0.5
#: A position is offered as a choice if it overlaps that much.
LEAST_OVERLAP = 0.1
#: Results nearer than this are one solution; a rival is further away than that.
DISTINCT_MM = 10.0
RIVAL_MM = 25.0


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
class Work:
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


def outcome_of(
    work: Work,
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
        gain=gain(before, after),
        sharpness=work.fine.sharpness(after),
        turned=body_turn(after.matrix @ np.linalg.inv(work.start)),
        alternatives=_alternatives(work, after, found, points),
    )


def _alternatives(
    work: Work, after: Refined, found: list[Refined], points: np.ndarray
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


def gain(before: Refined, after: Refined) -> float:
    return after.metric / before.metric - 1.0 if before.metric > 0 else np.inf
