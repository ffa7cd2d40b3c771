"""Let the window live while napari waits for an answer."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from importlib import import_module
from typing import TypeVar

from qtpy.QtCore import QEventLoop, Qt, QTimer
from qtpy.QtWidgets import QApplication

LOOK_MS = 10
T = TypeVar("T")


@lru_cache
def warm_up(*modules: str) -> None:
    """Import modules that take seconds, and keep the garbage collector out of them.

    A full collection stops every thread; with torch and MONAI in memory, which never become
    garbage, each took 0.25 s.
    """
    for name in modules:
        import_module(name)
    gc.freeze()


def beside(work: Callable[[], T]) -> T:
    """Do work in a thread and wait for it; the window is painted, the cursor says that it is busy.

    napari calls readers, samples and imports in the thread of its window and wants the answer at
    once; clicks and keys wait. Elsewhere, and without a window, the work is simply done.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if QApplication.instance() is None or not is_main:
        return work()
    with ThreadPoolExecutor(max_workers=1) as pool:
        future = pool.submit(work)
        loop, timer = QEventLoop(), QTimer()
        timer.timeout.connect(lambda: loop.quit() if future.done() else None)
        timer.start(LOOK_MS)
        QApplication.setOverrideCursor(Qt.CursorShape.BusyCursor)
        try:
            loop.exec(QEventLoop.ProcessEventsFlag.ExcludeUserInputEvents)
        finally:
            QApplication.restoreOverrideCursor()
            timer.stop()
        return future.result()
