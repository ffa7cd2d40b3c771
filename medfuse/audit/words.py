"""A check in words and numbers, the same for report, terminal and panel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Checks whose value should be high; of all others it should be low.
AT_LEAST = frozenset({"detail", "share", "hot_spots", "coverage", "laterality"})
#: Checks that a value on the limit does not pass.
BELOW = frozenset({"contradiction", "linearity"})


def value_in_words(check: Mapping[str, Any]) -> str:
    """What was found, e.g. ``"0.8 % of the voxels"``; of the unit itself no number.

    Parameters
    ----------
    check : mapping
        As ``audit.json`` holds it.
    """
    if check["id"] == "unit":
        return str(check["unit"])
    return f"{_number(check['value'], check['unit'])}{_rest(check['unit'])}"


def limit_in_words(check: Mapping[str, Any]) -> str:
    """What the value should be, e.g. ``"at most 4 %"``; empty where there is no limit."""
    if check["threshold"] is None:
        return ""
    name = check["id"]
    side = "at least" if name in AT_LEAST else "below" if name in BELOW else "at most"
    limit = f"{side} {_number(check['threshold'], check['unit'])}"
    if check["verdict"] == "pass" and (check.get("details") or {}).get("by_colour"):
        return f"{limit}, not applied: the uptake is read from the color"
    return limit


def _is_part(unit: str) -> bool:
    return unit.startswith(("fraction", "overlap"))


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    return f"{100 * value + 0:.3g} %" if _is_part(unit) else f"{value + 0:.3g}"  # no "-0"


def _rest(unit: str) -> str:
    rest = unit.removeprefix("fraction").strip()
    return f" {rest}" if rest else ""
