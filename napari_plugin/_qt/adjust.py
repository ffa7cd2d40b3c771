"""Looking at the alignment and moving it by hand."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QPushButton,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_plugin._qt.fields import NumberSlider
from napari_plugin._qt.positions import PositionsBox
from napari_plugin.looking import BEFORE
from napari_plugin.model import FusionModel
from napari_plugin.outputs import CHECKER, EDGES, EXPECTED_ERROR

CLOSED, OPENED = "\u25b8 Adjust by hand", "\u25be Adjust by hand"
SHIFTS = {"Left": "to the patient's left", "Posterior": "to the back", "Inferior": "to the feet"}
TURNS = {"Pitch": "about the left-right axis", "Roll": "about the front-back axis",
         "Yaw": "about the head-feet axis"}  # fmt: skip


class AdjustBox(QWidget):
    """Before/after, checkerboard, edges, and sliders that move the functional image.

    Signals
    -------
    nudged ()
        The registration of the model was changed by hand.
    view_changed (str, bool)
        "before", "checkerboard" or "edges" was switched.
    """

    nudged = Signal()
    view_changed = Signal(str, bool)

    def __init__(self, model: FusionModel) -> None:
        super().__init__()
        self.model = model
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        checks = QGridLayout()
        self.before = self._check(BEFORE, "&Before", "Show the functional image where the file "
                                  "has it, without registration.")  # fmt: skip
        self.checker = self._check(CHECKER, "Chec&kerboard", "Both images in turns: "
                                   "structures must run on across the fields.")  # fmt: skip
        self.edges = self._check(EDGES, "Ed&ges", "Strong edges of the functional image over "
                                 "the picture.")  # fmt: skip
        self.checks = {BEFORE: self.before, CHECKER: self.checker, EDGES: self.edges}
        for column, check in enumerate(self.checks.values()):
            checks.addWidget(check, 0, column)
        self.toggle = QToolButton()
        self.toggle.setText(CLOSED)
        self.toggle.setCheckable(True)
        self.toggle.setToolTip("Sliders that move the functional image in steps of 0.5 mm and "
                               "0.5 degrees.")  # fmt: skip
        self.sliders = self._sliders()
        self.sliders.setVisible(False)
        self.toggle.toggled.connect(self._on_toggled)
        box.addLayout(checks)
        row = QHBoxLayout()
        row.setSpacing(6)
        self.positions = PositionsBox(model)
        row.addWidget(self.toggle)
        row.addWidget(self.positions, 1)
        box.addLayout(row)
        box.addWidget(self.sliders)

    def refresh(self) -> None:
        """Follow the model: what can be looked at, and sliders back to 0 for a new base."""
        is_registered = self.model.registration is not None
        for check in (self.checker, self.edges):
            check.setEnabled(self.model.fusion is not None and is_registered)
        self.before.setEnabled(is_registered)
        error_map = self.positions.error_map
        for view, check in {**self.checks, EXPECTED_ERROR: error_map}.items():
            check.blockSignals(True)
            check.setChecked(self.model.is_on(view))
            check.blockSignals(False)
        self.toggle.setEnabled(is_registered)
        shift, turn = self.model.nudged
        for slider, value in zip((*self.shifts, *self.turns), (*shift, *turn), strict=True):
            if abs(slider.value - value) > 1e-9:
                slider.reset()
                slider.value = value

    def _check(self, view: str, text: str, tip: str) -> QCheckBox:
        check = QCheckBox(text)
        check.setToolTip(tip)
        check.toggled.connect(lambda on: self.view_changed.emit(view, on))
        return check

    def _sliders(self) -> QWidget:
        widget = QWidget()
        form = QFormLayout(widget)
        form.setContentsMargins(0, 0, 0, 0)
        self.shifts = [NumberSlider(n, 30.0, 0.5, "mm", f"Move {t}.") for n, t in SHIFTS.items()]
        self.turns = [NumberSlider(n, 20.0, 0.5, "deg", f"Turn {t}.") for n, t in TURNS.items()]
        for name, slider in zip((*SHIFTS, *TURNS), (*self.shifts, *self.turns), strict=True):
            form.addRow(name, slider)
            slider.changed.connect(self._on_moved)
        self.reset = QPushButton("Back to the registration")
        self.reset.setToolTip("Undo all adjustments by hand.")
        self.reset.clicked.connect(self._on_reset)
        form.addRow(self.reset)
        return widget

    def _on_toggled(self, is_open: bool) -> None:
        self.toggle.setText(OPENED if is_open else CLOSED)
        self.sliders.setVisible(is_open)

    def _on_moved(self, _: float) -> None:
        shift = tuple(slider.value for slider in self.shifts)
        turn = tuple(slider.value for slider in self.turns)
        if self.model.nudge(shift, turn):
            self.nudged.emit()

    def _on_reset(self) -> None:
        for slider in (*self.shifts, *self.turns):
            slider.reset()
        self._on_moved(0.0)
