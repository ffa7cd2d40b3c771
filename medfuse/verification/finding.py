"""What a verification says, and how it reads the records of a folder that nobody vouches for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medfuse.errors import InputError
from medfuse.record.privacy import printable, sanitize_text
from medfuse.results.folder import MAX_JSON_BYTES

MAX_NAMES = 20  # of files and fields in the text of a finding
MAX_LETTERS = 200  # of one of them


@dataclass(frozen=True)
class Finding:
    """One thing that was compared, or that could not be.

    Attributes
    ----------
    what : str
    ok : bool
        Whether nothing speaks against the result.
    text : str
    checked : bool
        False where nothing could be compared; the text says what, and why.
    """

    what: str
    ok: bool
    text: str
    checked: bool = True


def agreement(what: str, wrong: list[str], *, says: str, fine: str = "agree") -> Finding:
    """A finding about several names, of which `wrong` are not what they should be."""
    return Finding(what, not wrong, f"{listed(wrong)}: {says}" if wrong else fine)


def not_checked(what: str, text: str) -> Finding:
    """Say what was not compared: it must never be passed over."""
    return Finding(what, True, f"not checked: {text}", checked=False)


def listed(names: list[str]) -> str:
    """Names for one line, fit to be printed."""
    shown = ", ".join(short(name) for name in names[:MAX_NAMES])
    more = len(names) - MAX_NAMES
    return f"{shown} and {more} more" if more > 0 else shown


def short(text: str) -> str:
    """A name as it can be printed anywhere, in one line."""
    return " ".join(printable(text).split())[:MAX_LETTERS]


def failure_text(error: BaseException) -> str:
    """Why a folder could not be verified, in one line, whatever was raised."""
    if isinstance(error, MemoryError):
        return "there is not enough memory for what its files claim to hold"
    if isinstance(error, RecursionError):
        return "a record is nested too deeply to be one of medfuse"
    text = short(sanitize_text(f"{type(error).__name__} {error}"))
    return f"a record has not the form it had: {text[:120]}"


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """A JSON object of the result folder.

    Raises
    ------
    InputError
        ``E_NOT_A_RESULT``: missing, too large, too deep, not JSON, or a name that occurs twice.
    """
    path = folder / name
    try:
        if path.is_symlink() or not path.is_file():
            raise OSError
        if path.stat().st_size > MAX_JSON_BYTES:
            raise not_a_result(folder, f"{name} is larger than any record")
        content = json.loads(
            path.read_text(encoding="utf-8"),
            object_pairs_hook=_once,
            parse_constant=_no_number,
        )
    except (OSError, ValueError, RecursionError) as error:
        raise not_a_result(folder, f"{name} is missing or unreadable") from error
    if not isinstance(content, dict):
        raise not_a_result(folder, f"{name} is not an object")
    return content


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number")


def not_a_result(folder: Path, cause: str) -> InputError:
    """The folder is none of ours."""
    return InputError(
        "E_NOT_A_RESULT",
        what="Cannot verify",
        where=short(folder.name),
        cause=cause,
        remedy="Give a result folder that medfuse fuse or batch has written",
    )
