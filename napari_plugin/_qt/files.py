"""Opening, saving and exporting: everything of the panel that asks for a path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari.utils.notifications import show_warning
from qtpy.QtCore import QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QFileDialog, QMenu, QMessageBox, QWidget

from medfuse.errors import MedfuseError
from medfuse.measurement.gather import is_drawn
from medfuse.settings import CaseSettings
from napari_plugin import reader
from napari_plugin._qt.chooser import ask
from napari_plugin.case import export_job
from napari_plugin.jobs import Job, failure
from napari_plugin.picking import Item, Pick, must_choose, unasked
from napari_plugin.result import Result
from napari_plugin.session import Loaded, apply_session, read_session, save_session


class Files:
    """What a panel does with files; its jobs wait for the one that runs.

    Parameters
    ----------
    panel : FusePanel
    """

    def __init__(self, panel: Any) -> None:
        self.panel = panel
        self.folder: Path | None = None  # of the last export
        self.written = ""  # token of the fusion that it holds

    def choose(self) -> None:
        """Ask for a folder or a file and open it."""
        menu = QMenu(self.panel)
        folder = menu.addAction("Folder (DICOM, BIDS subject, result)...")
        file = menu.addAction("NIfTI, DICOM or session file...")
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
        """Open images and results; asks where a folder holds more than a pair."""
        if len(paths) == 1 and paths[0].lower().endswith(".json"):
            self.open_session(Path(paths[0]))
            return
        drawn = [Path(p) for p in paths if is_drawn(Path(p))]
        if drawn:
            self._measure(drawn)
        results, others = reader.split([Path(p) for p in paths if Path(p) not in drawn])
        if not (results or others):
            return
        names = ", ".join(Path(p).name for p in paths)

        def choose(items: list[Item]) -> None:
            picks = ask(items, self.panel) if must_choose(items) else unasked(items)
            if picks or results:
                settings = self.panel.model.settings
                job = Job(f"Opening {names}", lambda progress: self._read(results, picks, settings))
                self.panel.runner.enqueue(job, self._add)

        look = Job(f"Looking at {names}", lambda progress: reader.items_of(others))
        self.panel.runner.enqueue(look, choose)

    def _measure(self, drawn: list[Path]) -> None:
        """Segmentations and structure sets are no images: they are measured."""
        try:
            self.panel.region_tools.read(drawn)
        except MedfuseError as error:
            self.panel.tell(failure(error))

    @staticmethod
    def _read(results: list[Path], picks: list[Pick], settings: CaseSettings) -> list[Any]:
        return reader.read_results(results) + reader.read_picks(picks, settings)

    def _add(self, layers: list[Any]) -> None:
        for data, options, _ in layers:
            self.panel.viewer.add_image(data, **options)
        self.panel.fuse_tab.refresh()

    def open_session(self, path: Path) -> None:
        """Open what a session file names, and set everything as it was."""

        def show(loaded: Loaded) -> None:
            apply_session(self.panel.model, loaded)
            for note in loaded.notes:
                show_warning(f"{path.name}: {note}.")

        job = Job(f"Opening {path.name}", lambda progress: read_session(path))
        self.panel.runner.enqueue(job, show)

    def choose_session(self) -> None:
        """Ask for a file and save the session."""
        path, _ = QFileDialog.getSaveFileName(
            self.panel, "Save session", "session.json", "Session (*.json)"
        )
        if path:
            self.save_session(Path(path))

    def save_session(self, path: Path) -> None:
        """Write which images are open and what was chosen."""
        result = self.panel.model.judge()
        is_written = (
            result is not None and result.is_current and result.fusion.token == self.written
        )
        try:
            save_session(self.panel.model, path, self.folder if is_written else None)
        except (OSError, MedfuseError) as error:
            self.panel.tell(failure(error))
            return
        self.panel.status.setText(f"Session saved: {path.name}.")

    def save_record(self) -> None:
        """Ask for a file and write the provenance into it."""
        path, _ = QFileDialog.getSaveFileName(
            self.panel, "Save provenance", "provenance.json", "JSON (*.json)"
        )
        if path:
            self.with_result(lambda result: self._write_record(result, Path(path)))

    def _write_record(self, result: Result, path: Path) -> None:
        try:
            text = self.panel.record_tab.record(result.fusion)
            path.write_text(text + "\n", encoding="utf-8")
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
                self.folder, self.written = path, result.fusion.token
                self.panel.region_tools.write_beside(path, result.fusion)
                then(path.name, result.fusion)

            settings = self.panel.model.settings
            self.panel.runner.enqueue(export_job(result.fusion, folder, settings), written)

        self.with_result(start)

    def open_report(self) -> None:
        """Show the report of the last export."""
        if self.folder is not None:
            page = self.folder / "report.html"
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(page)))

    def with_result(self, action: Callable[[Result], None]) -> None:
        """Do something with the result if it is that of what is chosen or the user agrees."""
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
