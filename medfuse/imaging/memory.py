"""How much memory reading and fusing may take, asked before anything is allocated."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from medfuse.errors import InputError, option
from medfuse.imaging.volume import Place

#: Share of the machine's memory that one volume may need while it is read.
MAX_MEMORY_SHARE = 0.8
#: What one deflated DICOM file may unpack to: no file of a scan is larger, a bomb is.
MAX_UNPACKED_BYTES = 1 << 30
#: Peak of a whole case: libraries and buffers, and per voxel of the anatomical grid. Measured with
#: workflows/benchmarks/pipeline.py; rounded up.
CASE_BASE_BYTES = 0.9e9
CASE_BYTES_PER_VOXEL = 100
#: The same where all planes lie on disk (`kernel.scratch`), and more of it for DICOM output; what
#: they take there. Measured with workflows/benchmarks/memory.py; rounded up.
LEAN_BYTES_PER_VOXEL = 28
LEAN_DICOM_BYTES_PER_VOXEL = 12
DISK_BYTES_PER_VOXEL = 80


@contextmanager
def memory_limit(gb: float | None) -> Iterator[None]:
    """Within it, reading takes so much memory at most, and a refusal says how to allow more.

    Parameters
    ----------
    gb : float or None
        The user's ``max_memory``, for a volume as for an unpacked DICOM file; None: the usual
        limits, which are `MAX_MEMORY_SHARE` of `machine_memory` and `MAX_UNPACKED_BYTES`.
    """
    token = _limit.set(_Limit(gb))
    try:
        yield
    finally:
        _limit.reset(token)


class _Limit:
    """Set where the user can set one, also to None."""

    def __init__(self, gb: float | None) -> None:
        self.bytes = None if gb is None else int(gb * 2**30)


_limit: ContextVar[_Limit | None] = ContextVar("_limit", default=None)


def usable_memory() -> int:
    """Bytes that a volume may need while it is read."""
    chosen = _limit.get()
    if chosen is not None and chosen.bytes is not None:
        return chosen.bytes
    return int(machine_memory() * MAX_MEMORY_SHARE)


def most_unpacked() -> int:
    """Bytes that one deflated DICOM file may unpack to."""
    chosen = _limit.get()
    return MAX_UNPACKED_BYTES if chosen is None or chosen.bytes is None else chosen.bytes


def or_allow_more() -> str:
    """End of a remedy: the setting that raises the limit, where there is one."""
    return f", or allow more with {option('max_memory', 'GB')}" if _limit.get() else ""


def machine_memory() -> int:
    """Bytes that this process may use: the machine's memory, the container's or its own limit."""
    limits = []
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with contextlib.suppress(OSError, ValueError):  # no container, or "max"
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    with contextlib.suppress(ImportError):  # Windows
        import resource

        limits.append(resource.getrlimit(resource.RLIMIT_AS)[0])
    limits = [n for n in limits if n > 0]  # -1: none
    return min(limits, default=16 * 2**30)


def require_memory(shape: tuple[int, ...], bytes_per_voxel: int, place: Place) -> None:
    """Refuse a volume that memory cannot hold, before anything is allocated.

    Raises
    ------
    InputError
        ``E_TOO_LARGE`` with the needed and the available gigabytes.
    """
    needed = bytes_per_voxel
    for n in shape:
        needed *= int(n)
    require_room(needed, f"{' x '.join(str(n) for n in shape)} voxels", place)


def require_room(needed: int, what: str, place: Place) -> None:
    """Refuse `what` (with its verb in the plural or singular) that memory cannot hold.

    Raises
    ------
    InputError
        ``E_TOO_LARGE`` with the needed and the available gigabytes.
    """
    available = usable_memory()
    if needed > available:
        raise place.error(
            InputError,
            "E_TOO_LARGE",
            f"{what} would take {needed / 2**30:.1f} GB of memory, {available / 2**30:.1f} GB may "
            "be used",
            "Check the header, crop or downsample the image, use a larger machine"
            + or_allow_more(),
        )


def disk_for_case(
    shape: tuple[int, ...], name: str, limit_gb: float | None, *, dicom: bool = False
) -> int:
    """Bytes of disk that a case needs beside its memory: 0 where memory is enough.

    Parameters
    ----------
    shape : (3,) int
        Of the anatomical grid.
    limit_gb : float or None
        What the case may hold in memory; None: all of the machine or the container, and no disk.
    dicom : bool
        Whether DICOM is written, for which volumes are put together in memory.

    Raises
    ------
    InputError
        ``E_TOO_LARGE`` with the estimate, before anything is registered.
    """
    voxels = math.prod(shape)
    needed = CASE_BASE_BYTES + CASE_BYTES_PER_VOXEL * voxels
    limit = machine_memory() if limit_gb is None else limit_gb * 2**30
    if needed <= limit:
        return 0
    lean = LEAN_BYTES_PER_VOXEL + (LEAN_DICOM_BYTES_PER_VOXEL if dicom else 0)
    least = CASE_BASE_BYTES + lean * voxels
    if limit_gb is not None and least <= limit:
        return DISK_BYTES_PER_VOXEL * voxels
    size = " x ".join(str(n) for n in shape)
    with_disk = f"{least / 2**30:.1f} GB with the rest on disk ({option('max_memory')})"
    raise InputError(
        "E_TOO_LARGE",
        what="Cannot fuse on the grid of",
        where=name,
        cause=f"{size} voxels will need about {needed / 2**30:.1f} GB of memory, or {with_disk}; "
        f"{limit / 2**30:.1f} GB may be used",
        remedy="Crop or downsample the anatomical image, use a larger machine, or allow so much "
        f"with {option('max_memory', 'GB')}",
    )
