"""One view of one image in one plane, with the cross hair that all views share."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QPainter
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_plugin._qt.paint import as_image, draw
from napari_plugin.furniture import AXES, SLICED, Furniture, letters, place_words
from napari_plugin.sight import Sight

HINT = (
    "Click or drag: move the cross hair. Wheel or Page keys: slices. Ctrl+wheel, + and -: zoom. "
    "Middle button: pan. Right button: window and level (with Shift of the anatomical image). "
    "Arrow keys: one voxel. Double click or 0: whole image."
)
BACK = QColor(0, 0, 0)
ZOOM_STEP, MOST_ZOOM = 1.2, 20.0


class PlaneView(QWidget):
    """Shows a slice of a `Sight`; asks its owner to move the cross hair or a window.

    Signals
    -------
    moved (object)
        (slice, row, column) to which the cross hair is asked to go.
    windowed (bool, float, float)
        Whether of the anatomical image; way of a drag to the right and down, in heights.
    """

    moved = Signal(object)
    windowed = Signal(bool, float, float)

    def __init__(self, kind: str, plane: str) -> None:
        super().__init__()
        self.kind, self.plane = kind, plane
        self.sight: Sight | None = None
        self.at = (0.0, 0.0, 0.0)  # of the cross hair: slice, row, column
        self.zoom, self.shift = 1.0, QPointF(0, 0)
        self._image: Any = None
        self._drawn: tuple[object, ...] = ()
        self._last: QPointF | None = None
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setAccessibleName(f"{kind} image, {plane}")
        self.setToolTip(HINT)
        self.setToolTipDuration(4000)

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Room for a slice."""
        return QSize(220, 220)

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Small windows still show all views."""
        return QSize(110, 110)

    def show_sight(self, sight: Sight | None, at: tuple[float, float, float]) -> None:
        """Show volumes at a cross hair."""
        self.sight, self.at = sight, at
        self.update()

    # -- where voxels are drawn ----------------------------------------------------------------

    def frame(self) -> QRectF:
        """Rectangle in which the whole slice is drawn."""
        if self.sight is None:
            return QRectF(self.rect())
        down, right = AXES[self.plane]
        shape, spacing = self.sight.shape, self.sight.spacing
        size = np.array([shape[right] * spacing[right], shape[down] * spacing[down]])
        room = np.array([max(self.width(), 1), max(self.height(), 1)])
        scale = float((room / size).min()) * self.zoom
        wide, high = size * scale
        middle = QPointF(self.width() / 2, self.height() / 2) + self.shift
        return QRectF(middle.x() - wide / 2, middle.y() - high / 2, wide, high)

    def pixel_of(self, at: tuple[float, float, float]) -> tuple[float, float]:
        """Pixel at which a (slice, row, column) is drawn."""
        frame, (down, right) = self.frame(), AXES[self.plane]
        shape = self.sight.shape if self.sight else (1, 1, 1)
        x = frame.left() + (at[right] + 0.5) / shape[right] * frame.width()
        y = frame.top() + (at[down] + 0.5) / shape[down] * frame.height()
        return x, y

    def index_at(self, point: QPointF) -> tuple[float, float, float]:
        """(slice, row, column) at a pixel, within the volume."""
        frame, (down, right) = self.frame(), AXES[self.plane]
        shape = self.sight.shape if self.sight else (1, 1, 1)
        index = list(self.at)
        index[right] = (point.x() - frame.left()) / frame.width() * shape[right] - 0.5
        index[down] = (point.y() - frame.top()) / frame.height() * shape[down] - 0.5
        found = np.clip(np.rint(index), 0, np.array(shape) - 1)
        return float(found[0]), float(found[1]), float(found[2])

    def furniture(self, sight: Sight) -> Furniture:
        """What is drawn over the slice."""
        right = AXES[self.plane][1]
        frame = self.frame()
        return Furniture(
            title=sight.title(self.kind),
            letters=letters(sight.source, self.plane),
            px_per_mm=frame.width() / (sight.shape[right] * sight.spacing[right]),
            bar=sight.bar(self.kind),
            cross=self.pixel_of(self.at),
            place=place_words(sight.source, self.at),
        )

    # -- Qt ------------------------------------------------------------------------------------

    def paintEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        painter = QPainter(self)
        try:  # a painter that an error leaves open ends the process
            self._paint(painter)
        finally:
            painter.end()

    def _paint(self, painter: QPainter) -> None:
        painter.fillRect(self.rect(), BACK)
        sight = self.sight
        if sight is not None:
            self.paint_slice(painter)
            draw(painter, QRectF(self.rect()), self.furniture(sight))
        if self.hasFocus():
            painter.setPen(QColor(90, 160, 255))
            painter.drawRect(self.rect().adjusted(0, 0, -1, -1))

    def paint_slice(self, painter: QPainter) -> None:
        """Draw the slice alone."""
        sight = self.sight
        if sight is None:
            return
        number = int(np.floor(self.at[SLICED[self.plane]] + 0.5))
        wanted = (id(sight), number)
        if wanted != self._drawn or self._image is None:
            self._image = as_image(sight.picture(self.kind, self.plane, number))
            self._drawn = wanted
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.drawImage(self.frame(), self._image)

    def forget(self) -> None:
        """Voxels were painted anew in place."""
        self._drawn = ()
        self.update()

    def mousePressEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        self._last = event.position()
        if event.button() == Qt.MouseButton.LeftButton and self.sight is not None:
            self.moved.emit(self.index_at(event.position()))

    def mouseMoveEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        if self._last is None or self.sight is None:
            return
        way, self._last = event.position() - self._last, event.position()
        buttons = event.buttons()
        if buttons & Qt.MouseButton.LeftButton:
            self.moved.emit(self.index_at(event.position()))
        elif buttons & Qt.MouseButton.MiddleButton:
            self.shift += way
            self.update()
        elif buttons & Qt.MouseButton.RightButton:
            is_anatomical = bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
            height = max(self.height(), 1)
            self.windowed.emit(is_anatomical, way.x() / height, way.y() / height)

    def mouseReleaseEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        self._last = None

    def mouseDoubleClickEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        self._whole()

    def wheelEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        steps = 1 if event.angleDelta().y() > 0 else -1
        if event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            self._magnify(ZOOM_STEP**steps)
        else:
            self._step(SLICED[self.plane], -steps)
        event.accept()

    def keyPressEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        down, right = AXES[self.plane]
        keys = {
            Qt.Key.Key_Left: lambda: self._step(right, -1),
            Qt.Key.Key_Right: lambda: self._step(right, 1),
            Qt.Key.Key_Up: lambda: self._step(down, -1),
            Qt.Key.Key_Down: lambda: self._step(down, 1),
            Qt.Key.Key_PageUp: lambda: self._step(SLICED[self.plane], -1),
            Qt.Key.Key_PageDown: lambda: self._step(SLICED[self.plane], 1),
            Qt.Key.Key_Plus: lambda: self._magnify(ZOOM_STEP),
            Qt.Key.Key_Minus: lambda: self._magnify(1 / ZOOM_STEP),
            Qt.Key.Key_0: self._whole,
        }
        action = keys.get(event.key())
        if action is None:
            super().keyPressEvent(event)
        else:
            action()

    def _step(self, axis: int, way: int) -> None:
        if self.sight is None:
            return
        index = list(self.at)
        index[axis] = float(np.clip(index[axis] + way, 0, self.sight.shape[axis] - 1))
        self.moved.emit((index[0], index[1], index[2]))

    def _magnify(self, factor: float) -> None:
        """Zoom about the cross hair."""
        before = self.pixel_of(self.at)
        self.zoom = float(np.clip(self.zoom * factor, 1.0, MOST_ZOOM))
        after = self.pixel_of(self.at)
        self.shift += QPointF(before[0] - after[0], before[1] - after[1])
        if self.zoom == 1.0:
            self.shift = QPointF(0, 0)
        self.update()

    def _whole(self) -> None:
        self.zoom, self.shift = 1.0, QPointF(0, 0)
        self.update()
