"""Buttons that turn, compare and jump; they own the linked views and the glass over the canvas."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import QHBoxLayout, QMainWindow, QMenu, QPushButton, QVBoxLayout, QWidget

from napari_plugin import outputs, views
from napari_plugin._qt.linked import LinkedViews
from napari_plugin._qt.overlay import CanvasOverlay
from napari_plugin._qt.runner import REST_MS, JobRunner
from napari_plugin.jobs import Job, Outcome
from napari_plugin.model import FusionModel

DOCK = "medfuse: linked views"


class ViewBar(QWidget):
    """Two rows of buttons about what is seen.

    Signals
    -------
    failed (object)
        Outcome of a check that could not be made.
    followed ()
        What is seen has changed; boxes should follow.
    windowed (bool, float, float)
        A drag in a linked view; see `LinkedViews.window_chosen`.
    """

    failed = Signal(object)
    followed = Signal()
    windowed = Signal(bool, float, float)

    def __init__(self, model: FusionModel) -> None:
        super().__init__()
        self.model = model
        self.runner = JobRunner(self)
        self.linked: LinkedViews | None = None
        self.glass: CanvasOverlay | None = None
        self._dock: Any = None
        self._wanted: dict[str, bool] = {}
        self._turning: Iterator[None] | None = None
        self._is_stepping = False
        self.planes: dict[str, QPushButton] = {}
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(4)
        box.addLayout(self._plane_row())
        box.addLayout(self._tool_row())
        self.runner.ended.connect(self._on_ended)
        self.overlay.toggled.connect(lambda on: self.switch(outputs.OVERLAY, on))
        model.fusion_changed.connect(self._on_fusion)
        model.outputs_changed.connect(self.refresh)

    def _plane_row(self) -> QHBoxLayout:
        row = QHBoxLayout()
        for name, tip in views.PLANES.items():
            button = QPushButton(views.LABELS[name])
            button.setToolTip(tip)
            button.clicked.connect(lambda _=False, name=name: self.turn(name))
            row.addWidget(button)
            self.planes[name] = button
        self.overlay = _toggle(
            "Overla&y",
            "Show the customary overlay instead: hot colors laid half over the anatomical image.",
        )
        row.addWidget(self.overlay)
        return row

    def _tool_row(self) -> QHBoxLayout:
        row = QHBoxLayout()
        self.link = _toggle(
            "Linke&d views",
            "Planes and images side by side with one cross hair, below the canvas.",
        )
        self.link.toggled.connect(self.show_linked)
        self.jump = QPushButton("&Jump to")
        self.jump.setToolTip("Go to the hottest voxel, to the place with the largest registration "
                             "error, or to a contradiction.")  # fmt: skip
        menu = QMenu(self.jump)
        menu.aboutToShow.connect(self._fill_jumps)
        self.jump.setMenu(menu)
        self.jump.setEnabled(False)
        self.picture = QPushButton("Pict&ure")
        self.picture.setToolTip("Save the canvas or the linked views as a figure, the slices or "
                                "the turning 3-D view as a movie.")  # fmt: skip
        self.picture.setMenu(QMenu(self.picture))
        self.picture.setEnabled(False)
        for widget in (self.link, self.jump, self.picture):
            row.addWidget(widget)
        return row

    def turn(self, plane: str) -> None:
        """Turn the viewer to a plane or to 3-D; what was asked for last counts."""
        self._take(views.turning(self.model.viewer, plane, self.model.anatomical))

    def follow(self) -> None:
        """Arrange the layers after napari's own 2-D/3-D button, not after a turn of ours."""
        if not self._is_stepping:
            model = self.model
            later(lambda: self._take(views.arranging(model.viewer, model.anatomical)))

    @property
    def is_turning(self) -> bool:
        """Whether layers are still to be shown or hidden."""
        return self._turning is not None

    def settle(self) -> None:
        """Do at once what is left of a turn."""
        steps, self._turning = self._turning, None
        for _ in steps or ():
            pass

    def _take(self, steps: Iterator[None]) -> None:
        self._turning = steps
        self._step(steps)

    def _step(self, steps: Iterator[None]) -> None:
        """One step of a turn in each turn of the event loop."""
        if steps is not self._turning:
            return
        self._is_stepping = True
        try:
            next(steps)
        except StopIteration:
            self._turning = None
        else:
            later(lambda: self._step(steps))
        finally:
            self._is_stepping = False

    # -- what is switched on -------------------------------------------------------------------

    def switch(self, view: str, on: bool) -> None:
        """Switch a check or the overlay; what was asked for last counts."""
        self._wanted[view] = on
        self._next()

    def forget_wishes(self) -> None:
        """Switch and turn nothing more."""
        self._wanted.clear()
        self._turning = None

    def refresh(self) -> None:
        """Follow what is seen, whoever hid or deleted it."""
        has_result = self.model.result is not None
        for button in (self.overlay, self.link, self.jump, self.picture):
            button.setEnabled(has_result)
        self.overlay.blockSignals(True)
        self.overlay.setChecked(self.model.is_on(outputs.OVERLAY))
        self.overlay.blockSignals(False)
        self.followed.emit()

    def _next(self) -> None:
        """Switch one view after the other."""
        if self.runner.is_busy or not self._wanted:
            return
        view = next(iter(self._wanted))
        on = self._wanted.pop(view)
        job = self.model.view_job(view, on) or Job(view, lambda progress: None)
        self.runner.start(job, lambda made: self.model.show_view(view, on, made))

    def _on_ended(self, outcome: Outcome) -> None:
        self.failed.emit(outcome)
        self.refresh()
        self._next()

    def _on_fusion(self) -> None:
        """Make the checks anew that were made of the run before."""
        self.refresh()
        for view in self.model.outdated_views():
            self.switch(view, True)

    def _fill_jumps(self) -> None:
        menu = self.jump.menu()
        menu.clear()
        for text, go in self.model.jumps().items():
            menu.addAction(text).triggered.connect(lambda _=False, go=go: go())

    # -- linked views and the glass ------------------------------------------------------------

    def show_linked(self, on: bool) -> None:
        """Dock the linked views below the canvas, or take them away."""
        if on and self.linked is None:
            self.linked = LinkedViews(self.model)
            self.linked.window_chosen.connect(self.windowed)
            self.linked.destroyed.connect(self._linked_gone)
            if hasattr(self.model.viewer, "window"):
                window = self.model.viewer.window
                main = self.window()
                if isinstance(main, QMainWindow):  # below the canvas, not below the panel
                    corner, right = Qt.Corner, Qt.DockWidgetArea.RightDockWidgetArea
                    main.setCorner(corner.BottomRightCorner, right)
                self._dock = window.add_dock_widget(self.linked, name=DOCK, area="bottom")
        if self._dock is not None:
            self._dock.setVisible(on)

    def _linked_gone(self) -> None:
        """The user has closed the dock."""
        self.linked = self._dock = None
        self.link.blockSignals(True)
        self.link.setChecked(False)
        self.link.blockSignals(False)

    def lay_over(self, window: QWidget) -> None:
        """Draw letters, bar, scale and cross hair over the canvas of a window."""
        if self.glass is None:
            self.glass = CanvasOverlay.over(self.model, window)

    def close_views(self) -> None:
        """Let go of the viewer."""
        if self.glass is not None:
            self.glass.close_overlay()
            self.glass = None
        if self.linked is not None:
            self.linked.close_views()
            self.linked.destroyed.disconnect(self._linked_gone)
            if self._dock is not None:
                self._dock.hide()
        self.linked = self._dock = None


def later(action: Callable[[], None]) -> None:
    """A moment later, so that the window lives between two steps."""
    QTimer.singleShot(REST_MS, action)


def _toggle(text: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setCheckable(True)
    button.setEnabled(False)
    button.setToolTip(tip)
    return button
