"""Letters, color bar, scale bar and cross hair over napari's own canvas."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QEvent, QRectF, Qt
from qtpy.QtGui import QPainter
from qtpy.QtWidgets import QWidget

from napari_plugin import outputs, views
from napari_plugin._qt.canvas import find_canvas, pixel_of
from napari_plugin._qt.paint import draw
from napari_plugin.furniture import Bar, Furniture, letters, place_words
from napari_plugin.layers import read_placed
from napari_plugin.model import FusionModel
from napari_plugin.sight import FUNCTIONAL, FUSED, OVERLAID
from napari_plugin.solid import uptake_layer


class CanvasOverlay(QWidget):
    """A sheet of glass over the canvas; the mouse goes through it.

    Parameters
    ----------
    model : FusionModel
    canvas : QWidget
    """

    def __init__(self, model: FusionModel, canvas: QWidget) -> None:
        super().__init__(canvas)
        self.model, self.canvas = model, canvas
        self._closed = False
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setAttribute(Qt.WidgetAttribute.WA_NoSystemBackground)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        canvas.installEventFilter(self)
        self._sources = self._watched()
        for emitter in self._sources:
            emitter.connect(self._redraw)
        for signal in self._signals:
            signal.connect(self._redraw)
        self.setGeometry(canvas.rect())
        self.show()

    @classmethod
    def over(cls, model: FusionModel, window: QWidget | None) -> CanvasOverlay | None:
        """Lay it over the canvas of a window; None where that has none."""
        canvas = find_canvas(window)
        return None if canvas is None else cls(model, canvas)

    @property
    def _signals(self) -> tuple[Any, ...]:
        model = self.model
        return model.fusion_changed, model.result_changed, model.outputs_changed

    def _watched(self) -> list[Any]:
        viewer = self.model.viewer
        camera = views.camera(viewer)
        dims = viewer.dims.events
        return [camera.events.zoom, camera.events.center, dims.current_step, dims.order,
                dims.ndisplay]  # fmt: skip

    def furniture(self) -> Furniture | None:
        """What is drawn now; None in 3-D and without an anatomical image of three axes."""
        model, viewer = self.model, self.model.viewer
        layer = outputs.find(viewer, outputs.PICTURE) or model.anatomical
        plane = views.plane_of(viewer)
        if layer is None or layer.ndim != 3 or viewer.dims.ndim != 3:
            return None
        if plane == "3d":
            return self._solid()
        source = read_placed(layer)
        point = np.asarray(viewer.dims.point, dtype=float)
        at = pixel_of(viewer, self.canvas, point)
        if source is None or at is None:
            return None
        x, y, zoom = at
        sight = model.sight()
        is_overlay = model.is_on(outputs.OVERLAY)
        bar = None if sight is None else sight.bar(OVERLAID if is_overlay else FUSED)
        return Furniture(
            title=self._title(),
            letters=letters(source, plane),
            px_per_mm=zoom,
            bar=bar,
            cross=(x, y),
            place=place_words(source, layer.world_to_data(point)),
        )

    def _solid(self) -> Furniture | None:
        """In 3-D: the color bar of the uptake, whose colors begin above zero there."""
        layer, sight = uptake_layer(self.model.viewer), self.model.sight()
        if layer is None or layer.rgb or sight is None or not layer.visible:
            return None
        low, high = layer.contrast_limits
        bar = Bar(sight.colors, float(low), float(high), sight.units[FUNCTIONAL])
        return Furniture(title=self._title(), bar=bar)

    def _title(self) -> str:
        """Name of the uppermost layer that is seen."""
        seen = [layer for layer in self.model.viewer.layers if layer.visible]
        return seen[-1].name if seen else ""

    def paintEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        what = None if self._closed else self.furniture()
        if what is None:
            return
        painter = QPainter(self)
        try:  # a painter that an error leaves open ends the process
            draw(painter, QRectF(self.rect()), what)
        finally:
            painter.end()

    def eventFilter(self, watched: Any, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """Stay as large as the canvas."""
        if watched is self.canvas and event.type() == QEvent.Type.Resize:
            self.setGeometry(self.canvas.rect())
        return super().eventFilter(watched, event)

    def close_overlay(self) -> None:
        """Let go of the viewer."""
        if self._closed:
            return
        self._closed = True
        for emitter in self._sources:
            emitter.disconnect(self._redraw)
        for signal in self._signals:
            signal.disconnect(self._redraw)
        self.hide()
        self.setParent(None)
        self.deleteLater()

    def _redraw(self, event: Any = None) -> None:
        self.update()
