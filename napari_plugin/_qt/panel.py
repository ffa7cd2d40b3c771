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

from napari_plugin import views
from napari_plugin._qt.audit_tab import AuditTab
from napari_plugin._qt.describing import Describing
from napari_plugin._qt.fields import Scroller, small
from napari_plugin._qt.figures import Figures
from napari_plugin._qt.files import Files
from napari_plugin._qt.fuse_tab import FuseTab
from napari_plugin._qt.napari_tasks import NapariTask
from napari_plugin._qt.record_tab import RecordTab
from napari_plugin._qt.region_tools import RegionTools
from napari_plugin._qt.regions_tab import RegionsTab
from napari_plugin._qt.runner import JobRunner, report
from napari_plugin._qt.view_bar import ViewBar, later
from napari_plugin._qt.windows import Windows
from napari_plugin.jobs import Done, Failed, Job, Outcome, failure
from napari_plugin.model import FusionModel
from napari_plugin.records import Early

if TYPE_CHECKING:
    import napari

NO_VALUES = "Move the mouse over the fused image to read values."
PREVIEW_MS = 20  # a slider that is dragged sends many values; the last of these counts
JUDGE_MS = 1000  # voxels of a hidden layer are edited without a word from napari
REFUSE_MS = 700  # rest after a change before the whole volume is fused again


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
        self.runner = JobRunner()
        # Short work without a progress bar.
        self.previews = JobRunner()
        self.files, self.describing = Files(self), Describing(self)
        self._closed = False
        self._task = NapariTask(napari_viewer)
        self.setAcceptDrops(True)
        self._build()
        self.figures = Figures(self)
        self.region_tools = RegionTools(self, self.regions_tab)
        self._timers()
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
        self.cancel = QPushButton("&Cancel")
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

    def _timers(self) -> None:
        self._preview_timer = self._timer(PREVIEW_MS, self._preview)
        self._refuse_timer = self._timer(REFUSE_MS, self._refuse)
        self._judge_timer = self._timer(JUDGE_MS, self.model.judge)
        self._judge_timer.setSingleShot(False)
        self._judge_timer.start()

    def _timer(self, milliseconds: int, action: Any) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(milliseconds)
        timer.timeout.connect(action)
        return timer

    def _connect(self) -> None:
        tab = self.fuse_tab
        tab.open_clicked.connect(self.files.choose)
        tab.save.clicked.connect(self.files.choose_session)
        tab.register_clicked.connect(self.start_registration)
        tab.frame_chosen.connect(self.describing.take_frame)
        tab.suv_clicked.connect(self.describing.to_suv)
        tab.windows_stale.connect(self.windows.find)
        tab.look_changed.connect(self._on_look)
        tab.adjust.nudged.connect(self._on_look)
        tab.adjust.view_changed.connect(self.view_bar.switch)
        tab.positions.view_changed.connect(self.view_bar.switch)
        tab.positions.chosen.connect(self._on_position)
        self.view_bar.failed.connect(self._on_quiet_failure)
        self.view_bar.followed.connect(tab.adjust.refresh)
        self.view_bar.windowed.connect(self.windows.drag)
        self.record_tab.save_clicked.connect(self.files.save_record)
        self.record_tab.export_clicked.connect(self.files.choose_export)
        self.record_tab.report_clicked.connect(self.files.open_report)
        self.fuse.clicked.connect(self.start_fusion)
        self.cancel.clicked.connect(self.runner.cancel)
        self.runner.started.connect(self._on_started)
        self.runner.progressed.connect(self._on_progress)
        self.runner.offered.connect(self._on_early)
        self.runner.ended.connect(self._on_ended)
        self.previews.ended.connect(self._on_quiet_failure)
        self.viewer.cursor.events.position.connect(self._on_cursor)
        self.model.fusion_changed.connect(self._on_cursor)
        self.model.result_changed.connect(self._on_result)
        self.viewer.events.status.connect(self._on_status)
        self.viewer.dims.events.ndisplay.connect(self._on_ndisplay)
        application = QApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self.shut_down)

    # -- work --------------------------------------------------------------------------------

    def start_registration(self) -> None:
        """Align the chosen layers in a thread."""
        self._start(self.model.registration_job, self.model.show)

    def start_fusion(self) -> None:
        """Register where needed and fuse the chosen layers in a thread."""
        self._refuse_timer.stop()
        self._start(self.model.fusion_job, self.model.show)

    def _on_position(self) -> None:
        """Measure the pair at the position that was taken; fuse there what was fused before."""
        (self.start_registration if self.model.fusion is None else self.start_fusion)()

    def _start(self, make: Any, then: Any) -> None:
        try:
            job: Job = make()
        except Exception as error:  # the boundary of the GUI
            self._on_ended(failure(error))
            return
        self.runner.start(job, then)

    def _on_look(self) -> None:
        if self.model.is_fused_pair:
            self._preview_timer.start()
            self._refuse_timer.start()

    def _preview(self) -> None:
        if self.previews.is_busy:  # the last of many values counts
            self._preview_timer.start()
            return
        try:
            job = self.model.preview_job()
        except Exception as error:  # the boundary of the GUI
            self._on_ended(failure(error))
            return
        if job is not None:
            self.previews.start(job, self.model.show_preview)

    def _refuse(self) -> None:
        """Fuse the whole volume after a change; a run that is out of date is stopped first."""
        if self.runner.is_busy:
            self.runner.cancel()
            self._refuse_timer.start()
            return
        self.start_fusion()

    def _show_kept(self) -> None:
        """Show the result of a panel that was closed, or of a folder that is open."""
        if self.model.result is not None:
            self.audit_tab.refresh()
            self.record_tab.refresh()
            self.view_bar.refresh()
            self._on_result()

    def _on_quiet_failure(self, outcome: Outcome) -> None:
        if isinstance(outcome, Failed):
            self.status.setText(outcome.text)
            report(outcome)

    def _on_started(self, title: str) -> None:
        self._allow(False)
        self.cancel.setEnabled(True)
        self.progress.setValue(0)
        self.status.setText(f"{title}...")
        self._task.begin(title, self.runner.cancel)

    def _on_progress(self, fraction: float, text: str) -> None:
        self.progress.setValue(round(100 * fraction))
        self.status.setText(f"{text}...")
        self._task.progress(fraction, text)

    def _on_early(self, early: Early) -> None:
        """Show the slice that is looked at, unless the run was cancelled meanwhile."""
        if self.runner.is_busy:
            self.model.show_early(early)

    def tell(self, outcome: Outcome) -> None:
        """Say how something ended, as of a job."""
        self._on_ended(outcome)

    def _on_ended(self, outcome: Outcome) -> None:
        self._task.end()
        self.model.drop_early()
        self.cancel.setEnabled(False)
        self._allow(True)
        match outcome:
            case Failed(text=text, code=code):
                self.progress.setValue(0)
                self.fuse_tab.ask_about(code)
                self.status.setText(text)
                report(outcome)
            case Done():
                self.progress.setValue(100)
                self.status.setText(self.model.summary())
            case _:
                self.progress.setValue(0)
                self.status.setText("Cancelled; nothing was changed.")
        self.fuse_tab.adjust.refresh()

    def _allow(self, start: bool) -> None:
        tab = self.fuse_tab
        for widget in (self.fuse, tab.register, tab.registration, tab.positions):
            widget.setEnabled(start)

    def _on_result(self) -> None:
        """What is shown became, or is no longer, the result of what is chosen."""
        self.fuse_tab.adjust.refresh()
        if not self.runner.is_busy:
            self.status.setText(self.model.summary())
        self._on_cursor()

    # -- files -------------------------------------------------------------------------------

    def open_paths(self, paths: list[str]) -> None:
        """Load paths with medfuse's reader, after what is under way."""
        self.files.open(paths)

    def export(self, folder: Path) -> None:
        """Write the last fusion as a result folder."""
        self.files.export(folder)

    # -- read-out ----------------------------------------------------------------------------

    def _on_cursor(self, event: Any = None) -> None:
        line = self.model.read_out(self.viewer.cursor.position)
        self.cursor.setText(line or NO_VALUES)
        if line:
            self._show_status(line)

    def _on_status(self, event: Any) -> None:
        """Put our line into napari's status bar, which napari fills from its own thread."""
        line = self.model.read_out(self.viewer.cursor.position)
        if line:
            self._show_status(line)

    def _show_status(self, line: str) -> None:
        if self.viewer.status != line:
            self.viewer.status = line

    def _on_ndisplay(self, event: Any) -> None:
        """Follow napari's own 2-D/3-D button."""
        later(lambda: views.arrange(self.viewer, self.model.anatomical))

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

    @property
    def _runners(self) -> tuple[JobRunner, ...]:
        return self.runner, self.windows.runner, self.previews, self.view_bar.runner

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
        for timer in (self._preview_timer, self._refuse_timer):
            timer.stop()
        self.view_bar.forget_wishes()
        stopped = [runner.stop() for runner in self._runners]
        return all(stopped)

    def shut_down(self) -> bool:
        """Stop all work and let go of the viewer; True when no thread of ours is left."""
        if self._closed:
            return True
        self._closed = True
        self._judge_timer.stop()
        ended = self.stop_work()
        for runner in self._runners:
            runner.close()
        self._task.end()
        self.view_bar.close_views()
        self.viewer.cursor.events.position.disconnect(self._on_cursor)
        self.viewer.events.status.disconnect(self._on_status)
        self.viewer.dims.events.ndisplay.disconnect(self._on_ndisplay)
        self.model.close()
        return ended
