"""Body weight at the scan, from the tables of a BIDS data set, in the unit that they state.

References
----------
BIDS 1.10, "Participants file", "Sessions file", "Tabular files" (n/a, description of columns).
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medfuse.imaging.bids import data_set_of, entity, subject_folder
from medfuse.imaging.pet.free_text import (
    is_missing,
    mass_in_kg,
    masses_in_prose,
    read_quantity,
)

_COLUMN = re.compile(r"(?:(?:body|patient|subject|participant)_?)?weight(?:_([a-z]+))?")
_SAME = 0.005


@dataclass(frozen=True)
class Weight:
    """Body weight, or why there is none.

    Attributes
    ----------
    kg : float or None
    source : str
        "weight of sessions.tsv".
    problem : str or None
        Why a weight that is there cannot be used.
    """

    kg: float | None = None
    source: str = "weight of participants.tsv"
    problem: str | None = None
    remarks: tuple[str, ...] = ()


def find_weight(path: Path) -> Weight:
    """Body weight of the subject of a file: of its session, else of the subject.

    Where sessions.tsv gives weights, that of another visit never stands in for a missing one.
    """
    for key, wanted, table, descriptions in _tables(path):
        found = _look_up(table, descriptions, key, wanted)
        if found is not None:
            return found
    return Weight()


def table_files(path: Path) -> list[Path]:
    """The tables and their descriptions that `find_weight` asks, as far as they exist."""
    asked = [[table, *descriptions] for _, _, table, descriptions in _tables(path)]
    return [file for files in asked for file in files if file.is_file()]


def _tables(path: Path) -> Iterator[tuple[str, str, Path, list[Path]]]:
    """Key column, its entry, table and descriptions, the nearest table first."""
    subject, session = entity(path, "sub"), entity(path, "ses")
    if subject is None:
        return
    top, own = data_set_of(path), subject_folder(path)
    if session is not None:
        name = f"{subject}_sessions"
        described = [top / "sessions.json", own / f"{name}.json"]
        yield "session_id", session, own / f"{name}.tsv", described
    yield "participant_id", subject, top / "participants.tsv", [top / "participants.json"]


def _look_up(table: Path, descriptions: Sequence[Path], key: str, wanted: str) -> Weight | None:
    """Weight in one table; None where there is no table, or no weight in it at all."""
    name = table.name.rpartition("_")[2]  # without the subject
    source = f"weight of {name}"
    if not table.is_file():
        lost = f"cannot be found: {name} is a link to nowhere"
        return Weight(source=source, problem=lost) if table.is_symlink() else None
    rows = _rows(table)
    if rows is None:
        return Weight(source=source, problem=f"cannot be found: {name} is no tab-separated UTF-8")
    if not rows or key not in rows[0]:
        return Weight(source=source, problem=f"cannot be found: {name} has no column {key}")
    header, *body = rows
    columns = [n for n, title in enumerate(header) if _is_weight(title)]
    if not any(not is_missing(row[n]) for row in body for n in columns if n < len(row)):
        return None
    own = [row for row in body if _matches(row, header.index(key), wanted)]
    described = _described(descriptions)
    if described is None:
        lost = f"has a unit that cannot be found: the JSON file of {name} cannot be read"
        return Weight(source=source, problem=lost)
    cells = [(n, row) for row in own for n in columns if n < len(row) and not is_missing(row[n])]
    read = [_in_kg(header, n, row, described) for n, row in cells]
    problems = [text for _, text, _ in read if text]
    if problems:
        return Weight(source=source, problem=problems[0])
    values = [kg for kg, _, _ in read if kg is not None]
    if values and max(values) > min(values) * (1 + _SAME):
        return Weight(source=source, problem="is given twice, with different values")
    assumed = any(assumed for _, _, assumed in read)
    remark = f"{source} has no unit in its JSON file: kg is assumed"
    return Weight(values[0] if values else None, source, None, (remark,) if assumed else ())


def _rows(table: Path) -> list[list[str]] | None:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file, delimiter="\t")]
    except (OSError, UnicodeDecodeError, csv.Error):
        return None
    return [row for row in rows if any(row)]


def _matches(row: list[str], column: int, wanted: str) -> bool:
    return column < len(row) and row[column] in (wanted, wanted.partition("-")[2])


def _normal(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")


def _unit_of_title(title: str) -> str | None:
    found = _COLUMN.fullmatch(_normal(title))
    return found[1] if found else None


def _is_weight(title: str) -> bool:
    """Whether a column holds weights: by its name, which may end in a unit."""
    unit = _unit_of_title(title)
    if unit is None:
        return _COLUMN.fullmatch(_normal(title)) is not None
    return mass_in_kg(unit) is not None


def _described(paths: Sequence[Path]) -> dict[str, Any] | None:
    """Descriptions of the columns, a lower file before a higher one; None where one is damaged."""
    found: dict[str, Any] = {}
    for path in paths:
        try:
            content = json.loads(path.read_bytes())
        except FileNotFoundError:
            if path.is_symlink():
                return None
            continue
        except (OSError, ValueError, RecursionError):
            return None
        if not isinstance(content, dict):
            return None
        found |= content
    return found


def _in_kg(
    header: list[str], column: int, row: list[str], described: dict[str, Any]
) -> tuple[float | None, str | None, bool]:
    """Weight of one cell in kg, the problem with it, and whether its unit is assumed."""
    quantity = read_quantity(row[column])
    if quantity is None:
        return None, "is no number that can be read", False
    stated = list(_stated_units(header, column, row, described, quantity.unit))
    if None in stated:
        return None, "has a unit that is not known", False
    units = {unit for unit in stated if unit is not None}
    if len(units) > 1:
        return None, "has units that disagree", False
    return quantity.value * (units.pop() if units else 1.0), None, not stated


def _stated_units(
    header: list[str], column: int, row: list[str], described: dict[str, Any], beside: str
) -> Iterator[float | None]:
    """Kilogram in one of every unit that is stated; None for one that is not known."""
    title = header[column]
    texts = [_unit_of_title(title), beside]
    texts += [
        row[n]
        for n, other in enumerate(header)
        if n < len(row) and _unit_of_title(other) in ("unit", "units")
    ]
    entry = described.get(title)
    entry = entry if isinstance(entry, dict) else {}
    units = entry.get("Units")
    texts.append(None if is_missing(units) else str(units))
    for text in texts:
        if text:
            yield mass_in_kg(text)
    prose = masses_in_prose(f"{entry.get('LongName', '')} {entry.get('Description', '')}")
    if len(prose) == 1 or (prose and not any(texts)):
        yield from prose
