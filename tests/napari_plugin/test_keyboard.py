"""The keyboard alone: the Tab key walks through a real window, and it is seen where it is."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QLineEdit,
    QPlainTextEdit,
    QSlider,
    QTableWidget,
)

from napari_plugin._qt.focus_ring import COLOR

pytestmark = pytest.mark.gl
KINDS = (QAbstractButton, QComboBox, QSlider, QAbstractSpinBox, QLineEdit, QPlainTextEdit,
         QTableWidget)  # fmt: skip
MOST = 150


def usable(widget) -> bool:
    """Whether a person can use a widget: seen, enabled, and no part of another one."""
    parent = widget.parentWidget()
    while parent is not None:
        if isinstance(parent, QComboBox | QAbstractSpinBox | QTableWidget):
            return False
        if type(parent).__name__ == "QTabBar":
            return False
        parent = parent.parentWidget()
    return widget.isVisible() and widget.isEnabled()


def reached(widget, seen) -> bool:
    """Whether a widget had the focus, or what is typed into in it."""
    return widget in seen or any(widget.isAncestorOf(other) for other in seen)


def press(key, modifiers=Qt.KeyboardModifier.NoModifier):
    QTest.keyClick(QApplication.focusWidget(), key, modifiers)
    return QApplication.focusWidget()


def walk(start, host, key) -> list:
    """Widgets that get the focus one after the other, until it leaves the host or comes back."""
    start.setFocus(Qt.FocusReason.TabFocusReason)
    seen = [start]
    while len(seen) < MOST:
        widget = press(key)
        if widget is None or widget in seen or not host.isAncestorOf(widget):
            return seen
        seen.append(widget)
    raise AssertionError("the Tab key does not come to an end")


def is_framed(panel, widget) -> bool:
    """Whether the frame is painted around a widget, in the pixels of the panel."""
    image = panel.grab().toImage()
    scale = image.width() / panel.width()
    place = panel.ring._place(widget)
    found = [image.pixelColor(round(scale * (place.left() + 1)), round(scale * y))
             for y in np.linspace(place.top() + 3, place.bottom() - 3, 3)]  # fmt: skip
    return all(color == COLOR for color in found)


def test_the_tab_key_reaches_every_action_in_the_order_in_which_it_is_read(scene, qtbot):
    viewer, panel = scene
    panel.model.choose(registration="identity", method="mean", accept_suspect=True)
    panel.fuse.click()
    qtbot.waitUntil(lambda: not panel.runner.is_busy, timeout=120_000)
    window = viewer.window._qt_window
    window.show()
    window.activateWindow()
    qtbot.waitUntil(lambda: QApplication.activeWindow() is window, timeout=20_000)
    panel.fuse_tab.more.toggle.click()
    panel.fuse_tab.adjust.toggle.click()
    bar = panel.tabs.tabBar()
    for index in range(panel.tabs.count()):
        bar.setFocus()
        panel.tabs.setCurrentIndex(index)
        qtbot.wait(10)
        seen = walk(bar, panel, Qt.Key.Key_Tab)
        wanted = [w for kind in KINDS for w in panel.findChildren(kind) if usable(w)]
        assert len(wanted) > 10
        missed = [w.accessibleName() or w for w in wanted if not reached(w, seen)]
        assert not missed, (panel.tabs.tabText(index), missed)
        heights = [w.mapTo(panel, QPoint(0, 0)).y() for w in seen if w in wanted]
        back = [b - a for a, b in pairwise(heights) if b < a - 12]
        assert not back, (panel.tabs.tabText(index), [w.accessibleName() for w in seen])
    assert walk(seen[-1], panel, Qt.Key.Key_Backtab)[-1] is bar
    for widget in (bar, panel.record_tab.export, panel.fuse):
        widget.setFocus(Qt.FocusReason.TabFocusReason)
        assert panel.ring.target is widget
        assert is_framed(panel, widget)
    bar.setFocus()
    press(Qt.Key.Key_Left)
    assert panel.tabs.tabText(panel.tabs.currentIndex()) == "Regions"
    press(Qt.Key.Key_R, Qt.KeyboardModifier.AltModifier)  # the button Sphere
    qtbot.waitUntil(lambda: panel.regions_tab.table.rowCount() == 1, timeout=60_000)
    window.hide()
