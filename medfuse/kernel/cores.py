"""Cores of the machine, and how threads wait on them; imports nothing heavy."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache


def wait_asleep() -> None:
    """Let OpenMP threads sleep while they wait; to be called before torch is loaded.

    The threads of GNU OpenMP spin at the end of every parallel region and so take the cores from
    the cases beside them (docs/studies.md has the figures).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@contextmanager
def importing() -> Iterator[None]:
    """Import large libraries without Python's garbage collector.

    PyTorch and SimpleITK make some 200 000 objects that stay. The collector walks through all of
    them several times while they are imported and finds nothing.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@cache
def keep_imported() -> None:
    """Take everything that is there out of the collector's rounds, also of the one at the end.

    Once in a process: what comes later, such as images, is collected as always.
    """
    gc.collect()
    gc.freeze()


def usable_cores() -> int:
    """Cores that this process may use: of the machine, or what a scheduler left it."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def wanted_threads() -> int | None:
    """How many threads the user asked for by ``OMP_NUM_THREADS``, as ``--threads`` sets it.

    Of a list for nested regions (``4,2``) the first counts.
    """
    outermost = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(outermost) if outermost.isdecimal() and int(outermost) > 0 else None
