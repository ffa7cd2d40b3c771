"""Looking at a result: the slice that is previewed, checks of the alignment, places, values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from medfuse.audit import Check
from napari_plugin import outputs, views
from napari_plugin.jobs import Job
from napari_plugin.layers import TAG
from napari_plugin.places import hottest, index_in_layer, place_of, worst_registered
from napari_plugin.positions import error_here, error_output
from napari_plugin.preview import fuse_slice
from napari_plugin.readout import describe_point
from napari_plugin.records import Aligned, PaintedSlice
from napari_plugin.result import Result
from napari_plugin.sight import Sight, sight_of
from napari_plugin.state import PanelState
from napari_plugin.work import before_view, check_view, readable

BEFORE = "before"
HOTTEST = "Hottest voxel"
WORST = "Place with the largest registration error"
CONTRADICTED = "Worst contradiction"
SWITCHED = (outputs.CHECKER, outputs.EDGES, outputs.OVERLAY)


class Looking(PanelState):
    """What a panel shows of its state in the viewer.

    Attributes
    ----------
    previewed : Signal
        Voxels of the picture were painted anew in place.
    """

    previewed = Signal()

    def __init__(self, viewer: Any) -> None:
        self._views: frozenset[str] = frozenset()  # checks that are switched on
        self._painted: list[tuple[tuple[slice, ...], NDArray[Any]]] = []  # what previews hid
        self._sight: tuple[tuple[Any, ...], Sight | None] = ((), None)
        super().__init__(viewer)

    def judge(self) -> Result | None:
        """As `PanelState.judge`; what was only a preview of other settings is taken back."""
        result = super().judge()
        if result is not None and result.is_current:
            self._take_back()
        return result

    def preview_job(self) -> Job | None:
        """Fuse the slice that is looked at; value for :meth:`show_preview`.

        None where there is no picture of this pair to paint into.
        """
        layer = outputs.find(self.viewer, outputs.PICTURE)
        fusion, settings = self.fusion, self.settings
        if layer is None or fusion is None or fusion.pair.key != self.pair_key():
            return None
        index = layer.world_to_data(np.asarray(self.viewer.dims.point)[-layer.ndim :])
        moved = self.registration if self.registration is not fusion.registration else None
        return Job("Preview", lambda progress: fuse_slice(fusion, settings, moved, index))

    def show_preview(self, painted: PaintedSlice) -> None:
        """Paint a slice into the picture, unless it previews nothing new by now."""
        layer, result = outputs.find(self.viewer, outputs.PICTURE), self.judge()
        if layer is None or result is None or painted.fusion is not result.fusion:
            return
        if result.is_current:
            return
        if all(where != painted.where for where, _ in self._painted):
            self._painted.append((painted.where, layer.data[painted.where].copy()))
        layer.data[painted.where] = painted.rgb
        layer.refresh(extent=False, thumbnail=False)
        self.previewed.emit()

    def _take_back(self) -> None:
        """Put the slices back that previews have painted over."""
        layer = outputs.find(self.viewer, outputs.PICTURE)
        painted, self._painted = self._painted, []
        if layer is None or not painted:
            return
        for where, rgb in painted:
            layer.data[where] = rgb
        layer.refresh(extent=False, thumbnail=False)
        self.previewed.emit()

    def view_job(self, view: str, on: bool) -> Job | None:
        """Make what a view shows, value for :meth:`show_view`; None where nothing has to be made.

        Parameters
        ----------
        view : {"before", "checkerboard", "edges", "overlay", "expected-error"}
        on : bool
        """
        fusion, aligned = self.fusion, self._aligned
        if view == outputs.EXPECTED_ERROR:
            return self._error_job() if on else None
        if view == BEFORE:
            if not on or aligned is None or self.registration is None:
                return None
            return Job("Before registration", lambda progress: (aligned, before_view(aligned)))
        self._views = self._views | {view} if on else self._views - {view}
        if not on or fusion is None or fusion.pair.key != self.pair_key():
            return None
        return Job(view.capitalize(), lambda progress: (fusion, check_view(view, fusion)))

    def _error_job(self) -> Job | None:
        """Map the expected error of what is aligned; None where it was not measured."""
        found, aligned, fusion = self.registration, self._aligned, self.fusion
        if found is None or found.expected is None or aligned is None:
            return None
        of = fusion if fusion is not None and found is not aligned.registration else aligned
        source = aligned.pair.anatomical
        return Job("Expected error", lambda progress: (of, error_output(found, source)))

    def show_view(self, view: str, on: bool, made: Any = None) -> Iterator[Any]:
        """Switch a view, with what its job has made; what is out of date by now is dropped."""
        of, shown = made if made is not None else (None, None)
        if view == BEFORE:
            self._show_before(shown if of is self._aligned else None)
        elif of is not None and of in (self.fusion, self._aligned):
            yield from outputs.show(self.viewer, (shown,), of.pair.anatomical, of=of.token)
        layer = outputs.find(self.viewer, view)
        if layer is not None:
            layer.visible = on
        self._mark()

    def is_on(self, view: str) -> bool:
        """Whether a view is what can be seen now."""
        if view == BEFORE:
            layer = outputs.find(self.viewer, outputs.ON_GRID)
            return layer is not None and bool(layer.metadata[TAG]["unregistered"])
        layer = outputs.find(self.viewer, view)
        return layer is not None and bool(layer.visible)

    def outdated_views(self) -> list[str]:
        """Checks that are seen and are not of the last fusion."""
        layers = {view: outputs.find(self.viewer, view) for view in SWITCHED if self.is_on(view)}
        token = self.fusion.token if self.fusion is not None else ""
        return [view for view, layer in layers.items() if layer.metadata[TAG]["of"] != token]

    def sight(self) -> Sight | None:
        """What linked views show: the last fusion, in the windows that are chosen."""
        layer, result = outputs.find(self.viewer, outputs.PICTURE), self.result
        if result is None or layer is None or layer.metadata[TAG]["of"] != result.fusion.token:
            return None
        chosen = self.settings if self._is_same_pair else result.fusion.settings
        what = (
            result.fusion.token, id(layer.data), result.suffix, chosen.bias, chosen.window,
            chosen.anatomical_window,
        )  # fmt: skip
        if what != self._sight[0]:
            self._sight = (what, sight_of(result.fusion, layer.data, chosen, result.suffix))
        return self._sight[1]

    def has_place(self, check: Check) -> bool:
        """Whether `go_to` leads somewhere."""
        fusion = self.fusion
        is_known = fusion is not None and check.id == "registration" and fusion.registration.places
        return place_of(check) is not None or bool(is_known)

    def go_to(self, check: Check) -> bool:
        """Turn to the place that a check of the last fusion names; False where it names none.

        For the registration, where its expected error is largest.
        """
        place = place_of(check)
        if self.fusion is None:
            return False
        if place is None:
            found, source = self.fusion.registration, self.fusion.pair.anatomical
            is_known = check.id == "registration"
            return self._turn_to(worst_registered(found, source) if is_known else None)
        self._turn_to(index_in_layer(self.fusion.pair.anatomical, place))
        lines = outputs.find(self.viewer, outputs.CONTRADICTION)
        if lines is not None and check.id == "contradiction":
            lines.visible = True
        return True

    def jumps(self) -> dict[str, Callable[[], bool]]:
        """Places of the last fusion that a reader looks for first, and how to get there."""
        fusion = self.fusion
        if fusion is None or outputs.find(self.viewer, outputs.PICTURE) is None:
            return {}
        source, found = fusion.pair.anatomical, {}
        if len(fusion.on_grid) == 1:
            found[HOTTEST] = lambda: self._turn_to(hottest(fusion.on_grid, source))
        worst = worst_registered(fusion.registration, source)
        if worst is not None:
            found[WORST] = lambda: self._turn_to(worst)
        for check in fusion.audit.checks:
            if check.id == "contradiction" and check.verdict != "pass" and place_of(check):
                found[CONTRADICTED] = lambda check=check: self.go_to(check)
        return found

    def _turn_to(self, index: tuple[float, ...] | None) -> bool:
        layer = outputs.find(self.viewer, outputs.PICTURE)
        if layer is None or index is None:
            return False
        views.go_to(self.viewer, layer, index)
        return True

    def read_out(self, position: Any) -> str:
        """One line about a point of napari's world; empty where there is no result."""
        layer = outputs.find(self.viewer, outputs.PICTURE)
        if self.result is None or layer is None:
            return ""
        if layer.metadata[TAG]["of"] != self.result.fusion.token:
            return ""  # between two layers of a new result
        index = layer.world_to_data(np.asarray(position)[-layer.ndim :])
        fusion = self.result.fusion
        parts = (
            describe_point(readable(fusion), index),
            error_here(fusion.registration, fusion.pair.anatomical, index),
        )
        return self.result.headed("  |  ".join(part for part in parts if part))

    def _show_before(self, unregistered: Any) -> None:
        layer, aligned = outputs.find(self.viewer, outputs.ON_GRID), self._aligned
        if layer is None or aligned is None:
            return
        on = unregistered is not None
        if on or self.is_on(BEFORE):
            layer.data = unregistered if on else self._on_grid(layer, aligned)
        layer.metadata[TAG] = {**layer.metadata[TAG], "unregistered": on}
        layer.visible = on or self.fusion is None
        picture = outputs.find(self.viewer, outputs.PICTURE)
        if picture is not None:
            picture.visible = not on

    def _on_grid(self, layer: Any, aligned: Aligned) -> Any:
        """What the layer of the functional image shows otherwise."""
        fusion = self.fusion
        is_fused = fusion is not None and layer.metadata[TAG]["of"] == fusion.token
        of = fusion.aligned if fusion is not None and is_fused else aligned
        source = of.pair.anatomical
        return outputs.shown(of.on_grid, source.order, flat=source.flat)
