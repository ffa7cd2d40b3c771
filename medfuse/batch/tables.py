"""Tables of a whole study in the form of BIDS: measurements.tsv and summary.tsv."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from medfuse.report.regions import MAX_TABLE_BYTES
from medfuse.results.folder import read_json, whole_file, write_through, writing
from medfuse.results.ledger_files import SUMMARY, result_folders

MEASUREMENTS, SUMMARY_TABLE = "measurements.tsv", "summary.tsv"
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
    tables = (folder / MEASUREMENTS for folder in result_folders(out))
    first = next((table for table in tables if _is_usual(table)), None)
    if first is None:
        for name in (MEASUREMENTS, "measurements.json"):
            (out / name).unlink(missing_ok=True)
        return
    with first.open(encoding="utf-8", errors="replace") as file:
        columns = file.readline().rstrip("\n")
    with writing(out / MEASUREMENTS), whole_file(out / MEASUREMENTS) as whole:
        whole.write(f"case\t{columns}\n".encode())
        for folder in result_folders(out):
            for line in _lines(folder / MEASUREMENTS, columns):
                whole.write(f"{folder.name}\t{line}\n".encode())
    meaning = read_json(first.with_suffix(".json")) or {}
    _write_json(out / "measurements.json", {"case": _CASE, **meaning})


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
