"""A frame around what has the keyboard: napari's themes draw none."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QEvent, QPoint, QRect, Qt
from qtpy.QtGui import QColor, QPainter, QPen
from qtpy.QtWidgets import QApplication, QScrollArea, QWidget

COLOR = QColor(240, 165, 30)  # seen on dark and on light
WIDTH = 2


class FocusRing(QWidget):
    """Lies over a widget, lets the mouse through, and frames the child that has the focus.

    Only where the focus came by a key: who clicks sees where the mouse is.

    Parameters
    ----------
    host : QWidget
    """

    def __init__(self, host: QWidget) -> None:
        super().__init__(host)
        self._target: QWidget | None = None
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.hide()
        host.installEventFilter(self)
        application = QApplication.instance()
        assert isinstance(application, QApplication)
        application.focusChanged.connect(self._on_focus)

    @property
    def target(self) -> QWidget | None:
        """What is framed now."""
        return self._target if self.isVisible() else None

    def eventFilter(self, watched: Any, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """Stay as large as the host, and on top of it."""
        if event.type() in (QEvent.Type.Resize, QEvent.Type.LayoutRequest):
            self._follow()
        return super().eventFilter(watched, event)

    def paintEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Draw the frame, as far as the target is not scrolled away."""
        if self._target is None:
            return
        painter = QPainter(self)
        painter.setPen(QPen(COLOR, WIDTH))
        painter.drawRect(self._place(self._target).adjusted(1, 1, -1, -1))

    def _on_focus(self, _: QWidget | None, new: QWidget | None) -> None:
        if self._target is not None:
            self._target.removeEventFilter(self)
        by_key = QApplication.mouseButtons() == Qt.MouseButton.NoButton
        host = self.parentWidget()
        self._target = new if new is not None and by_key and host.isAncestorOf(new) else None
        if self._target is not None:
            self._target.installEventFilter(self)
        self._follow()

    def _follow(self) -> None:
        self.setGeometry(self.parentWidget().rect())
        self.setVisible(self._target is not None)
        self.raise_()
        self.update()

    def _place(self, target: QWidget) -> QRect:
        host = self.parentWidget()
        place = QRect(target.mapTo(host, QPoint(0, 0)), target.size())
        parent = target.parentWidget()
        while parent is not None and parent is not host:
            if isinstance(parent, QScrollArea):
                window = parent.viewport()
                place &= QRect(window.mapTo(host, QPoint(0, 0)), window.size())
            parent = parent.parentWidget()
        return place
