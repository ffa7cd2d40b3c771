"""Run jobs in a thread, one at a time, with progress in the panel and in napari."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_plugin.jobs import Done, Failed, Job, Outcome, failure

WAIT_S = 20.0
PAUSE_S = 0.1  # between two reports of progress
NICE = 5  # of 19
REST_MS = 10  # between two steps: the window paints and answers


class JobRunner(QObject):
    """One job at a time; its outcome arrives in the main thread.

    Signals
    -------
    started (str)
        Title of the job.
    progressed (float, str)
        Fraction and what is being done.
    offered (object)
        Something that can be shown before the job ends.
    ended (object)
        The :data:`~napari_plugin.jobs.Outcome`, after the callback had its value.
    """

    started = Signal(str)
    progressed = Signal(float, str)
    ended = Signal(object)
    offered = Signal(object)
    _arrived = Signal(object, object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._job: Job | None = None
        # Not napari's worker: its pool thread outlives the job and can crash a closed window.
        self._thread: threading.Thread | None = None
        self._waiting: deque[tuple[Job, Callable[[Any], None]]] = deque()
        self._closed = False
        self._told = ("", 0.0)
        self._arrived.connect(self._finish)  # queued: it is emitted in the thread

    @property
    def is_busy(self) -> bool:
        """Whether a job runs."""
        return self._job is not None

    def start(self, job: Job, then: Callable[[Any], None]) -> bool:
        """Run a job; False where one runs already.

        ``then`` gets its value in the main thread; it may return an iterator, whose steps are
        taken one in each turn of the event loop.
        """
        if self._closed or self._job is not None:
            return False
        self._job = job
        self._thread = threading.Thread(target=self._work, args=(job, then), name=job.title)
        self.started.emit(job.title)
        self._thread.start()
        return True

    def enqueue(self, job: Job, then: Callable[[Any], None]) -> None:
        """Run a job now, or after those that run and wait already."""
        if not self.start(job, then) and not self._closed:
            self._waiting.append((job, then))

    def cancel(self) -> None:
        """Ask the running job to stop."""
        if self._job is not None:
            self._job.cancel()

    def stop(self) -> bool:
        """Cancel, forget what waits, and wait until the thread is done; True when it is."""
        self._waiting.clear()
        self.cancel()
        if self._thread is None:
            return True
        self._thread.join(WAIT_S)
        return not self._thread.is_alive()

    def close(self) -> None:
        """Let nothing start and nothing arrive any more."""
        self._closed = True

    def _work(self, job: Job, then: Callable[[Any], None]) -> None:
        yield_cores()
        outcome = job.run(self._notify, self.offered.emit)
        if not self._closed:
            self._arrived.emit(outcome, then)

    def _notify(self, fraction: float, text: str) -> None:
        """Tell the window, in the thread of the job: what is new, but not too often."""
        now = time.monotonic()
        if self._closed or (text == self._told[0] and now - self._told[1] < PAUSE_S):
            return
        self._told = (text, now)
        self.progressed.emit(fraction, text)

    def _finish(self, outcome: Outcome, then: Callable[[Any], None]) -> None:
        if self._closed:
            return
        if not isinstance(outcome, Done):
            self._end(outcome)
            return
        try:
            steps = then(outcome.value)
        except Exception as error:  # the boundary of the GUI
            self._end(failure(error))
            return
        self._step(iter(steps or ()), outcome)

    def _step(self, steps: Iterator[Any], outcome: Outcome) -> None:
        """One step of showing a result in each turn of the event loop."""
        if self._closed:
            return
        try:
            next(steps)
        except StopIteration:
            self._end(outcome)
        except Exception as error:  # the boundary of the GUI
            self._end(failure(error))
        else:
            QTimer.singleShot(REST_MS, lambda: self._step(steps, outcome))

    def _end(self, outcome: Outcome) -> None:
        self._job = None
        self.ended.emit(outcome)
        if self._waiting and self._job is None:
            self.start(*self._waiting.popleft())


def yield_cores() -> None:
    """Let the thread of the window go first where cores are few; threads made here inherit it."""
    if sys.platform == "linux":  # elsewhere a priority is that of the process
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


def report(outcome: Outcome) -> None:
    """Show a failed job as a napari notification of one line."""
    if isinstance(outcome, Failed):
        from napari.utils.notifications import show_error

        show_error(outcome.text)
