"""Long work: something that reports progress, can be cancelled, and never raises into a GUI."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from medfuse.errors import MedfuseError
from medfuse.settings import Progress
from napari_plugin.settings import words

log = logging.getLogger(__name__)


class Cancelled(Exception):
    """Raised inside a job by its progress report when the user cancelled."""


@dataclass(frozen=True)
class Done:
    """The job ended well."""

    value: Any


@dataclass(frozen=True)
class Failed:
    """The job ended with an error of one line."""

    text: str
    code: str


@dataclass(frozen=True)
class Stopped:
    """The job was cancelled; nothing is left behind."""


Outcome = Done | Failed | Stopped


class Reporter:
    """What a job may say while it works: how far it is, and what can be shown already."""

    def __init__(
        self, stop: threading.Event, notify: Progress | None, show: Callable[[Any], None] | None
    ) -> None:
        self._stop, self._notify, self._show = stop, notify, show

    def __call__(self, fraction: float, text: str) -> None:
        """Report progress; raises where the job was cancelled."""
        if self._stop.is_set():
            raise Cancelled
        if self._notify is not None:
            self._notify(min(max(fraction, 0.0), 1.0), text)

    def show(self, value: Any) -> None:
        """Hand out something early, which the value of the job replaces."""
        if self._show is not None and not self._stop.is_set():
            self._show(value)


@dataclass(frozen=True)
class Job:
    """Work for a thread. It must not touch a viewer, a layer or a widget.

    Attributes
    ----------
    title : str
        What the user sees while it runs.
    work : callable (Reporter) -> value
        Calls its reporter often, which raises when the job is cancelled.
    commits : bool
        What it does cannot be taken back: once it has ended well, it counts as done.
    """

    title: str
    work: Callable[[Reporter], Any]
    commits: bool = False
    _stop: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """Ask the job to stop at its next progress report."""
        self._stop.set()

    @property
    def is_cancelled(self) -> bool:
        """Whether :meth:`cancel` was called."""
        return self._stop.is_set()

    def run(
        self, notify: Progress | None = None, show: Callable[[Any], None] | None = None
    ) -> Outcome:
        """Do the work; every end is a value."""
        reporter = Reporter(self._stop, notify, show)
        try:
            reporter(0.0, self.title)
            value = self.work(reporter)
        except Cancelled:
            return Stopped()
        except Exception as error:  # the boundary of the GUI
            return failure(error)
        return Stopped() if self._stop.is_set() and not self.commits else Done(value)


def let_go(held: list[Any]) -> None:
    """Free what a list holds in a thread: giving gigabytes back takes tenths of a second."""
    threading.Thread(target=held.clear, name="freeing", daemon=True).start()


def failure(error: BaseException) -> Failed:
    """Say an error in one line, in the words of the panel."""
    if isinstance(error, MedfuseError):
        return Failed(error.told(words), error.code)
    if isinstance(error, ValueError):  # medfuse.fuse says wrong settings so
        text = " ".join(str(error).split())
        return Failed(f"Cannot do this: {text}. Change the setting. [E_SETTINGS]", "E_SETTINGS")
    log.exception("internal failure")
    text = " ".join(str(error).split())[:200]
    return Failed(
        f"Internal failure: {type(error).__name__}: {text}. Please report it. [E_INTERNAL]",
        "E_INTERNAL",
    )
