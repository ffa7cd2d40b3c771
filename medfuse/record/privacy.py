"""What an output may say: no place on a disk, no name of a person, no number that leads to one."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import math
import os
import re
import secrets
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

from medfuse.errors import UsageError, option
from medfuse.results.folder import shown_name, writing

# Known while a case runs, for comparisons; each leads to a person or undoes the hashing of UIDs.
NEVER_WRITTEN = frozenset({"patient", "uids", "secret"})
MIN_SALT_BYTES = 16
SALT_SUFFIX = ".uid-salt"

_PATH_IN_TEXT = re.compile(r"(?<![\w.:/\\])(?:~|[A-Za-z]:)?(?:[/\\][^\s/\\'\"<>|:;,()]+){2,}[/\\]?")
_PATH_TOKEN = re.compile(r"(?:~|\.\.[/\\]|[A-Za-z]:[/\\]|[/\\])")


def pseudonym(uid: str | None, salt: bytes) -> str | None:
    """16 hex digits that stand for a UID: equal for equal UIDs, of no use without the salt.

    References
    ----------
    HMAC-SHA256, RFC 2104. A plain hash of a UID is no protection: UIDs can be listed and tried.
    """
    return hmac.new(salt, uid.encode(), "sha256").hexdigest()[:16] if uid else None


def study_salt(path: Path) -> bytes:
    """Read the secret with which UIDs of a study are hashed; make it where there is none.

    A new file holds 256 random bits and can be read by its owner alone. It belongs beside the
    results and not among them: whoever has it can test whether a UID is that of a case.

    Raises
    ------
    UsageError
        ``E_SALT``: the file is too short to be a secret, or cannot be read.
    OutputError
        ``E_WRITE``.
    """
    if not path.exists():
        with writing(path), tempfile.NamedTemporaryFile("w", dir=path.parent) as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            with contextlib.suppress(FileExistsError):  # another shard was first
                os.link(file.name, path)  # whole at once; temporary files have mode 0600
    return _read_salt(path)


def salt_beside(out: Path) -> Path:
    """Where the salt of an output folder is: next to it, so that it is not shared along."""
    whole = out.resolve()
    return whole.with_name(f"{whole.name}{SALT_SUFFIX}")


def case_secret(sources: Sequence[Mapping[str, Any]]) -> bytes:
    """A salt for one case that needs no file: only who holds the input files can make it."""
    parts = [str(source.get("secret") or source.get("sha256")) for source in sources]
    return hashlib.sha256("\n".join(["medfuse uid", *parts]).encode()).digest()


def sanitize(value: Any) -> Any:
    """Make a value fit for an output: plain JSON types, no absolute paths, no patient hash.

    NaN and infinity become None, arrays lists, paths their last part.
    """
    match value:
        case Mapping():
            return {str(k): sanitize(v) for k, v in value.items() if k not in NEVER_WRITTEN}
        case str():
            return sanitize_text(value)
        case PurePath():
            return value.name
        case bool() | None | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Sequence() | set() | frozenset():
            return [sanitize(v) for v in value]
        case _ if hasattr(value, "tolist"):
            return sanitize(value.tolist())
    return sanitize_text(str(value))


def sanitize_text(text: str) -> str:
    """Shorten absolute paths in a text to their last part and drop control characters."""
    text = text.replace(str(Path.home()) + os.sep, "/~/")
    text = _PATH_IN_TEXT.sub(lambda found: _last_part(found[0]), text)
    return "".join(c for c in text if c.isprintable() or c == "\n")


def printable(text: str) -> str:
    """A text as it can be printed: no control characters, no bytes that are no text."""
    return "".join(c for c in shown_name(text) if c.isprintable() or c in "\n\t")


def sanitize_command(command: str | Sequence[str]) -> str:
    """Shorten every path of a command that is not plainly relative to its last part.

    >>> sanitize_command("medfuse fuse /home/jane/t1.nii.gz pet --initial=/tmp/x.tfm")
    'medfuse fuse t1.nii.gz pet --initial=x.tfm'
    """
    tokens = _split(command) if isinstance(command, str) else list(command)
    return shlex.join(_short_token(token) for token in tokens)


def _read_salt(path: Path) -> bytes:
    try:
        salt = path.read_bytes().strip()
        cause = f"it holds {len(salt)} bytes, expected at least {MIN_SALT_BYTES}"
    except OSError as error:
        salt, cause = b"", (error.strerror or type(error).__name__).lower()
    if len(salt) < MIN_SALT_BYTES:
        raise UsageError(
            "E_SALT",
            what="Cannot hash UIDs",
            where=path.name,
            cause=cause,
            remedy=f"Give another file with {option('uid_salt', 'FILE')}; one that does not "
            f"exist is made",
        )
    return salt


def _split(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # an unbalanced quotation mark
        return command.split()


def _short_token(token: str) -> str:
    option, equals, value = token.partition("=")
    if equals and option.startswith("-") and _PATH_TOKEN.match(value):
        return f"{option}={_last_part(value)}"
    return sanitize_text(_last_part(token) if _PATH_TOKEN.match(token) else token)


def _last_part(path: str) -> str:
    # Windows rules know both separators.
    return PureWindowsPath(path).name or "..."
