"""The first tab: images, alignment, look, fusion."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from medfuse.kernel.colormaps import COLORMAPS
from medfuse.methods.registry import list_methods
from medfuse.settings import label_of, option_of
from napari_plugin._qt.adjust import AdjustBox
from napari_plugin._qt.fields import NumberSlider, WindowField, narrow, small
from napari_plugin._qt.layer_field import LayerField
from napari_plugin.cards import is_painter, method_card
from napari_plugin.colors import explain
from napari_plugin.model import FusionModel
from napari_plugin.settings import choices_of

AUTO_COLORMAP = "auto"
EMPHASIS = (
    f"{option_of('bias').help} The slice follows at once, blended by itself; the volume a moment "
    "later. Recorded in the provenance."
)
NOT_ACCEPTED = "no"
ACCEPTED = {
    "roles": "The modalities are meant as they are chosen.",
    "same-image": "One image is meant to be both.",
}
#: Errors that the user can answer by a statement about the pair.
_ABOUT_PAIR = ("E_ROLES", "E_SAME_IMAGE", "E_MIXED_PATIENT")
NO_EMPHASIS = "{} paints the luminance itself: there are no weights that could be shifted."


class FuseTab(QWidget):
    """Fields for a :class:`FusionModel`.

    The panel shows ``emphasis`` beside its button, where no scrolling hides it.

    Signals
    -------
    open_clicked, register_clicked ()
        The panel does it.
    windows_stale ()
        Other layers were chosen: default windows have to be found.
    look_changed ()
        Something that a preview can show.
    frame_chosen (object, object), suv_clicked (object)
        Of a layer; the panel does it.
    """

    open_clicked = Signal()
    register_clicked = Signal()
    windows_stale = Signal()
    look_changed = Signal()
    frame_chosen = Signal(object, object)
    suv_clicked = Signal(object)

    def __init__(self, model: FusionModel) -> None:
        super().__init__()
        self.model = model
        box = QVBoxLayout(self)
        box.setContentsMargins(4, 4, 4, 4)
        for group in (self._images(), self._align(), self._look(), self._guide()):
            box.addWidget(group)
        box.addStretch(1)
        model.layers_changed.connect(self.refresh)
        model.registration_changed.connect(self._show_registration)
        model.settings_changed.connect(self.follow)
        self.follow()

    # -- construction ------------------------------------------------------------------------

    def _images(self) -> QGroupBox:
        group = QGroupBox("1  Images")
        form = _form(group)
        self.anatomical = LayerField(
            "anatomical", "MRI (or CT for PET-CT). The result has its grid and its detail."
        )
        self.functional = LayerField(
            "functional", "PET, SPECT, or CT for CT-MRI. It gives the colour."
        )
        self.open = QPushButton("&Open...")
        self.open.setToolTip("Open a DICOM folder or a NIfTI file; or drop it on this panel.")
        self.swap = QPushButton("&Swap")
        self.swap.setToolTip("Exchange the anatomical and the functional layer.")
        row = QHBoxLayout()
        row.setSpacing(6)
        row.addWidget(self.open)
        row.addWidget(self.swap)
        self.save = QPushButton("Sa&ve...")
        self.save.setToolTip("Save the session: images, statements, settings and view, as a file "
                             "that Open... and a drop on this panel read again.")  # fmt: skip
        row.addWidget(self.save)
        for name, field in (("Anatomical", self.anatomical), ("Functional", self.functional)):
            form.addRow(name, field.combo)
            form.addRow(field)
        form.addRow("", row)
        self.open.clicked.connect(self.open_clicked)
        self.swap.clicked.connect(self._on_swap)
        for role, field in (("anatomical", self.anatomical), ("functional", self.functional)):
            field.chosen.connect(lambda layer, role=role: self._on_chosen(role, layer))
            field.stated.connect(self._on_stated)
            field.frame_chosen.connect(self.frame_chosen)
            field.suv_clicked.connect(self.suv_clicked)
        return group

    def _align(self) -> QGroupBox:
        group = QGroupBox("2  Alignment")
        form = _form(group)
        self.registration = _choice("registration")
        self.register = QPushButton("&Register")
        self.register.setToolTip("Align now. Fuse does it by itself where it was not done.")
        row = QHBoxLayout()
        row.setSpacing(6)
        row.addWidget(self.registration, 1)
        row.addWidget(self.register)
        self.registration_text = small()
        self.registration_text.setAccessibleName("Registration result")
        self.accept, self.mismatch = _tick("accept_suspect"), _tick("allow_patient_mismatch")
        self.accept_pair = _choice("accept_pair", {NOT_ACCEPTED: "", **ACCEPTED})
        self.accept_label = _label("accept_pair")
        self.adjust = AdjustBox(self.model)
        self.positions = self.adjust.positions
        form.addRow(_label("registration"), row)
        form.addRow(self.registration_text)
        form.addRow(self.accept)
        form.addRow(self.mismatch)
        form.addRow(self.accept_label, self.accept_pair)
        form.addRow(self.adjust)
        self.accept.setVisible(False)
        self.mismatch.setVisible(False)
        self._forget_statements()
        self.registration.currentTextChanged.connect(
            lambda text: self.model.choose(registration=text)
        )
        self.register.clicked.connect(self.register_clicked)
        self.accept.toggled.connect(lambda on: self.model.choose(accept_suspect=on))
        self.mismatch.toggled.connect(lambda on: self.model.choose(allow_patient_mismatch=on))
        self.accept_pair.currentTextChanged.connect(
            lambda text: self.model.choose(accept_pair=None if text == NOT_ACCEPTED else text)
        )
        return group

    def _look(self) -> QGroupBox:
        group = QGroupBox("3  Windows and colour")
        form = _form(group)
        form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.DontWrapRows)
        self.window_field = WindowField("functional")
        self.anatomical_window = WindowField("anatomical")
        self.colormap = _choice(
            "colormap",
            {AUTO_COLORMAP: "grey for CT, else ember"}
            | {name: explain(name) for name in COLORMAPS},
        )
        self.colormap_text = small()
        form.addRow(_label("window"), self.window_field)
        form.addRow(_label("anatomical_window"), self.anatomical_window)
        form.addRow(_label("colormap"), self.colormap)
        form.addRow(self.colormap_text)
        self.window_field.changed.connect(self._on_look)
        self.anatomical_window.changed.connect(self._on_look)
        self.colormap.currentTextChanged.connect(self._on_look)
        return group

    def _guide(self) -> QGroupBox:
        group = QGroupBox("4  Fusion")
        form = _form(group)
        cards = {name: method_card(name, summary) for name, summary in list_methods()}
        self.method = _choice("method", cards)
        self.mode = _choice("mode")
        self.bias = NumberSlider(label_of("bias"), 1.0, 0.05, "", EMPHASIS)
        form.addRow(_label("method"), self.method)
        form.addRow(_label("mode"), self.mode)
        self.emphasis = QWidget()
        ends = QHBoxLayout(self.emphasis)
        ends.setContentsMargins(0, 0, 0, 0)
        self.bias_low, self.bias_high = QLabel("PET"), QLabel("MRI")
        ends.addWidget(_label("bias"))
        ends.addWidget(self.bias_low)
        ends.addWidget(self.bias, 1)
        ends.addWidget(self.bias_high)
        self.method.currentTextChanged.connect(self._on_method)
        self.mode.currentTextChanged.connect(lambda text: self.model.choose(mode=text))
        self.bias.changed.connect(self._on_bias)
        return group

    # -- from the model ----------------------------------------------------------------------

    def refresh(self) -> None:
        """Show layers and what is missing."""
        layers = self.model.candidates()
        chosen = (self.model.anatomical, self.model.functional)
        for field, layer in zip((self.anatomical, self.functional), chosen, strict=True):
            field.show_layers(layers, layer)
            field.show_facts(layer, self.model.missing(layer))
        ready = None not in chosen and not any(self.model.missing(layer) for layer in chosen)
        self.register.setEnabled(ready)
        self.swap.setEnabled(None not in chosen)
        self._show_statements()
        for label, layer, word in (
            (self.bias_low, chosen[1], "functional"),
            (self.bias_high, chosen[0], "anatomical"),
        ):
            label.setText(self.model.word(layer) or word)
        self._say_colours()
        self.windows_stale.emit()

    def _show_registration(self) -> None:
        text, suspect = self.model.registration_text()
        self.registration_text.setText(text)
        self.registration_text.setStyleSheet("color: #e0574f;" if suspect else "")
        self.accept.setVisible(suspect)
        if not suspect:
            self.accept.setChecked(False)
        self.adjust.refresh()

    def follow(self) -> None:
        """Show settings that were changed by something else than these widgets."""
        chosen = self.model.settings
        values: dict[Any, str] = {
            self.registration: chosen.registration,
            self.mode: chosen.mode,
            self.method: chosen.method,
            self.colormap: chosen.colormap or AUTO_COLORMAP,
            self.accept_pair: chosen.accept_pair or NOT_ACCEPTED,
        }
        for combo, text in values.items():
            combo.blockSignals(True)
            if combo.findText(text) < 0:
                combo.addItem(text)
            combo.setCurrentText(text)
            combo.blockSignals(False)
        for tick, on in ((self.accept, chosen.accept_suspect),
                         (self.mismatch, chosen.allow_patient_mismatch)):  # fmt: skip
            tick.blockSignals(True)
            tick.setChecked(on)
            tick.blockSignals(False)
        self._show_method()
        self.bias.show_value(chosen.bias)
        self.window_field.follow(chosen.window)
        self.anatomical_window.follow(chosen.anatomical_window)
        self.refresh()
        self._show_registration()

    # -- from the user -----------------------------------------------------------------------

    def ask_about(self, code: str) -> None:
        """Offer to state that a pair is meant, once it was refused."""
        self._refused = self._refused or code in _ABOUT_PAIR
        self._show_statements()

    def _show_statements(self) -> None:
        """What can be stated of the pair, where there is something to state."""
        differ = self.model.patients_differ()
        self.mismatch.setVisible(differ)
        for widget in (self.accept_label, self.accept_pair):
            widget.setVisible(differ or self._refused)

    def _forget_statements(self) -> None:
        """What was stated of one pair is not stated of another."""
        self.accept_pair.setCurrentText(NOT_ACCEPTED)
        self.mismatch.setChecked(False)
        self.model.choose(choose=None)
        self.positions.refresh()
        self._refused = False
        self._show_statements()

    def _on_chosen(self, role: str, layer: Any) -> None:
        setattr(self.model, role, layer)
        self._forget_statements()
        self._reset_windows()
        self.refresh()
        self._show_registration()

    def _on_swap(self) -> None:
        self.model.anatomical, self.model.functional = self.model.functional, self.model.anatomical
        self._forget_statements()
        self._reset_windows()
        self.refresh()
        self._show_registration()

    def _reset_windows(self) -> None:
        """Numbers that were typed for one image mean nothing for another."""
        for field in (self.window_field, self.anatomical_window):
            field.auto.setChecked(True)

    def _on_stated(self, layer: Any, said: dict[str, Any]) -> None:
        self.model.state(layer, **said)

    def _on_look(self, *_: Any) -> None:
        name = self.colormap.currentText()
        self.model.choose(
            window=self.window_field.value,
            anatomical_window=self.anatomical_window.value,
            colormap=None if name == AUTO_COLORMAP else name,
        )
        self._say_colours()
        self.look_changed.emit()

    def _on_method(self, name: str) -> None:
        if not self._show_method():
            self.bias.reset()
        self.model.choose(method=name, bias=self.bias.value)
        self.look_changed.emit()

    def _show_method(self) -> bool:
        """Tell of the method; whether it has weights that the emphasis can shift."""
        name = self.method.currentText()
        tip = self.method.itemData(self.method.currentIndex(), Qt.ItemDataRole.ToolTipRole)
        self.method.setToolTip(tip or "")
        has_weights = not is_painter(name)
        self.emphasis.setEnabled(has_weights)
        self.emphasis.setToolTip("" if has_weights else NO_EMPHASIS.format(name))
        self.bias.slider.setToolTip(EMPHASIS if has_weights else NO_EMPHASIS.format(name))
        return has_weights

    def _on_bias(self, value: float) -> None:
        self.model.choose(bias=value)
        self.look_changed.emit()

    def _say_colours(self) -> None:
        if self.model.functional is not None and self.model.functional.rgb:
            self.colormap_text.setText("The functional layer has its own colours; they are kept.")
        else:
            self.colormap_text.setText(explain(self.model.colormap()))


def _form(group: QGroupBox) -> QFormLayout:
    form = QFormLayout(group)
    form.setContentsMargins(6, 8, 6, 6)
    form.setVerticalSpacing(5)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
    return form


def _label(name: str) -> QLabel:
    """What stands beside the widget of a setting."""
    label = QLabel(label_of(name))
    label.setToolTip(option_of(name).help)
    return label


def _tick(name: str) -> QCheckBox:
    """A setting that is on or off."""
    box = QCheckBox(label_of(name))
    box.setToolTip(option_of(name).help)
    return box


def _choice(name: str, choices: dict[str, str] | None = None) -> QComboBox:
    """What may be chosen for a setting, by default as its type says; each entry with its tip."""
    tip = option_of(name).help
    combo = narrow(QComboBox())
    for text, about in (choices or dict.fromkeys(choices_of(name), tip)).items():
        combo.addItem(text)
        combo.setItemData(combo.count() - 1, about, Qt.ItemDataRole.ToolTipRole)
    combo.setAccessibleName(label_of(name))
    combo.setToolTip(tip)
    return combo
