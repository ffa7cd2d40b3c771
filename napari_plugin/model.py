"""The panel without Qt: what is chosen, what may be done, and what happens in the viewer.

Works on a ``napari.components.ViewerModel``. Long work is handed out as :class:`Job` for a
thread; what it brings back is put into the viewer by the ``show_*`` methods in the main thread.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from napari.layers import Image
from psygnal import Signal

from medfuse.errors import UsageError
from medfuse.fusion import DEFAULT_COLORMAP
from medfuse.imaging.registration import Registration
from medfuse.imaging.windows import Window, default_window
from napari_plugin import outputs
from napari_plugin.jobs import Job, Progress
from napari_plugin.layers import facts, linear_map, missing, read_layer, state
from napari_plugin.moving import moved_by_hand, unmoved
from napari_plugin.preview import paint_slice
from napari_plugin.readout import describe_point
from napari_plugin.work import (
    Fusion,
    Pair,
    Settings,
    fuse_pair,
    part,
    readable,
    refuse_mixed_patients,
    refuse_suspect,
    register_pair,
)

FUNCTIONAL_FIRST = ("PET", "SPECT", "CT")
ANATOMICAL_FIRST = ("MRI", "CT")
Vector = tuple[float, float, float]
STILL: Vector = (0.0, 0.0, 0.0)


class FusionModel:
    """State and actions of one panel.

    Parameters
    ----------
    viewer : napari.components.ViewerModel

    Attributes
    ----------
    layers_changed, registration_changed, fusion_changed : Signal
        Something that the panel shows is new.
    """

    layers_changed = Signal()
    registration_changed = Signal()
    fusion_changed = Signal()

    def __init__(self, viewer: Any) -> None:
        self.viewer = viewer
        self.settings = Settings()
        self.registration: Registration | None = None
        self.fusion: Fusion | None = None
        self._found: Registration | None = None  # before it was moved by hand
        self._registered: tuple[Any, ...] | None = None
        self.nudged: tuple[Vector, Vector] = (STILL, STILL)
        self._anatomical: weakref.ref[Any] | None = None
        self._functional: weakref.ref[Any] | None = None
        for event in (viewer.layers.events.inserted, viewer.layers.events.removed):
            event.connect(self._on_layers)
        viewer.layers.events.inserted.connect(self._watch_name)
        for layer in viewer.layers:
            layer.events.name.connect(self._on_name)
        self.guess_pair()

    # -- layers ------------------------------------------------------------------------------

    def candidates(self) -> list[Any]:
        """Image layers that can be fused: not our own outputs."""
        return [
            layer
            for layer in self.viewer.layers
            if isinstance(layer, Image) and outputs.role_of(layer) is None
        ]

    @property
    def anatomical(self) -> Any | None:
        """The chosen anatomical layer, None where it is gone."""
        return self._alive(self._anatomical)

    @anatomical.setter
    def anatomical(self, layer: Any | None) -> None:
        self._anatomical = weakref.ref(layer) if layer is not None else None

    @property
    def functional(self) -> Any | None:
        """The chosen functional layer, None where it is gone."""
        return self._alive(self._functional)

    @functional.setter
    def functional(self, layer: Any | None) -> None:
        self._functional = weakref.ref(layer) if layer is not None else None

    def guess_pair(self) -> None:
        """Fill an empty choice from what the layers say of themselves."""
        layers = self.candidates()
        if self.functional is None:
            rest = [layer for layer in layers if layer is not self.anatomical]
            self.functional = _first_of(rest, FUNCTIONAL_FIRST)
        if self.anatomical is None:
            rest = [layer for layer in layers if layer is not self.functional]
            self.anatomical = _first_of(rest, ANATOMICAL_FIRST)

    def missing(self, layer: Any | None) -> tuple[str, ...]:
        """What has to be asked about a layer before it can be used."""
        return missing(layer) if layer is not None else ()

    def word(self, layer: Any | None) -> str:
        """Modality of a layer, empty where it is unknown."""
        found = facts(layer).get("modality", "") if layer is not None else ""
        return "" if found == "unknown" else found

    def colormap(self) -> str:
        """The chosen colour map, or the one that the modality gets."""
        return self.settings.colormap or DEFAULT_COLORMAP.get(self.word(self.functional), "ember")

    def patients_differ(self) -> bool:
        """Whether the headers of the chosen layers name two patients."""
        layers = [layer for layer in (self.anatomical, self.functional) if layer is not None]
        found = {(facts(layer).get("source") or {}).get("patient") for layer in layers}
        return len(found - {None}) > 1

    def registration_text(self) -> tuple[str, bool]:
        """What the panel says about the registration, and whether it is suspect."""
        found = self.registration
        if found is None or self._registered != self._pair_key():
            return "Not registered yet.", False
        text = (
            f"{found.verdict.upper()}: moved {found.shift_mm:.1f} mm, turned "
            f"{found.rotation_deg:.1f} degrees ({found.method}). Overlap "
            f"{100 * found.overlap:.0f} %, mutual information {found.metric_before:.2f} before, "
            f"{found.metric_after:.2f} after."
        )
        suspect = found.verdict == "suspect"
        return (f"{text} {'; '.join(found.reasons)}" if suspect else text), suspect

    def state(self, layer: Any, **said: Any) -> None:
        """Store what the user says about a layer: ``modality``, ``unit``, ``scale_is_mm``."""
        state(layer, **said)
        self.layers_changed.emit()

    def pair(self) -> Pair:
        """Read both chosen layers.

        Raises
        ------
        UsageError, UnitError, GeometryError
            If a layer is not chosen or cannot be used.
        """
        chosen = {"anatomical": self.anatomical, "functional": self.functional}
        for role, layer in chosen.items():
            if layer is None:
                raise UsageError(
                    "E_NO_LAYER",
                    what="Cannot start",
                    cause=f"no {role} layer is chosen",
                    remedy="Open images (File > Open Sample > medfuse has some) and choose them",
                )
        if self.anatomical is self.functional:
            raise UsageError(
                "E_SAME_LAYER",
                what="Cannot start",
                where=self.anatomical.name,
                cause="one layer was chosen for both roles",
                remedy="Choose another layer for one of them",
            )
        sources = [read_layer(layer) for layer in chosen.values()]
        if sources[0].rgb:
            raise UsageError(
                "E_RGB_ANATOMICAL",
                what="Cannot start",
                where=sources[0].name,
                cause="the anatomical layer is a colour picture, which has no single value a voxel",
                remedy="Choose a grey image as the anatomical layer",
            )
        return Pair(*sources, self._pair_key())

    # -- work for a thread -------------------------------------------------------------------

    def windows_job(self) -> Job:
        """Default windows of both layers: value is (functional, anatomical), None for RGB."""
        pair = self.pair()

        def work(progress: Progress) -> tuple[Window | None, Window | None]:
            return tuple(
                None if source.rgb else default_window(source.volume())
                for source in (pair.functional, pair.anatomical)
            )

        return Job("Choosing windows", work)

    def registration_job(self) -> Job:
        """Align the functional to the anatomical layer; value is (pair, Registration)."""
        pair, settings = self.pair(), self.settings

        def work(progress: Progress) -> tuple[Pair, Registration]:
            refuse_mixed_patients(pair, settings)
            return pair, register_pair(pair, settings, progress)

        return Job("Registration", work)

    def fusion_job(self) -> Job:
        """Register where that was not done yet, then fuse; value is a :class:`Fusion`."""
        pair, settings = self.pair(), self.settings
        known = self.registration if self._registered == pair.key else None

        def work(progress: Progress) -> Fusion:
            refuse_mixed_patients(pair, settings)
            registration = known or register_pair(pair, settings, part(progress, 0.0, 0.5))
            refuse_suspect(registration, settings)
            return fuse_pair(pair, registration, settings, part(progress, 0.5, 1.0))

        return Job("Fusion", work)

    # -- results -----------------------------------------------------------------------------

    def show_registration(self, found: tuple[Pair, Registration]) -> None:
        """Keep a registration for the pair it was made for."""
        pair, registration = found
        self._keep(registration, pair)
        self.registration_changed.emit()

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
        if self._found is None:
            return False
        self.nudged = (shift, turn)
        centre = self.pair().anatomical.grid.centre
        self.registration = moved_by_hand(self._found, shift, turn, centre)
        self.registration_changed.emit()
        return True

    def preview(self) -> float | None:
        """Fuse the slice that is looked at and paint it into the picture.

        Returns
        -------
        float or None
            Seconds it took; None where there is no picture of this pair to paint into.
        """
        layer = outputs.find(self.viewer, outputs.PICTURE)
        fusion = self.fusion
        if layer is None or fusion is None or fusion.pair.key != self._pair_key():
            return None
        start = time.perf_counter()
        index = layer.world_to_data(np.asarray(self.viewer.dims.point)[-layer.ndim :])
        moved = self.registration if self.registration is not fusion.registration else None
        paint_slice(layer.data, fusion, self.settings, moved, index)
        layer.refresh(extent=False, thumbnail=False)
        return time.perf_counter() - start

    def show_view(self, view: str, on: bool) -> None:
        """Switch "before", "checkerboard" or "edges"."""
        if self.fusion is None:
            return
        source = self.fusion.pair.anatomical
        if view == "before":
            self._show_before(on)
        elif not on:
            outputs.remove(self.viewer, view)
        else:
            make = outputs.checkerboard if view == outputs.CHECKER else outputs.edges
            for _ in outputs.show(self.viewer, (make(self.fusion.result, source),), source):
                pass

    def summary(self) -> str:
        """One line on the last fusion."""
        if self.fusion is None:
            return "Ready."
        headline = {"pass": "every check passed", "look": "worth a look", "fail": "do not use"}
        verdict = self.fusion.audit.verdict
        return f"Audit: {verdict.upper()}, {headline[verdict]}. See the Audit tab."

    def show_fusion(self, fusion: Fusion) -> Iterator[Any]:
        """Put the result into the viewer, a layer at each step; earlier layers are updated."""
        new = self._registered != fusion.pair.key
        if new:  # else a registration that was moved by hand meanwhile is kept
            self._keep(fusion.registration, fusion.pair)
        yield from outputs.show(self.viewer, fusion.outputs, fusion.pair.anatomical)
        self.fusion = fusion
        if new:
            self.registration_changed.emit()
        self.fusion_changed.emit()

    def forget_registration(self) -> None:
        """Drop the registration, e.g. because another way of registering was chosen."""
        self.registration = self._found = self._registered = None
        self.nudged = (STILL, STILL)
        self.registration_changed.emit()

    def choose(self, **changes: Any) -> None:
        """Change settings; a new way of registering makes the old registration void."""
        before = self.settings
        self.settings = replace(before, **changes)
        if self.settings.registration != before.registration and self.registration is not None:
            self.forget_registration()

    # -- read-out ----------------------------------------------------------------------------

    def read_out(self, position: Any) -> str:
        """One line about a point of napari's world; empty where there is no result."""
        layer = outputs.find(self.viewer, outputs.PICTURE)
        if self.fusion is None or layer is None:
            return ""
        index = layer.world_to_data(np.asarray(position)[-layer.ndim :])
        return describe_point(readable(self.fusion), index)

    # -- private -----------------------------------------------------------------------------

    def _keep(self, registration: Registration | None, pair: Pair) -> None:
        self.registration = self._found = registration
        self._registered = pair.key
        self.nudged = (STILL, STILL)

    def _show_before(self, on: bool) -> None:
        layer = outputs.find(self.viewer, outputs.ON_GRID)
        picture = outputs.find(self.viewer, outputs.PICTURE)
        fusion = self.fusion
        if layer is None or fusion is None or fusion.registration is None:
            return
        source = fusion.pair.anatomical
        if on:
            functional = unmoved(fusion)
            layer.data = outputs.shown(functional, source.order, flat=source.flat)
        else:
            kept = next(o for o in fusion.outputs if o.role == outputs.ON_GRID)
            layer.data = kept.data
        layer.visible = on
        if picture is not None:
            picture.visible = not on

    def _alive(self, reference: weakref.ref[Any] | None) -> Any | None:
        layer = reference() if reference is not None else None
        return layer if layer is not None and layer in self.viewer.layers else None

    def _pair_key(self) -> tuple[Any, ...]:
        layers = (self.anatomical, self.functional)
        return tuple(None if layer is None else _layer_key(layer) for layer in layers)

    def _on_layers(self, event: Any = None) -> None:
        if event is not None and outputs.role_of(event.value) is not None:
            return
        self.guess_pair()
        self.layers_changed.emit()

    def _watch_name(self, event: Any) -> None:
        event.value.events.name.connect(self._on_name)

    def _on_name(self, event: Any = None) -> None:
        self.layers_changed.emit()

    def close(self) -> None:
        """Let go of the viewer."""
        events = self.viewer.layers.events
        for event in (events.inserted, events.removed):
            event.disconnect(self._on_layers)
        events.inserted.disconnect(self._watch_name)
        for layer in self.viewer.layers:
            layer.events.name.disconnect(self._on_name)


def _layer_key(layer: Any) -> tuple[Any, ...]:
    """Equal as long as a layer holds the same array at the same place."""
    return (layer.unique_id, id(layer.data), linear_map(layer).tobytes(), str(layer.units))


def _first_of(layers: list[Any], modalities: tuple[str, ...]) -> Any | None:
    for modality in modalities:
        for layer in layers:
            if facts(layer).get("modality") == modality:
                return layer
    return None
