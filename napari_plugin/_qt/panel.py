"""The panel "Fuse MRI+PET": three tabs, one button, one line about the cursor."""

from __future__ import annotations

from collections.abc import Callable
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

from napari_plugin import outputs, views
from napari_plugin._qt.audit_tab import AuditTab
from napari_plugin._qt.describing import Describing
from napari_plugin._qt.fields import Scroller, small
from napari_plugin._qt.files import Files
from napari_plugin._qt.fuse_tab import FuseTab
from napari_plugin._qt.napari_tasks import NapariTask
from napari_plugin._qt.record_tab import RecordTab
from napari_plugin._qt.runner import REST_MS, JobRunner, report
from napari_plugin.jobs import Done, Failed, Job, Outcome, failure
from napari_plugin.model import FusionModel
from napari_plugin.records import Early

if TYPE_CHECKING:
    import napari

NO_VALUES = "Move the mouse over the fused image to read values."
PREVIEW_MS = 20  # a slider that is dragged sends many values; the last of these counts
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
        # Short work without a progress bar: default windows, previews, checks of the alignment.
        self.quiet, self.previews, self.views = JobRunner(), JobRunner(), JobRunner()
        self._wanted_views: dict[str, bool] = {}
        self._windows_stale = False
        self.files, self.describing = Files(self), Describing(self)
        self._closed = False
        self._task = NapariTask(napari_viewer)
        self.setAcceptDrops(True)
        self._build()
        self._timers()
        self._connect()
        self._find_windows()
        self._show_kept()

    # -- construction ------------------------------------------------------------------------

    def _build(self) -> None:
        self.fuse_tab = FuseTab(self.model)
        self.audit_tab = AuditTab(self.model)
        self.record_tab = RecordTab(self.model)
        self.tabs = QTabWidget()
        self.tabs.setAccessibleName("Fuse MRI+PET")
        for tab, name, tip in (
            (self.fuse_tab, "Fuse", "Choose, align, fuse"),
            (self.audit_tab, "Audit", "Is the picture faithful?"),
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
        self.status = small("Ready.")
        self.status.setAccessibleName("Status")
        self.cursor = small(NO_VALUES, lines=2)
        self.cursor.setAccessibleName("Values under the cursor")
        self.cursor.setAlignment(Qt.AlignmentFlag.AlignTop)
        box = QVBoxLayout(self)
        box.setContentsMargins(2, 2, 2, 2)
        box.addWidget(self.tabs, 1)
        box.addWidget(self.fuse_tab.emphasis)
        box.addLayout(self._view_buttons())
        row = QHBoxLayout()
        row.addWidget(self.fuse, 2)
        row.addWidget(self.cancel, 1)
        box.addLayout(row)
        for widget in (self.progress, self.status, self.cursor):
            box.addWidget(widget)

    def _view_buttons(self) -> QHBoxLayout:
        row = QHBoxLayout()
        self.view_buttons = {}
        for name, tip in views.PLANES.items():
            button = QPushButton(views.LABELS[name])
            button.setToolTip(tip)
            button.clicked.connect(
                lambda _=False, name=name: views.look(self.viewer, name, later=_later)
            )
            row.addWidget(button)
            self.view_buttons[name] = button
        self.overlay = QPushButton("Ov&erlay")
        self.overlay.setCheckable(True)
        self.overlay.setEnabled(False)
        self.overlay.setToolTip("Show the customary overlay instead: hot colors laid half over the "
                                "anatomical image.")  # fmt: skip
        row.addWidget(self.overlay)
        return row

    def _timers(self) -> None:
        self._preview_timer = self._timer(PREVIEW_MS, self._preview)
        self._refuse_timer = self._timer(REFUSE_MS, self._refuse)

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
        tab.windows_stale.connect(self._find_windows)
        tab.look_changed.connect(self._on_look)
        tab.adjust.nudged.connect(self._on_look)
        tab.adjust.view_changed.connect(self._on_view)
        tab.positions.view_changed.connect(self._on_view)
        tab.positions.chosen.connect(self._on_position)
        self.overlay.toggled.connect(lambda on: self._on_view(outputs.OVERLAY, on))
        self.model.fusion_changed.connect(self._on_fusion)
        self.model.outputs_changed.connect(self._show_views)
        self.record_tab.save_clicked.connect(self.files.save_record)
        self.record_tab.export_clicked.connect(self.files.choose_export)
        self.record_tab.report_clicked.connect(self.files.open_report)
        self.fuse.clicked.connect(self.start_fusion)
        self.cancel.clicked.connect(self.runner.cancel)
        self.runner.started.connect(self._on_started)
        self.runner.progressed.connect(self._on_progress)
        self.runner.offered.connect(self._on_early)
        self.runner.ended.connect(self._on_ended)
        self.views.ended.connect(self._on_view_ended)
        self.previews.ended.connect(self._on_quiet_failure)
        self.quiet.ended.connect(self._on_windows_ended)
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

    def _find_windows(self) -> None:
        """Default windows of what is chosen; a search for another pair is done again."""
        if self.quiet.is_busy:
            self._windows_stale = True
            return
        try:
            job, key = self.model.windows_job(), self.model.pair_key()
        except Exception:  # said when the user presses Fuse
            self._forget_windows()
            return
        self.quiet.start(job, lambda windows: self._show_windows(windows, key))

    def _forget_windows(self) -> None:
        for field in (self.fuse_tab.window_field, self.fuse_tab.anatomical_window):
            field.forget()

    def _show_windows(self, windows: Any, key: Any) -> None:
        if self._windows_stale or key != self.model.pair_key():
            self._windows_stale = True
            return
        fields = (self.fuse_tab.window_field, self.fuse_tab.anatomical_window)
        for field, window in zip(fields, windows, strict=True):
            field.setEnabled(window is not None)
            if window is not None:
                field.show_window(window.low, window.high, window.unit, window.rule)

    def _on_windows_ended(self, outcome: Outcome) -> None:
        if not isinstance(outcome, Done):
            self._forget_windows()
        if self._windows_stale:
            self._windows_stale = False
            _later(self._find_windows)

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

    def _on_view(self, view: str, on: bool) -> None:
        self._wanted_views[view] = on
        self._next_view()

    def _next_view(self) -> None:
        """Switch one view after the other; what was clicked last counts."""
        if self.views.is_busy or not self._wanted_views:
            return
        view = next(iter(self._wanted_views))
        on = self._wanted_views.pop(view)
        job = self.model.view_job(view, on) or Job(view, lambda progress: None)
        self.views.start(job, lambda made: self.model.show_view(view, on, made))

    def _on_fusion(self) -> None:
        """Make the checks anew that were made of the run before."""
        self.overlay.setEnabled(True)
        for view in self.model.outdated_views():
            self._on_view(view, True)

    def _show_kept(self) -> None:
        """Show the result of a panel that was closed, or of a folder that is open."""
        if self.model.result is not None:
            self.audit_tab.refresh()
            self.record_tab.refresh()
            self._show_views()
            self.overlay.setEnabled(True)
            self._on_result()

    def _show_views(self) -> None:
        """Boxes and button follow what is seen, whoever hid or deleted it."""
        self.fuse_tab.adjust.refresh()
        self.overlay.blockSignals(True)
        self.overlay.setChecked(self.model.is_on(outputs.OVERLAY))
        self.overlay.blockSignals(False)

    def _on_view_ended(self, outcome: Outcome) -> None:
        self._on_quiet_failure(outcome)
        self._show_views()
        self._next_view()

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
        _later(lambda: views.arrange(self.viewer))

    @property
    def _runners(self) -> tuple[JobRunner, ...]:
        return self.runner, self.quiet, self.previews, self.views

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
        self._wanted_views.clear()
        stopped = [runner.stop() for runner in self._runners]
        return all(stopped)

    def shut_down(self) -> bool:
        """Stop all work and let go of the viewer; True when no thread of ours is left."""
        if self._closed:
            return True
        self._closed = True
        ended = self.stop_work()
        for runner in self._runners:
            runner.close()
        self._task.end()
        self.viewer.cursor.events.position.disconnect(self._on_cursor)
        self.viewer.events.status.disconnect(self._on_status)
        self.viewer.dims.events.ndisplay.disconnect(self._on_ndisplay)
        self.model.close()
        return ended


def _later(action: Callable[[], None]) -> None:
    """A moment later, so that the window lives between two steps."""
    QTimer.singleShot(REST_MS, action)
