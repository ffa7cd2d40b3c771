"""Result folders that are whole or absent: built beside, hashed, renamed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from medfuse.errors import OutputError
from medfuse.imaging.nifti.sidecar import sidecar_files

try:
    import fcntl
except ImportError:  # Windows: stale folders are recognised by their age alone
    fcntl = None  # type: ignore[assignment]

MANIFEST = "manifest.json"
MANIFEST_SCHEMA = "medfuse-manifest/1"
PREFIX = ".medfuse-"
LOCK = ".lock"
SIGNATURE_SUFFIX = ".minisig"
BIDS_DESCRIPTION = "dataset_description.json"
STUDY_LIST = "manifests.sha256"  # of a signed study: the hashes of all its manifests
NOT_HASHED = (LOCK, MANIFEST, MANIFEST + SIGNATURE_SUFFIX)
NOT_OURS_TO_COUNT = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
UNLOCKED_GRACE_S = 60.0
#: Records of medfuse are a few hundred kilobytes; nothing larger is read.
MAX_JSON_BYTES = 1 << 24
MAX_STEM = 240  # bytes; a longer name would be too long with what is put behind it
UNLOCKABLE_AGE_S = 24 * 3600.0

_REMEDIES = {
    errno.ENOSPC: "Free disk space or choose another output folder",
    errno.EDQUOT: "Free space in your quota or choose another output folder",
    errno.EROFS: "Choose an output folder on a writable disk",
    errno.EACCES: "Choose an output folder that you may write to",
    errno.EPERM: "Choose an output folder that you may write to",
    errno.ENAMETOOLONG: "Choose a shorter case name",
}


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an operating system error into ``OutputError`` ``E_WRITE`` that names the file."""
    try:
        yield
    except OSError as error:
        cause = error.strerror or type(error).__name__
        remedy = _REMEDIES.get(error.errno or 0, "Check the disk or choose another output folder")
        raise _refusal(path.name, cause, remedy) from error


class ResultFolder:
    """Build a folder out of sight and show it only when it is whole.

    Use as a context manager; write into ``.path``. When the block ends well, every file is hashed
    and flushed to disk, ``manifest.json`` is written last and the folder takes its place by one
    rename. When the block is left by an exception, nothing stays.

    Parameters
    ----------
    target : Path
        Where the folder shall be. Missing parents are made. An earlier result there is replaced;
        anything else there is refused and stays untouched.
    key : str, optional
        What made the result; ``is_complete`` compares it.
    case : str, optional
        Name for the manifest; default the name of the folder.

    Raises
    ------
    OutputError
        ``E_WRITE``: disk full, read-only, a file or foreign files at the target.
    """

    def __init__(self, target: Path, *, key: str | None = None, case: str | None = None) -> None:
        self.target = Path(target).resolve()
        self.key = key
        self.case = shown_name(case or self.target.name)
        stem = f"{PREFIX}{self.target.name}-{os.getpid()}"
        self.path = self.target.parent / f"{stem}.tmp"
        self._aside = self.target.parent / f"{stem}.old"
        self._lock: int | None = None

    def __enter__(self) -> Self:
        with writing(self.target):
            _refuse_foreign(self.target)
            self.target.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(self.path, ignore_errors=True)
            self.path.mkdir()
            try:
                self._lock = _take_lock(self.path / LOCK)
            except BaseException:
                shutil.rmtree(self.path, ignore_errors=True)
                raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                with writing(self.target):
                    self._commit()
        finally:
            self._release()
            shutil.rmtree(self.path, ignore_errors=True)

    def _commit(self) -> None:
        files = inventory(self.path, flush=True)
        manifest = {
            "schema": MANIFEST_SCHEMA,
            "case": self.case,
            "key": self.key,
            "files": files,
        }
        text = json.dumps(manifest, indent=1) + "\n"
        write_through(self.path / MANIFEST, text.encode())
        self._release()
        for folder in (*(p for p in self.path.rglob("*") if p.is_dir()), self.path):
            _flush_folder(folder)
        _refuse_foreign(self.target)
        if self.target.exists():
            os.replace(self.target, self._aside)
        try:
            os.replace(self.path, self.target)
        except OSError:
            if self._aside.exists():
                os.replace(self._aside, self.target)
            raise
        _flush_folder(self.target.parent)
        shutil.rmtree(self._aside, ignore_errors=True)

    def _release(self) -> None:
        if self._lock is not None:
            (self.path / LOCK).unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None


def is_complete(folder: Path, key: str | None = None, *, rehash: bool = False) -> bool:
    """Tell whether a folder is a whole result.

    Parameters
    ----------
    folder : Path
    key : str, optional
        Also ask whether the result was made with this key.
    rehash : bool
        Compare the sha256 of every file and not only its size.
    """
    manifest = read_manifest(folder)
    if manifest is None or (key is not None and manifest.get("key") != key):
        return False
    try:
        return all(
            (folder / name).stat().st_size == file["bytes"]
            and (not rehash or file_sha256(folder / name) == file["sha256"])
            for name, file in manifest["files"].items()
        )
    except (OSError, KeyError, TypeError):
        return False


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a result folder, or None where there is no readable one."""
    manifest = read_json(Path(folder) / MANIFEST)
    if manifest is None or manifest.get("schema") != MANIFEST_SCHEMA:
        return None
    return manifest if isinstance(manifest.get("files"), dict) else None


def read_json(path: Path) -> dict[str, Any] | None:
    """Content of a JSON file; None where there is no readable one of usual size with a mapping."""
    try:
        if not path.is_file() or path.stat().st_size > MAX_JSON_BYTES:
            return None
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def is_plain(path: Path, most: int) -> bool:
    """Whether a path is a file of at most so many bytes, no link and no pipe; it is not opened."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size <= most


