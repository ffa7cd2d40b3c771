"""While napari waits for an answer the window lives and says that it is busy."""

from __future__ import annotations

import threading

import pytest
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QApplication

from napari_plugin._qt.beside import beside

pytestmark = pytest.mark.gl


@pytest.mark.parametrize("fails", [False, True])
def test_the_cursor_is_busy_while_work_is_done_beside_the_window(gl, qapp, fails):
    seen, looked = [], threading.Event()

    def look() -> None:
        cursor = QApplication.overrideCursor()
        seen.append(None if cursor is None else cursor.shape())
        looked.set()

    def work() -> int:
        assert looked.wait(20), "the event loop runs meanwhile"
        if fails:
            raise OSError("unreadable")
        return 7

    QTimer.singleShot(20, look)
    if fails:
        with pytest.raises(OSError, match="unreadable"):
            beside(work)
    else:
        assert beside(work) == 7
    assert seen == [Qt.CursorShape.BusyCursor]
    assert QApplication.overrideCursor() is None
