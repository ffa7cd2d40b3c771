"""The panel "Fuse MRI+PET": four tabs, one button, one line about the cursor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import (
    QApplication,
    QHBoxLayout,
    QProgressBar,
    QPushButton,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_plugin._qt.audit_tab import AuditTab
from napari_plugin._qt.describing import Describing
from napari_plugin._qt.fields import Scroller, small
from napari_plugin._qt.figures import Figures
from napari_plugin._qt.files import Files
from napari_plugin._qt.focus_ring import FocusRing
from napari_plugin._qt.fuse_tab import FuseTab
from napari_plugin._qt.pointer import NO_VALUES, Pointer
from napari_plugin._qt.record_tab import RecordTab
from napari_plugin._qt.region_tools import RegionTools
from napari_plugin._qt.regions_tab import RegionsTab
from napari_plugin._qt.runner import JobRunner
from napari_plugin._qt.runs import Runs
from napari_plugin._qt.view_bar import ViewBar
from napari_plugin._qt.windows import Windows
from napari_plugin.jobs import Outcome
from napari_plugin.model import FusionModel

if TYPE_CHECKING:
    import napari

JUDGE_MS = 1000  # voxels of a hidden layer are edited without a word from napari


class FusePanel(QWidget):
    """Fuse an anatomical with a functional image.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        Or a ``ViewerModel``.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.model = FusionModel(napari_viewer)
        self.files, self.describing = Files(self), Describing(self)
        self._closed = False
        self.setAcceptDrops(True)
        self._build()
        self.runs = Runs(self)
        self.pointer = Pointer(self.model, self.cursor)
        self.figures = Figures(self)
        self.region_tools = RegionTools(self, self.regions_tab)
        self._judge_timer = QTimer(self)
        self._judge_timer.setInterval(JUDGE_MS)
        self._judge_timer.timeout.connect(self.model.judge)
        self._judge_timer.start()
        self._connect()
        self.windows.find()
        self._show_kept()

    # -- construction ------------------------------------------------------------------------

    def _build(self) -> None:
        self.fuse_tab = FuseTab(self.model)
        self.audit_tab = AuditTab(self.model)
        self.regions_tab = RegionsTab(self.model)
        self.record_tab = RecordTab(self.model)
        self.view_bar = ViewBar(self.model)
        self.windows = Windows(self.model, self.fuse_tab)
        self.tabs = QTabWidget()
        self.tabs.setAccessibleName("Fuse MRI+PET")
        for tab, name, tip in (
            (self.fuse_tab, "Fuse", "Choose, align, fuse"),
            (self.audit_tab, "Audit", "Is the picture faithful?"),
            (self.regions_tab, "Regions", "Numbers of both images in regions"),
            (self.record_tab, "Provenance", "What was done; export"),
        ):
            self.tabs.addTab(Scroller(tab), name)
            self.tabs.setTabToolTip(self.tabs.count() - 1, tip)
        self.fuse = QPushButton("Fuse")
        self.fuse.setToolTip("Register where needed, fuse, audit (Ctrl+Return).")
        self.fuse.setShortcut(QKeySequence("Ctrl+Return"))
        self.fuse.setMinimumHeight(32)
        self.cancel = QPushButton("Canc&el")
        self.cancel.setToolTip("Stop; nothing is changed.")
        self.cancel.setEnabled(False)
        self.progress = QProgressBar()
        self.progress.setRange(0, 100)
        self.progress.setAccessibleName("Progress")
        self.progress.setTextVisible(False)  # the status says it in words
        self.progress.setFixedHeight(8)
        self.status = small("Ready.")
        self.status.setAccessibleName("Status")
        self.cursor = small(NO_VALUES, lines=2)
        self.cursor.setAccessibleName("Values under the cursor")
        self.cursor.setAlignment(Qt.AlignmentFlag.AlignTop)
        box = QVBoxLayout(self)
        box.setContentsMargins(2, 2, 2, 2)
        box.setSpacing(4)
        box.addWidget(self.tabs, 1)
        box.addWidget(self.fuse_tab.emphasis)
        box.addWidget(self.view_bar)
        row = QHBoxLayout()
        row.addWidget(self.fuse, 2)
        row.addWidget(self.cancel, 1)
        box.addLayout(row)
        for widget in (self.progress, self.status, self.cursor):
            box.addWidget(widget)
        self.ring = FocusRing(self)

    def _connect(self) -> None:
        tab, runs = self.fuse_tab, self.runs
        tab.open_clicked.connect(self.files.choose)
        tab.save.clicked.connect(self.files.choose_session)
        tab.register_clicked.connect(runs.register)
        tab.frame_chosen.connect(self.describing.take_frame)
        tab.suv_clicked.connect(self.describing.to_suv)
        tab.windows_stale.connect(self.windows.find)
        tab.look_changed.connect(runs.look_again)
        tab.adjust.nudged.connect(runs.look_again)
        tab.adjust.view_changed.connect(self.view_bar.switch)
        tab.positions.view_changed.connect(self.view_bar.switch)
        tab.positions.chosen.connect(runs.measure_position)
        self.view_bar.failed.connect(runs.tell_failure)
        self.view_bar.followed.connect(tab.adjust.refresh)
        self.view_bar.windowed.connect(self.windows.drag)
        self.record_tab.save_clicked.connect(self.files.save_record)
        self.record_tab.export_clicked.connect(self.files.choose_export)
        self.record_tab.report_clicked.connect(self.files.open_report)
        self.fuse.clicked.connect(runs.fuse)
        self.cancel.clicked.connect(runs.runner.cancel)
        self.model.result_changed.connect(tab.adjust.refresh)
        self.viewer.dims.events.ndisplay.connect(self._on_ndisplay)
        application = QApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self.shut_down)

    def _show_kept(self) -> None:
        """Show the result of a panel that was closed, or of a folder that is open."""
        if self.model.result is not None:
            self.audit_tab.refresh()
            self.record_tab.refresh()
            self.view_bar.refresh()
            self.fuse_tab.adjust.refresh()
            self.runs.say()
            self.pointer.refresh()

    # -- files -------------------------------------------------------------------------------

    def open_paths(self, paths: list[str]) -> None:
        """Load paths with medfuse's reader, after what is under way."""
        self.files.open(paths)

    def export(self, folder: Path) -> None:
        """Write the last fusion as a result folder."""
        self.files.export(folder)

    def tell(self, outcome: Outcome) -> None:
        """Say how something ended, as of a job."""
        self.runs.tell(outcome)

    def _on_ndisplay(self, event: Any) -> None:
        self.view_bar.follow()

    @property
    def runner(self) -> JobRunner:
        """Registers, fuses, opens and writes."""
        return self.runs.runner

    @property
    def previews(self) -> JobRunner:
        """Fuses one slice while a slider is dragged."""
        return self.runs.previews

    @property
    def quiet(self) -> JobRunner:
        """Looks for default windows."""
        return self.windows.runner

    @property
    def views(self) -> JobRunner:
        """Makes checks of the alignment."""
        return self.view_bar.runner

    @property
    def view_buttons(self) -> dict[str, QPushButton]:
        """Buttons of the planes and of 3-D."""
        return self.view_bar.planes

    @property
    def overlay(self) -> QPushButton:
        """Button of the customary overlay."""
        return self.view_bar.overlay

    # -- Qt ----------------------------------------------------------------------------------

    def dragEnterEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        if event.mimeData().hasUrls():
            event.acceptProposedAction()

    def dropEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        paths = [url.toLocalFile() for url in event.mimeData().urls() if url.isLocalFile()]
        if paths:
            self.open_paths(paths)
            event.acceptProposedAction()

    def event(self, event: QEvent) -> bool:
        """Notice where napari puts the panel, and that it takes it out of its window."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.shut_down()
        elif event.type() == QEvent.Type.Show:
            self.view_bar.lay_over(self.window())
            self.window().installEventFilter(self)  # installing twice counts once
        return super().event(event)

    def eventFilter(self, watched: Any, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """End all work when the window is closed; a minimised window hides spontaneously."""
        if event.type() == QEvent.Type.Hide and not event.spontaneous():
            self.stop_work()
        return super().eventFilter(watched, event)

    def closeEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        self.shut_down()
        super().closeEvent(event)

    def stop_work(self) -> bool:
        """Cancel what runs and wait for it; True when no thread of ours is left."""
        self.view_bar.forget_wishes()
        self.runs.forget_wishes()
        runners = (self.runner, self.previews, self.quiet, self.views)
        for runner in runners:  # all of them first: they end side by side
            runner.cancel()
        stopped = [runner.stop() for runner in runners]  # every one, even after one that hangs
        return all(stopped)

    def shut_down(self) -> bool:
        """Stop all work and let go of the viewer; True when no thread of ours is left."""
        if self._closed:
            return True
        self._closed = True
        self._judge_timer.stop()
        ended = self.stop_work()
        for closing in (self.runs, self.quiet, self.views):
            closing.close()
        self.view_bar.close_views()
        self.pointer.close()
        self.viewer.dims.events.ndisplay.disconnect(self._on_ndisplay)
        self.model.close()
        return ended
