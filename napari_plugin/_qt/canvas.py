"""The one place that reaches for napari's own canvas; a test looks whether it is still there.

napari has no public way to its canvas widget. It is the widget of the window that draws by
OpenGL, found by Qt itself. Where a later napari has none, nothing is drawn over it, and all else
works on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QWidget

from napari_plugin import views


def find_canvas(window: QWidget | None) -> QWidget | None:
    """The largest canvas of a window of napari; None where there is none."""
    if window is None:
        return None
    found = window.findChildren(QOpenGLWidget)
    return max(found, key=lambda widget: widget.width() * widget.height(), default=None)


def pixel_of(viewer: Any, canvas: QWidget, point: Any) -> tuple[float, float, float] | None:
    """Pixel (x, y) of a point of the world, and pixels per unit; None in 3-D.

    By napari's camera: its centre is the middle of the canvas, its zoom the pixels of a unit.
    """
    if viewer.dims.ndisplay != 2:
        return None
    camera = views.camera(viewer)
    down, right = viewer.dims.displayed
    zoom = float(camera.zoom)
    middle = np.asarray(camera.center, dtype=float)[-2:]
    x = (float(point[right]) - middle[1]) * zoom + canvas.width() / 2
    y = (float(point[down]) - middle[0]) * zoom + canvas.height() / 2
    return x, y, zoom
