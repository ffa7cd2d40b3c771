"""Asks for dose, weight, nuclide and time, from which SUV is computed."""

from __future__ import annotations

from qtpy.QtWidgets import (
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QDoubleSpinBox,
    QFormLayout,
    QWidget,
)

from napari_plugin._qt.fields import small
from napari_plugin.dose import NUCLIDES, Injection

TO_SCAN, TO_INJECTION = "the start of the scan", "the injection"


class InjectionDialog(QDialog):
    """What is known of an injection; `injection` is the answer."""

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(f"SUV of {name}")
        self.dose = _number(0.0, 50_000.0, "MBq", "Injected dose at the time of the injection.")
        self.weight = _number(0.0, 400.0, "kg", "Body weight at the time of the scan.")
        self.nuclide = QComboBox()
        self.nuclide.addItems(NUCLIDES)
        self.nuclide.setToolTip("Its half-life gives the decay.")
        self.to = QComboBox()
        self.to.addItems([TO_SCAN, TO_INJECTION])
        self.to.setToolTip("The time to which the scanner has corrected the voxels for decay.")
        self.minutes = _number(0.0, 6000.0, "min", "From the injection to the start of the scan.")
        form = QFormLayout(self)
        form.addRow(small("The values are in Bq/ml. The record says that you stated these."))
        rows = {
            "Injected dose": self.dose,
            "Body weight": self.weight,
            "Nuclide": self.nuclide,
            "Decay corrected to": self.to,
            "Injection to scan": self.minutes,
        }
        for label, widget in rows.items():
            widget.setAccessibleName(label)
            form.addRow(label, widget)
        buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel
        )
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        self.to.currentTextChanged.connect(lambda to: self.minutes.setEnabled(to == TO_SCAN))
        form.addRow(buttons)
        self.resize(380, self.sizeHint().height())

    @property
    def injection(self) -> Injection:
        """The answer."""
        minutes = self.minutes.value() if self.to.currentText() == TO_SCAN else None
        return Injection(
            self.dose.value(), self.weight.value(), self.nuclide.currentText(), minutes
        )


def ask_injection(name: str, parent: QWidget | None = None) -> Injection | None:
    """Ask a person; None where the question was cancelled."""
    dialog = InjectionDialog(name, parent)
    return dialog.injection if dialog.exec() == QDialog.DialogCode.Accepted else None


def _number(low: float, high: float, unit: str, tip: str) -> QDoubleSpinBox:
    box = QDoubleSpinBox()
    box.setRange(low, high)
    box.setDecimals(1)
    box.setSuffix(f" {unit}")
    box.setToolTip(tip)
    return box
