"""Small fields of the panel: a layer with its questions, a window, a slider with its number."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QEvent, QSize, Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QMenu,
    QScrollArea,
    QSizePolicy,
    QSlider,
    QToolButton,
    QWidget,
)

from napari_plugin.presets import Preset


class WrappedLabel(QLabel):
    """Text that may be narrow and is never cut off: it claims the height that it needs."""

    def __init__(self, text: str = "") -> None:
        super().__init__(text)
        self.setWordWrap(True)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.lines = 1
        self._claimed: tuple[object, ...] = ()

    def setText(self, text: str) -> None:  # noqa: N802 - Qt's name
        """Show a text."""
        super().setText(text)
        self._claim()

    def event(self, event: QEvent) -> bool:
        """Another width, font or theme needs another height."""
        done = super().event(event)
        if event.type() in (
            QEvent.Type.Resize,
            QEvent.Type.Show,
            QEvent.Type.FontChange,
            QEvent.Type.StyleChange,
            QEvent.Type.Polish,
        ):
            self._claim()
        return done

    def _claim(self) -> None:
        asked = (self.text(), self.width(), self.font().key(), self.lines)
        if asked == self._claimed:  # a new height is a new layout of the whole panel
            return
        self._claimed = asked
        least = self.lines * self.fontMetrics().lineSpacing()
        self.setMinimumHeight(0)  # else heightForWidth never gives less than before
        self.setMinimumHeight(max(least, self.heightForWidth(self.width())))


def small(text: str = "", *, lines: int = 1) -> WrappedLabel:
    """A wrapped label with room for so many lines at least."""
    label = WrappedLabel(text)
    label.lines = lines
    return label


def narrow(combo: QComboBox) -> QComboBox:
    """Let a combo box shrink below its longest entry."""
    combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    combo.setMinimumContentsLength(4)
    combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return combo


class Scroller(QScrollArea):
    """Scrolls up and down only; never narrower than its content, so that nothing is cut off."""

    def __init__(self, widget: QWidget) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidget(widget)
        widget.installEventFilter(self)

    def eventFilter(self, watched: Any, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """Follow the content, whose size changes with napari's theme and with questions."""
        if watched is self.widget() and event.type() in (
            QEvent.Type.LayoutRequest,
            QEvent.Type.Resize,
            QEvent.Type.Show,
        ):
            bar = self.verticalScrollBar().sizeHint().width()
            self.setMinimumWidth(watched.minimumSizeHint().width() + bar)
        return super().eventFilter(watched, event)


