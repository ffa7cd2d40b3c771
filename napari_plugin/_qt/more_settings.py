"""All settings that have no widget elsewhere, as a form that is made from their declaration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from medfuse.settings import CaseSettings, label_of, names_in, option_of
from napari_plugin._qt.fields import small
from napari_plugin._qt.setting_widgets import (
    choice,
    label,
    show_text,
    show_tick,
    spaced,
    tick,
)
from napari_plugin.model import FusionModel
from napari_plugin.settings import GROUPS, MORE, MORE_TITLE, choices_of, tip_of

CLOSED, OPENED = f"\u25b8 &{MORE_TITLE}", f"\u25be &{MORE_TITLE}"
WHEN = {
    "Reading": "For images that are opened from now on",
    "Registration": "For the next registration",
    "Fusion": "For the next fusion",
    "Output": "For the next export",
}
#: What stands for no choice, where that is not called by the declaration.
NOTHING = {"gamut": "by color map", "dicom": "no"}
_LARGEST_SEED = 2**31 - 1


class MoreSettings(QWidget):
    """A form that is closed until it is wanted.

    Signals
    -------
    look_changed ()
        A setting of the fusion was changed, so the picture is another one.
    """

    look_changed = Signal()

    def __init__(self, model: FusionModel) -> None:
        super().__init__()
        self.model = model
        self._widgets: dict[str, Any] = {}
        self.toggle = QToolButton()
        self.toggle.setText(CLOSED)
        self.toggle.setCheckable(True)
        self.toggle.setToolTip("Everything else that can be set of reading, registration, fusion "
                               "and export.")  # fmt: skip
        self.page = QWidget()
        box = QVBoxLayout(self)
        box.setContentsMargins(6, 0, 6, 0)
        box.addWidget(self.toggle)
        box.addWidget(self.page)
        self.page.setVisible(False)
        self.toggle.toggled.connect(self._on_toggled)

    @property
    def widgets(self) -> dict[str, Any]:
        """The widget of each setting by its name."""
        self._fill()
        return self._widgets

    def follow(self) -> None:
        """Show what is set."""
        for name, widget in self._widgets.items():
            value = getattr(self.model.settings, name)
            if isinstance(widget, QComboBox):
                show_text(widget, NOTHING.get(name, "") if value is None else value)
            elif isinstance(widget, PathField):
                widget.show_path(value)
            elif isinstance(widget, QSpinBox):
                widget.blockSignals(True)
                widget.setValue(value)
                widget.blockSignals(False)
            else:
                show_tick(widget, value)

    def _fill(self) -> None:
        """Make the form when it is first wanted: the panel opens sooner."""
        if self._widgets:
            return
        form = spaced(QFormLayout(self.page))
        form.setContentsMargins(0, 4, 0, 0)
        for group in GROUPS:
            form.addRow(_heading(WHEN[group]))
            for name in names_in((group,)):
                if name in MORE:
                    self._add(form, name)
        before: QWidget = self.toggle
        for widget in self.page.findChildren(QWidget):  # else the Tab key reaches them last
            by_tab = widget.focusPolicy() & Qt.FocusPolicy.TabFocus and not widget.focusProxy()
            if by_tab and widget.window() is self.window():  # no list of a combo box
                QWidget.setTabOrder(before, widget)
                before = widget
        self.follow()

    def _add(self, form: QFormLayout, name: str) -> None:
        widget: Any
        if isinstance(CaseSettings.model_fields[name].default, bool):
            widget = tick(name)
            widget.toggled.connect(lambda on: self._set(name, on))
            form.addRow(widget)
        elif option_of(name).is_path:
            widget = PathField(name)
            widget.changed.connect(lambda: self._set(name, widget.path))
            form.addRow(label(name, widget.browse), widget)
        elif choices_of(name):
            nothing = NOTHING.get(name)
            names = ([nothing] if nothing else []) + list(choices_of(name))
            widget = choice(name, dict.fromkeys(names, tip_of(name)))
            widget.currentTextChanged.connect(
                lambda text: self._set(name, None if text == nothing else text)
            )
            form.addRow(label(name, widget), widget)
        else:
            widget = _number(name)
            widget.valueChanged.connect(lambda value: self._set(name, value))
            form.addRow(label(name, widget), widget)
        self._widgets[name] = widget

    def _set(self, name: str, value: Any) -> None:
        self.model.choose(**{name: value})
        if option_of(name).group == "Fusion":
            self.look_changed.emit()

    def _on_toggled(self, is_open: bool) -> None:
        self.toggle.setText(OPENED if is_open else CLOSED)
        if is_open:
            self._fill()
        self.page.setVisible(is_open)


class PathField(QWidget):
    """The name of a file that was chosen, and buttons that choose it or leave it out."""

    changed = Signal()

    def __init__(self, name: str) -> None:
        super().__init__()
        self.path: str | None = None
        self._title = label_of(name)
        self.text = small()
        self.browse = QPushButton("File...")
        self.browse.setAccessibleName(f"File of: {self._title}")
        self.browse.setToolTip(tip_of(name))
        self.clear = QPushButton("None")
        self.clear.setAccessibleName(f"No {self._title.lower()}")
        self.clear.setToolTip(f"Go on without: {self._title.lower()}.")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.text, 1)
        row.addWidget(self.browse)
        row.addWidget(self.clear)
        self.browse.clicked.connect(self._ask)
        self.clear.clicked.connect(lambda: self.choose(None))
        self.show_path(None)

    def show_path(self, path: str | None) -> None:
        """Show a file without a signal."""
        self.path = path
        self.text.setText("none" if path is None else Path(path).name)
        self.clear.setEnabled(path is not None)

    def choose(self, path: str | None) -> None:
        """Take a file, or none."""
        self.show_path(path)
        self.changed.emit()

    def _ask(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, self._title)
        if path:
            self.choose(path)


def _number(name: str) -> QSpinBox:
    box = QSpinBox()
    box.setRange(0, _LARGEST_SEED)
    box.setAccessibleName(label_of(name))
    box.setToolTip(tip_of(name))
    return box


def _heading(text: str) -> QLabel:
    heading = QLabel(text)
    heading.setStyleSheet("font-weight: bold;")
    return heading
