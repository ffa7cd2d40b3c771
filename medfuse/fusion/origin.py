"""Checks of what was fused: do the two images make a pair, and are their values those of files?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from medfuse.audit import Check
from medfuse.imaging.fingerprint import CHANGED
from medfuse.imaging.pairing import Doubt

_ASK = "Make sure that the two images were not exchanged."
_STATED = "The user stated that this is meant."


def origin_checks(doubts: tuple[Doubt, ...], functional: Any, anatomical: Any) -> Iterator[Check]:
    """Checks ``pair`` and ``values``, each only where there is something to look at."""
    if doubts:
        yield pair_check(doubts)
    changed = {"functional": functional, "anatomical": anatomical}
    notes = {role: _note(image) for role, image in changed.items()}
    told = {role: note for role, note in notes.items() if note}
    if told:
        yield Check(
            "values",
            "Values are those that were read",
            float(len(told)),
            "images with changed values",
            0.0,
            "look",
            " ".join(f"Of the {role} image, {note}." for role, note in told.items())
            + " Leave out the step that changes values, or make sure that it is meant.",
            {"changed": sorted(told)},
        )


def pair_check(doubts: tuple[Doubt, ...]) -> Check:
    """Check ``pair``: doubt by file names alone, and what the user stated against the files."""
    text = " ".join(
        f"{doubt.cause[0].upper()}{doubt.cause[1:]}. {_STATED if doubt.is_sure else _ASK}"
        for doubt in doubts
    )
    return Check(
        "pair",
        "The two images make a pair",
        float(len(doubts)),
        "contradictions",
        0.0,
        "look",
        text,
        {"kinds": [doubt.kind for doubt in doubts]},
    )


def _note(image: Any) -> str:
    """What `as_read` noted where it changed the facts of an image."""
    meta = getattr(image, "meta", {})
    if not meta.get(CHANGED):
        return ""
    notes = [note for note in meta.get("notes") or () if "changed after reading" in note]
    return notes[-1] if notes else "the values were changed after reading"
