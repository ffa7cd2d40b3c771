"""Figures, movies and the turning 3-D view."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, QRectF, QTimer
from qtpy.QtGui import QColor, QImage, QPainter
from qtpy.QtWidgets import QFileDialog

from napari_plugin import views
from napari_plugin._qt.paint import as_image, draw
from napari_plugin._qt.plane_view import PlaneView
from napari_plugin.figure import FRAMES, About, write_figure, write_movie
from napari_plugin.jobs import Job
from napari_plugin.sight import FUSED

TURN_MS = 60
TURN_DEG = 360.0 / FRAMES
STRIP = 22  # pixels below a picture
SLICE_PX = 512
CANVAS, LINKED, SLICES, TURN = (
    "Figure of the canvas...",
    "Figure of the linked views...",
    "Movie through the slices...",
    "Movie of the turning 3-D view...",
)
ROTATE = "Turn the 3-D view"


class Figures(QObject):
    """What a panel saves as pictures.

    Parameters
    ----------
    panel : FusePanel
    """

    def __init__(self, panel: Any) -> None:
        super().__init__(panel)
        self.panel, self.model = panel, panel.model
        self._timer = QTimer(self)
        self._timer.setInterval(TURN_MS)
        self._timer.timeout.connect(self._turn)
        menu = panel.view_bar.picture.menu()
        for text in (CANVAS, LINKED, SLICES, TURN):
            menu.addAction(text).triggered.connect(lambda _=False, text=text: self._ask(text))
        self.rotate = menu.addAction(ROTATE)
        self.rotate.setCheckable(True)
        self.rotate.toggled.connect(self.turn)

    # -- the turning view ----------------------------------------------------------------------

    def turn(self, on: bool) -> None:
        """Let the 3-D view turn about the axis from head to feet, or stop it."""
        if on and self.model.viewer.dims.ndisplay != 3:
            self.panel.view_bar.turn("3d")
        (self._timer.start if on else self._timer.stop)()

    def _turn(self) -> None:
        if self.model.viewer.dims.ndisplay != 3:
            self.rotate.setChecked(False)
            return
        camera = views.camera(self.model.viewer)
        camera.angles = turned(camera.angles, TURN_DEG)

    # -- files ---------------------------------------------------------------------------------

    def _ask(self, what: str) -> None:
        movie = what in (SLICES, TURN)
        kinds = "Movie (*.gif *.png)" if movie else "PNG (*.png)"
        start = "fusion.gif" if movie else "fusion.png"
        path, _ = QFileDialog.getSaveFileName(self.panel, what.rstrip("."), start, kinds)
        if path:
            self.save(what, Path(path))

    def save(self, what: str, path: Path) -> None:
        """Save a picture of the result; asks where it is not of what is chosen."""
        self.panel.files.with_result(lambda result: self._save(what, path, self._about(result)))

    def _about(self, result: Any) -> About:
        files = self.panel.files
        is_written = files.folder is not None and files.written == result.fusion.token
        return About.of(result, files.folder.name if is_written else "")

    def _save(self, what: str, path: Path, about: About) -> None:
        if what in (CANVAS, LINKED):
            shot = self.canvas() if what == CANVAS else self.linked()
            if shot is None:
                self.panel.status.setText("Switch the linked views on first.")
                return
            rgb = captioned(shot, about.caption)
            self._write(Job(f"Writing {path.name}", lambda p: write_figure(path, rgb, about)))
            return
        frames = self._slices() if what == SLICES else self._turns()
        self._collect(frames, [], path, about)

    def _collect(self, frames: Iterator[QImage], done: list[Any], path: Path, about: About) -> None:
        """One frame in each turn of the event loop, then write them in a thread."""
        frame = next(frames, None)
        if frame is not None:
            done.append(captioned(frame, about.caption))
            self.panel.status.setText(f"Frame {len(done)} of {path.name}...")
            QTimer.singleShot(1, lambda: self._collect(frames, done, path, about))
            return
        self._write(Job(f"Writing {path.name}", lambda p: write_movie(path, done, about)))

    def _write(self, job: Job) -> None:
        def say(path: Path) -> None:
            QTimer.singleShot(0, lambda: self.panel.status.setText(f"Written: {path.name}."))

        self.panel.runner.enqueue(job, say)

    # -- pictures ------------------------------------------------------------------------------

    def canvas(self) -> QImage:
        """The canvas of napari with letters, bar, scale and place."""
        shot = self.model.viewer.screenshot(canvas_only=True, flash=False)
        image = as_image(shot[..., :3])
        glass = self.panel.view_bar.glass
        what = glass.furniture() if glass is not None else None
        if what is not None:
            painter = QPainter(image)
            scale = image.width() / max(glass.width(), 1)
            painter.scale(scale, scale)
            sight = self.model.sight()
            title = sight.words[FUSED] if sight is not None else ""
            named = type(what)(**{**vars(what), "title": title})  # no names of layers
            draw(painter, QRectF(0, 0, image.width() / scale, image.height() / scale), named)
            painter.end()
        return image

    def linked(self) -> QImage | None:
        """The linked views as they are; None where they are off."""
        linked = self.panel.view_bar.linked
        if linked is None or not linked.views:
            return None
        ratio = linked.devicePixelRatioF()
        area = linked.views_rect()
        image = linked.grab(area).toImage()
        image.setDevicePixelRatio(1.0 if ratio == 1 else ratio)
        return image

    def _slices(self) -> Iterator[QImage]:
        """Every axial slice of the fused image, without the cross hair."""
        sight = self.model.sight()
        if sight is None:
            return
        view = PlaneView(FUSED, "axial")
        view.resize(SLICE_PX, SLICE_PX)
        slices, rows, columns = sight.shape
        for number in range(slices):
            view.show_sight(sight, (float(number), rows / 2, columns / 2))
            image = QImage(SLICE_PX, SLICE_PX, QImage.Format.Format_RGB888)
            image.fill(QColor(0, 0, 0))
            painter = QPainter(image)
            view.paint_slice(painter)
            what = view.furniture(sight)
            bare = {"title": sight.words[FUSED], "cross": None}
            draw(painter, QRectF(0, 0, SLICE_PX, SLICE_PX), type(what)(**{**vars(what), **bare}))
            painter.end()
            yield image

    def _turns(self) -> Iterator[QImage]:
        """A whole turn of the 3-D view."""
        viewer = self.model.viewer
        if viewer.dims.ndisplay != 3:
            self.panel.view_bar.turn("3d")
        self.panel.view_bar.settle()
        camera = views.camera(viewer)
        start = camera.angles
        for number in range(FRAMES):
            camera.angles = turned(start, number * TURN_DEG)
            yield as_image(viewer.screenshot(canvas_only=True, flash=False)[..., :3])
        camera.angles = start


def turned(angles: Any, degrees: float) -> tuple[float, float, float]:
    """Angles of napari's camera after a turn about the first axis, from head to feet."""
    first, second, third = (float(a) for a in angles)
    return first, (second + degrees + 180.0) % 360.0 - 180.0, third


def captioned(image: QImage, caption: str) -> NDArray[np.uint8]:
    """(H, W, 3) with a line below that says what it is of."""
    image = image.convertToFormat(QImage.Format.Format_RGB888)
    wide, high = image.width(), image.height()
    whole = QImage(wide, high + STRIP, QImage.Format.Format_RGB888)
    whole.fill(QColor(0, 0, 0))
    painter = QPainter(whole)
    painter.drawImage(QRectF(0, 0, wide, high), image)
    painter.setPen(QColor(220, 220, 220))
    font = painter.font()
    font.setPixelSize(11)
    while painter.fontMetrics().horizontalAdvance(caption) > wide - 8 and font.pixelSize() > 6:
        font.setPixelSize(font.pixelSize() - 1)
        painter.setFont(font)
    painter.setFont(font)
    painter.drawText(QRectF(4, high, wide - 8, STRIP), caption)
    painter.end()
    view = whole.constBits()
    raw = np.frombuffer(view.asstring(whole.sizeInBytes()) if hasattr(view, "asstring") else view,
                        np.uint8)  # fmt: skip
    rows = raw.reshape(high + STRIP, whole.bytesPerLine())[:, : 3 * wide]
    return rows.reshape(high + STRIP, wide, 3).copy()
