"""What changed in regions between two times: the numbers of both side by side."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from medfuse.measurement.region import Region
from medfuse.measurement.table import RegionTable, Row, cell
from medfuse.registration.expected import ExpectedError, Witness
from medfuse.registration.result import Registration

#: Numbers that are compared, with the unit of their difference.
COMPARED = ("max", "mean", "peak", "mtv_ml", "tlg")
ONCE, ANEW = "drawn at the first time", "drawn anew at each time"


def in_anatomical(region: Region, registration: Registration) -> Region:
    """A region of the functional image, where it lies in the world of the anatomical one."""
    if region.space == "anatomical":
        return region
    moved = registration.inverse @ region.grid.affine
    grid = replace(region.grid, affine=moved)
    return replace(region, grid=grid, space="anatomical")


def composed(first: Registration, second: Registration) -> Registration:
    """One map after another: points of the first fixed image -> points of the last moving one.

    What each witness of either saw is combined with each of the other, so that the spreads add as
    squares; the least error too.
    """
    matrix = second.matrix @ first.matrix
    expected = None
    if first.expected is not None and second.expected is not None:
        witnesses = tuple(
            Witness(f"{a.name}, {b.name}", b.matrix @ a.matrix)
            for a in first.expected.witnesses
            for b in second.expected.witnesses
        )
        least = float(np.hypot(first.expected.least_mm, second.expected.least_mm))
        factor = max(first.expected.factor, second.expected.factor)
        expected = ExpectedError(matrix, witnesses, least, factor)
    rank = ("good", "look", "suspect")
    worst = max(first.verdict, second.verdict, key=rank.index)
    given = Registration.given(matrix, first.fixed_grid)
    return replace(given, verdict=worst, expected=expected)


def change_columns() -> dict[str, dict[str, Any]]:
    """What the columns of the table of changes mean, as BIDS wants it said."""
    meaning: dict[str, dict[str, Any]] = {
        "region": {"Description": "Name of the region."},
        "unit": {"Description": "Unit of the functional values at both times."},
        "rule": {
            "Description": "How the region is the same at both times; MTV and TLG are by one rule.",
            "Levels": {
                ONCE: "A mask or a sphere: its form stays, the registrations say where it lies.",
                ANEW: "An isocontour: its threshold is applied to each image; its MTV is what lies "
                "above that threshold.",
            },
        },
    }
    for name in COMPARED:
        meaning |= {
            f"{name}_first": {"Description": f"The number {name} at the first time."},
            f"{name}_second": {"Description": f"The number {name} at the second time."},
            f"{name}_change": {"Description": f"Second {name} less the first."},
            f"{name}_change_percent": {
                "Description": f"Change of {name} in percent of the first.",
                "Units": "%",
            },
        }
    meaning |= {
        "error_mm": {
            "Description": "Expected error of the region at the second time (90 % bound), of both "
            "registrations together.",
            "Units": "mm",
        },
        "mean_second_low": {"Description": "Lowest mean at the second time within that error."},
        "mean_second_high": {"Description": "Highest mean at the second time within that error."},
        "within_error": {
            "Description": "Whether the first mean lies in that range: then the change of the mean "
            "may be one of position alone.",
            "Levels": {"yes": "It does.", "no": "It does not."},
        },
        "remark": {"Description": "What has to be known about this row."},
    }
    return meaning


def changes(first: RegionTable, second: RegionTable) -> list[dict[str, Any]]:
    """A mapping for each region that was measured at both times, in the order of the first."""
    return [_change(row, second[row.region]) for row in first]


def changes_tsv(rows: list[dict[str, Any]]) -> str:
    """The changes as a table of BIDS."""
    names = list(change_columns())
    lines = ["\t".join(names), *("\t".join(cell(row[name]) for name in names) for row in rows)]
    return "\n".join(lines) + "\n"


def _change(one: Row, other: Row) -> dict[str, Any]:
    rule = ANEW if one.kind.startswith("isocontour") else ONCE
    found: dict[str, Any] = {"region": one.region, "unit": one.unit, "rule": rule}
    for name in COMPARED:
        before, after = getattr(one, name), getattr(other, name)
        known = before is not None and after is not None
        found |= {
            f"{name}_first": before,
            f"{name}_second": after,
            f"{name}_change": after - before if known else None,
            f"{name}_change_percent": 100 * (after / before - 1) if known and before else None,
        }
    low, high = other.mean_low, other.mean_high
    inside = None
    if one.mean is not None and low is not None and high is not None:
        inside = "yes" if low <= one.mean <= high else "no"
    remarks = [
        f"{when}: {row.remark}" for when, row in (("first", one), ("second", other)) if row.remark
    ]
    return found | {
        "error_mm": other.registration_error_mm,
        "mean_second_low": low,
        "mean_second_high": high,
        "within_error": inside,
        "remark": "; ".join(remarks) or None,
    }
