"""Default windows of the chosen images, presets, and windows that are dragged."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QObject, QTimer

from napari_plugin._qt.fields import WindowField
from napari_plugin._qt.fuse_tab import FuseTab
from napari_plugin._qt.runner import REST_MS, JobRunner
from napari_plugin.jobs import Done, Outcome
from napari_plugin.layers import facts
from napari_plugin.model import FusionModel
from napari_plugin.presets import dragged, presets_for


class Windows(QObject):
    """Keeps the window fields of a tab true of the layers that are chosen.

    Parameters
    ----------
    model : FusionModel
    tab : FuseTab
    """

    def __init__(self, model: FusionModel, tab: FuseTab) -> None:
        super().__init__(tab)
        self.model, self.tab = model, tab
        self.runner = JobRunner(self)
        self._is_stale = False
        self.runner.ended.connect(self._on_ended)

    @property
    def fields(self) -> tuple[WindowField, WindowField]:
        """Of the functional and of the anatomical image."""
        return self.tab.window_field, self.tab.anatomical_window

    def find(self) -> None:
        """Default windows of what is chosen; a search for another pair is done again."""
        self._offer_presets()
        if self.runner.is_busy:
            self._is_stale = True
            return
        try:
            job, key = self.model.windows_job(), self.model.pair_key()
        except Exception:  # said when the user presses Fuse
            self._forget()
            return
        self.runner.start(job, lambda windows: self._show(windows, key))

    def drag(self, is_anatomical: bool, right: float, down: float) -> None:
        """Change a window as the mouse says."""
        field = self.fields[int(is_anatomical)]
        if field.isEnabled():
            field.choose(*dragged((field.low.value(), field.high.value()), right, down))

    def _offer_presets(self) -> None:
        layers = (self.model.functional, self.model.anatomical)
        for field, layer in zip(self.fields, layers, strict=True):
            meta = facts(layer) if layer is not None else {}
            field.offer(presets_for(str(meta.get("modality")), str(meta.get("unit"))))

    def _forget(self) -> None:
        for field in self.fields:
            field.forget()

    def _show(self, windows: Any, key: Any) -> None:
        if self._is_stale or key != self.model.pair_key():
            self._is_stale = True
            return
        for field, window in zip(self.fields, windows, strict=True):
            field.setEnabled(window is not None)
            if window is not None:
                field.show_window(window.low, window.high, window.unit, window.rule)

    def _on_ended(self, outcome: Outcome) -> None:
        if not isinstance(outcome, Done):
            self._forget()
        if self._is_stale:
            self._is_stale = False
            QTimer.singleShot(REST_MS, self.find)
