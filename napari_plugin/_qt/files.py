"""Opening, saving and exporting: everything of the panel that asks for a path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QFileDialog, QMenu, QMessageBox, QWidget

from napari_plugin.case import export_job
from napari_plugin.jobs import Job, failure
from napari_plugin.result import Result

if TYPE_CHECKING:
    from napari_plugin._qt.panel import FusePanel


class Files:
    """What a panel does with files; its jobs wait for the one that runs.

    Parameters
    ----------
    panel : FusePanel
    """

    def __init__(self, panel: FusePanel) -> None:
        self.panel = panel
        self.folder: Path | None = None  # of the last export

    def choose(self) -> None:
        """Ask for a folder or a file and open it."""
        menu = QMenu(self.panel)
        folder = menu.addAction("Folder (DICOM, BIDS subject, result)...")
        file = menu.addAction("NIfTI or DICOM file...")
        button = self.panel.fuse_tab.open
        chosen = menu.exec(button.mapToGlobal(button.rect().bottomLeft()))
        if chosen is folder:
            path = QFileDialog.getExistingDirectory(self.panel, "Open folder")
        elif chosen is file:
            path, _ = QFileDialog.getOpenFileName(self.panel, "Open file")
        else:
            return
        if path:
            self.open([path])

    def open(self, paths: list[str]) -> None:
        """Load paths with medfuse's reader; each becomes one or more layers."""
        from napari_plugin.reader import read_paths

        def add(layers: list[Any]) -> None:
            for data, options, _ in layers:
                self.panel.viewer.add_image(data, **options)
            self.panel.fuse_tab.refresh()

        names = ", ".join(Path(p).name for p in paths)
        job = Job(f"Opening {names}", lambda progress: read_paths(paths))
        self.panel.runner.enqueue(job, add)

    def save_record(self) -> None:
        """Ask for a file and write the provenance into it."""
        path, _ = QFileDialog.getSaveFileName(
            self.panel, "Save provenance", "provenance.json", "JSON (*.json)"
        )
        if path:
            self._with_result(lambda result: self._write_record(result, Path(path)))

    def _write_record(self, result: Result, path: Path) -> None:
        try:
            path.write_text(result.fusion.record + "\n", encoding="utf-8")
        except OSError as error:
            self.panel.tell(failure(error))

    def choose_export(self) -> None:
        """Ask for a new folder and write the result into it."""
        path = QFileDialog.getSaveFileName(self.panel, "New result folder", "fusion-result")[0]
        if path:
            self.export(Path(path))

    def export(self, folder: Path) -> None:
        """Write the last fusion as a result folder; asks where it is not of what is chosen."""

        def start(result: Result) -> None:
            then = self.panel.record_tab.show_written

            def written(path: Path) -> None:
                self.folder = path
                then(path.name, result.fusion)

            self.panel.runner.enqueue(export_job(result.fusion, folder), written)

        self._with_result(start)

    def open_report(self) -> None:
        """Show the report of the last export."""
        if self.folder is not None:
            page = self.folder / "report.html"
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(page)))

    def _with_result(self, action: Callable[[Result], None]) -> None:
        """Do something with the result, if it is that of what is chosen or the user agrees."""
        result = self.panel.model.judge()
        if result is None:
            return
        if result.is_current or agrees(self.panel, result.question):
            action(result)
        else:
            self.panel.status.setText(result.status)


def agrees(parent: QWidget, question: str) -> bool:
    """Ask; the answer that changes nothing is the default."""
    box = QMessageBox(QMessageBox.Icon.Warning, "Write an earlier result?", question, parent=parent)
    write = box.addButton("Write the earlier result", QMessageBox.ButtonRole.AcceptRole)
    stop = box.addButton(QMessageBox.StandardButton.Cancel)
    box.setDefaultButton(stop)
    box.exec()
    return box.clickedButton() is write
