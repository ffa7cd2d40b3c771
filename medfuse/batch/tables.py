"""Tables of a whole study in the form of BIDS: measurements.tsv and summary.tsv."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from medfuse.report.regions import MAX_TABLE_BYTES
from medfuse.results.folder import read_json, whole_file, write_through, writing
from medfuse.results.ledger_files import SUFFIX, SUMMARY, follow_up_folders, result_folders

MEASUREMENTS, SUMMARY_TABLE, CHANGES = "measurements.tsv", "summary.tsv", "changes.tsv"
MISSING = "n/a"
_CASE = {"Description": "Name of the case, as of its result folder."}
#: What the columns of the summary mean; those of the audit are described by their check.
_MEANING = {
    "case": _CASE,
    "status": {"Description": "What became of the case: done, skipped (was done), failed ..."},
    "verdict": {"Description": "Verdict of the audit: pass, look or fail."},
    "code": {"Description": "Code of the error of a case that failed."},
    "seconds": {"Description": "Time of the last run.", "Units": "s"},
    "notes": {"Description": "Remarks of the readers and of the registration."},
    "report": {"Description": "Place of the report of the case."},
    "anatomical": {"Description": "Anatomical image, where it may be named."},
    "functional": {"Description": "Functional image, where it may be named."},
    "modality": {"Description": "Modality of the functional image."},
    "registration": {"Description": "Verdict of the registration: good, look or suspect."},
    "shift_mm": {"Description": "How far the registration moved the center.", "Units": "mm"},
    "rotation_deg": {"Description": "How far the registration turned.", "Units": "degree"},
    "overlap": {"Description": "Part of the anatomy inside the functional field of view."},
    "expected_error_mm": {
        "Description": "Expected error of the registration, 90 % bound, largest of its places.",
        "Units": "mm",
    },
    "window_low": {"Description": "Lower end of the functional window, in the unit."},
    "window_high": {"Description": "Upper end of the functional window, in the unit."},
    "unit": {"Description": "Unit of the functional image."},
    "suv": {"Description": "Whether the functional image is in SUV: yes or no."},
}


def write_tables(out: Path) -> None:
    """Write the tables of an output folder from its results and its summary.

    Results are read one after the other; nothing of them is held.

    Raises
    ------
    OutputError
        ``E_WRITE``.
    """
    _write_summary(out)
    _join(out, MEASUREMENTS, lambda: ((folder.name, folder) for folder in result_folders(out)))
    _join(out, CHANGES, lambda: _compared(out))


def _compared(out: Path) -> Iterator[tuple[str, Path]]:
    """Cases that this batch compared with an earlier one, and where."""
    for folder in follow_up_folders(out):
        if folder.name.endswith(SUFFIX):
            yield folder.name.removesuffix(SUFFIX), folder


def _join(out: Path, name: str, folders: Callable[[], Iterable[tuple[str, Path]]]) -> None:
    """One table of the tables of all cases, which have the columns of the first."""
    target = out / name
    tables = (folder / name for _, folder in folders())
    first = next((table for table in tables if _is_usual(table)), None)
    if first is None:
        for path in (target, target.with_suffix(".json")):
            path.unlink(missing_ok=True)
        return
    with first.open(encoding="utf-8", errors="replace") as file:
        columns = file.readline().rstrip("\n")
    with writing(target), whole_file(target) as whole:
        whole.write(f"case\t{columns}\n".encode())
        for case, folder in folders():
            for line in _lines(folder / name, columns):
                whole.write(f"{case}\t{line}\n".encode())
    meaning = read_json(first.with_suffix(".json")) or {}
    _write_json(target.with_suffix(".json"), {"case": _CASE, **meaning})


def _is_usual(table: Path) -> bool:
    return table.is_file() and table.stat().st_size <= MAX_TABLE_BYTES


def _lines(table: Path, columns: str) -> Sequence[str]:
    """Rows of the table of a case; none of a table with other columns, of another version."""
    if not _is_usual(table):
        return ()
    try:
        head, *rows = table.read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return ()
    return rows if head == columns else ()


def _write_summary(out: Path) -> None:
    """The summary once more, as BIDS wants tables: tabs, n/a, and a description.

    The message of a case that failed is left out: it may name a file of the study.
    """
    if not (out / SUMMARY).is_file():
        return
    with (out / SUMMARY).open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        columns = [name for name in rows.fieldnames or () if name != "message"]
        with writing(out / SUMMARY_TABLE), whole_file(out / SUMMARY_TABLE) as whole:
            for row in chain([dict(zip(columns, columns, strict=True))], rows):
                cells = (" ".join((row[name] or "").split()) or MISSING for name in columns)
                whole.write(("\t".join(cells) + "\n").encode())
    audit = {
        name: {"Description": f"Value of the check {name.removeprefix('audit_')} of the audit."}
        for name in columns
        if name.startswith("audit_")
    }
    _write_json(out / "summary.json", {n: _MEANING[n] for n in columns if n in _MEANING} | audit)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_through(path, (json.dumps(content, indent=1) + "\n").encode())
