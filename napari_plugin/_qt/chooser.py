"""Asks which images of a folder are meant, and which frame of a time series."""

from __future__ import annotations

import threading

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QApplication,
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QHeaderView,
    QMainWindow,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_plugin._qt.fields import small
from napari_plugin.picking import MEAN, Item, Pick, first_guess

WHAT = (
    "Tick the images that you want to open. Of a time series one frame is read, counted from 0, "
    "or the mean of all frames."
)


class Chooser(QDialog):
    """A table of images with a box and, for time series, a frame."""

    def __init__(self, items: list[Item], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Choose images")
        self.items = items
        self.table = QTableWidget(len(items), 2)
        self.table.setHorizontalHeaderLabels(["Series", "Frame"])
        self.table.setAccessibleName("Images that can be opened")
        self.table.setToolTip("Space ticks an image.")
        self.table.verticalHeader().setVisible(False)
        self.table.setTabKeyNavigation(False)  # the Tab key goes on to the next widget
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(1, QHeaderView.ResizeMode.ResizeToContents)
        ticked, self.frames = first_guess(items), {}
        for row, item in enumerate(items):
            self._fill(row, item, item in ticked)
        self.buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Open | QDialogButtonBox.StandardButton.Cancel
        )
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        self.table.itemChanged.connect(self._allow)
        box = QVBoxLayout(self)
        for widget in (small(WHAT), self.table, self.buttons):
            box.addWidget(widget)
        self.resize(560, 360)
        self._allow()

    def _fill(self, row: int, item: Item, is_ticked: bool) -> None:
        cell = QTableWidgetItem(item.title)
        cell.setCheckState(Qt.CheckState.Checked if is_ticked else Qt.CheckState.Unchecked)
        flags = Qt.ItemFlag.ItemIsUserCheckable | Qt.ItemFlag.ItemIsSelectable
        enabled = Qt.ItemFlag.ItemIsEnabled if not item.problem else Qt.ItemFlag.NoItemFlags
        cell.setFlags((flags if not item.problem else Qt.ItemFlag.NoItemFlags) | enabled)
        cell.setToolTip(item.problem or item.title)
        self.table.setItem(row, 0, cell)
        if item.frames > 1 and not item.problem:
            combo = QComboBox()
            combo.addItems([MEAN, *(str(n) for n in range(item.frames))])
            combo.setAccessibleName(f"Frame of {item.title}")
            combo.setToolTip(f"{item.frames} frames; the mean is unweighted.")
            self.frames[row] = combo
            self.table.setCellWidget(row, 1, combo)

    def picks(self) -> list[Pick]:
        """What is ticked."""
        return [
            Pick(item, self._frame(row))
            for row, item in enumerate(self.items)
            if self.table.item(row, 0).checkState() == Qt.CheckState.Checked
        ]

    def _frame(self, row: int) -> int | str | None:
        combo = self.frames.get(row)
        if combo is None:
            return None
        text = combo.currentText()
        return MEAN if text == MEAN else int(text)

    def _allow(self, *_: object) -> None:
        button = self.buttons.button(QDialogButtonBox.StandardButton.Open)
        button.setEnabled(bool(self.picks()))


def ask(items: list[Item], parent: QWidget | None = None) -> list[Pick]:
    """Ask a person; nothing where the question was cancelled."""
    dialog = Chooser(items, parent)
    return dialog.picks() if dialog.exec() == QDialog.DialogCode.Accepted else []


def can_ask() -> bool:
    """Whether a window is open in this thread in which somebody can answer."""
    application = QApplication.instance()
    if application is None or threading.current_thread() is not threading.main_thread():
        return False
    windows = QApplication.topLevelWidgets()
    return any(isinstance(window, QMainWindow) and window.isVisible() for window in windows)
