"""The panel without Qt: what is chosen, what may be done, and what happens in the viewer.

Works on a ``napari.components.ViewerModel``. Long work is handed out as :class:`Job` for a
thread; what it brings back is put into the viewer by the ``show_*`` methods in the main thread.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from monai.data import MetaTensor
from napari.layers import Image
from psygnal import Signal

from medfuse.audit import Audit
from medfuse.errors import RegistrationError, SeriesError, UsageError
from medfuse.fusion import DEFAULT_COLORMAP, FusionResult, fuse
from medfuse.imaging.registration import Registration, register
from medfuse.imaging.windows import Window, default_window
from medfuse.kernel.color import luma
from medfuse.methods.base import Method, get_method
from napari_plugin import outputs
from napari_plugin.case import case_checks
from napari_plugin.guides import BiasedGuide
from napari_plugin.jobs import Job, Progress
from napari_plugin.layers import Source, facts, missing, read_layer, state
from napari_plugin.readout import Readable, describe_point

RegistrationMode = Literal["auto", "rigid", "identity"]
FUNCTIONAL_FIRST = ("PET", "SPECT", "CT")
ANATOMICAL_FIRST = ("MRI", "CT")


@dataclass(frozen=True)
class Settings:
    """What the user chose besides the layers.

    ``window``, ``anatomical_window``: (low, high) in the unit of the image; None takes the
    default. ``bias``: -1 (functional) to 1 (anatomical). ``accept_suspect``: fuse although the
    registration is suspect. ``allow_patient_mismatch``: fuse although headers name two patients.
    """

    registration: RegistrationMode = "auto"
    method: str = "swift"
    mode: Literal["slices", "volume"] = "slices"
    colormap: str | None = None
    window: tuple[float, float] | None = None
    anatomical_window: tuple[float, float] | None = None
    bias: float = 0.0
    accept_suspect: bool = False
    allow_patient_mismatch: bool = False

    def guide(self) -> Method:
        """The guide, with its bias where there is one."""
        method = get_method(self.method)
        return BiasedGuide(method, self.bias) if self.bias else method


@dataclass(frozen=True)
class Pair:
    """The two layers as they were when a job began."""

    anatomical: Source
    functional: Source
    key: tuple[Any, ...]

    @property
    def words(self) -> tuple[str, str]:
        """Modality of the functional and of the anatomical image."""
        return tuple(s.meta["modality"] for s in (self.functional, self.anatomical))


@dataclass(frozen=True)
class Fusion:
    """A finished fusion and all that belongs to it."""

    pair: Pair
    settings: Settings
    registration: Registration | None
    on_grid: MetaTensor
    result: FusionResult
    audit: Audit
    outputs: tuple[outputs.Output, ...]


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
        self._registered: tuple[Any, ...] | None = None
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
            _refuse_mixed_patients(pair, settings)
            return pair, _register(pair, settings, progress)

        return Job("Registration", work)

    def fusion_job(self) -> Job:
        """Register where that was not done yet, then fuse; value is a :class:`Fusion`."""
        pair, settings = self.pair(), self.settings
        known = self.registration if self._registered == pair.key else None

        def work(progress: Progress) -> Fusion:
            _refuse_mixed_patients(pair, settings)
            registration = known or _register(pair, settings, _part(progress, 0.0, 0.5))
            _refuse_suspect(registration, settings)
            return fuse_pair(pair, registration, settings, _part(progress, 0.5, 1.0))

        return Job("Fusion", work)

    # -- results -----------------------------------------------------------------------------

    def show_registration(self, found: tuple[Pair, Registration]) -> None:
        """Keep a registration for the pair it was made for."""
        pair, registration = found
        self.registration, self._registered = registration, pair.key
        self.registration_changed.emit()

    def show_fusion(self, fusion: Fusion) -> None:
        """Put the result into the viewer; layers of an earlier run are updated in place."""
        new = self.registration is not fusion.registration
        self.registration, self._registered = fusion.registration, fusion.pair.key
        self.fusion = fusion
        outputs.show(self.viewer, fusion.outputs, fusion.pair.anatomical)
        if new:
            self.registration_changed.emit()
        self.fusion_changed.emit()

    def forget_registration(self) -> None:
        """Drop the registration, e.g. because another way of registering was chosen."""
        self.registration = self._registered = None
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

    def _alive(self, reference: weakref.ref[Any] | None) -> Any | None:
        layer = reference() if reference is not None else None
        return layer if layer is not None and layer in self.viewer.layers else None

    def _pair_key(self) -> tuple[Any, ...]:
        """Equal as long as both layers hold the same data at the same place."""
        layers = (self.anatomical, self.functional)
        return tuple(
            None if layer is None else (layer.unique_id, id(layer.data), layer.data_to_world(np.zeros(layer.ndim)),
             layer.data_to_world(np.ones(layer.ndim)))
            for layer in layers
        )  # fmt: skip

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


def fuse_pair(
    pair: Pair, registration: Registration | None, settings: Settings, progress: Progress
) -> Fusion:
    """Resample, fuse, audit and prepare the layers. Runs in a thread."""
    anatomical = pair.anatomical.volume()
    on_grid = bring_to_grid(pair, registration)
    result = fuse(
        functional=on_grid,
        anatomical=anatomical,
        method=settings.guide(),
        mode=settings.mode,
        colormap=None if pair.functional.rgb else settings.colormap,
        window=None if pair.functional.rgb else settings.window,
        anatomical_window=settings.anatomical_window,
        progress=_part(progress, 0.1, 0.8),
    )
    audit = result.audit.with_checks(case_checks(registration, pair))
    progress(0.85, "layers")
    layers = outputs.fusion_outputs(result, pair.anatomical, on_grid, words=pair.words)
    return Fusion(pair, settings, registration, on_grid, result, audit, layers)


def bring_to_grid(pair: Pair, registration: Registration | None) -> MetaTensor:
    """Functional image on the anatomical grid; colour pictures channel by channel."""
    functional = pair.functional.volume()
    if registration is None:
        return functional
    channels = [registration.resample(functional[c : c + 1]) for c in range(len(functional))]
    if len(channels) == 1:
        return channels[0]
    out = channels[0].clone()
    stacked = torch.cat([channel.as_tensor() for channel in channels])
    return MetaTensor(stacked.clamp_(0, 1), affine=out.affine, meta=out.meta)


def readable(fusion: Fusion) -> Readable:
    """What the read-out needs of a fusion; views, no copies."""
    source, result = fusion.pair.anatomical, fusion.result
    by_role = {output.role: output.data for output in fusion.outputs}
    units = tuple(s.meta.get("unit", "") for s in (fusion.pair.functional, source))
    return Readable(
        source=source,
        anatomical=source.data,
        functional=by_role[outputs.ON_GRID],
        weights=by_role[outputs.WEIGHTS_MAP],
        share=by_role[outputs.SHARE],
        picture=by_role[outputs.PICTURE],
        names=fusion.pair.words,
        units=units,
        window=(result.window.low, result.window.high) if result.window else (0.0, 1.0),
        colormap=result.colormap,
    )


def _register(pair: Pair, settings: Settings, progress: Progress) -> Registration | None:
    """Run the chosen registration; None where both flat images share one grid already."""
    fixed, moving = pair.anatomical.volume(), pair.functional.volume()
    flat = pair.anatomical.flat and pair.functional.flat
    if flat and pair.anatomical.grid.same_as(pair.functional.grid):
        return None
    if len(moving) == 3:
        grey = luma(moving.as_tensor()[None])[0]
        moving = MetaTensor(grey, affine=moving.affine, meta=moving.meta)
    return register(fixed=fixed, moving=moving, method=settings.registration, progress=progress)


def _refuse_suspect(registration: Registration | None, settings: Settings) -> None:
    if registration is None or settings.accept_suspect or registration.verdict != "suspect":
        return
    raise RegistrationError(
        "E_REGISTRATION",
        what="Registration is suspect, nothing was fused",
        cause="; ".join(registration.reasons),
        remedy="Move the image by hand (Adjust), choose identity, or tick 'Accept suspect "
        "registration' after looking at the checkerboard",
    )


def _refuse_mixed_patients(pair: Pair, settings: Settings) -> None:
    sources = (pair.anatomical, pair.functional)
    patients = {(s.meta.get("source") or {}).get("patient") for s in sources} - {None}
    if len(patients) < 2 or settings.allow_patient_mismatch:
        return
    raise SeriesError(
        "E_MIXED_PATIENT",
        what="Cannot fuse",
        where=" and ".join(s.name for s in sources),
        cause="the headers name two different patients (ID, birth date or sex differ)",
        remedy="Check the pairing, or tick 'Different patient IDs are right'",
    )


def _part(progress: Progress, start: float, stop: float) -> Progress:
    return lambda fraction, text: progress(start + (stop - start) * fraction, text)


def _first_of(layers: list[Any], modalities: tuple[str, ...]) -> Any | None:
    for modality in modalities:
        for layer in layers:
            if facts(layer).get("modality") == modality:
                return layer
    return None
