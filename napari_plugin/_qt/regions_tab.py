"""The third tab: regions at the cross hair, painted, or from files, and their numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QComboBox,
    QDoubleSpinBox,
    QGridLayout,
    QHBoxLayout,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from medfuse.measurement.region import Space
from medfuse.results.folder import write_through
from napari_plugin._qt.fields import narrow, small
from napari_plugin.model import FusionModel
from napari_plugin.regions import THRESHOLDS, Measured, as_csv, cells

HOW = (
    "Put the cross hair on a place and press a button, or drop a mask, RTSTRUCT or SEG here. "
    "Numbers are of the functional image as it was acquired, not of its resampled copy."
)
DRAWN_ON: dict[str, Space | None] = {
    "Drawn on: as the file says": None,
    "Drawn on: anatomical": "anatomical",
    "Drawn on: functional": "functional",
}


class RegionsTab(QWidget):
    """Buttons that make regions, and their table.

    Signals
    -------
    wanted (str, object)
        "sphere" with a radius in mm, "isocontour" with a threshold, "painted" or "layer" with
        None, "file" with None, "files" with paths, "remove" with row numbers.
    renamed (int, str)
        A row has another name.
    save_clicked ()
        The table is to be written.
    """

    wanted = Signal(str, object)
    renamed = Signal(int, str)
    save_clicked = Signal()

    def __init__(self, model: FusionModel) -> None:
        super().__init__()
        self.model = model
        self.found: Measured | None = None
        self.headline = small("Nothing was fused yet.")
        self.headline.setAccessibleName("What the regions are of")
        self.radius = QDoubleSpinBox()
        self.radius.setRange(1.0, 100.0)
        self.radius.setValue(10.0)
        self.radius.setDecimals(1)
        self.radius.setSuffix(" mm")
        self.radius.setAccessibleName("Radius of the sphere")
        self.radius.setToolTip("Radius of the sphere.")
        self.threshold = QComboBox()
        self.threshold.setEditable(True)
        self.threshold.addItems(THRESHOLDS)
        self.threshold.setAccessibleName("Threshold of the isocontour")
        self.threshold.setToolTip(
            "A part of the local maximum, such as 41 %, or a value in the unit of the image."
        )
        self.drawn_on = narrow(QComboBox())
        for text, space in DRAWN_ON.items():
            self.drawn_on.addItem(text, space)
        self.drawn_on.setAccessibleName("Drawn on")
        self.drawn_on.setToolTip("On which image a mask was drawn, where its file does not tell.")
        self.sphere = _button("Sphe&re", "A ball about the cross hair.")
        self.isocontour = _button(
            "Is&ocontour", "All voxels about the maximum uphill of the cross hair that are as hot."
        )
        self.new = _button("New labels layer", "A layer on the anatomical grid to paint into.")
        self.painted = _button("Painted la&bels", "Measure each label of the selected layer.")
        self.file = _button("File...", "NIfTI mask or label map, DICOM RTSTRUCT or SEG.")
        self.remove = _button("Re&move", "Remove the selected rows.")
        self.copy = _button("Copy", "Copy all columns, separated by tabs.")
        self.save = _button("Save table...", "Write all columns as .csv or .tsv.")
        self.table = QTableWidget(0, 0)
        self.table.setAccessibleName("Numbers of the regions")
        self.table.setToolTip("A click goes to the region. Double-click a name to change it.")
        self.table.verticalHeader().setVisible(False)
        self.table.setTabKeyNavigation(False)  # the Tab key goes on to the next widget
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setMinimumHeight(160)
        self.remark = small(lines=2)
        self.found_box = QWidget()  # hidden as long as there is no region: no dead space
        self._lay_out()
        self._connect()
        self.refresh()

    def _lay_out(self) -> None:
        grid = QGridLayout()
        for row, widgets in enumerate(
            (
                (self.sphere, self.radius),
                (self.isocontour, self.threshold),
                (self.painted, self.new),
                (self.file, self.drawn_on),
            )
        ):
            for column, widget in enumerate(widgets):
                grid.addWidget(widget, row, column)
        last = QHBoxLayout()
        for button in (self.remove, self.copy, self.save):
            last.addWidget(button)
        box = QVBoxLayout(self)
        box.setContentsMargins(4, 4, 4, 4)
        box.addWidget(self.headline)
        box.addLayout(grid)
        box.addWidget(small(HOW))
        box.addWidget(self.found_box, 1)
        box.addStretch()
        inner = QVBoxLayout(self.found_box)
        inner.setContentsMargins(0, 0, 0, 0)
        for widget in (self.table, self.remark):
            inner.addWidget(widget)
        inner.addLayout(last)

    def _connect(self) -> None:
        ask = self.wanted.emit
        self.sphere.clicked.connect(lambda: ask("sphere", self.radius.value()))
        self.isocontour.clicked.connect(lambda: ask("isocontour", self.threshold.currentText()))
        self.new.clicked.connect(lambda: ask("layer", None))
        self.painted.clicked.connect(lambda: ask("painted", None))
        self.file.clicked.connect(lambda: ask("file", None))
        self.remove.clicked.connect(lambda: ask("remove", self._selected()))
        self.copy.clicked.connect(self._copy)
        self.save.clicked.connect(self.save_clicked)
        self.table.itemSelectionChanged.connect(self._explain)
        self.table.itemChanged.connect(self._on_name)
        self.model.fusion_changed.connect(self.refresh)
        self.model.result_changed.connect(self.refresh)

    def show_measured(self, found: Measured | None) -> None:
        """Show the numbers of regions."""
        self.found = found
        heads, rows = cells(found) if found is not None else ([], [])
        self.table.blockSignals(True)
        self.table.setColumnCount(len(heads))
        self.table.setHorizontalHeaderLabels(heads)
        self.table.setRowCount(len(rows))
        for number, row in enumerate(rows):
            for column, text in enumerate(row):
                item = QTableWidgetItem(text)
                if column:
                    item.setFlags(item.flags() & ~Qt.ItemFlag.ItemIsEditable)
                self.table.setItem(number, column, item)
        self.table.resizeColumnsToContents()
        self.table.blockSignals(False)
        self.refresh()
        self._explain()

    def refresh(self) -> None:
        """Say of what the numbers are."""
        result, found = self.model.result, self.found
        can = result is not None and not result.fusion.opened
        self.setAcceptDrops(can)
        for button in (self.sphere, self.isocontour, self.new, self.painted, self.file):
            button.setEnabled(can)
        has_rows = found is not None and len(found.table) > 0
        self.found_box.setVisible(has_rows)
        for button in (self.remove, self.copy, self.save):
            button.setEnabled(has_rows)
        self.headline.setText(self._headline())

    def _headline(self) -> str:
        result, found = self.model.result, self.found
        if result is None:
            return "Nothing was fused yet."
        if result.fusion.opened:
            return "Open both images and press Fuse to measure regions."
        if found is None or not len(found.table):
            return result.headed("no regions yet.") if result.why else "No regions yet."
        unit = found.table[0].unit
        text = f"{found.fusion.pair.words[0]} in {unit}"
        if found.fusion is not result.fusion:
            return f"Of an earlier run: {text}; being measured again."
        return result.headed(text)

    def dragEnterEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Take files: here they are regions, elsewhere on the panel images."""
        if event.mimeData().hasUrls():
            event.acceptProposedAction()

    def dropEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Measure the regions of what was dropped."""
        paths = [Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()]
        self.wanted.emit("files", paths)
        event.acceptProposedAction()

    def _selected(self) -> list[int]:
        return sorted({index.row() for index in self.table.selectedIndexes()})

    def _explain(self) -> None:
        rows = self._selected()
        row = self.found.table[rows[0]] if self.found is not None and rows else None
        if row is None:
            self.remark.setText("")
            return
        spans = [
            f"{name} {low:.3g} to {high:.3g}"
            for name, low, high in (
                ("mean", row.mean_low, row.mean_high),
                ("peak", row.peak_low, row.peak_high),
            )
            if low is not None and high is not None
        ]
        moved = f"Moved within the expected error: {', '.join(spans)}. " if spans else ""
        self.remark.setText(f"{row.region}: {row.kind}. {moved}{row.remark or ''}".strip())

    def _on_name(self, item: Any) -> None:
        if item.column() == 0:
            self.renamed.emit(item.row(), item.text())

    def _copy(self) -> None:
        if self.found is not None:
            QApplication.clipboard().setText(self.found.table.to_tsv())

    def write(self, path: Path) -> None:
        """Write the table by the ending of the name; a .tsv with the meaning of its columns.

        Raises
        ------
        OSError, OutputError
            It cannot be written.
        """
        if self.found is None:
            return
        if path.suffix.lower() == ".tsv":
            self.found.table.write(path)
        else:
            write_through(path, as_csv(self.found.table).encode())


def _button(text: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    button.setEnabled(False)
    return button
