"""The panel without Qt: what is chosen, what may be done, and what happens in the viewer.

Works on a ``napari.components.ViewerModel``. Long work is handed out as :class:`Job` for a
thread; what it brings back is put into the viewer by the ``show_*`` methods in the main thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from medfuse.imaging.grid import Matrix
from medfuse.imaging.windows import Window, default_window
from medfuse.settings import CaseSettings
from napari_plugin import outputs
from napari_plugin.jobs import Job, Progress, Reporter, let_go
from napari_plugin.looking import BEFORE, Looking
from napari_plugin.must_fit import MustFit
from napari_plugin.preview import coarse_slice, first_slice
from napari_plugin.records import COARSE, Aligned, Early, Fusion, Pair, Refused
from napari_plugin.result import Result
from napari_plugin.state import STILL
from napari_plugin.values import checked
from napari_plugin.work import (
    align,
    bring_by_hand,
    bring_to_grid,
    checked_pair,
    fuse_aligned,
    part,
    suspect,
)


class FusionModel(Looking):
    """State and actions of one panel; see `PanelState` for what it tells."""

    def __init__(self, viewer: Any) -> None:
        self._is_early = False  # the picture is one slice of a run that goes on
        super().__init__(viewer)

    # -- work for a thread -------------------------------------------------------------------

    def windows_job(self) -> Job:
        """Default windows of both layers: value is (functional, anatomical), None for RGB."""
        pair = self.pair()

        def work(progress: Progress) -> tuple[Window | None, Window | None]:
            return tuple(
                None if source.rgb else default_window(checked(source).volume())
                for source in (pair.functional, pair.anatomical)
            )

        return Job("Choosing windows", work)

    def registration_job(self) -> Job:
        """Align the functional to the anatomical layer; value for :meth:`show`."""
        pair, settings, must_fit = self.pair(), self.settings, self._must_fit()

        def work(progress: Progress) -> Aligned:
            return align(checked_pair(pair, settings), settings, progress, must_fit=must_fit)

        return Job("Registration", work)

    def fusion_job(self) -> Job:
        """Register where that was not done yet, then fuse; value for :meth:`show`."""
        pair = self.pair()
        settings = self.settings.model_copy(update=pair.statements)
        known = self._aligned if self._aligned and self._is_aligned_so(self._aligned) else None
        must_fit = self._must_fit()
        moved, views, opened = self._moved, self._views, self._opened
        is_first = outputs.find(self.viewer, outputs.PICTURE) is None
        index = self.anatomical.world_to_data(self.viewer.dims.point[-self.anatomical.ndim :])

        def work(progress: Reporter) -> Fusion | Refused:
            true = checked_pair(pair, settings)
            aligned = known
            if aligned is None and opened and must_fit is None and opened.is_of(true):
                found = opened.fusion.aligned
                aligned = bring_to_grid(true, found.registration, found.region)
            if aligned is None:
                look = _first_look(true, settings, index, progress) if is_first else None
                half = part(progress, 0.0, 0.5)
                aligned = align(true, settings, half, found=look, must_fit=must_fit)
            if known and moved:
                aligned = bring_by_hand(known, true, moved, settings, part(progress, 0.0, 0.5))
            error = suspect(aligned.registration, settings)
            if error is not None:
                return Refused(aligned, error)
            if is_first:
                progress.show(Early(first_slice(aligned, settings, index), true.anatomical))
            return fuse_aligned(aligned, settings, part(progress, 0.5, 1.0), views=views)

        return Job("Fusion", work)

    def _must_fit(self) -> MustFit | None:
        """The region that the registration of the chosen layers must get right."""
        return self.must_fit.chosen(self.settings, (self.anatomical, self.functional))

    # -- results -----------------------------------------------------------------------------

    def show(self, value: Aligned | Refused | Fusion) -> Iterator[Any]:
        """Put what a job brought into the viewer, a layer at each step.

        Layers of an earlier run are updated in place.

        Raises
        ------
        RegistrationError
            ``E_REGISTRATION`` where the job refused to fuse; the alignment can be looked at.
        """
        match value:
            case Fusion():
                yield from self._show_fusion(value)
            case Refused(aligned, error):
                yield from self._show_aligned(aligned)
                raise error
            case Aligned():
                yield from self._show_aligned(value)

    def show_early(self, early: Early) -> None:
        """Show the first fused slice; the rest of the picture is still the anatomical image."""
        self._is_early = True
        for _ in outputs.show(self.viewer, (early.picture,), early.source, of=early.token):
            pass
        self._mark()

    def drop_early(self) -> None:
        """Take the first slice away again, because its run did not end well."""
        layer = outputs.find(self.viewer, outputs.PICTURE)
        if self._is_early and layer is not None:
            self.viewer.layers.remove(layer)
        self._is_early = False

    # -- private -----------------------------------------------------------------------------

    def _show_fusion(self, fusion: Fusion) -> Iterator[Any]:
        is_new = self._aligned is None or self._aligned.pair.key != fusion.pair.key
        if is_new:  # else a registration that was moved by hand meanwhile is kept
            self._keep(fusion.aligned)
        is_first = self._is_early or outputs.find(self.viewer, outputs.PICTURE) is None
        was_before, self._is_early = self.is_on(BEFORE), False
        before, self._painted = [self.result], []
        self.result = Result(fusion)  # first, so that layers of the run before are called so
        source = fusion.pair.anatomical
        yield from outputs.show(self.viewer, fusion.outputs, source, of=fusion.token)
        for role in outputs.NOT_ALWAYS:
            layer = outputs.find(self.viewer, role)
            if layer is not None and all(output.role != role for output in fusion.outputs):
                self.viewer.layers.remove(layer)  # of an earlier run
        if is_first and fusion.pair.key == self.pair_key():
            self._hide(self.functional)
        if is_first or was_before:
            self._hide(outputs.find(self.viewer, outputs.ON_GRID))
            self._reveal_picture()
        moved = self._moved
        if moved is not None and np.array_equal(moved.matrix, fusion.registration.matrix):
            self._moved = fusion.registration  # measured by now
        self.judge()
        if is_new or moved is not None:
            self.registration_changed.emit()
        self.fusion_changed.emit()
        let_go(before)

    def _show_aligned(self, aligned: Aligned) -> Iterator[Any]:
        was_before = self.is_on(BEFORE)
        self._keep(aligned)
        layer = outputs.aligned_output(aligned, self.colormap())
        source = aligned.pair.anatomical
        yield from outputs.show(self.viewer, (layer,), source, of=aligned.token)
        if aligned.pair.key == self.pair_key():
            self._hide(self.functional)  # it still lies where its file has it
        if was_before:
            self._reveal_picture()
        self.registration_changed.emit()

    def _reveal_picture(self) -> None:
        picture = outputs.find(self.viewer, outputs.PICTURE)
        if picture is not None:
            picture.visible = True

    @staticmethod
    def _hide(*layers: Any | None) -> None:
        for layer in layers:
            if layer is not None:
                layer.visible = False

    def _keep(self, aligned: Aligned) -> None:
        self._aligned, self._moved = aligned, None
        self.nudged = (STILL, STILL)


def _first_look(
    pair: Pair, settings: CaseSettings, index: Any, progress: Reporter
) -> Callable[[Matrix], None]:
    """Show the slice that is looked at as soon as a registration has a coarse position."""

    def show(matrix: Matrix) -> None:
        picture = coarse_slice(pair, matrix, settings, index)
        progress.show(Early(picture, pair.anatomical, COARSE))

    return show
