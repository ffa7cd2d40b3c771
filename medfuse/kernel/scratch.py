"""Planes of a volume in memory or, where that is short, in files that have no name.

A mapped file behaves like memory, to the bit; only what has been touched last is held, the system
writes the rest to disk. The files are unlinked before they are used, so that nothing is left
however the process ends.
"""

from __future__ import annotations

import math
import mmap
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from weakref import WeakSet

import psutil
import torch
from torch import Tensor

from medfuse.errors import OutputError, option
from medfuse.kernel.devices import CPU

SMALL = 1 << 20  # bytes; less is not worth a file
PAUSE_S = 0.02  # in which a process touches some hundred megabytes at most


def empty(
    shape: Sequence[int],
    dtype: torch.dtype = torch.float32,
    device: torch.device = CPU,
) -> Tensor:
    """Room for a plane, not filled: in memory, or within :func:`on_disk` in a file.

    Planes of another device than the processor lie in its own memory.

    Raises
    ------
    OutputError
        ``E_WRITE``: the disk is full.
    """
    disk = _disk.get()
    size = math.prod(shape) * dtype.itemsize
    if disk is None or size < SMALL or device.type != "cpu":
        return torch.empty(tuple(shape), dtype=dtype, device=device)
    return torch.frombuffer(disk.room(size), dtype=dtype).view(*shape)


def set_aside(x: Tensor) -> Tensor:
    """The same values: copied into a file within :func:`on_disk`, else `x` itself."""
    return x if _disk.get() is None else empty(x.shape, x.dtype).copy_(x)


def require_disk(folder: Path, size: int) -> None:
    """Refuse early where a disk has less free space than `size` bytes (``E_WRITE``)."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise _no_room(folder, size, f"{free / 2**30:.1f} GB are free")


@contextmanager
def on_disk(folder: Path, limit: float) -> Iterator[None]:
    """Let :func:`empty` make files in a folder, and hold no more of them than memory allows.

    Parameters
    ----------
    folder : Path
        On a disk, not in memory as ``/tmp`` may be.
    limit : float
        Bytes; when the process holds more, all that is mapped is let go, and read again when it
        is asked for. Where the system cannot be told so, it decides itself.
    """
    disk = _Disk(folder, limit)
    token = _disk.set(disk)
    watcher = threading.Thread(target=disk.watch, name="medfuse-scratch", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        _disk.reset(token)
        disk.ended.set()
        watcher.join()


class _Disk:
    def __init__(self, folder: Path, limit: float) -> None:
        self.folder, self.limit = folder, limit
        self.maps: WeakSet[mmap.mmap] = WeakSet()
        self.ended = threading.Event()

    def room(self, size: int) -> mmap.mmap:
        try:
            with tempfile.TemporaryFile(dir=self.folder) as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, size)  # else a full disk kills: SIGBUS
                else:
                    file.truncate(size)
                room = mmap.mmap(file.fileno(), size)
        except OSError as error:
            raise _no_room(self.folder, size, error.strerror or str(error)) from error
        self.maps.add(room)
        return room

    def watch(self) -> None:
        """Let go whenever too much is held and files are a part of it worth the trouble."""
        process = psutil.Process()
        before = _held(process)[1]
        while not self.ended.wait(PAUSE_S):
            whole, files = _held(process)
            if whole > self.limit and files - before > self.limit / 8:
                self.let_go()

    def let_go(self) -> None:
        """What was written stays: a mapping that is shared with its file loses nothing."""
        if hasattr(mmap, "MADV_DONTNEED"):
            for room in list(self.maps):
                room.madvise(mmap.MADV_DONTNEED)


def _held(process: psutil.Process) -> tuple[int, int]:
    """Bytes in memory, and those of them that are files, where the system tells them apart."""
    memory = process.memory_info()
    return memory.rss, getattr(memory, "shared", memory.rss)


def _no_room(folder: Path, size: int, cause: str) -> OutputError:
    return OutputError(
        "E_WRITE",
        what="Cannot put volumes on disk to save memory",
        where=folder.name,
        cause=f"{size / 2**30:.1f} GB are wanted: {cause}",
        remedy=f"Free disk space, choose another output folder or allow more with "
        f"{option('max_memory', 'GB')}",
    )


_disk: ContextVar[_Disk | None] = ContextVar("_disk", default=None)
