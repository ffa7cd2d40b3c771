"""What is known of a layer that is chosen, and the questions about the rest."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QPushButton,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from medfuse.settings import label_of
from napari_plugin._qt.fields import narrow, small
from napari_plugin.frames import frames_of
from napari_plugin.layers import facts
from napari_plugin.picking import MEAN
from napari_plugin.settings import choices_of

ASK = "please state"


class LayerField(QWidget):
    """What is known of a layer, which ``combo`` chooses; asks what the layer does not say.

    Signals
    -------
    chosen (object)
        The layer.
    stated (object, dict)
        The layer and what the user says about it.
    frame_chosen (object, object)
        The layer, and a frame of it or "mean".
    suv_clicked (object)
        The layer whose SUV is wanted.
    """

    chosen = Signal(object)
    stated = Signal(object, dict)
    frame_chosen = Signal(object, object)
    suv_clicked = Signal(object)

    def __init__(self, role: str, tip: str) -> None:
        super().__init__()
        self._layers: list[Any] = []
        self.combo = narrow(QComboBox())
        self.combo.setAccessibleName(f"{role} layer")
        self.combo.setToolTip(tip)
        self.combo.activated.connect(self._on_chosen)
        self.facts = small()
        self.facts.setAccessibleName(f"Facts about the {role} layer")
        self.questions = QWidget()
        form = QFormLayout(self.questions)
        form.setContentsMargins(0, 0, 0, 0)
        modality, unit = f"{role}_modality", "functional_unit"
        self.modality = self._question("modality", choices_of(modality), "What made this image?")
        self.unit = self._question(
            "unit", choices_of(unit), "Unit of the voxel values; a.u. is no unit."
        )
        self.correct = QToolButton()
        self.correct.setText("Correct...")
        self.correct.setToolTip("State modality or unit, where the file says nothing or is wrong.")
        self.correct.setCheckable(True)
        self.correct.toggled.connect(self._show_questions)
        self.frame = narrow(QComboBox())
        self.frame.setAccessibleName("frame")
        self.frame.setToolTip("Which frame of the time series; it becomes a layer of its own.")
        self.frame.activated.connect(self._on_frame)
        self.suv = QPushButton("SUV from dose and weight...")
        self.suv.setToolTip("Bring values in Bq/ml to SUVbw by numbers that you state.")
        self.suv.clicked.connect(lambda: self.suv_clicked.emit(self._current()))
        self.is_mm = QCheckBox("The layer's scale is in mm")
        self.is_mm.setToolTip("Tick if scale and translate of this layer are millimetres.")
        self.is_mm.toggled.connect(self._on_mm)
        form.addRow(label_of(modality), self.modality)
        # The command line asks for the unit of the functional image alone.
        form.addRow(label_of(unit) if unit.startswith(role) else "Unit", self.unit)
        form.addRow(self.is_mm)
        form.addRow("Frame", self.frame)
        form.addRow(self.suv)
        self._form = form
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        head = QHBoxLayout()
        head.addWidget(self.facts, 1)
        head.addWidget(self.correct, 0, Qt.AlignmentFlag.AlignTop)
        box.addLayout(head)
        box.addWidget(self.questions)
        self._layer: Any | None = None
        self._missing: tuple[str, ...] = ()

    def show_layers(self, layers: list[Any], current: Any | None) -> None:
        """Fill the list and mark the chosen layer."""
        self._layers = layers
        self.combo.blockSignals(True)
        self.combo.clear()
        for layer in layers:
            self.combo.addItem(layer.name)
        self.combo.setCurrentIndex(layers.index(current) if current in layers else -1)
        self.combo.setPlaceholderText("no image open" if not layers else "choose a layer")
        self.combo.blockSignals(False)

    def show_facts(self, layer: Any | None, missing: tuple[str, ...]) -> None:
        """Say what is known of the layer, and ask for the rest."""
        self.facts.setText(describe_layer(layer) if layer is not None else "")
        self.correct.setEnabled(layer is not None)
        if layer is not self._layer:
            self.correct.setChecked(False)
        self._layer, self._missing = layer, missing
        self._show_questions()
        known = facts(layer) if layer is not None else {}
        for combo, name in ((self.modality, "modality"), (self.unit, "unit")):
            combo.setCurrentIndex(max(0, combo.findText(str(known.get(name)))))
        self.frame.clear()
        if layer is not None and frames_of(layer) > 1:
            self.frame.addItems([ASK, MEAN, *(str(n) for n in range(frames_of(layer)))])
        self.is_mm.blockSignals(True)
        self.is_mm.setChecked(False)
        self.is_mm.blockSignals(False)

    def _show_questions(self, _: bool = False) -> None:
        """What is missing, and on demand what may be corrected."""
        colored = self._layer is not None and self._layer.rgb
        open_ = ("modality", *(() if colored else ("unit",))) if self.correct.isChecked() else ()
        shown = {*self._missing, *open_}
        if open_ and self._layer is not None and facts(self._layer).get("unit") == "Bq/ml":
            shown.add("suv")
        self.questions.setVisible(bool(shown))
        asked = {"modality": self.modality, "unit": self.unit, "voxel size in mm": self.is_mm}
        asked |= {"frame": self.frame, "suv": self.suv}
        for word, widget in asked.items():
            self._form.setRowVisible(widget, word in shown)

    def _question(self, word: str, choices: tuple[str, ...], tip: str) -> QComboBox:
        combo = narrow(QComboBox())
        combo.addItems([ASK, *choices])
        combo.setToolTip(tip)
        combo.setAccessibleName(word)
        combo.activated.connect(lambda index: self._on_stated(word, combo.itemText(index)))
        return combo

    def _current(self) -> Any | None:
        index = self.combo.currentIndex()
        return self._layers[index] if 0 <= index < len(self._layers) else None

    def _on_chosen(self, index: int) -> None:
        self.chosen.emit(self._layers[index])

    def _on_stated(self, word: str, text: str) -> None:
        if text != ASK and self._current() is not None:
            self.stated.emit(self._current(), {word: text})

    def _on_frame(self, index: int) -> None:
        text = self.frame.itemText(index)
        if text != ASK and self._current() is not None:
            self.frame_chosen.emit(self._current(), MEAN if text == MEAN else int(text))

    def _on_mm(self, ticked: bool) -> None:
        if ticked and self._current() is not None:
            self.stated.emit(self._current(), {"scale_is_mm": True})


def describe_layer(layer: Any) -> str:
    """One line: modality, unit, voxel size, number of voxels."""
    meta = facts(layer)
    shape = layer.data[0].shape if layer.multiscale else layer.data.shape
    size = "×".join(str(n) for n in shape[: layer.ndim])
    parts = [meta.get("modality") or "modality unknown"]
    parts.append("colour" if layer.rgb else meta.get("unit") or "unit unknown")
    parts.append(size)
    if "spacing" in meta:
        steps = (f"{s:.2f}".rstrip("0").rstrip(".") for s in meta["spacing"])
        parts.append(f"{'×'.join(steps)} mm")
    return " · ".join(parts)
