"""Rows of the audit for readers: what was measured, its value, the limit, all in one direction.

Every number says how much of something unwanted there is, so that less is better and the limit is
the most that passes. The checks themselves stay as `medfuse.audit` gives them.
"""

from __future__ import annotations

from dataclasses import dataclass

from medfuse.audit import Audit, Check

ORDER = {"fail": 0, "look": 1, "pass": 2}


@dataclass(frozen=True)
class Row:
    """One line: ``measured`` in words with its number, ``limit`` ("" where there is none)."""

    check: Check
    title: str
    measured: str
    limit: str

    @property
    def sentence(self) -> str:
        """What was measured and the limit, as one phrase."""
        return f"{self.measured}, {self.limit}" if self.limit else self.measured


@dataclass(frozen=True)
class _Words:
    """How a check is said.

    ``kind``: "percent", "count" or a unit. ``turned``: the check tells what is kept; the row tells
    what is lost. ``mirrored``: the check tells an advantage; the row tells the disadvantage.
    """

    title: str
    of: str
    kind: str = "percent"
    turned: bool = False
    mirrored: bool = False


_WORDS = {
    "linearity": _Words("Exact two-source decomposition", "brightness from neither source", ""),
    "weights": _Words("Weights between 0 and 1", "largest weight", ""),
    "finite": _Words("No missing numbers", "voxels without a number", "count"),
    "invented": _Words("No invented structure", "fine structure that neither source explains"),
    "detail": _Words(
        "Detail of both sources", "fine detail lost from the weaker source", turned=True
    ),
    "contradiction": _Words(
        "No edge where both sources are flat", "pixels in the worst slice", "count"
    ),
    "share": _Words(
        "Functional signal in the hottest 5 %", "functional brightness lost there", turned=True
    ),
    "hot_spots": _Words("Hot spots still stand out", "contrast lost in the weakest", turned=True),
    "overshoot": _Words(
        "Within the range of both sources", "voxels brighter or darker than both sources"
    ),
    "bounded": _Words("Overshoot removed as asked", "voxels that were limited"),
    "gamut": _Words("Displayable brightness", "voxels whose color a screen cannot show"),
    "chroma": _Words("Functional color unchanged", "voxels with another color"),
    "coverage": _Words("Functional field of view", "anatomical grid outside of it", turned=True),
    "window": _Words("Functional values inside the window", "voxels above it"),
    "laterality": _Words("Left-right orientation", "better explained when mirrored", mirrored=True),
    "position": _Words("Fused image lies on its sources", "shift of the fused image", "voxels"),
    "read_back": _Words("Uptake readable from the color", "error in 95 % of voxels, of the window"),
    "anatomy_back": _Words(
        "Anatomy readable from the color", "error in 95 % of voxels, of the window"
    ),
    "registration": _Words(
        "Registration", "functional image outside the anatomical one", turned=True
    ),
}


def rows_of(audit: Audit) -> list[Row]:
    """All checks of an audit, the worst first, else in their own order."""
    return [row_of(check) for check in sorted(audit.checks, key=lambda c: ORDER[c.verdict])]


def row_of(check: Check) -> Row:
    """One check in words."""
    words = _WORDS.get(check.id)
    if check.id == "unit" or words is None:
        return _other(check)
    value = _number(check.value, words)
    limit = "" if check.threshold is None else f"limit {_number(check.threshold, words)}"
    if limit and check.details.get("by_colour"):
        limit = "no limit, because it is read from the color"
    return Row(check, words.title, f"{words.of}: {value}", limit)


def _other(check: Check) -> Row:
    """A check that is not known here: its own words."""
    if check.id == "unit":
        return Row(check, check.title, f"values in {check.unit}", "")
    is_part = check.unit.startswith("fraction") or check.unit in ("overlap", "share")
    words = _Words(check.title, check.unit, "percent" if is_part else "")
    limit = "" if check.threshold is None else f"limit {_number(check.threshold, words)}"
    return Row(check, check.title, f"{check.unit}: {_number(check.value, words)}", limit)


def _number(value: float, words: _Words) -> str:
    if value != value:
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
