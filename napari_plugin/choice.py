"""Which layers are fused: choosing, asking, reading."""

from __future__ import annotations

import weakref
import zlib
from typing import Any

import numpy as np
from napari.layers import Image
from psygnal import Signal

from medfuse.errors import UsageError
from medfuse.imaging.pairing import two_persons
from napari_plugin import outputs
from napari_plugin.layers import facts, missing, read_layer
from napari_plugin.placing import linear_map
from napari_plugin.records import Pair
from napari_plugin.result import LayerKey, PairKey
from napari_plugin.values import state

FUNCTIONAL_FIRST = ("PET", "SPECT", "CT")
ANATOMICAL_FIRST = ("MRI", "CT")
#: What tells that a layer holds other voxels, or lies elsewhere.
_PLACE = ("scale", "translate", "rotate", "shear", "affine")
_EVENTS = ("data", "set_data", *_PLACE, "units")
_PROBES = 24  # voxels along an axis that are compared


class LayerChoice:
    """The anatomical and the functional layer of a viewer, and what they say of themselves.

    Parameters
    ----------
    viewer : napari.components.ViewerModel

    Attributes
    ----------
    layers_changed : Signal
        Layers came, went, were renamed or described.
    """

    layers_changed = Signal()
    outputs_changed = Signal()  # layers of ours came, went, were renamed, moved, hidden or shown
    _layer_changed = Signal()  # which are chosen, or voxels or place of one of them

    def __init__(self, viewer: Any) -> None:
        self.viewer = viewer
        self._anatomical: weakref.ref[Any] | None = None
        self._functional: weakref.ref[Any] | None = None
        for event in (viewer.layers.events.inserted, viewer.layers.events.removed):
            event.connect(self._on_layers)
        viewer.layers.events.inserted.connect(self._on_inserted)
        for layer in viewer.layers:
            self._watch(layer)
        self.guess_pair()

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
        self._layer_changed.emit()

    @property
    def functional(self) -> Any | None:
        """The chosen functional layer, None where it is gone."""
        return self._alive(self._functional)

    @functional.setter
    def functional(self, layer: Any | None) -> None:
        self._functional = weakref.ref(layer) if layer is not None else None
        self._layer_changed.emit()

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

    def patients_differ(self) -> bool:
        """Whether the headers of the chosen layers name two patients."""
        layers = [layer for layer in (self.anatomical, self.functional) if layer is not None]
        return two_persons(*(facts(layer) for layer in layers)) is not None

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
                cause="the anatomical layer is in color: its voxels have no single value",
                remedy="Choose a grayscale image as the anatomical layer",
            )
        return Pair(*sources, self.pair_key())

    def close(self) -> None:
        """Let go of the viewer."""
        events = self.viewer.layers.events
        for event in (events.inserted, events.removed):
            event.disconnect(self._on_layers)
        events.inserted.disconnect(self._on_inserted)
        for layer in self.viewer.layers:
            for name, react in self._reactions(layer).items():
                getattr(layer.events, name).disconnect(react)

    def _alive(self, reference: weakref.ref[Any] | None) -> Any | None:
        layer = reference() if reference is not None else None
        return layer if layer is not None and layer in self.viewer.layers else None

    def pair_key(self) -> PairKey:
        """Equal as long as both layers hold the same voxels in the same unit at the same place."""
        return _layer_key(self.anatomical), _layer_key(self.functional)

    def _on_layers(self, event: Any = None) -> None:
        if event is not None and outputs.role_of(event.value) is not None:
            self.outputs_changed.emit()
            return
        self.guess_pair()
        self.layers_changed.emit()

    def _on_inserted(self, event: Any) -> None:
        self._watch(event.value)

    def _watch(self, layer: Any) -> None:
        """Notice when a layer is renamed, moved or holds other voxels."""
        for name, react in self._reactions(layer).items():
            getattr(layer.events, name).connect(react)

    def _reactions(self, layer: Any) -> dict[str, Any]:
        """What is done at which event of a layer."""
        if outputs.role_of(layer) is not None:
            found = dict.fromkeys(("name", "visible"), self._on_output)
            return found | {name: self._on_output_moved for name in _PLACE if name in layer.events}
        events = _EVENTS if isinstance(layer, Image) else ()
        found = {name: self._on_layer for name in events if name in layer.events}
        return {"name": self._on_name, **found}

    def _on_name(self, event: Any = None) -> None:
        self.layers_changed.emit()

    def _on_layer(self, event: Any = None) -> None:
        self._layer_changed.emit()

    def _on_output_moved(self, event: Any) -> None:
        outputs.note_move(event.source)
        self.outputs_changed.emit()

    def _on_output(self, event: Any = None) -> None:
        self.outputs_changed.emit()


def _layer_key(layer: Any | None) -> LayerKey | None:
    if layer is None:
        return None
    meta = facts(layer)
    said = (str(meta.get("modality")), str(meta.get("unit")))
    place = linear_map(layer).tobytes()
    data = layer.data[0] if layer.multiscale else layer.data
    return LayerKey(str(layer.unique_id), id(data), content_of(data), place, str(layer.units), said)


def content_of(data: Any) -> int:
    """Checksum of some voxels all over an array in memory, by which an edit in place is noticed."""
    if not isinstance(data, np.ndarray):
        return 0
    probes = data[tuple(slice(None, None, max(1, n // _PROBES)) for n in data.shape)]
    return zlib.crc32(np.ascontiguousarray(probes).data)


def _first_of(layers: list[Any], modalities: tuple[str, ...]) -> Any | None:
    for modality in modalities:
        for layer in layers:
            if facts(layer).get("modality") == modality:
                return layer
    return None
