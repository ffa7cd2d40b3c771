"""The verdict on a registration: that of its worst sign, with reasons and remarks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medfuse.registration.evidence import Sign, Verdict
from medfuse.registration.expected import Kind
from medfuse.registration.signs import (
    GOOD_WITHIN_MM,
    MIN_SHARPNESS,
    about_error,
    about_information,
    about_motion,
    about_overlap,
    about_shape,
    about_sharpness,
    about_sides,
    about_what_was_kept,
    dull,
    lengths,
    percent,
)

if TYPE_CHECKING:
    from medfuse.registration.outcome import Outcome

_ORDER: tuple[Verdict, ...] = ("good", "look", "suspect")


@dataclass(frozen=True)
class Judgement:
    """Verdict, its reasons (remarks for a good one), and all signs."""

    verdict: Verdict
    reasons: tuple[str, ...]
    signs: tuple[Sign, ...]


def judge(
    outcome: Outcome,
    within_mm: float | None = None,
    *,
    kind: Kind = "two sessions",
    over: str = "the body",
    further: Sequence[Sign] = (),
    remarks: Sequence[str] = (),
) -> Judgement:
    """Judge a result.

    Parameters
    ----------
    outcome : Outcome
    within_mm : float, optional
        Mean bound of its error, mm; None where it was not measured.
    kind : {"head", "one session", "two sessions"}
        Of the pair.
    over : str
        Over what that mean is.
    further : sequence of Sign
        Signs from elsewhere.
    remarks : sequence of str
        Likewise, for where the verdict is good enough to fuse.
    """
    signs = [
        *about_overlap(outcome),
        *about_information(outcome),
        *about_sharpness(outcome),
        *about_what_was_kept(outcome),
        *about_motion(outcome),
        *about_error(outcome, within_mm, GOOD_WITHIN_MM[kind], over),
        *about_sides(outcome),
        *about_shape(outcome),
        *further,
    ]
    verdict = max((sign.verdict for sign in signs), key=_ORDER.index)
    if outcome.chosen and verdict == "suspect":  # somebody looked, and answers for it
        verdict = "look"
    reasons = tuple(sign.reason for sign in signs if sign.reason and sign.verdict != "good")
    told = (*reasons, *_remarks(outcome), *remarks) if verdict != "suspect" else reasons
    return Judgement(verdict, told, tuple(signs))


def _remarks(outcome: Outcome) -> list[str]:
    if outcome.chosen:
        return [f"the position was chosen by hand: {outcome.chosen}"]
    if outcome.method == "affine":
        low, high = lengths(outcome.matrix)
        return [f"lengths of the functional image changed by {percent(low)} to {percent(high)}"]
    if outcome.method != "identity":
        return []
    unconfirmed = [f"nothing in the images confirms the position: {dull(outcome)}"]
    remarks = unconfirmed if outcome.sharpness < MIN_SHARPNESS else []
    if outcome.undecided:
        return remarks
    if outcome.iterations == 0:
        what = "given start was" if outcome.given else "positions in the headers were"
        return [f"the {what} trusted; nothing was optimised", *remarks]
    return [
        f"the headers were kept: refining moved by {outcome.change_mm:.1f} mm and "
        f"{outcome.change_deg:.1f} degrees only, or gained no information",
        *remarks,
    ]
