"""Show what runs in napari's activity dock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


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

    def begin(self, title: str, cancel: Callable[[], Any]) -> None:
        """A job began."""
        if not self._has_window:
            return
        from napari.utils import cancelable_progress

        self._cancel = cancel
        self._bar = cancelable_progress(total=100, desc=title)

    def progress(self, fraction: float, text: str) -> None:
        """It got so far."""
        if self._bar is None:
            return
        if self._bar.is_canceled and self._cancel is not None:  # by napari's own button
            self._cancel()
        self._bar.set_description(text)
        self._bar.update(max(0, round(100 * fraction) - self._bar.n))

    def end(self) -> None:
        """It ended."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
