"""Signatures over results: ed25519 in the format of minisign, which checks them without medfuse.

A result folder is signed by its manifest, which holds the hash of every file; a study by the list
of its manifests.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medfuse.errors import InputError, UsageError
from medfuse.results.folder import (
    MANIFEST,
    SIGNATURE_SUFFIX,
    STUDY_LIST,
    file_sha256,
    is_complete,
    read_manifest,
    write_through,
    writing,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_ALGORITHM, _PREHASHED, _CHECKSUM = b"Ed", b"ED", b"B2"
_UNENCRYPTED = bytes(2 + 32 + 8 + 8)  # after the algorithm: KDF, its salt and limits
STUDY_FILES = ("summary.csv", "dataset_description.json", "study.html")


class BadSignature(Exception):
    """Why a signature does not hold."""


@dataclass(frozen=True)
class PublicKey:
    """Key number (8 bytes, to tell keys apart) and ed25519 public key (32 bytes)."""

    number: bytes
    key: bytes

    @property
    def name(self) -> str:
        """As minisign shows it."""
        return self.number[::-1].hex().upper()


def make_key(path: Path) -> tuple[Path, PublicKey]:
    """Write a new secret key (mode 0600) and, beside it, ``<name>.pub``.

    Returns
    -------
    path : Path
        Of the public key.
    public : PublicKey

    Raises
    ------
    UsageError
        ``E_KEY`` where one of the files is there already: keys are never overwritten.
    OutputError
        ``E_WRITE``.

    References
    ----------
    minisign(1), "Secret key format": the key is not encrypted, as with ``minisign -G -W``.
    """
    beside = path.with_name(f"{path.name}.pub")
    for existing in (path, beside):
        if existing.exists():
            raise _bad_key(existing, "it exists, and keys are never overwritten", "another name")
    ed25519 = _ed25519()
    private = ed25519.Ed25519PrivateKey.generate()
    seed, key = private.private_bytes_raw(), private.public_key().public_bytes_raw()
    public = PublicKey(secrets.token_bytes(8), key)
    whole = public.number + seed + key
    check = hashlib.blake2b(_ALGORITHM + whole, digest_size=32).digest()
    secret = _ALGORITHM + _UNENCRYPTED[:2] + _CHECKSUM + _UNENCRYPTED[2:] + whole + check
    with writing(path):
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(f"untrusted comment: medfuse secret key {public.name}\n{_text(secret)}\n")
        text = _text(_ALGORITHM + public.number + key)
        beside.write_text(f"untrusted comment: medfuse public key {public.name}\n{text}\n")
    return beside, public


def sign(folder: Path, key: Path) -> tuple[Path, PublicKey, int]:
    """Sign a result folder, or a study folder with all its results.

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
        ``E_KEY``, ``E_EXTRA``.
    OutputError
        ``E_WRITE``.
    """
    private, public = _read_secret(key)
    is_study = read_manifest(folder) is None
    results = _whole_results(folder) if is_study else _whole([folder])
    target, count = folder / MANIFEST, len(results)
    if is_study:
        target = folder / STUDY_LIST
        write_through(target, _list(folder).encode())
    path = target.with_name(target.name + SIGNATURE_SUFFIX)
    today = datetime.now(UTC).date().isoformat()
    trusted = f"{today}, {count} result{'s' if count > 1 else ''}, {target.name}"
    signature = private.sign(_digest(target))
    whole = private.sign(signature + trusted.encode())
    lines = (
        f"untrusted comment: signature by medfuse key {public.name}",
        _text(_PREHASHED + public.number + signature),
        f"trusted comment: {trusted}",
        _text(whole),
    )
    write_through(path, ("\n".join(lines) + "\n").encode())
    return path, public, count


def check_signature(target: Path, public: PublicKey) -> str:
    """Check the signature beside a file; return its trusted comment.

    Raises
    ------
    BadSignature
        Unsigned, signed by another key, altered after signing, or no signature at all.
    """
    exceptions = _exceptions()
    path = target.with_name(target.name + SIGNATURE_SUFFIX)
    try:
        _, first, comment, second = path.read_text("utf-8").splitlines()
        blob, whole = base64.b64decode(first, validate=True), base64.b64decode(second)
    except FileNotFoundError:
        raise BadSignature(f"{target.name} is not signed") from None
    except (OSError, ValueError):
        raise BadSignature(f"{path.name} is not a minisign signature") from None
    trusted = comment.removeprefix("trusted comment: ")
    algorithm, number, signature = blob[:2], blob[2:10], blob[10:]
    if number != public.number:
        raise BadSignature(
            f"signed by key {PublicKey(number, b'').name}, the public key is {public.name}"
        )
    message = _digest(target) if algorithm == _PREHASHED else target.read_bytes()
    key = _ed25519().Ed25519PublicKey.from_public_bytes(public.key)
    try:
        key.verify(signature, message)
        key.verify(whole, signature + trusted.encode())
    except exceptions.InvalidSignature:
        raise BadSignature(f"{target.name} was altered after it was signed") from None
    return trusted


def read_public(path: Path) -> PublicKey:
    """Read a public key of minisign or `make_key`.

    Raises
    ------
    InputError
        ``E_KEY``.
    """
    blob = _read_key(path)
    if len(blob) != 42 or blob[:2] != _ALGORITHM:
        raise _bad_key(path, "it is not a minisign public key", "the .pub file")
    return PublicKey(blob[2:10], blob[10:])


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
    files += [study / name for name in STUDY_FILES if (study / name).is_file()]
    names = sorted(path.relative_to(study).as_posix() for path in files)
    return "".join(f"{file_sha256(study / name)}  {name}\n" for name in names)


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=64)).digest()


def _read_secret(path: Path) -> tuple[Ed25519PrivateKey, PublicKey]:
    blob = _read_key(path)
    if len(blob) != 158 or blob[:2] != _ALGORITHM:
        raise _bad_key(path, "it is not a minisign secret key", "the file that keygen wrote")
    if blob[2:4] != _UNENCRYPTED[:2]:
        raise _bad_key(path, "it is locked with a password", "a key of medfuse keygen")
    number, seed, key = blob[54:62], blob[62:94], blob[94:126]
    check = hashlib.blake2b(_ALGORITHM + number + seed + key, digest_size=32).digest()
    if check != blob[126:]:
        raise _bad_key(path, "its checksum does not fit: the file is damaged", "a sound copy")
    return _ed25519().Ed25519PrivateKey.from_private_bytes(seed), PublicKey(number, key)


def _read_key(path: Path) -> bytes:
    try:
        return base64.b64decode(path.read_text("utf-8").splitlines()[1], validate=True)
    except OSError as error:
        raise _bad_key(path, (error.strerror or "unreadable").lower(), "the key file") from None
    except (ValueError, IndexError):
        raise _bad_key(path, "it is not a key file", "a file that keygen wrote") from None


def _text(blob: bytes) -> str:
    return base64.b64encode(blob).decode()


def _bad_key(path: Path, cause: str, remedy: str) -> UsageError:
    return UsageError(
        "E_KEY", what="Cannot use the key", where=path.name, cause=cause, remedy=f"Give {remedy}"
    )


def _ed25519() -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise UsageError(
            "E_EXTRA",
            what="Cannot sign or check signatures",
            cause="the package cryptography is not installed",
            remedy="pip install 'medfuse[sign]'",
        ) from error
    return ed25519


def _exceptions() -> Any:
    _ed25519()
    from cryptography import exceptions

    return exceptions
