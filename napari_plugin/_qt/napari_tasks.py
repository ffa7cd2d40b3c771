"""Show what runs in napari's activity dock."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PAUSE_S = 0.1  # napari runs the event loop at every step of a bar: do not step too often


class NapariTask:
    """One running job as napari sees it; does nothing without a napari window.

    Parameters
    ----------
    viewer : napari.viewer.Viewer or ViewerModel
    """

    def __init__(self, viewer: Any) -> None:
        self._has_window = hasattr(viewer, "window")
        self._bar: Any = None
        self._cancel: Callable[[], Any] | None = None
        self._told = 0.0
        self._is_telling = False

    def begin(self, title: str, cancel: Callable[[], Any]) -> None:
        """A job began."""
        if not self._has_window:
            return
        from napari.utils import cancelable_progress

        self._cancel = cancel
        self._bar = cancelable_progress(total=100, desc=title)

    def progress(self, fraction: float, text: str) -> None:
        """It got so far."""
        bar = self._bar
        if bar is None:
            return
        if bar.is_canceled and self._cancel is not None:  # by napari's own button
            self._cancel()
        if self._is_telling or time.monotonic() - self._told < PAUSE_S:
            return
        self._is_telling = True
        try:
            bar.set_description(text)
            if self._bar is bar:  # the job may have ended in the event loop that napari ran
                bar.update(max(0, round(100 * fraction) - bar.n))
        finally:
            self._is_telling = False
            self._told = time.monotonic()

    def end(self) -> None:
        """It ended."""
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()
