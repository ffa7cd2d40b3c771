"""Linked views: planes and images side by side, one cross hair, painted by Qt alone.

They read arrays and `viewer.dims`, and need nothing of napari's canvas: they work on its next
release as they do on this one, and take no memory on the graphics card.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QRect, Signal
from qtpy.QtWidgets import QComboBox, QGridLayout, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_plugin import outputs, views
from napari_plugin._qt.focus_ring import FocusRing
from napari_plugin._qt.plane_view import PlaneView
from napari_plugin.furniture import SLICED
from napari_plugin.model import FusionModel
from napari_plugin.sight import ANATOMICAL, FUNCTIONAL, FUSED, OVERLAID, Sight

LAYOUTS = {
    "Three planes": (((FUSED, "axial"), (FUSED, "coronal"), (FUSED, "sagittal")),),
    "Images side by side": (((ANATOMICAL, ""), (FUNCTIONAL, ""), (FUSED, "")),),
    "Fusion beside overlay": (((FUSED, ""), (OVERLAID, "")),),
    "All planes, all images": tuple(
        tuple((kind, plane) for kind in (ANATOMICAL, FUNCTIONAL, FUSED)) for plane in SLICED
    ),
}


class LinkedViews(QWidget):
    """Views of the result of a panel, which follow the viewer and lead it.

    Signals
    -------
    window_chosen (bool, float, float)
        Whether of the anatomical image; way of a drag to the right and down.
    """

    window_chosen = Signal(bool, float, float)

    def __init__(self, model: FusionModel) -> None:
        super().__init__()
        self.model = model
        self._views: list[PlaneView] = []
        self._seen: tuple[object, ...] = ()
        self._sight: Sight | None = None
        self._closed = False
        self.setAccessibleName("Linked views")
        self.ring = FocusRing(self)
        self.layout_choice = QComboBox()
        self.layout_choice.addItems(list(LAYOUTS))
        self.layout_choice.setAccessibleName("Arrangement of the linked views")
        self.layout_choice.setToolTip("Which images and planes are shown beside each other.")
        self.layout_choice.currentTextChanged.connect(lambda _: self._arrange())
        self.plane = QComboBox()
        self.plane.addItems(list(SLICED))
        self.plane.setAccessibleName("Plane of the linked views")
        self.plane.setToolTip("Plane of images that are shown side by side.")
        self.plane.currentTextChanged.connect(lambda _: self._arrange())
        self.nothing = QLabel("Press Fuse: the views show the fused image and both sources.")
        self.nothing.setWordWrap(True)
        top = QHBoxLayout()
        for widget in (QLabel("Views"), self.layout_choice, self.plane):
            top.addWidget(widget)
        top.addStretch(1)
        self.grid = QGridLayout()
        self.grid.setSpacing(2)
        box = QVBoxLayout(self)
        box.setContentsMargins(2, 2, 2, 2)
        box.addLayout(top)
        box.addWidget(self.nothing)
        box.addLayout(self.grid, 1)
        viewer = model.viewer
        viewer.dims.events.current_step.connect(self._follow)
        for signal in (model.fusion_changed, model.result_changed, model.outputs_changed):
            signal.connect(self.refresh)
        model.previewed.connect(self.repaint_voxels)
        self._arrange()

    @property
    def views(self) -> list[PlaneView]:
        """Those that are shown."""
        return list(self._views)

    def views_rect(self) -> QRect:
        """Where the views lie in this widget."""
        area = self._views[0].geometry()
        for view in self._views[1:]:
            area = area.united(view.geometry())
        return area

    def refresh(self) -> None:
        """Show the result as it is now, and say what it is of."""
        sight = self.model.sight()
        self._sight = sight
        self.nothing.setVisible(sight is None)
        self._follow()

    def repaint_voxels(self) -> None:
        """A slice was painted over in place."""
        for view in self._views:
            view.forget()

    def close_views(self) -> None:
        """Let go of the viewer."""
        if self._closed:
            return
        self._closed = True
        self.model.viewer.dims.events.current_step.disconnect(self._follow)
        for signal in (
            self.model.fusion_changed, self.model.result_changed, self.model.outputs_changed
        ):  # fmt: skip
            signal.disconnect(self.refresh)
        self.model.previewed.disconnect(self.repaint_voxels)

    def _arrange(self) -> None:
        """Make the views of the chosen arrangement."""
        for view in self._views:
            self.grid.removeWidget(view)
            view.setParent(None)
            view.deleteLater()
        self._views = []
        rows = LAYOUTS[self.layout_choice.currentText()]
        self.plane.setEnabled(any(not plane for row in rows for _, plane in row))
        for row, entries in enumerate(rows):
            for column, (kind, plane) in enumerate(entries):
                view = PlaneView(kind, plane or self.plane.currentText())
                view.moved.connect(self._go)
                view.windowed.connect(self.window_chosen)
                self.grid.addWidget(view, row, column)
                self._views.append(view)
        self.refresh()

    def _follow(self, event: Any = None) -> None:
        """Put the cross hair where the viewer is."""
        if self._closed:
            return
        at = self._index()
        for view in self._views:
            view.show_sight(self._sight if at is not None else None, at or (0.0, 0.0, 0.0))

    def _index(self) -> tuple[float, float, float] | None:
        layer = outputs.find(self.model.viewer, outputs.PICTURE)
        if layer is None or self._sight is None or layer.ndim != 3:
            return None
        point = np.asarray(self.model.viewer.dims.point)[-3:]
        index = np.clip(layer.world_to_data(point), 0, np.array(self._sight.shape) - 1)
        return float(index[0]), float(index[1]), float(index[2])

    def _go(self, index: tuple[float, float, float]) -> None:
        layer = outputs.find(self.model.viewer, outputs.PICTURE)
        if layer is not None:
            views.set_point(self.model.viewer, layer, index)
            self.model.viewer.cursor.position = tuple(self.model.viewer.dims.point)
