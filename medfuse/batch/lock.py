"""One batch at a time on an output folder; a dead batch does not block it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from medfuse.errors import OutputError
from medfuse.results.folder import clock_of, read_json, writing

try:
    import fcntl
except ImportError:  # Windows: a lock that was left behind must be removed by hand
    fcntl = None  # type: ignore[assignment]

LOCK_NAME = ".medfuse.lock"
#: A lock of another machine is dead when its file was not touched for so long.
FOREIGN_STALE_S = 300.0
BEAT_S = 30.0


class BatchLock:
    """Hold an output folder as long as this process lives.

    The kernel releases the lock however the process ends. Machines that share a file system
    without locks see each other by the age of the file, which `beat` renews; it is told by the
    clock of the file system, as those of two machines may differ.

    Parameters
    ----------
    folder : Path
        Existing output folder.
    name : str
        Of the lock file.

    Raises
    ------
    OutputError
        ``E_LOCKED`` with process number, machine and time of the holder; ``E_WRITE``.
    """

    def __init__(self, folder: Path, name: str = LOCK_NAME) -> None:
        self._path = folder / name
        self._handle = -1
        self._last_beat = 0.0

    def __enter__(self) -> Self:
        with writing(self._path):
            self._handle = self._acquire()
            own = {
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "since": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            os.ftruncate(self._handle, 0)
            os.lseek(self._handle, 0, os.SEEK_SET)
            os.write(self._handle, json.dumps(own).encode())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(self._handle), self._path.stat()):
                self._path.unlink()  # not that of a batch in a folder made anew
        os.close(self._handle)

    def beat(self) -> None:
        """Show other machines that this batch lives."""
        if time.monotonic() - self._last_beat > BEAT_S:
            self._last_beat = time.monotonic()
            with contextlib.suppress(OSError):
                os.utime(self._path)

    def _acquire(self) -> int:
        while True:
            handle = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o644)
            if not self._take(handle):
                os.close(handle)
                raise _locked(read_json(self._path) or {}, self._path.name)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), self._path.stat()):
                    return handle
            os.close(handle)  # its holder removed the file at this moment

    def _take(self, handle: int) -> bool:
        holder = read_json(self._path) or {}
        if fcntl is None:
            return not holder
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks
            return not holder or self._is_stale(handle)
        return holder.get("host") in (None, socket.gethostname()) or self._is_stale(handle)

    def _is_stale(self, handle: int) -> bool:
        return clock_of(self._path.parent) - os.fstat(handle).st_mtime > FOREIGN_STALE_S


def _locked(holder: dict[str, Any], name: str) -> OutputError:
    who = "process {pid} on {host} since {since}".format_map(
        {key: holder.get(key, "?") for key in ("pid", "host", "since")}
    )
    return OutputError(
        "E_LOCKED",
        what="Cannot use the output folder",
        cause=f"another batch is writing to it ({who})",
        remedy=f"Wait for it, choose another folder, or remove {name} if you are sure that the "
        "process has ended",
    )
