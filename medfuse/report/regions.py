"""What the pages say of regions: the table of a case, and the regions of a study side by side."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medfuse.measurement.table import MISSING, head
from medfuse.results.ledger_files import result_folders

TABLE = "measurements.tsv"
MAX_TABLE_BYTES = 1 << 26
#: What a study compares, by column; of values in SUV, MTV and TLG too.
MEASURES = {"mean": "Mean", "max": "Maximum", "peak": "Peak", "mtv_ml": "MTV (ml)", "tlg": "TLG"}
FEWEST, ODD = 5, 3.5  # cases, and robust standard deviations
MOST_REGIONS, MOST_ODD = 400, 20
_WIDTH, _HEIGHT = 260, 26  # of a strip of dots
_SUV = {"max": "SUVmax", "mean": "SUVmean", "peak": "SUVpeak"}


def read_table(folder: Path) -> list[dict[str, str]]:
    """Rows of the table of a result folder; none where there is no such table of this version."""
    path = folder / TABLE
    try:
        if not path.is_file() or path.stat().st_size > MAX_TABLE_BYTES:
            return []
        lines = path.read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return []
    if not lines or lines[0] != head():
        return []
    return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def case_regions(folder: Path, drawn: Sequence[Mapping[str, str]] = ()) -> list[dict[str, Any]]:
    """The table of a case as its page shows it: text, with ranges."""
    colours = {str(one["name"]): str(one["colour"]) for one in drawn}
    return [{**_shown(row), "colour": colours.get(row["region"])} for row in read_table(folder)]


def _shown(row: dict[str, str]) -> dict[str, Any]:
    numbers = ("max", "mean", "sd", "peak", "mtv_ml", "tlg", "ratio")
    return {
        "region": row["region"],
        "kind": row["kind"],
        "volume": _number(row["volume_ml"]),
        "unit": row["unit"],
        **{name: _number(row[name]) for name in numbers},
        "mean_range": _range(row, "mean"),
        "peak_range": _range(row, "peak"),
        "anatomical": _number(row["anatomical_mean"]),
        "anatomical_sd": _number(row["anatomical_sd"]),
        "share": _percent(row["anatomical_contribution"]),
        "remark": "" if row["remark"] == MISSING else row["remark"],
    }


def _number(text: str) -> str:
    return "–" if text == MISSING else f"{float(text):.3g}"


def _percent(text: str) -> str:
    return "–" if text == MISSING else f"{100 * float(text):.0f} %"


def _range(row: dict[str, str], name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return "" if MISSING in (low, high) else f"{float(low):.3g} to {float(high):.3g}"


@dataclass
class RegionOfStudy:
    """One number of one region in all cases.

    Attributes
    ----------
    region, measure, unit : str
    values : array of float
        By case; NaN where it was not measured.
    cases : array of int
        Number of the case of each value.
    """

    region: str
    measure: str
    unit: str
    values: array[float] = field(default_factory=lambda: array("d"))
    cases: array[int] = field(default_factory=lambda: array("l"))


def study_regions(out: Path) -> tuple[list[dict[str, Any]], int]:
    """Distribution and outliers of each number of each region, as the study page shows them.

    Tables are read one after the other; of each number a few bytes are kept.

    Returns
    -------
    rows : list of dict
        region, measure, unit, count, median, spread (MAD), low, high, odd (cases with their
        distance), points of a strip of dots.
    left_out : int
        Numbers that the page has no room for; the tables have them.
    """
    found: dict[tuple[str, str, str], RegionOfStudy] = {}
    names: list[str] = []
    for folder in result_folders(out):
        rows = read_table(folder)
        if rows:
            names.append(folder.name)
        for row in rows:
            for measure, value in _measures(row):
                key = (row["region"], measure, row["unit"])
                one = found.setdefault(key, RegionOfStudy(*key))
                one.values.append(value)
                one.cases.append(len(names) - 1)
    kept = list(found.values())
    return [_summary(one, names) for one in kept[:MOST_REGIONS]], max(0, len(kept) - MOST_REGIONS)


def _measures(row: dict[str, str]) -> Iterator[tuple[str, float]]:
    for measure in MEASURES:
        if row[measure] != MISSING:
            yield measure, float(row[measure])


def _summary(one: RegionOfStudy, names: list[str]) -> dict[str, Any]:
    """Median, spread and outliers by the modified z-score (Iglewicz & Hoaglin 1993)."""
    values = np.array(one.values)
    middle = float(np.median(values))
    spread = float(np.median(np.abs(values - middle)))
    least = max(spread, 0.01 * abs(middle), 1e-9)
    away = 0.6745 * (values - middle) / least
    order = np.argsort(-np.abs(away), kind="stable")[:MOST_ODD]
    odd = [i for i in order if len(values) >= FEWEST and abs(away[i]) > ODD]
    title = _SUV.get(one.measure) if one.unit.startswith("SUV") else None
    return {
        "region": one.region,
        "measure": title or MEASURES[one.measure],
        "unit": "" if one.measure == "mtv_ml" else one.unit,
        "count": len(values),
        "median": middle,
        "spread": spread,
        "low": float(values.min()),
        "high": float(values.max()),
        "odd": [{"case": names[one.cases[i]], "value": values[i], "away": away[i]} for i in odd],
        "dots": _dots(values),
    }


def _dots(values: np.ndarray) -> list[tuple[float, int]]:
    """Places of dots along a strip, with how many values fall there."""
    low, high = float(values.min()), float(values.max())
    part = (values - low) / (high - low) if high > low else np.full(len(values), 0.5)
    places, counts = np.unique(np.rint(part * (_WIDTH - 12)).astype(int), return_counts=True)
    return [(float(p) + 6, int(n)) for p, n in zip(places, counts, strict=True)]
