"""Widgets of single settings, made from their declaration: label, tip, choices."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QGroupBox, QLabel, QWidget

from medfuse.settings import label_of
from napari_plugin._qt.fields import narrow
from napari_plugin.settings import choices_of, tip_of


def group_form(group: QGroupBox) -> QFormLayout:
    """The rows of one of the numbered boxes."""
    form = QFormLayout(group)
    form.setContentsMargins(6, 5, 6, 4)
    return spaced(form)


def spaced(form: QFormLayout) -> QFormLayout:
    """Rows that may be narrow: what does not fit goes below its label."""
    form.setVerticalSpacing(5)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
    return form


def label(name: str, widget: QWidget | None = None) -> QLabel:
    """What stands beside the widget of a setting."""
    made = QLabel(label_of(name))
    made.setToolTip(tip_of(name))
    if widget is not None:
        made.setBuddy(widget)
    return made


def tick(name: str) -> QCheckBox:
    """A setting that is on or off."""
    box = QCheckBox(label_of(name))
    box.setToolTip(tip_of(name))
    return box


def choice(name: str, choices: dict[str, str] | None = None) -> QComboBox:
    """What may be chosen for a setting, by default as its type says; each entry with its tip."""
    tip = tip_of(name)
    combo = narrow(QComboBox())
    for text, about in (choices or dict.fromkeys(choices_of(name), tip)).items():
        combo.addItem(text)
        combo.setItemData(combo.count() - 1, about, Qt.ItemDataRole.ToolTipRole)
    combo.setAccessibleName(label_of(name))
    combo.setToolTip(tip)
    return combo


def show_text(combo: QComboBox, text: str) -> None:
    """Show an entry without a signal; one that is not there is added."""
    combo.blockSignals(True)
    if combo.findText(text) < 0:
        combo.addItem(text)
    combo.setCurrentText(text)
    combo.blockSignals(False)


def show_tick(box: Any, on: bool) -> None:
    """Show whether something is on, without a signal."""
    box.blockSignals(True)
    box.setChecked(on)
    box.blockSignals(False)
