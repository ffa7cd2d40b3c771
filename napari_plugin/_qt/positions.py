"""The list of positions from which one can be taken, and the switch of the error map."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QHBoxLayout, QLabel, QWidget

from medfuse.registration.result import Registration
from medfuse.settings import label_of, option_of
from napari_plugin._qt.fields import narrow
from napari_plugin.model import FusionModel
from napari_plugin.outputs import EXPECTED_ERROR
from napari_plugin.positions import AS_FOUND, entries


class PositionsBox(QWidget):
    """Positions that the registration considered, with their numbers.

    Signals
    -------
    chosen ()
        Another position was taken: the pair has to be measured there.
    view_changed (str, bool)
        The map of the expected error was switched.
    """

    chosen = Signal()
    view_changed = Signal(str, bool)

    def __init__(self, model: FusionModel) -> None:
        super().__init__()
        self.model = model
        self._mapped: Registration | None = None
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(6)
        self.positions = narrow(QComboBox())
        self.positions.setAccessibleName(label_of("choose"))
        # No higher than the button beside it: all of the tab is to be seen without scrolling.
        self.positions.setStyleSheet("min-height: 18px; padding: 0px 6px;")
        label = QLabel(label_of("choose"))
        for widget in (label, self.positions):
            widget.setToolTip(option_of("choose").help)
        self.error_map = QCheckBox("Error map")
        self.error_map.setToolTip("How far off the registration may be in nine cases of ten, in "
                                  "mm, as color over the images.")  # fmt: skip
        row.addWidget(label)
        row.addWidget(self.positions, 1)
        row.addWidget(self.error_map)
        self.positions.activated.connect(self._on_chosen)
        self.error_map.toggled.connect(self._on_map)
        model.registration_changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Follow the model: what can be taken, and whether there is a map."""
        found, taken = self.model.registration, self.model.settings.choose or AS_FOUND
        known = entries(found)
        if found is None and taken != AS_FOUND:
            return  # it is being measured there
        self.positions.clear()
        for entry in known:
            self.positions.addItem(entry.text, entry.name)
            last = self.positions.count() - 1
            self.positions.setItemData(last, entry.text, Qt.ItemDataRole.ToolTipRole)
        self.positions.setCurrentIndex(max(0, self.positions.findData(taken)))
        self.positions.setEnabled(len(known) > 1)
        has_map = found is not None and found.expected is not None
        self.error_map.setEnabled(has_map)
        if not has_map:
            self.error_map.setChecked(False)
        elif self.error_map.isChecked() and found is not self._mapped:
            self._on_map(True)

    def _on_map(self, on: bool) -> None:
        self._mapped = self.model.registration if on else None
        self.view_changed.emit(EXPECTED_ERROR, on)

    def _on_chosen(self, index: int) -> None:
        name = self.positions.itemData(index)
        wanted = None if name == AS_FOUND else name
        if wanted != self.model.settings.choose:
            self.model.choose(choose=wanted)
            self.chosen.emit()
