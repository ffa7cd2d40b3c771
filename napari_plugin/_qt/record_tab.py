"""The fourth tab: what was done, as text; copy, save, export, open."""

from __future__ import annotations

import json
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtGui import QFontDatabase
from qtpy.QtWidgets import (
    QApplication,
    QGridLayout,
    QPlainTextEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from medfuse.errors import NOTICE
from napari_plugin._qt.fields import small
from napari_plugin.model import FusionModel
from napari_plugin.records import Fusion

EXPORT = "Write volumes, transform, audit, provenance and report into a new folder."
SAVE = "Save this text as a JSON file."


class RecordTab(QWidget):
    """Provenance of the last fusion."""

    save_clicked = Signal()
    export_clicked = Signal()
    report_clicked = Signal()

    def __init__(self, model: FusionModel) -> None:
        super().__init__()
        self.model = model
        self.text = QPlainTextEdit("Nothing was fused yet.")
        self.text.setReadOnly(True)
        self.text.setTabChangesFocus(True)
        self.text.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        self.text.setAccessibleName("Provenance")
        self.text.setMinimumHeight(260)
        self.text.setToolTip("What was done, to what, with what. Holds no patient data.")
        self.copy = self._button("C&opy", "Copy this text.")
        self.save = self._button("Save text...", SAVE)
        self.export = self._button("E&xport result folder...", EXPORT)
        self.report = self._button("Open &report", "Open the report of the last export.")
        grid = QGridLayout()
        grid.addWidget(self.copy, 0, 0)
        grid.addWidget(self.save, 0, 1)
        grid.addWidget(self.export, 1, 0, 1, 2)
        grid.addWidget(self.report, 2, 0, 1, 2)
        self.exported = small()
        box = QVBoxLayout(self)
        box.setContentsMargins(4, 4, 4, 4)
        self.headline = small("What was done")
        box.addWidget(self.headline)
        box.addWidget(self.text, 1)
        box.addLayout(grid)
        box.addWidget(self.exported)
        box.addWidget(small(NOTICE))
        self.copy.clicked.connect(lambda: QApplication.clipboard().setText(self.text.toPlainText()))
        self.save.clicked.connect(self.save_clicked)
        self.export.clicked.connect(self.export_clicked)
        self.report.clicked.connect(self.report_clicked)
        # By token: a fusion that is held here would stay in memory with all its volumes.
        self._regions: tuple[str, list[dict[str, Any]]] | None = None
        self._written: tuple[str, str, str] | None = None
        for button in (self.copy, self.save, self.export, self.report):
            button.setEnabled(False)
        model.fusion_changed.connect(self.refresh)
        model.result_changed.connect(self._follow)

    def refresh(self) -> None:
        """Show the record of the last fusion."""
        fusion = self.model.fusion
        if fusion is None:
            return
        self.text.setPlainText(self.record(fusion))
        for button in (self.copy, self.save, self.export):
            button.setEnabled(True)
        self._follow()

    def show_regions(self, fusion: Fusion, rows: list[dict[str, Any]]) -> None:
        """Put the numbers of regions into the record of the fusion that they are of."""
        self._regions = (fusion.token, rows)
        self.refresh()

    def record(self, fusion: Fusion) -> str:
        """Provenance of a fusion, with its regions."""
        if self._regions is None or self._regions[0] != fusion.token or not self._regions[1]:
            return fusion.record
        rows = [
            {key: value for key, value in row.items() if value is not None}
            for row in self._regions[1]
        ]
        text = json.dumps(rows, indent=2, ensure_ascii=False).replace("\n", "\n  ")
        return f'{fusion.record.rstrip().removesuffix("}").rstrip()},\n  "regions": {text}\n}}'

    def show_written(self, name: str, fusion: Fusion) -> None:
        """Say which folder was written, and of what."""
        self._written = (name, fusion.token, fusion.pair.title)
        self.report.setEnabled(True)
        self._follow()

    def _follow(self) -> None:
        """Say of what the record is, and the folder that was written last."""
        result = self.model.result
        if result is None:
            return
        self.headline.setText(result.headed("what was done") if result.why else "What was done")
        ask = " Asks first: it is not the result of what is chosen." if result.why else ""
        self.export.setToolTip(f"{EXPORT}{ask}")
        self.save.setToolTip(f"{SAVE}{ask}")
        if self._written is None:
            return
        name, token, title = self._written
        is_this = token == result.fusion.token and result.is_current
        of = "" if is_this else f" (of an earlier result: {title})"
        self.exported.setText(f"Written: {name}{of}")
        self.report.setToolTip(f"Open the report of {name}{of}.")

    @staticmethod
    def _button(text: str, tip: str) -> QPushButton:
        button = QPushButton(text)
        button.setToolTip(tip)
        return button
