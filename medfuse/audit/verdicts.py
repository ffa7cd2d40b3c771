"""Verdicts told again from the numbers of a check, where these cannot be measured again.

The limits are those of this version and not those that a file states.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from medfuse.audit.both_sources import FAINT, detail_verdict
from medfuse.audit.colour import READ_BACK_ERROR
from medfuse.audit.decomposition import (
    OVERSHOOT_FRACTION,
    ROUNDING,
    linearity_verdict,
    overshoot_verdict,
)
from medfuse.audit.model import Verdict
from medfuse.audit.orientation import judge_side
from medfuse.audit.structure import LIMIT, invented_verdict
from medfuse.kernel.sources import FLAGGED

Details = Mapping[str, Any]


def _detail(value: float, details: Details) -> Verdict:
    kept = details["kept_functional"], details["kept_anatomical"]
    excused = details.get("by_colour") and kept[0] <= kept[1]
    return "pass" if excused else detail_verdict(value)


def _contradiction(value: float, details: Details) -> Verdict:
    return "look" if value >= FLAGGED or details["flagged_slices"] else "pass"


#: Limit and verdict of the checks that need the anatomical image itself.
_RULES: dict[str, tuple[float, Callable[[float, Details], Verdict]]] = {
    "linearity": (ROUNDING, lambda value, details: linearity_verdict(value)),
    "invented": (LIMIT, lambda value, details: invented_verdict(value, details["worst_slice"])),
    "detail": (FAINT, _detail),
    "contradiction": (FLAGGED, _contradiction),
    "overshoot": (
        OVERSHOOT_FRACTION,
        lambda value, details: overshoot_verdict(value, details["patch"]),
    ),
    "laterality": (0.0, lambda value, details: judge_side(value)[0]),
    "anatomy_back": (
        READ_BACK_ERROR,
        lambda value, details: "pass" if value <= READ_BACK_ERROR else "look",
    ),
}
#: What the value of a check is by its details.
_VALUES: dict[str, Callable[[Details], float]] = {
    "detail": lambda d: min(d["kept_functional"], d["kept_anatomical"]),
    "overshoot": lambda d: d["fraction_local"],
    "laterality": lambda d: d["explained"] - d["explained_mirrored"],
    "anatomy_back": lambda d: d["percentile_95"],
}


def has_rule(check_id: str) -> bool:
    """Whether `contradicted` can tell the verdict of a check from its numbers."""
    return check_id in _RULES


def contradicted(check: Mapping[str, Any], *, by_colour: bool) -> str:
    """What of a check does not follow from its numbers; empty where all does.

    Parameters
    ----------
    check : mapping
        As ``audit.json`` holds it; one that `has_rule`.
    by_colour : bool
        Whether the uptake was read back from the colour, which excuses lost functional detail.

    Raises
    ------
    KeyError
        A number is missing.
    """
    limit, rule = _RULES[check["id"]]
    value, details = check["value"], check["details"]
    told = _VALUES[check["id"]](details) if check["id"] in _VALUES else value
    verdict = rule(value, details)
    if check["threshold"] != limit:
        return f"limit {check['threshold']}, in this version {limit:g}"
    if told != value or (details.get("by_colour") and not by_colour):
        return "its details say otherwise"
    if check["verdict"] != verdict:
        return f"verdict {check['verdict']}, its numbers give {verdict}"
    return ""
