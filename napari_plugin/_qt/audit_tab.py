"""The second tab: is the picture faithful? A table, a plain explanation, two plots."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.figure import Figure
from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtGui import QBrush, QColor
from qtpy.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QHeaderView,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_plugin._qt.fields import small
from napari_plugin.audit_rows import Row, rows_of
from napari_plugin.model import FusionModel
from napari_plugin.records import Fusion

COLORS = {"pass": "#2e9e5e", "look": "#c98a1b", "fail": "#d9433b"}  # seen on dark and on light
HEADLINES = {
    "pass": "PASS: every check is within its limit.",
    "look": "LOOK: at least one number deserves a look before the picture is used.",
    "fail": "FAIL: do not use this picture.",
}

# Fixed: a layout that fits itself draws every text several times.
MARGINS = {"left": 0.17, "right": 0.97, "bottom": 0.12, "top": 0.95, "hspace": 0.42}


class AuditTab(QWidget):
    """Verdicts of the last fusion."""

    def __init__(self, model: FusionModel) -> None:
        super().__init__()
        self.model = model
        self.rows: list[Row] = []
        self.headline = small("Nothing was fused yet.")
        self.headline.setAccessibleName("Audit verdict")
        self.table = QTableWidget(0, 3)
        self.table.setAccessibleName("Audit checks")
        self.table.setToolTip(
            "Choose a line to read what it means. A click, or Return, also goes to its place."
        )
        self.table.setHorizontalHeaderLabels(["Check", "Measured, limit", "Verdict"])
        self.table.verticalHeader().setVisible(False)
        self.table.setTabKeyNavigation(False)  # the Tab key goes on to the next widget
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setWordWrap(True)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(2, QHeaderView.ResizeMode.ResizeToContents)
        self.table.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        # Titles wrap in a narrow panel; heights are known once the columns are.
        self._fit_timer = QTimer(self)
        self._fit_timer.setSingleShot(True)
        self._fit_timer.timeout.connect(self._fit_table)
        header.sectionResized.connect(lambda *_: self._fit_timer.start(0))
        self._again_timer = QTimer(self)
        self._again_timer.setSingleShot(True)
        self._again_timer.timeout.connect(self._lay_out_again)
        self.table.itemSelectionChanged.connect(self._explain)
        self.table.cellClicked.connect(self._go)
        self.table.cellActivated.connect(self._go)
        self.text = small(lines=4)
        self.text.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.text.setAccessibleName("Explanation of the chosen check")
        self.figure = Figure(figsize=(3.2, 3.6))
        self._is_plotted = False
        self.canvas = FigureCanvasQTAgg(self.figure)
        self.canvas.setMinimumHeight(320)
        self.canvas.setToolTip("Weights and share of the whole volume.")
        box = QVBoxLayout(self)
        box.setContentsMargins(4, 4, 4, 4)
        for widget in (self.headline, self.table, self.text, self.canvas):
            box.addWidget(widget)
        box.addStretch(1)
        model.fusion_changed.connect(self.refresh)
        model.result_changed.connect(self._show_headline)

    def refresh(self) -> None:
        """Show the audit of the last fusion."""
        fusion = self.model.fusion
        if fusion is None:
            return
        audit = fusion.audit
        self._show_headline()
        self.rows = rows_of(audit)
        self.table.setRowCount(len(self.rows))
        for number, row in enumerate(self.rows):
            verdict = row.check.verdict
            cells = (row.title, row.sentence, verdict.upper())
            for column, text in enumerate(cells):
                item = QTableWidgetItem(text)
                item.setToolTip(row.check.text)
                self.table.setItem(number, column, item)
            item.setForeground(QBrush(QColor(COLORS[verdict])))
        self._fit_table()
        self.table.selectRow(0)  # the worst
        self._is_plotted = False
        self.canvas.setVisible(fusion.charts is not None)
        self._plot_if_seen()

    def _show_headline(self) -> None:
        """The verdict, and of what: it has its color only where it is of what is chosen."""
        result = self.model.result
        if result is None:
            return
        verdict = result.fusion.audit.verdict
        color = f"color: {COLORS[verdict]}; " if result.is_current else ""
        self.headline.setText(result.headed(HEADLINES[verdict]))
        self.headline.setStyleSheet(f"{color}font-weight: bold;")

    def showEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Draw what nobody looked at until now."""
        super().showEvent(event)
        self._fit_timer.start(0)  # widths of columns are known from now on
        self._plot_if_seen()

    def _plot_if_seen(self) -> None:
        fusion = self.model.fusion
        has_charts = fusion is not None and fusion.charts is not None
        if has_charts and self.isVisible() and not self._is_plotted:
            self._is_plotted = True
            self._plot(fusion)

    def _fit_table(self) -> None:
        """All lines at once: the tab scrolls, not the table in it."""
        self.table.resizeRowsToContents()
        rows = sum(self.table.rowHeight(row) for row in range(self.table.rowCount()))
        frame = 2 * self.table.frameWidth()
        self.table.setFixedHeight(rows + self.table.horizontalHeader().height() + frame)
        self._again_timer.start(0)

    def _lay_out_again(self) -> None:
        """Place what is below: Qt loses a new height that comes while it is laying out."""
        self.layout().invalidate()
        needed = self.minimumSizeHint().height()
        if self.height() < needed:  # too little room, and texts lie over each other
            self.resize(self.width(), needed)
        QApplication.postEvent(self, QEvent(QEvent.Type.LayoutRequest))

    def _explain(self) -> None:
        number = self.table.currentRow()
        if 0 <= number < len(self.rows):
            row = self.rows[number]
            there = " Click on the line to go there." if self.model.has_place(row.check) else ""
            self.text.setText(f"{row.title}: {row.sentence}. {row.check.text}{there}")
            self._again_timer.start(0)

    def _go(self, row: int, _: int) -> None:
        """Only where the user asks for it: a run must not turn the view away."""
        if 0 <= row < len(self.rows):
            self.model.go_to(self.rows[row].check)

    def _plot(self, fusion: Fusion) -> None:
        back, ink = self._theme()
        self.figure.clear()
        self.figure.set_facecolor(back)
        self.canvas.setStyleSheet(f"background-color: {back};")
        above, below = self.figure.subplots(2, 1, gridspec_kw=MARGINS)
        _, name = fusion.pair.words
        charts = fusion.charts
        edges = np.linspace(0, 1, len(charts.weights) + 1)
        above.stairs(charts.weights, edges, fill=True, color="#5ca8f2")
        above.set_xlabel(f"weight (0 functional, 1 {name})")
        above.set_ylabel("voxels")
        below.plot(charts.profile, color="#ee7321", marker=".", ms=3)
        below.set_ylim(0, 1)
        below.set_xlabel("slice, from superior")
        below.set_ylabel(f"share of {name}")
        for axes in (above, below):
            axes.set_facecolor(back)
            axes.tick_params(colors=ink, labelsize=7)
            axes.xaxis.label.set(color=ink, size=8)
            axes.yaxis.label.set(color=ink, size=8)
            axes.yaxis.get_offset_text().set(color=ink, size=7)
            for spine in axes.spines.values():
                spine.set_color(ink)
        self.canvas.draw_idle()

    def _theme(self) -> tuple[str, str]:
        """Background and text colour of the viewer's theme."""
        from napari.utils.theme import get_theme

        theme: Any = get_theme(self.model.viewer.theme)
        back, ink = (QColor(color.as_hex()).name() for color in (theme.background, theme.text))
        return back, ink
