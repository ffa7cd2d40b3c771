"""A study that is spelt out: a CSV with a case a line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from medfuse.errors import InputError, MedfuseError, UsageError
from medfuse.settings import FILES, CaseSettings
from medfuse.study.model import Case, Skipped
from medfuse.study.sheet import Sheet, find_path, refuse

REQUIRED = ("case", "anatomical", "functional")
BASELINE = "baseline"

_PAIRS = frozenset({"window", "anatomical_window"})
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
#: As spreadsheets write them in other languages.
_YES_NO = {
    **dict.fromkeys(("wahr", "vrai", "verdadero", "vero", "verdadeiro", "waar", "ja", "oui"), "1"),
    **dict.fromkeys(("falsch", "faux", "falso", "onwaar", "nein", "non"), "0"),
}


def read_cases(manifest: Path) -> Iterator[Case | Skipped]:
    """Read the cases of a manifest; a line that cannot be used becomes a failed case.

    Parameters
    ----------
    manifest : Path
        CSV (comma, semicolon or tab; UTF-8, UTF-16 or Windows-1252) with the columns case,
        anatomical, functional, baseline (name of another case) and any `CaseSettings` fields.
        Paths are relative to it. Empty cells say nothing.

    Raises
    ------
    InputError
        ``E_UNREADABLE``.
    UsageError
        ``E_MANIFEST``: no header, a column is missing or unknown.
    """
    with Sheet(manifest) as sheet:
        _require_columns(sheet.columns, manifest)
        for number, row, fault in sheet.rows():
            where = f"{manifest.name} line {number}"
            try:
                if fault:
                    raise _bad_row(where, fault, "Correct the line")
                yield _case(row, manifest, where)
            except MedfuseError as error:
                name = row.get("case", "") or f"line-{number}"
                path = manifest.parent / row.get("functional", "")
                yield Skipped(path, _told(error, sheet), error.code, case=name)


def _told(error: MedfuseError, sheet: Sheet) -> str:
    """The error; where the text may have been read wrongly, that too."""
    if error.code != "E_UNREADABLE" or sheet.encoding.startswith("utf"):
        return str(error)
    return f"{error} (the CSV is not UTF-8 and was read as {sheet.encoding}: save it as UTF-8)"


def _require_columns(columns: list[str], manifest: Path) -> None:
    if len(set(columns)) < len(columns):
        raise refuse(manifest, "a column is named twice", "Remove one of them")
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        cause = f"the column {missing[0]!r} is missing"
        raise refuse(manifest, cause, f"The first line must name {', '.join(REQUIRED)}")
    extra = [name for name in columns if name not in REQUIRED]
    known = _known_settings() if extra else []
    unknown = [name for name in extra if name not in known]
    if unknown:
        remedy = f"Remove it or choose from {', '.join(known)}"
        raise refuse(manifest, f"the column {unknown[0]!r} is unknown", remedy)


def _known_settings() -> list[str]:
    return sorted([*CaseSettings.model_fields, BASELINE])


def _case(row: dict[str, str], manifest: Path, where: str) -> Case:
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
    baseline = row.get(BASELINE, "")
    return Case(name, **paths, why=where, overrides=overrides, baseline=baseline)


def _existing_file(text: str, name: str, manifest: Path, where: str) -> str:
    """A file that a setting names, the region perhaps with the name of a structure before it."""
    structure, equals, path = text.rpartition("=") if name == "region" else ("", "", text)
    if equals and find_path(text, manifest.parent) is not None:
        structure, equals, path = "", "", text
    return f"{structure}{equals}{_existing(path, name, manifest, where)}"


def _existing(text: str, role: str, manifest: Path, where: str) -> Path:
    if not text:
        raise _bad_row(where, f"it names no {role} image", f"Fill the column {role}")
    path = find_path(text, manifest.parent)
    if path is None:
        is_drive = re.match(r"[A-Za-z]:[\\/]", text)
        cause = f"the {role} file or folder is not there"
        raise InputError(
            "E_UNREADABLE",
            what="Cannot find an image",
            where=where,
            cause=f"{cause} (a path of a Windows drive)" if is_drive else cause,
            remedy="Check the path (relative to the CSV)",
        )
    return path


def _overrides(row: dict[str, str], manifest: Path, where: str) -> dict[str, Any]:
    given: dict[str, Any] = {k: v for k, v in row.items() if v and k not in (*REQUIRED, BASELINE)}
    if not given:
        return {}
    for name, text in given.items():
        given[name] = _two_numbers(text) if name in _PAIRS else _plain_value(name, text)
    for name in FILES:
        if name in given:
            given[name] = _existing_file(given[name], name, manifest, where)
    if "regions" in given:
        given["regions"] = ";".join(
            _region(text.strip(), manifest) for text in given["regions"].split(";") if text.strip()
        )
    try:
        settings = CaseSettings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        column = str(first["loc"][0])
        raise _bad_row(where, f"{column}: {first['msg']}", f"Correct the column {column}") from None
    return {name: getattr(settings, name) for name in given}


def _region(text: str, manifest: Path) -> str:
    """A file with regions, perhaps with a name before it, as a path from here."""
    name, equals, path = text.rpartition("=")
    there = find_path(path, manifest.parent)  # what is not there costs its own row of the table
    return text if there is None else f"{name}{equals}{there}"


def _two_numbers(text: str) -> tuple[str, ...]:
    """Both ends of a window: "0 7.5", "0;7,5", "0:10" or "0,10"."""
    parts = re.split(r"[\s:;]+", text.strip("()[] "))
    parts = parts if len(parts) > 1 else text.strip("()[] ").split(",")
    return tuple(part.strip(",").replace(",", ".") for part in parts)


def _plain_value(name: str, text: str) -> str:
    """A cell as the settings take it: a comma for the point, yes and no of other languages."""
    kind = CaseSettings.model_fields[name].annotation
    if kind in (float, int) and _DECIMAL_COMMA.fullmatch(text):
        return text.replace(",", ".")
    return _YES_NO.get(text.lower(), text) if kind is bool else text


def _bad_row(where: str, cause: str, remedy: str) -> UsageError:
    return UsageError(
        "E_MANIFEST", what="Cannot use a line", where=where, cause=cause, remedy=remedy
    )
