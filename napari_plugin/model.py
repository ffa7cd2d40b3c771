"""The panel without Qt: what is chosen, what may be done, and what happens in the viewer.

Works on a ``napari.components.ViewerModel``. Long work is handed out as :class:`Job` for a
thread; what it brings back is put into the viewer by the ``show_*`` methods in the main thread.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from psygnal import Signal

from medfuse.audit import Check
from medfuse.fusion.choice import default_colormap
from medfuse.imaging.windows import Window, default_window
from medfuse.registration.result import Registration
from medfuse.settings import CaseSettings, settings_from
from napari_plugin import outputs, views
from napari_plugin.choice import LayerChoice
from napari_plugin.jobs import Job, Progress, Reporter
from napari_plugin.moving import moved_by_hand
from napari_plugin.places import index_in_layer, place_of
from napari_plugin.positions import error_here, error_output
from napari_plugin.preview import first_slice, fuse_slice
from napari_plugin.readout import describe_point
from napari_plugin.records import Aligned, Early, Fusion, PaintedSlice, Refused
from napari_plugin.result import Now, Result
from napari_plugin.values import checked
from napari_plugin.work import (
    align,
    before_view,
    bring_by_hand,
    check_view,
    checked_pair,
    fuse_aligned,
    part,
    readable,
    suspect,
)

Vector = tuple[float, float, float]
STILL: Vector = (0.0, 0.0, 0.0)
BEFORE = "before"


class FusionModel(LayerChoice):
    """State and actions of one panel.

    Parameters
    ----------
    viewer : napari.components.ViewerModel

    Attributes
    ----------
    registration_changed, fusion_changed : Signal
        Something that the panel shows is new.
    result_changed : Signal
        The result that is shown became, or is no longer, that of what is chosen.
    """

    registration_changed = Signal()
    fusion_changed = Signal()
    result_changed = Signal()

    def __init__(self, viewer: Any) -> None:
        self.settings = CaseSettings()
        self.result: Result | None = None
        self._aligned: Aligned | None = None
        self._moved: Registration | None = None  # by hand, after it was found
        self.nudged: tuple[Vector, Vector] = (STILL, STILL)
        self._views: frozenset[str] = frozenset()  # checks that are switched on
        self._is_early = False  # the picture is one slice of a run that goes on
        super().__init__(viewer)
        for signal in (self.layers_changed, self._layer_changed, self.registration_changed):
            signal.connect(self.judge)

    @property
    def fusion(self) -> Fusion | None:
        """The last fusion; `result` says whether it is that of what is chosen."""
        return self.result.fusion if self.result is not None else None

    def judge(self) -> Result | None:
        """Compare the result with what is chosen now; names of its layers follow."""
        if self.result is None:
            return None
        now = Now(self.pair_key(), self.registration, self.settings)
        judged = Result.of(self.result.fusion, now)
        if judged.why != self.result.why:
            self.result = judged
            outputs.mark(self.viewer, judged.suffix)
            self.result_changed.emit()
        return self.result

    @property
    def registration(self) -> Registration | None:
        """The registration of the chosen pair, moved by hand or as found; None before."""
        if self._aligned is None or self._aligned.pair.key != self.pair_key():
            return None
        return self._moved or self._aligned.registration

    def colormap(self) -> str:
        """The chosen colour map, or the one that the modality gets."""
        return self.settings.colormap or default_colormap(self.word(self.functional))

    def registration_text(self) -> tuple[str, bool]:
        """What the panel says about the registration, and whether it is suspect."""
        found = self.registration
        if found is None:
            return "Not registered yet.", False
        text = (
            f"{found.verdict.upper()}: moved {found.shift_mm:.1f} mm, turned "
            f"{found.rotation_deg:.1f} degrees ({found.method})."
        )
        if not math.isnan(found.overlap):
            text += f" Overlap {100 * found.overlap:.0f} %."
        if found.places:
            text += f" {found.error_words().capitalize()} (90 % of cases)."
        doubted = found.verdict != "good"
        if doubted:
            text += f" {'; '.join(found.reasons)}"
        return text, found.verdict == "suspect"

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
        pair, settings = self.pair(), self.settings

        def work(progress: Progress) -> Aligned:
            return align(checked_pair(pair, settings), settings, progress)

        return Job("Registration", work)

    def fusion_job(self) -> Job:
        """Register where that was not done yet, then fuse; value for :meth:`show`."""
        pair = self.pair()
        settings = self.settings.model_copy(update=pair.statements)
        known = self._aligned if self._aligned and self._aligned.pair.key == pair.key else None
        moved, views = self._moved, self._views
        is_first = outputs.find(self.viewer, outputs.PICTURE) is None
        index = self.anatomical.world_to_data(self.viewer.dims.point[-self.anatomical.ndim :])

        def work(progress: Reporter) -> Fusion | Refused:
            true = checked_pair(pair, settings)
            aligned = known or align(true, settings, part(progress, 0.0, 0.5))
            if known and moved:
                aligned = bring_by_hand(true, moved, settings, part(progress, 0.0, 0.5))
            error = suspect(aligned.registration, settings)
            if error is not None:
                return Refused(aligned, error)
            if is_first:
                progress.show(Early(first_slice(aligned, settings, index), true.anatomical))
            return fuse_aligned(aligned, settings, part(progress, 0.5, 1.0), views=views)

        return Job("Fusion", work)

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
        for _ in outputs.show(self.viewer, (early.picture,), early.source):
            pass

    def drop_early(self) -> None:
        """Take the first slice away again, because its run did not end well."""
        layer = outputs.find(self.viewer, outputs.PICTURE)
        if self._is_early and layer is not None:
            self.viewer.layers.remove(layer)
        self._is_early = False

    def nudge(self, shift: Vector, turn: Vector) -> bool:
        """Move the functional image by hand, counted from the registration that was found.

        Parameters
        ----------
        shift : (3,) float
            To the patient's left, posterior, inferior; mm.
        turn : (3,) float
            About the left-right, front-back and head-feet axis through the middle of the
            anatomical image; degrees, right-handed in RAS.

        Returns
        -------
        bool
            Whether there was a registration to move.
        """
        if self.registration is None or self._aligned is None:
            return False
        found = self._aligned.registration
        centre = self._aligned.pair.anatomical.grid.centre
        self.nudged = (shift, turn)
        self._moved = (
            None if self.nudged == (STILL, STILL) else moved_by_hand(found, shift, turn, centre)
        )
        self.registration_changed.emit()
        return True

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
        """Paint a slice into the picture, unless another result is there by now."""
        layer = outputs.find(self.viewer, outputs.PICTURE)
        if layer is None or painted.fusion is not self.fusion:
            return
        layer.data[painted.where] = painted.rgb
        layer.refresh(extent=False, thumbnail=False)

    def view_job(self, view: str, on: bool) -> Job | None:
        """Make what a view shows, value for :meth:`show_view`; None where nothing has to be made.

        Parameters
        ----------
        view : {"before", "checkerboard", "edges", "overlay", "expected-error"}
        on : bool
        """
        fusion, aligned, found = self.fusion, self._aligned, self.registration
        if view == outputs.EXPECTED_ERROR:
            if not on or aligned is None or found is None or found.expected is None:
                return None
            return Job("Expected error", lambda _: error_output(found, aligned.pair.anatomical))
        if view == BEFORE:
            if not on or aligned is None or self.registration is None:
                return None
            return Job("Before registration", lambda progress: before_view(aligned))
        self._views = self._views | {view} if on else self._views - {view}
        if not on or fusion is None or fusion.pair.key != self.pair_key():
            return None
        return Job(view.capitalize(), lambda progress: check_view(view, fusion))

    def show_view(self, view: str, on: bool, made: Any = None) -> Iterator[Any]:
        """Switch a view, with what its job has made."""
        if view == BEFORE:
            self._show_before(made)
        elif made is not None and (of := self._aligned or self.fusion) is not None:
            yield from outputs.show(self.viewer, (made,), of.pair.anatomical)
        layer = outputs.find(self.viewer, view)
        if layer is not None:
            layer.visible = on

    def summary(self) -> str:
        """One line on the last fusion."""
        result = self.judge()
        return result.status if result is not None else "Ready."

    def go_to(self, check: Check) -> bool:
        """Turn to the place that a check of the last fusion names; False where it names none."""
        place, layer = place_of(check), outputs.find(self.viewer, outputs.PICTURE)
        if place is None or layer is None or self.fusion is None:
            return False
        views.go_to(self.viewer, layer, index_in_layer(self.fusion.pair.anatomical, place))
        lines = outputs.find(self.viewer, outputs.CONTRADICTION)
        if lines is not None and check.id == "contradiction":
            lines.visible = True
        return True

    def forget_registration(self) -> None:
        """Drop the registration, e.g. because another way of registering was chosen."""
        self._aligned = self._moved = None
        self.nudged = (STILL, STILL)
        self.registration_changed.emit()

    def choose(self, **changes: Any) -> None:
        """Change settings; a new way of registering makes the old registration void.

        Raises
        ------
        UsageError
            ``E_SETTINGS``, which names the setting; nothing was changed.
        """
        before = self.settings
        self.settings = settings_from({**dict(before), **changes})
        ways = ("registration", "choose")
        other_way = any(getattr(self.settings, n) != getattr(before, n) for n in ways)
        if other_way and self.registration is not None:
            self.forget_registration()
        self.judge()

    # -- read-out ----------------------------------------------------------------------------

    def read_out(self, position: Any) -> str:
        """One line about a point of napari's world; empty where there is no result."""
        layer = outputs.find(self.viewer, outputs.PICTURE)
        if self.result is None or layer is None:
            return ""
        index = layer.world_to_data(np.asarray(position)[-layer.ndim :])
        fusion = self.result.fusion
        parts = (
            describe_point(readable(fusion), index),
            error_here(fusion.registration, fusion.pair.anatomical, index),
        )
        return self.result.headed("  |  ".join(part for part in parts if part))

    # -- private -----------------------------------------------------------------------------

    def _show_fusion(self, fusion: Fusion) -> Iterator[Any]:
        is_new = self._aligned is None or self._aligned.pair.key != fusion.pair.key
        if is_new:  # else a registration that was moved by hand meanwhile is kept
            self._keep(fusion.aligned)
        is_first = self._is_early or outputs.find(self.viewer, outputs.PICTURE) is None
        self._is_early = False
        yield from outputs.show(self.viewer, fusion.outputs, fusion.pair.anatomical)
        for role in (outputs.PAINTED, outputs.CONTRADICTION):
            layer = outputs.find(self.viewer, role)
            if layer is not None and all(output.role != role for output in fusion.outputs):
                self.viewer.layers.remove(layer)  # of an earlier run
        if is_first:
            self._hide(self.functional, outputs.find(self.viewer, outputs.ON_GRID))
        self.result = Result(fusion)
        moved = self._moved
        if moved is not None and np.array_equal(moved.matrix, fusion.registration.matrix):
            self._moved = fusion.registration  # measured by now
        self.judge()
        if is_new or moved is not None:
            self.registration_changed.emit()
        self.fusion_changed.emit()

    def _show_aligned(self, aligned: Aligned) -> Iterator[Any]:
        self._keep(aligned)
        layer = outputs.aligned_output(aligned, self.colormap())
        yield from outputs.show(self.viewer, (layer,), aligned.pair.anatomical)
        self._hide(self.functional)  # it still lies where its file has it
        self.registration_changed.emit()

    @staticmethod
    def _hide(*layers: Any | None) -> None:
        for layer in layers:
            if layer is not None:
                layer.visible = False

    def _keep(self, aligned: Aligned) -> None:
        self._aligned, self._moved = aligned, None
        self.nudged = (STILL, STILL)

    def _show_before(self, unregistered: Any) -> None:
        layer, aligned = outputs.find(self.viewer, outputs.ON_GRID), self._aligned
        if layer is None or aligned is None:
            return
        on = unregistered is not None
        layer.data = unregistered if on else self._on_grid(aligned)
        layer.visible = on or self.fusion is None
        picture = outputs.find(self.viewer, outputs.PICTURE)
        if picture is not None:
            picture.visible = not on

    def _on_grid(self, aligned: Aligned) -> Any:
        """What the layer of the functional image shows otherwise."""
        source = aligned.pair.anatomical
        shown = self.fusion.on_grid if self.fusion is not None else aligned.on_grid
        return outputs.shown(shown, source.order, flat=source.flat)
