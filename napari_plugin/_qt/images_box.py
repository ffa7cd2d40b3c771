"""Which images are fused: the first box of the Fuse tab."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QGroupBox, QHBoxLayout, QPushButton

from napari_plugin._qt.layer_field import LayerField
from napari_plugin._qt.setting_widgets import group_form
from napari_plugin.model import FusionModel


class ImagesBox(QGroupBox):
    """Both layers, what they say of themselves, and where they come from.

    Signals
    -------
    chosen ()
        Another pair.
    """

    chosen = Signal()

    def __init__(self, model: FusionModel) -> None:
        super().__init__("1  Images")
        self.model = model
        form = group_form(self)
        self.anatomical = LayerField(
            "anatomical", "MRI (or CT for PET-CT). The result has its grid and its detail."
        )
        self.functional = LayerField(
            "functional", "PET, SPECT, or CT for CT-MRI. It gives the color."
        )
        self.open = QPushButton("&Open...")
        self.open.setToolTip("Open a DICOM folder or a NIfTI file; or drop it on this panel.")
        self.swap = QPushButton("Swap")
        self.swap.setToolTip("Exchange the anatomical and the functional layer.")
        self.save = QPushButton("Save...")
        self.save.setToolTip("Save the session: images, statements, settings and view, as a file "
                             "that Open... and a drop on this panel read again.")  # fmt: skip
        row = QHBoxLayout()
        row.setSpacing(6)
        for button in (self.open, self.swap, self.save):
            row.addWidget(button)
        for name, field in (("Anatomical", self.anatomical), ("Functional", self.functional)):
            form.addRow(name, field.combo)
            form.addRow(field)
        form.addRow("", row)
        self.swap.clicked.connect(self._on_swap)
        for role, field in (("anatomical", self.anatomical), ("functional", self.functional)):
            field.chosen.connect(lambda layer, role=role: self._on_chosen(role, layer))
            field.stated.connect(lambda layer, said: self.model.state(layer, **said))

    @property
    def layers(self) -> tuple[Any | None, Any | None]:
        """The anatomical and the functional layer that are chosen."""
        return self.model.anatomical, self.model.functional

    @property
    def is_ready(self) -> bool:
        """Whether both are chosen and say all that has to be known."""
        return None not in self.layers and not any(map(self.model.missing, self.layers))

    def refresh(self) -> None:
        """Show layers and what is missing."""
        candidates = self.model.candidates()
        for field, layer in zip((self.anatomical, self.functional), self.layers, strict=True):
            field.show_layers(candidates, layer)
            field.show_facts(layer, self.model.missing(layer))
        self.swap.setEnabled(None not in self.layers)

    def _on_chosen(self, role: str, layer: Any) -> None:
        setattr(self.model, role, layer)
        self.chosen.emit()

    def _on_swap(self) -> None:
        self.model.anatomical, self.model.functional = self.model.functional, self.model.anatomical
        self.chosen.emit()
