"""A study that is spelt out: a CSV with a case a line."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from medfuse.errors import InputError, MedfuseError, UsageError
from medfuse.study.model import Case, Namer, Skipped

REQUIRED = ("case", "anatomical", "functional")

_SEPARATORS = ",;\t"
_PAIRS = frozenset({"window", "anatomical_window"})


def read_cases(manifest: Path, namer: Namer) -> tuple[list[Case], list[Skipped]]:
    """Read the cases of a manifest; a line that cannot be used becomes a failed case.

    Parameters
    ----------
    manifest : Path
        CSV (comma, semicolon or tab) with the columns case, anatomical, functional and any
        `CaseSettings` fields. Paths are relative to it. Empty cells say nothing.

    Raises
    ------
    InputError
        ``E_UNREADABLE``.
    UsageError
        ``E_MANIFEST``: no header, a column is missing or unknown.
    """
    rows, columns = _read_rows(manifest)
    _require_columns(columns, manifest)
    cases, failed = [], []
    for number, row in rows:
        try:
            cases.append(_case(row, manifest, namer, line=number))
        except MedfuseError as error:
            name = namer(row.get("case", "") or f"line-{number}")
            path = manifest.parent / row.get("functional", "")
            failed.append(Skipped(path, str(error), error.code, case=name))
    return cases, failed


def _read_rows(manifest: Path) -> tuple[list[tuple[int, dict[str, str]]], list[str]]:
    try:
        text = manifest.read_bytes().decode("utf-8-sig")
    except OSError as error:
        cause = (error.strerror or "unknown").lower()
        raise _unreadable("Cannot read the manifest", manifest.name, cause) from error
    except UnicodeDecodeError as error:
        raise _refuse(manifest, "it is not UTF-8 text", "Save it as CSV in UTF-8") from error
    head = text.partition("\n")[0]
    separator = max(_SEPARATORS, key=head.count)
    reader = csv.reader(io.StringIO(text), delimiter=separator)
    columns = [name.strip().lower() for name in next(reader, [])]
    rows = []
    for cells in reader:
        values = [cell.strip() for cell in cells]
        if any(values) and not values[0].startswith("#"):
            rows.append((reader.line_num, dict(zip(columns, values, strict=False))))
    return rows, columns


def _require_columns(columns: list[str], manifest: Path) -> None:
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        cause = f"the column {missing[0]!r} is missing"
        raise _refuse(manifest, cause, f"The first line must name {', '.join(REQUIRED)}")
    extra = [name for name in columns if name not in REQUIRED]
    known = _known_settings() if extra else []
    unknown = [name for name in extra if name not in known]
    if unknown:
        remedy = f"Remove it or choose from {', '.join(known)}"
        raise _refuse(manifest, f"the column {unknown[0]!r} is unknown", remedy)
    if len(set(columns)) < len(columns):
        raise _refuse(manifest, "a column is named twice", "Remove one of them")


def _known_settings() -> list[str]:
    from medfuse.case import CaseSettings  # imports torch: only where it is needed

    return sorted(CaseSettings.model_fields)


def _case(row: dict[str, str], manifest: Path, namer: Namer, *, line: int) -> Case:
    where = f"{manifest.name} line {line}"
    name = row.get("case", "")
    if not name:
        raise _bad_row(where, "it has no case name", "Fill the column case")
    if re.search(r"[/\\:\0]", name) or set(name) <= {"."}:
        raise UsageError(
            "E_UNSAFE_PATH",
            what="Cannot use the case name",
            where=where,
            cause="it contains a part of a path",
            remedy="Use letters, digits, dots, dashes and underscores",
        )
    paths = {role: _existing(row.get(role, ""), role, manifest, where) for role in REQUIRED[1:]}
    overrides = _overrides(row, manifest, where)
    return Case(namer(name), **paths, why=f"{manifest.name} line {line}", overrides=overrides)


def _existing(text: str, role: str, manifest: Path, where: str) -> Path:
    if not text:
        raise _bad_row(where, f"it names no {role} image", f"Fill the column {role}")
    path = manifest.parent / text
    if not path.exists():
        raise _unreadable("Cannot find an image", where, f"the {role} file or folder is not there")
    return path


def _overrides(row: dict[str, str], manifest: Path, where: str) -> dict[str, Any]:
    given: dict[str, Any] = {k: v for k, v in row.items() if v and k not in REQUIRED}
    if not given:
        return {}
    from medfuse.case import CaseSettings

    for name in _PAIRS & given.keys():
        given[name] = tuple(re.split(r"[\s:;,]+", given[name]))
    if "initial" in given:
        given["initial"] = str(_existing(given["initial"], "initial", manifest, where))
    try:
        settings = CaseSettings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        column = str(first["loc"][0])
        raise _bad_row(where, f"{column}: {first['msg']}", f"Correct the column {column}") from None
    return {name: getattr(settings, name) for name in given}


def _bad_row(where: str, cause: str, remedy: str) -> UsageError:
    return UsageError(
        "E_MANIFEST", what="Cannot use a line", where=where, cause=cause, remedy=remedy
    )


def _refuse(manifest: Path, cause: str, remedy: str) -> UsageError:
    return UsageError(
        "E_MANIFEST",
        what="Cannot read the manifest",
        where=manifest.name,
        cause=cause,
        remedy=remedy,
    )


def _unreadable(what: str, where: str, cause: str) -> InputError:
    return InputError(
        "E_UNREADABLE",
        what=what,
        where=where,
        cause=cause,
        remedy="Check the path (relative to the CSV)",
    )
