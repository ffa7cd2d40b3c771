"""The state of the panel of each viewer, kept while no panel is open there."""

from __future__ import annotations

import weakref
from typing import Any

Chosen = tuple[Any | None, Any | None]
_STATES: dict[int, tuple[weakref.ref[Any], dict[str, Any], tuple[Any, Any]]] = {}


def keep_state(viewer: Any, values: dict[str, Any], chosen: Chosen) -> None:
    """Keep values for the next panel of a viewer, for as long as the viewer lives."""
    viewer = _itself(viewer)
    key = id(viewer)
    states = _STATES  # at the end of the process this module has lost its names
    there = weakref.ref(viewer, lambda _: states.pop(key, None))
    layers = tuple(None if layer is None else weakref.ref(_itself(layer)) for layer in chosen)
    _STATES[key] = (there, values, (layers[0], layers[1]))


def kept_state(viewer: Any) -> tuple[dict[str, Any], Chosen]:
    """Take the values back; nothing where none were kept."""
    viewer = _itself(viewer)
    there, values, layers = _STATES.pop(id(viewer), (None, {}, (None, None)))
    if there is None or there() is not viewer:
        return {}, (None, None)
    found = [None if layer is None else layer() for layer in layers]
    return values, (found[0], found[1])


def _itself(thing: Any) -> Any:
    """What is behind the proxy that napari hands to plugins, a new one each time."""
    return getattr(thing, "__wrapped__", thing)