class NumberBox(QDoubleSpinBox):
    """A spin box as wide as a usual number, not as its longest possible one."""

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Room for six digits."""
        width = self.fontMetrics().horizontalAdvance("000000") + 12
        return QSize(width, super().sizeHint().height())

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """The same."""
        return self.sizeHint()


class WindowField(QWidget):
    """Low and high value of a display window, with its unit; automatic until it is edited."""

    changed = Signal()

    def __init__(self, role: str) -> None:
        super().__init__()
        self.auto = QCheckBox("auto")
        self.auto.setChecked(True)
        self.auto.setToolTip("Choose the window by modality and unit, as the command line does.")
        self.auto.setAccessibleName(f"Automatic {role} window")
        self.low, self.high = (
            self._number(f"Low end of the {role} window"),
            self._number(f"High end of the {role} window"),
        )
        self.unit = QLabel("")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        self.presets = QToolButton()
        self.presets.setText("\u25be")
        self.presets.setToolTip(f"Windows that readers know by name, for the {role} image.")
        self.presets.setAccessibleName(f"Presets of the {role} window")
        self.presets.setStyleSheet("QToolButton::menu-indicator { image: none; }")
        self.presets.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.presets.setMenu(QMenu(self.presets))
        self.presets.setEnabled(False)
        for widget in (self.low, QLabel("-"), self.high, self.unit, self.presets, self.auto):
            row.addWidget(widget)
        row.setStretch(0, 1)
        row.setStretch(2, 1)
        self.auto.toggled.connect(lambda _: self.changed.emit())

    @property
    def value(self) -> tuple[float, float] | None:
        """(low, high), or None for the automatic window."""
        return None if self.auto.isChecked() else (self.low.value(), self.high.value())

    def show_window(self, low: float, high: float, unit: str, rule: str) -> None:
        """Show a window that was chosen automatically; an edited one is kept."""
        self.unit.setText(unit)
        if not self.auto.isChecked():
            return
        step = max((high - low) / 50, 1e-6)
        for box, number in ((self.low, low), (self.high, high)):
            box.blockSignals(True)
            box.setDecimals(2 if high - low < 100 else 0)
            box.setSingleStep(step)
            box.setValue(number)
            box.setToolTip(f"Automatic: {rule}")
            box.blockSignals(False)

    def offer(self, presets: list[Preset]) -> None:
        """Offer the windows that fit the image."""
        menu = self.presets.menu()
        menu.clear()
        for preset in presets:
            action = menu.addAction(preset.name)
            action.triggered.connect(
                lambda _=False, preset=preset: self.choose(preset.low, preset.high)
            )
        self.presets.setEnabled(bool(presets))

    def choose(self, low: float, high: float) -> None:
        """Take a window, as if it was typed."""
        digits = 2 if high - low < 100 else 0
        for box, number in ((self.low, low), (self.high, high)):
            box.blockSignals(True)
            box.setDecimals(digits)
            box.setValue(number)
            box.blockSignals(False)
        self._on_edited(low)

    def follow(self, window: tuple[float, float] | None) -> None:
        """Show a window that was chosen elsewhere; None is the automatic one."""
        for box in (self.auto, self.low, self.high):
            box.blockSignals(True)
        self.auto.setChecked(window is None)
        if window is not None:
            self.low.setValue(window[0])
            self.high.setValue(window[1])
        for box in (self.auto, self.low, self.high):
            box.blockSignals(False)

    def forget(self) -> None:
        """Show no window, because none is known of what is chosen."""
        self.setEnabled(False)
        self.unit.setText("")
        self.auto.setChecked(True)
        for box in (self.low, self.high):
            box.blockSignals(True)
            box.setValue(0.0)
            box.setToolTip("Known once both images are chosen.")
            box.blockSignals(False)

    def _number(self, name: str) -> NumberBox:
        box = NumberBox()
        box.setRange(-1e9, 1e9)
        box.setKeyboardTracking(False)
        box.setAccessibleName(name)
        box.setToolTip(f"{name}; editing it switches auto off.")
        box.setButtonSymbols(QDoubleSpinBox.ButtonSymbols.NoButtons)
        box.setStyleSheet("min-width: 44px; padding: 1px 4px;")  # napari's own wastes a narrow row
        box.valueChanged.connect(self._on_edited)
        return box

    def _on_edited(self, _: float) -> None:
        self.auto.blockSignals(True)
        self.auto.setChecked(False)
        self.auto.blockSignals(False)
        self.changed.emit()


class NumberSlider(QWidget):
    """A slider with its value beside it; double-click on the number sets it back to 0."""

    changed = Signal(float)

    def __init__(self, name: str, limit: float, step: float, unit: str, tip: str) -> None:
        super().__init__()
        self._step, self._unit = step, unit
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(-round(limit / step), round(limit / step))
        self.slider.setAccessibleName(name)
        self.slider.setToolTip(tip)
        self.slider.setMinimumWidth(60)
        self.label = QLabel()
        self.label.setMinimumWidth(62)
        self.label.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.slider, 1)
        row.addWidget(self.label)
        self.slider.valueChanged.connect(self._on_moved)
        self._say()

    @property
    def value(self) -> float:
        """The number."""
        return self.slider.value() * self._step

    @value.setter
    def value(self, number: float) -> None:
        self.slider.setValue(round(number / self._step))

    def reset(self) -> None:
        """Back to 0 without a signal."""
        self.show_value(0.0)

    def show_value(self, number: float) -> None:
        """Show a number without a signal."""
        self.slider.blockSignals(True)
        self.value = number
        self.slider.blockSignals(False)
        self._say()

    def _on_moved(self, _: int) -> None:
        self._say()
        self.changed.emit(self.value)

    def _say(self) -> None:
        digits = 0 if self._step >= 1 else 1 if self._step >= 0.1 else 2
        self.label.setText(f"{self.value:+.{digits}f} {self._unit}".strip())