def remove_stale(out: Path) -> list[str]:
    """Clear what killed runs left in an output folder; return the names.

    A half-built folder goes. An earlier result that was set aside comes back if its replacement
    never arrived. Folders that a living run holds, here or on another machine, stay.
    """
    names = []
    for path in sorted(Path(out).glob(f"{PREFIX}*-*.*")):
        if path.suffix not in (".tmp", ".old") or not path.is_dir() or _is_in_use(path):
            continue
        case = path.name.removeprefix(PREFIX).rpartition("-")[0]
        if path.suffix == ".old" and not (path.parent / case).exists():
            with writing(path):
                os.replace(path, path.parent / case)
        else:
            shutil.rmtree(path, ignore_errors=True)
        names.append(path.name)
    return names


def inventory(folder: Path, *, flush: bool = False) -> dict[str, dict[str, Any]]:
    """Hash the files of a folder, except its manifest and the signature of that.

    Parameters
    ----------
    folder : Path
    flush : bool
        Also force every file to the disk.

    Returns
    -------
    dict
        Relative name -> ``{"sha256", "bytes"}``, sorted.
    """
    left_out = {folder / name for name in NOT_HASHED}
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p not in left_out)
    found = {}
    for path in files:
        with path.open("rb") as file:
            if flush:
                os.fsync(file.fileno())
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        name = path.relative_to(folder).as_posix()
        found[name] = {"sha256": digest, "bytes": path.stat().st_size}
    return found


def bids_root(path: Path) -> Path | None:
    """Top folder of the BIDS data set that a path lies in, None where it lies in none."""
    return next((p for p in path.absolute().parents if (p / BIDS_DESCRIPTION).is_file()), None)


def input_files(path: Path) -> list[Path]:
    """Files of an input: all of a folder, or a file with the JSON sidecars that count for it."""
    if path.is_dir():
        return sorted(p for p in path.rglob("*") if p.is_file())
    sidecars = (sidecar for level in sidecar_files(path) for sidecar in level)
    return [path, *(sidecar for sidecar in sidecars if sidecar.is_file())]


def shown_name(name: str) -> str:
    """A name as text: bytes that are no UTF-8 (of old archives) as ``%FC``."""
    return re.sub("[\udc80-\udcff]", lambda found: f"%{ord(found[0]) - 0xDC00:02X}", name)


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_through(path: Path, content: bytes) -> None:
    """Write a file so that it is either the old or the new one, also after a power cut."""
    with writing(path), whole_file(path) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file beside its place and put it there when it is whole; else nothing stays."""
    is_long = len(os.fsencode(path.name)) > MAX_STEM
    stem = hashlib.sha256(os.fsencode(path.name)).hexdigest() if is_long else path.name
    temporary = path.with_name(f"{stem}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _refuse_foreign(target: Path) -> None:
    """Stop before a replacement would delete anything that medfuse did not write."""
    if not target.is_dir():
        if target.exists():
            cause = "a file of this name is in the way"
            raise _refusal(target.name, cause, "Remove it or choose another output folder")
        return
    manifest = read_manifest(target)
    known = {*manifest["files"], *NOT_HASHED} if manifest else set()
    present = {p.relative_to(target).as_posix() for p in target.rglob("*") if p.is_file()}
    foreign = sorted(n for n in present - known if Path(n).name not in NOT_OURS_TO_COUNT)
    if foreign:
        cause = f"the folder holds {len(foreign)} file(s) that are not medfuse results"
        remedy = f"Move them away (first: {Path(foreign[0]).name}) or choose another folder"
        raise _refusal(target.name, cause, remedy)


def _refusal(where: str, cause: str, remedy: str) -> OutputError:
    return OutputError(
        "E_WRITE", what="Cannot write results", where=where, cause=cause, remedy=remedy
    )


def _flush_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open a directory for flushing
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _take_lock(path: Path) -> int | None:
    """Hold a lock that ends with this process however it ends, and holds across machines."""
    handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    if fcntl is not None:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return handle


def clock_of(folder: Path) -> float:
    """Seconds since 1970 by the clock that stamps files of a folder, also on another machine."""
    with tempfile.TemporaryFile(dir=folder) as file:
        return os.fstat(file.fileno()).st_mtime


def _is_in_use(folder: Path) -> bool:
    age = abs(clock_of(folder.parent) - folder.stat().st_mtime)  # its clock may have been wrong
    lock = folder / LOCK
    if not lock.exists():  # just made, or its rename is under way
        return age < UNLOCKED_GRACE_S
    handle = os.open(lock, os.O_RDWR)
    try:
        if fcntl is None:
            return age < UNLOCKABLE_AGE_S
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return age < UNLOCKABLE_AGE_S
    finally:
        os.close(handle)
    return False
