"""A check in words, the same in report, terminal and panel.

Every number says how much of something unwanted there is, so that less is better and the limit is
the most that passes. The checks themselves stay as `medfuse.audit` gives them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class _Words:
    """How a check is said.

    ``kind``: "percent", "count" or a unit. ``turned``: the check tells what is kept; the words tell
    what is lost. ``mirrored``: the check tells an advantage; the words tell the disadvantage.
    """

    of: str
    kind: str = "percent"
    turned: bool = False
    mirrored: bool = False


_WORDS = {
    "linearity": _Words("brightness from neither source", ""),
    "weights": _Words("largest weight", ""),
    "finite": _Words("voxels without a number", "count"),
    "invented": _Words("fine structure that neither source explains"),
    "detail": _Words("fine detail of the weaker source missing in brightness", turned=True),
    "contradiction": _Words("pixels in the worst slice", "count"),
    "share": _Words("functional brightness lost there", turned=True),
    "hot_spots": _Words("contrast lost in the weakest", turned=True),
    "overshoot": _Words("voxels brighter or darker than both sources"),
    "bounded": _Words("voxels that were limited"),
    "gamut": _Words("voxels whose color a screen cannot show"),
    "chroma": _Words("voxels with another color"),
    "coverage": _Words("anatomical grid outside of it", turned=True),
    "window": _Words("voxels above it"),
    "laterality": _Words("better explained when mirrored", mirrored=True),
    "position": _Words("shift of the fused image", "voxels"),
    "read_back": _Words("error in 95 % of voxels, of the window"),
    "anatomy_back": _Words("error in 95 % of voxels, of the window"),
    "registration": _Words("functional image outside the anatomical one", turned=True),
}


def value_in_words(check: Mapping[str, Any]) -> str:
    """What was found, e.g. ``"functional brightness lost there: 0.8 %"``.

    Parameters
    ----------
    check : mapping
        As ``audit.json`` holds it.
    """
    if check["id"] == "unit":
        return f"values in {check['unit']}"
    words = _words(check)
    return f"{words.of}: {_number(check['value'], words)}".removeprefix(": ")


def limit_in_words(check: Mapping[str, Any]) -> str:
    """The most that passes, e.g. ``"limit 20 %"``; empty where there is no limit."""
    if check["threshold"] is None or check["id"] == "unit":
        return ""
    if check["verdict"] == "pass" and (check.get("details") or {}).get("by_colour"):
        return "no limit, because the color shows it"
    return f"limit {_number(check['threshold'], _words(check))}"


def _words(check: Mapping[str, Any]) -> _Words:
    """Those of a check; one that is not known here has its own."""
    unit = check["unit"]
    is_part = unit.startswith("fraction") or unit in ("overlap", "share")
    return _WORDS.get(check["id"]) or _Words(unit, "percent" if is_part else "")


def _number(value: float | None, words: _Words) -> str:
    if value is None or value != value:
        return "not measured"
    if words.turned:
        value = 1.0 - value
    if words.mirrored:
        value = -value
    if words.kind == "percent":
        return f"{round(100 * value, 1) + 0.0:g} %"  # no -0
    if words.kind == "count":
        return f"{value:.0f}"
    return f"{value:.3g} {words.kind}".strip()
