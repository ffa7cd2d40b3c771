"""Chooses what the registration must get right: a labels layer, or a structure of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QLineEdit, QWidget

from medfuse.settings import label_of, split_region
from napari_plugin._qt.fields import narrow
from napari_plugin.model import FusionModel
from napari_plugin.settings import tip_of

WHOLE, FILE = "whole image", "File..."
KINDS = "Masks (*.nii *.nii.gz *.dcm *.DCM);;All files (*)"


class RegionField(QWidget):
    """A list of labels layers and a file; beside it the name of a structure of the file."""

    def __init__(self, model: FusionModel) -> None:
        super().__init__()
        self.model = model
        self._layers: list[Any] = []
        self.combo = narrow(QComboBox())
        self.combo.setAccessibleName(label_of("region"))
        self.combo.setToolTip(tip_of("region"))
        self.structure = QLineEdit()
        self.structure.setAccessibleName("Structure of the file")
        self.structure.setPlaceholderText("Structure")
        self.structure.setToolTip("Name or number of the structure, where the file has several.")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(6)
        row.addWidget(self.combo, 3)
        row.addWidget(self.structure, 2)
        self.combo.activated.connect(self._on_chosen)
        self.structure.editingFinished.connect(self._on_named)
        self.follow()

    def follow(self) -> None:
        """Show what is chosen, and which layers there are."""
        self._layers = self.model.must_fit.candidates()
        name, path = split_region(self.model.settings.region or "")
        entries = [WHOLE, *(layer.name for layer in self._layers)]
        entries += [Path(path).name] if path else []
        self.combo.clear()
        self.combo.addItems([*entries, FILE])
        for index, text in enumerate(entries):
            self.combo.setItemData(index, text, Qt.ItemDataRole.ToolTipRole)
        layer = self.model.must_fit.layer
        chosen = self._layers.index(layer) + 1 if layer in self._layers else 0
        self.combo.setCurrentIndex(len(entries) - 1 if path and layer is None else chosen)
        self.structure.setVisible(bool(path) and layer is None)
        self.structure.setText(name or "")

    def choose_file(self, path: str, name: str = "") -> None:
        """Take a file, or one structure of it."""
        self.model.choose(region=f"{name}={path}" if name else path)
        self.follow()

    def _on_chosen(self, index: int) -> None:
        if self.combo.itemText(index) == FILE and index == self.combo.count() - 1:
            path, _ = QFileDialog.getOpenFileName(self, label_of("region"), "", KINDS)
            if path:
                self.choose_file(path)
        elif index <= len(self._layers):
            self.model.choose_region(self._layers[index - 1] if index else None)
        self.follow()

    def _on_named(self) -> None:
        name, path = split_region(self.model.settings.region or "")
        given = self.structure.text().strip()
        if path and given != (name or ""):
            self.choose_file(path, given)
