"""Windows, color, method and emphasis: the third and the fourth box of the Fuse tab."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QFormLayout, QGroupBox, QHBoxLayout, QLabel, QWidget

from medfuse.kernel.colormaps import COLORMAPS
from medfuse.methods.registry import list_methods
from medfuse.settings import label_of, option_of
from napari_plugin._qt.fields import NumberSlider, WindowField, small
from napari_plugin._qt.setting_widgets import choice, group_form, label, show_text
from napari_plugin.cards import is_painter, method_card
from napari_plugin.colors import explain
from napari_plugin.model import FusionModel

AUTO_COLORMAP = "auto"
EMPHASIS = (
    f"{option_of('bias').help} The slice follows at once, blended by itself; the volume a moment "
    "later. Recorded in the provenance."
)
NO_EMPHASIS = "{} paints the luminance itself: there are no weights that could be shifted."


class LookBox(QGroupBox):
    """Display windows and color map.

    Signals
    -------
    changed ()
        Something that a preview can show.
    """

    changed = Signal()

    def __init__(self, model: FusionModel) -> None:
        super().__init__("3  Windows and color")
        self.model = model
        form = group_form(self)
        form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.DontWrapRows)
        self.window_field = WindowField("functional")
        self.anatomical_window = WindowField("anatomical")
        self.colormap = choice(
            "colormap",
            {AUTO_COLORMAP: "glow for PET and SPECT; for CT bone over an MRI, else gray"}
            | {name: explain(name) for name in COLORMAPS},
        )
        self.text = small()
        form.addRow(label("window"), self.window_field)
        form.addRow(label("anatomical_window"), self.anatomical_window)
        form.addRow(label("colormap", self.colormap), self.colormap)
        form.addRow(self.text)
        self.window_field.changed.connect(self._on_changed)
        self.anatomical_window.changed.connect(self._on_changed)
        self.colormap.currentTextChanged.connect(self._on_changed)

    def follow(self) -> None:
        """Show settings that were changed by something else than these widgets."""
        chosen = self.model.settings
        show_text(self.colormap, chosen.colormap or AUTO_COLORMAP)
        self.window_field.follow(chosen.window)
        self.anatomical_window.follow(chosen.anatomical_window)

    def reset_windows(self) -> None:
        """Numbers that were typed for one image mean nothing for another."""
        for field in (self.window_field, self.anatomical_window):
            field.auto.setChecked(True)

    def explain(self) -> None:
        """Say what can be read back from the colors."""
        functional = self.model.functional
        if functional is not None and functional.rgb:
            self.text.setText("The functional layer has its own colors; they are kept.")
        else:
            self.text.setText(explain(self.model.colormap()))

    def _on_changed(self, *_: Any) -> None:
        name = self.colormap.currentText()
        self.model.choose(
            window=self.window_field.value,
            anatomical_window=self.anatomical_window.value,
            colormap=None if name == AUTO_COLORMAP else name,
        )
        self.explain()
        self.changed.emit()


class MethodBox(QGroupBox):
    """Fusion method; ``emphasis`` stands elsewhere, where no scrolling hides it.

    Signals
    -------
    changed ()
        Something that a preview can show.
    """

    changed = Signal()

    def __init__(self, model: FusionModel) -> None:
        super().__init__("4  Fusion")
        self.model = model
        form = group_form(self)
        cards = {name: method_card(name, summary) for name, summary in list_methods()}
        self.method, self.mode = choice("method", cards), choice("mode")
        row = QHBoxLayout()
        row.setSpacing(6)
        row.addWidget(self.method, 3)
        row.addWidget(label("mode", self.mode))
        row.addWidget(self.mode, 2)
        form.addRow(label("method", self.method), row)
        self.bias = NumberSlider(label_of("bias"), 1.0, 0.05, "", EMPHASIS)
        self.emphasis = QWidget()
        ends = QHBoxLayout(self.emphasis)
        ends.setContentsMargins(0, 0, 0, 0)
        self.low, self.high = QLabel("PET"), QLabel("MRI")
        for widget in (label("bias", self.bias.slider), self.low, self.bias, self.high):
            ends.addWidget(widget, int(widget is self.bias))
        self.method.currentTextChanged.connect(self._on_method)
        self.mode.currentTextChanged.connect(lambda text: self.model.choose(mode=text))
        self.bias.changed.connect(self._on_bias)

    def follow(self) -> None:
        """Show settings that were changed by something else than these widgets."""
        chosen = self.model.settings
        show_text(self.method, chosen.method)
        show_text(self.mode, chosen.mode)
        self._show_method()
        self.bias.show_value(chosen.bias)

    def name_ends(self) -> None:
        """Call the ends of the emphasis after the chosen images."""
        self.low.setText(self.model.word(self.model.functional) or "functional")
        self.high.setText(self.model.word(self.model.anatomical) or "anatomical")

    def _on_method(self, name: str) -> None:
        if not self._show_method():
            self.bias.reset()
        self.model.choose(method=name, bias=self.bias.value)
        self.changed.emit()

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
        self.changed.emit()
