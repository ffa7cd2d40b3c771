"""Tell napari what runs: its activity dock, and its window when it is closed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any


class NapariTask:
    """One running job as napari sees it; does nothing without a napari window.

    Parameters
    ----------
    viewer : napari.viewer.Viewer or ViewerModel
    on_close : callable
        Called when the window closes while a job runs; must end the job.
    """

    def __init__(self, viewer: Any, on_close: Callable[[], Any]) -> None:
        self._window = getattr(viewer, "window", None)
        self._on_close = on_close
        self._bar: Any = None
        self._cancel: Callable[[], Any] = on_close
        self._id: Any = None

    def begin(self, title: str, cancel: Callable[[], Any]) -> None:
        """A job began."""
        if self._window is None:
            return
        from napari.utils import cancelable_progress
        from napari.utils.task_status import Status

        self._cancel = cancel
        self._bar = cancelable_progress(total=100, desc=title)
        with contextlib.suppress(AttributeError):  # not a public interface of every napari
            self._id = self._window._register_task_status(
                "medfuse", Status.BUSY, title, self._on_close
            )

    def progress(self, fraction: float, text: str) -> None:
        """It got so far."""
        if self._bar is None:
            return
        if self._bar.is_canceled:  # napari has a cancel button of its own
            self._cancel()
        self._bar.set_description(text)
        self._bar.update(max(0, round(100 * fraction) - self._bar.n))

    def end(self) -> None:
        """It ended."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        if self._id is not None:
            from napari.utils.task_status import Status

            self._window._update_task_status(self._id, Status.COMPLETED, "")
            self._id = None
