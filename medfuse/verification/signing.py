"""Signatures over results in the format of minisign, which checks them without medfuse.

A result folder is signed by its manifest, which holds the hash of every file; a study by the list
of its manifests. The package py-minisign does the cryptography.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medfuse.errors import InputError, UsageError
from medfuse.results.folder import (
    MANIFEST,
    MAX_JSON_BYTES,
    SIGNATURE_SUFFIX,
    STUDY_LIST,
    file_sha256,
    is_complete,
    is_plain,
    read_manifest,
    write_through,
    writing,
)
from medfuse.results.ledger_files import CRATE, TABLES

STUDY_FILES = ("summary.csv", *TABLES, CRATE, "dataset_description.json", "study.html")
MAX_SIGNATURE_BYTES = 4096
_MAX_PAPER_BYTES = 1 << 30  # of one of these files
_SCRYPT = {"opslimit": 1 << 25, "memlimit": 1 << 30}  # the cost that minisign -G sets
AskPassword = Callable[[], str]


class BadSignature(Exception):
    """Why a signature does not hold."""


@dataclass(frozen=True)
class PublicKey:
    """A ``minisign.PublicKey`` with the name that minisign shows."""

    key: Any

    @property
    def name(self) -> str:
        """Key number, which tells keys apart."""
        return _number(self.key.to_base64())


def make_key(path: Path, ask_password: AskPassword | None = None) -> tuple[Path, PublicKey]:
    """Write a new secret key (mode 0600) and, beside it, ``<name>.pub``.

    The password that ``ask_password`` returns locks the key. Without it the key is not encrypted,
    as with ``minisign -G -W``.

    Returns
    -------
    path : Path
        Of the public key.
    public : PublicKey

    Raises
    ------
    UsageError
        ``E_KEY`` where one of the files is there already: keys are never overwritten.
        ``E_PASSWORD`` where the password is empty or cannot be had. ``E_EXTRA``.
    OutputError
        ``E_WRITE``.
    """
    beside = path.with_name(f"{path.name}.pub")
    for existing in (path, beside):
        if existing.exists():
            cause = "it exists, and keys are never overwritten"
            raise _bad_key(existing, cause, "Give another name")
    pair = _minisign().KeyPair.generate()
    secret, public = pair.secret_key, PublicKey(pair.public_key)
    secret.untrusted_comment = f"medfuse secret key {public.name}"
    public.key.untrusted_comment = f"medfuse public key {public.name}"
    if ask_password is not None:
        password = ask_password()
        if not password:
            raise _bad_key(path, "the password is empty", "Give a password", "E_PASSWORD")
        with _unlocking(path):
            secret.encrypt(password, **_SCRYPT)
    with writing(path):
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(bytes(secret) + b"\n")
        beside.write_bytes(bytes(public.key) + b"\n")
    return beside, public


def sign(
    folder: Path, key: Path, ask_password: AskPassword | None = None
) -> tuple[Path, PublicKey, int]:
    """Sign a result folder, or a study folder with all its results.

    The secret key is one of `make_key` or minisign; ``ask_password`` is called if it is locked.

    Returns
    -------
    path : Path
        Of the signature: ``manifest.json.minisig``, or ``manifests.sha256.minisig`` beside the
        list of manifests (``sha256sum -c`` reads it).
    public : PublicKey
    count : int
        Results that the signature covers.

    Raises
    ------
    InputError
        ``E_NOT_A_RESULT``: nothing to sign; ``E_ALTERED``: a file is not what its manifest says.
    UsageError
        ``E_KEY``, ``E_PASSWORD``, ``E_EXTRA``.
    OutputError
        ``E_WRITE``.
    """
    secret = _read_secret(key, ask_password)
    public = PublicKey(secret.get_public_key())
    is_study = read_manifest(folder) is None
    results = _whole_results(folder) if is_study else _whole([folder])
    target, count = folder / MANIFEST, len(results)
    if is_study:
        target = folder / STUDY_LIST
        write_through(target, _list(folder).encode())
    path = target.with_name(target.name + SIGNATURE_SUFFIX)
    today = datetime.now(UTC).date().isoformat()
    signature = secret.sign(
        target.read_bytes(),
        untrusted_comment=f"signature by medfuse key {public.name}",
        trusted_comment=f"{today}, {count} result{'s' if count > 1 else ''}, {target.name}",
    )
    write_through(path, bytes(signature) + b"\n")
    return path, public, count


def check_signature(target: Path, public: PublicKey) -> str:
    """Check the signature beside a file; return its trusted comment.

    Raises
    ------
    BadSignature
        Unsigned, signed by another key, altered after signing, or no signature at all.
    """
    path = target.with_name(target.name + SIGNATURE_SUFFIX)
    if not path.exists():
        raise BadSignature(f"{target.name} is not signed")
    try:
        if not is_plain(path, MAX_SIGNATURE_BYTES):
            raise ValueError
        signature = _minisign().Signature.from_file(path)
    except (OSError, ValueError):
        raise BadSignature(f"{path.name} is not a minisign signature") from None
    signer = _number(bytes(signature).splitlines()[1])
    if signer != public.name:
        raise BadSignature(f"signed by key {signer}, the public key is {public.name}")
    try:
        if not is_plain(target, MAX_JSON_BYTES):
            raise OSError
        with target.open("rb") as file:
            public.key.verify(file, signature)
    except OSError:
        raise BadSignature(f"{target.name} is signed, but cannot be read") from None
    except ValueError:
        raise BadSignature(f"{target.name} was altered after it was signed") from None
    return str(signature.trusted_comment)


def read_public(path: Path) -> PublicKey:
    """Read a public key of minisign or `make_key`.

    Raises
    ------
    UsageError
        ``E_KEY``, ``E_EXTRA``.
    """
    return PublicKey(_read_key(path, "PublicKey", "public key", "Give the .pub file"))


def result_folders(study: Path) -> list[Path]:
    """Finished results in a study folder, by name."""
    if not study.is_dir():
        return []
    inside = (p for p in study.iterdir() if p.is_dir() and not p.name.startswith("."))
    return sorted(path for path in inside if read_manifest(path) is not None)


def differences(study: Path) -> list[str]:
    """What differs between a study folder and its (signed) list: altered, missing, added."""
    signed = dict(line.split("  ", 1)[::-1] for line in _lines(study / STUDY_LIST))
    found = dict(line.split("  ", 1)[::-1] for line in _list(study).splitlines())
    words = {
        "altered": [n for n in signed if n in found and found[n] != signed[n]],
        "missing": sorted(set(signed) - set(found)),
        "not signed": sorted(set(found) - set(signed)),
    }
    return [f"{word}: {', '.join(names)}" for word, names in words.items() if names]


def _whole_results(study: Path) -> list[Path]:
    results = result_folders(study)
    if not results:
        cause = "no manifest.json is in it or in its folders"
        remedy = "Give a folder that medfuse fuse or batch has written"
        raise _not_signed("E_NOT_A_RESULT", study, cause, remedy)
    return _whole(results)


def _whole(results: list[Path]) -> list[Path]:
    """Nobody shall sign what was damaged before."""
    for folder in results:
        if not is_complete(folder, rehash=True):
            cause = "a file is not what its manifest says"
            raise _not_signed("E_ALTERED", folder, cause, "See medfuse verify, or fuse it again")
    return results


def _not_signed(code: str, folder: Path, cause: str, remedy: str) -> InputError:
    return InputError(code, what="Cannot sign", where=folder.name, cause=cause, remedy=remedy)


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text("utf-8").splitlines() if "  " in line]


def _list(study: Path) -> str:
    """Manifests and study files with their hashes, as ``sha256sum`` writes them."""
    files = [folder / MANIFEST for folder in result_folders(study)]
    files += [study / name for name in STUDY_FILES if is_plain(study / name, _MAX_PAPER_BYTES)]
    names = sorted(path.relative_to(study).as_posix() for path in files)
    return "".join(f"{file_sha256(study / name)}  {name}\n" for name in names)


def _read_secret(path: Path, ask_password: AskPassword | None) -> Any:
    secret = _read_key(path, "SecretKey", "secret key", "Give the secret key, not the .pub file")
    if secret.is_encrypted():
        if ask_password is None:
            raise _bad_key(path, "it has a password", "Give ask_password", "E_PASSWORD")
        password = ask_password()
        with _unlocking(path):
            secret.decrypt(password)
    try:  # minisign -W writes no checksum, so that damage shows in a trial signature alone
        secret.get_public_key().verify(b"", secret.sign(b""))
    except ValueError:
        raise _bad_key(path, "the file is damaged", "Give a sound copy") from None
    return secret


def _read_key(path: Path, kind: str, name: str, remedy: str) -> Any:
    try:
        return getattr(_minisign(), kind).from_bytes(path.read_bytes().rstrip())
    except OSError as error:
        cause = (error.strerror or "unreadable").lower()
    except ValueError:
        cause = f"it is not a minisign {name}"
    raise _bad_key(path, cause, remedy)


def _number(line: bytes) -> str:
    """Key number in a line of a key or signature; minisign shows the last byte first."""
    return base64.b64decode(line)[2:10][::-1].hex().upper()


@contextmanager
def _unlocking(path: Path) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        cause = "its password takes up to 1 GiB of memory, and less is free"
        raise _bad_key(path, cause, "Close other programs", "E_PASSWORD") from None
    except ValueError:
        cause = "the password is wrong, or the file is damaged"
        raise _bad_key(path, cause, "Give the right password", "E_PASSWORD") from None


def _bad_key(path: Path, cause: str, remedy: str, code: str = "E_KEY") -> UsageError:
    return UsageError(code, what="Cannot use the key", where=path.name, cause=cause, remedy=remedy)


def _minisign() -> Any:
    try:
        import minisign
    except ImportError as error:
        raise UsageError(
            "E_EXTRA",
            what="Cannot sign or check signatures",
            cause="the package py-minisign is not installed",
            remedy="pip install 'medfuse[sign]'",
        ) from error
    return minisign
