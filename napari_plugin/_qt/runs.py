"""The runs of a panel: registration, fusion, previews, and what is said of them meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject, QTimer

from napari_plugin._qt.napari_tasks import NapariTask
from napari_plugin._qt.runner import JobRunner, report
from napari_plugin.jobs import Done, Failed, Job, Outcome, failure
from napari_plugin.records import Early

PREVIEW_MS = 20  # a slider that is dragged sends many values; the last of these counts
REFUSE_MS = 700  # rest after a change before the whole volume is fused again


class Runs(QObject):
    """Starts what a panel computes, and shows how far it is and how it ended.

    Parameters
    ----------
    panel : FusePanel
        With its widgets built.
    """

    def __init__(self, panel: Any) -> None:
        super().__init__(panel)
        self.panel, self.model = panel, panel.model
        self.runner = JobRunner()
        # Short work without a progress bar.
        self.previews = JobRunner()
        self._task = NapariTask(panel.viewer)
        self.preview_timer = single_shot(self, PREVIEW_MS, self._preview)
        self.refuse_timer = single_shot(self, REFUSE_MS, self._refuse)
        self.runner.started.connect(self._on_started)
        self.runner.progressed.connect(self._on_progress)
        self.runner.offered.connect(self._on_early)
        self.runner.ended.connect(self.tell)
        self.previews.ended.connect(self.tell_failure)
        self.model.result_changed.connect(self.say)

    # -- starting ----------------------------------------------------------------------------

    def register(self) -> None:
        """Align the chosen layers in a thread."""
        self._start(self.model.registration_job, self.model.show)

    def fuse(self) -> None:
        """Register where needed and fuse the chosen layers in a thread."""
        self.refuse_timer.stop()
        self._start(self.model.fusion_job, self.model.show)

    def measure_position(self) -> None:
        """Measure the pair at the position that was taken; fuse there what was fused before."""
        (self.register if self.model.fusion is None else self.fuse)()

    def look_again(self) -> None:
        """A setting has changed: preview the slice, and fuse the volume when it stays so."""
        if self.model.is_fused_pair:
            self.preview_timer.start()
            self.refuse_timer.start()

    def forget_wishes(self) -> None:
        """Start nothing more of itself."""
        self.preview_timer.stop()
        self.refuse_timer.stop()

    def close(self) -> None:
        """Let nothing start and nothing arrive any more."""
        self.runner.close()
        self.previews.close()
        self._task.end()

    def _start(self, make: Callable[[], Job], then: Callable[[Any], Any]) -> None:
        try:
            job = make()
        except Exception as error:  # the boundary of the GUI
            self.tell(failure(error))
            return
        self.runner.start(job, then)

    def _preview(self) -> None:
        if self.previews.is_busy:  # the last of many values counts
            self.preview_timer.start()
            return
        try:
            job = self.model.preview_job()
        except Exception as error:  # the boundary of the GUI
            self.tell(failure(error))
            return
        if job is not None:
            self.previews.start(job, self.model.show_preview)

    def _refuse(self) -> None:
        """Fuse the whole volume after a change; a run that is out of date is stopped first."""
        if self.runner.is_busy:
            self.runner.cancel()
            self.refuse_timer.start()
            return
        self.fuse()

    # -- telling -----------------------------------------------------------------------------

    def say(self) -> None:
        """Say in one line what is shown, where nothing runs."""
        if not self.runner.is_busy:
            self.panel.status.setText(self.model.summary())

    def tell(self, outcome: Outcome) -> None:
        """Say how something ended, as of a job."""
        panel = self.panel
        self._task.end()
        self.model.drop_early()
        panel.cancel.setEnabled(False)
        self._allow(True)
        match outcome:
            case Failed(text=text, code=code):
                panel.progress.setValue(0)
                panel.fuse_tab.ask_about(code)
                panel.status.setText(text)
                report(outcome)
            case Done():
                panel.progress.setValue(100)
                panel.status.setText(self.model.summary())
            case _:
                panel.progress.setValue(0)
                panel.status.setText("Cancelled; nothing was changed.")
        panel.fuse_tab.adjust.refresh()

    def tell_failure(self, outcome: Outcome) -> None:
        """Say of work without a progress bar only that it failed."""
        if isinstance(outcome, Failed):
            self.panel.status.setText(outcome.text)
            report(outcome)

    def _on_started(self, title: str) -> None:
        self._allow(False)
        self.panel.cancel.setEnabled(True)
        self.panel.progress.setValue(0)
        self.panel.status.setText(f"{title}...")
        self._task.begin(title, self.runner.cancel)

    def _on_progress(self, fraction: float, text: str) -> None:
        self.panel.progress.setValue(round(100 * fraction))
        self.panel.status.setText(f"{text}...")
        self._task.progress(fraction, text)

    def _on_early(self, early: Early) -> None:
        """Show the slice that is looked at, unless the run was cancelled meanwhile."""
        if self.runner.is_busy:
            self.model.show_early(early)

    def _allow(self, start: bool) -> None:
        tab = self.panel.fuse_tab
        for widget in (self.panel.fuse, tab.register, tab.registration, tab.positions):
            widget.setEnabled(start)


def single_shot(parent: QObject, milliseconds: int, action: Callable[[], Any]) -> QTimer:
    """A timer that does something once, so long after it was started last."""
    timer = QTimer(parent)
    timer.setSingleShot(True)
    timer.setInterval(milliseconds)
    timer.timeout.connect(action)
    return timer
