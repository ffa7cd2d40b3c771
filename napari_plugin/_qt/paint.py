"""Draws letters, scale, color bar and cross hair with a QPainter, on a widget or a figure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QFontMetricsF, QImage, QPainter, QPen

from napari_plugin.furniture import Bar, Furniture, Letters, scale_length

INK, SHADE = QColor(255, 255, 255), QColor(0, 0, 0, 200)
CROSS = QColor(90, 220, 255, 190)
EDGE = 6.0
BAR_WIDTH, TICK = 9.0, 4.0


def as_image(rgb: NDArray[np.uint8]) -> QImage:
    """A copy of (rows, columns, 3) uint8 as an image of Qt."""
    rgb = np.ascontiguousarray(rgb)
    rows, columns = rgb.shape[:2]
    return QImage(rgb.data, columns, rows, 3 * columns, QImage.Format.Format_RGB888).copy()


def draw(painter: QPainter, area: QRectF, what: Furniture) -> None:
    """Draw furniture over an area."""
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    if what.cross is not None:
        _cross(painter, area, what.cross)
    line = QFontMetricsF(painter.font()).height()
    if what.title:
        _text(painter, QPointF(area.left() + EDGE, area.top() + line), what.title)
    if what.place:
        _text(painter, QPointF(area.left() + EDGE, area.top() + 2.5 * line), what.place)
    if what.letters is not None:
        _letters(painter, area, what.letters)
    if what.bar is not None:
        _bar(painter, area, what.bar)
    if what.px_per_mm > 0:
        _scale(painter, area, what.px_per_mm)
    painter.restore()


def _text(painter: QPainter, at: QPointF, text: str) -> None:
    """White on a dark rim: seen on every image."""
    painter.setPen(SHADE)
    for x, y in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        painter.drawText(at + QPointF(x, y), text)
    painter.setPen(INK)
    painter.drawText(at, text)


def _cross(painter: QPainter, area: QRectF, at: tuple[float, float]) -> None:
    """Two lines that leave the point itself free."""
    x, y, gap = area.left() + at[0], area.top() + at[1], 7.0
    painter.setPen(QPen(CROSS, 1.0))
    for start, stop in (
        (QPointF(area.left(), y), QPointF(x - gap, y)),
        (QPointF(x + gap, y), QPointF(area.right(), y)),
        (QPointF(x, area.top()), QPointF(x, y - gap)),
        (QPointF(x, y + gap), QPointF(x, area.bottom())),
    ):
        painter.drawLine(start, stop)


def _letters(painter: QPainter, area: QRectF, letters: Letters) -> None:
    metrics = QFontMetricsF(painter.font())
    middle = area.center()
    height = metrics.ascent()

    def width(text: str) -> float:
        return metrics.horizontalAdvance(text)

    right = area.right() - EDGE - width(letters.right)
    _text(painter, QPointF(area.left() + EDGE, middle.y() + height / 2), letters.left)
    _text(painter, QPointF(right, middle.y() + height / 2), letters.right)
    top = area.top() + EDGE + height
    _text(painter, QPointF(middle.x() - width(letters.top) / 2, top), letters.top)
    bottom = area.bottom() - EDGE
    _text(painter, QPointF(middle.x() - width(letters.bottom) / 2, bottom), letters.bottom)


def _bar(painter: QPainter, area: QRectF, bar: Bar) -> None:
    """At the right, in the upper part, so that the letter in the middle stays free."""
    metrics = QFontMetricsF(painter.font())
    labels = [f"{tick:g}" for tick in bar.ticks()]
    room = max([metrics.horizontalAdvance(text) for text in [*labels, bar.unit]] or [0.0])
    left = area.right() - EDGE - room - TICK - BAR_WIDTH
    top = area.top() + EDGE + 1.9 * metrics.height()
    height = min(area.height() * 0.36, area.center().y() - top - metrics.height())
    if height < 2 * metrics.height():
        return
    frame = QRectF(left, top, BAR_WIDTH, height)
    painter.drawImage(frame, as_image(bar.colors[::-1, None, :]))
    painter.setPen(QPen(INK, 1.0))
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.drawRect(frame)
    _text(painter, QPointF(left, top - 0.75 * metrics.height()), bar.unit)
    for tick, text in zip(bar.ticks(), labels, strict=True):
        part = (tick - bar.low) / max(bar.high - bar.low, 1e-12)
        y = frame.bottom() - part * height
        painter.setPen(QPen(INK, 1.0))
        painter.drawLine(QPointF(frame.right(), y), QPointF(frame.right() + TICK, y))
        at = QPointF(frame.right() + TICK + 1, y + 0.35 * metrics.ascent())
        _text(painter, at, text)


def _scale(painter: QPainter, area: QRectF, px_per_mm: float) -> None:
    length, text = scale_length(px_per_mm, area.width())
    metrics = QFontMetricsF(painter.font())
    stop = area.right() - EDGE
    start, y = stop - length * px_per_mm, area.bottom() - EDGE
    for pen in (QPen(SHADE, 4.0), QPen(INK, 2.0)):
        painter.setPen(pen)
        painter.drawLine(QPointF(start, y), QPointF(stop, y))
        for x in (start, stop):
            painter.drawLine(QPointF(x, y - 4), QPointF(x, y))
    middle = (start + stop) / 2 - metrics.horizontalAdvance(text) / 2
    at = min(middle, area.right() - EDGE - metrics.horizontalAdvance(text))
    _text(painter, QPointF(at, y - 6), text)
