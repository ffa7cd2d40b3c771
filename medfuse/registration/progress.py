"""Progress and cancelling across ITK callbacks and two worker threads; ITK's thread count.

A progress callback that raises cancels the work: its exception reaches the caller unchanged.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import SimpleITK as sitk

from medfuse.imaging.grid import Matrix

Item = TypeVar("Item")
Result = TypeVar("Result")
WORKERS = 2

_itk_lock = threading.Lock()
_itk_users: list[int] = []


class Meter:
    """Count work done in stages and tell it to one callback, from any thread.

    ``found`` is called with each better position, as soon as it is known.
    """

    def __init__(
        self,
        progress: Callable[[float, str], None] | None,
        found: Callable[[Matrix], None] | None = None,
    ) -> None:
        self._progress = progress
        self.found = found or (lambda matrix: None)
        self._lock = threading.Lock()
        self._span = (0.0, 1.0)
        self._total = 1
        self._done = 0
        self._text = ""
        self.failure: BaseException | None = None

    def stage(self, start: float, end: float, *, total: int, text: str) -> None:
        """Begin a stage of `total` ticks that leads from one fraction to the next."""
        with self._lock:
            self._span, self._total, self._done, self._text = (start, end), max(1, total), 0, text
        self.tick(0)

    def tick(self, count: int = 1) -> None:
        """Report `count` more units; an exception of the callback is kept for `check`."""
        with self._lock:
            self._done = min(self._total, self._done + count)
            if self._progress is None or self.failure is not None:
                return
            start, end = self._span
            try:
                self._progress(start + (end - start) * self._done / self._total, self._text)
            except BaseException as error:
                self.failure = error

    def check(self) -> None:
        """Raise what the callback raised."""
        if self.failure is not None:
            raise self.failure


def in_parallel(
    work: Callable[[Item], Result], items: Iterable[Item], meter: Meter
) -> list[Result]:
    """Run on two threads (ITK and FFT release the GIL); results keep the order of the items."""

    def guarded(item: Item) -> Result:
        meter.check()
        return work(item)

    pool = ThreadPoolExecutor(WORKERS)
    try:
        results = list(pool.map(guarded, items))
    except BaseException as error:
        if meter.failure is None:
            meter.failure = error
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    meter.check()
    return results


@contextmanager
def single_threaded_itk() -> Iterator[None]:
    """Let ITK use one thread, which makes its sums the same on every run; then restore.

    The setting is global to the process: it is restored when the last user leaves.
    """
    with _itk_lock:
        _itk_users.append(sitk.ProcessObject.GetGlobalDefaultNumberOfThreads())
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        with _itk_lock:
            before = _itk_users.pop()
            if not _itk_users:
                sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
