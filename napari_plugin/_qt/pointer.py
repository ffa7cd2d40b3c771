"""The line about what lies under the cursor, in the panel and in napari's status bar."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QLabel

from napari_plugin.model import FusionModel

NO_VALUES = "Move the mouse over the fused image to read values."


class Pointer:
    """Follows the cursor of a viewer.

    Parameters
    ----------
    model : FusionModel
    label : QLabel
        Where the values are said in the panel.
    """

    def __init__(self, model: FusionModel, label: QLabel) -> None:
        self.model, self.viewer, self.label = model, model.viewer, label
        self.viewer.cursor.events.position.connect(self.refresh)
        self.viewer.events.status.connect(self._on_status)
        model.fusion_changed.connect(self.refresh)
        model.result_changed.connect(self.refresh)

    def refresh(self, event: Any = None) -> None:
        """Say the values under the cursor."""
        line = self.model.read_out(self.viewer.cursor.position)
        self.label.setText(line or NO_VALUES)
        self._show_status(line)

    def close(self) -> None:
        """Let go of the viewer."""
        self.viewer.cursor.events.position.disconnect(self.refresh)
        self.viewer.events.status.disconnect(self._on_status)

    def _on_status(self, event: Any) -> None:
        """Put our line into napari's status bar, which napari fills from its own thread."""
        self._show_status(self.model.read_out(self.viewer.cursor.position))

    def _show_status(self, line: str) -> None:
        if line and self.viewer.status != line:
            self.viewer.status = line
