"""A study that is spelt out: a CSV with a case a line."""

from __future__ import annotations

import contextlib
import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from pydantic import ValidationError

from medfuse.errors import InputError, MedfuseError, UsageError
from medfuse.settings import CaseSettings
from medfuse.study.model import Case, Namer, Skipped

REQUIRED = ("case", "anatomical", "functional")

_SEPARATORS = ",;\t"
_PAIRS = frozenset({"window", "anatomical_window"})


def read_cases(manifest: Path, namer: Namer) -> Iterator[Case | Skipped]:
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
    with _opened(manifest) as file:
        head = file.readline()
        separator = max(_SEPARATORS, key=head.count)
        columns = [name.strip().lower() for name in next(csv.reader([head], delimiter=separator))]
        _require_columns(columns, manifest)
        for number, row in _rows(file, columns, separator):
            try:
                yield _case(row, manifest, namer, line=number)
            except MedfuseError as error:
                name = namer(row.get("case", "") or f"line-{number}")
                path = manifest.parent / row.get("functional", "")
                yield Skipped(path, str(error), error.code, case=name)


@contextlib.contextmanager
def _opened(manifest: Path) -> Iterator[TextIO]:
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as file:
            yield file
    except OSError as error:
        cause = (error.strerror or "unknown").lower()
        raise _unreadable("Cannot read the manifest", manifest.name, cause) from error
    except UnicodeDecodeError as error:
        raise _refuse(manifest, "it is not UTF-8 text", "Save it as CSV in UTF-8") from error


def _rows(file: TextIO, columns: list[str], separator: str) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.reader(file, delimiter=separator)
    for cells in reader:
        values = [cell.strip() for cell in cells]
        if any(values) and not values[0].startswith("#"):
            yield reader.line_num + 1, dict(zip(columns, values, strict=False))


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
