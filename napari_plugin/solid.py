"""3-D: the brightest uptake along each line of sight, over an anatomy that can be seen through.

What a layer looked like in slices is kept in its metadata and comes back with the slices.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Image

from napari_plugin import outputs

WAITS = "medfuse: in slices"  # in the metadata of layers that look otherwise in 3-D
_KEPT = ("visible", "opacity", "blending", "rendering", "attenuation", "contrast_limits")
#: Colors begin at this part of the maximum: what is everywhere would else be all that is seen.
FROM = 0.25
_UPTAKE = {"visible": True, "opacity": 1.0, "blending": "additive", "rendering": "mip"}
_ANATOMY = {
    "visible": True,
    "opacity": 0.45,
    "blending": "translucent_no_depth",
    "rendering": "attenuated_mip",
    "attenuation": 0.25,
}
_ALONE = {"visible": True, "opacity": 1.0, "blending": "translucent_no_depth", "rendering": "mip"}


def to_solid(viewer: Any, anatomical: Any | None) -> None:
    """Show what 3-D shows, and hide every other image."""
    looks = _looks(viewer, anatomical)
    if not looks:
        return
    # What is hidden goes first: napari draws no volume that nobody sees.
    images = [layer for layer in viewer.layers if isinstance(layer, Image)]
    for layer in sorted(images, key=lambda layer: _key(layer) in looks):
        _keep(layer)
        for name, value in looks.get(_key(layer), {"visible": False}).items():
            if getattr(layer, name) != value:
                setattr(layer, name, value)


def to_slices(viewer: Any) -> None:
    """Give every layer back what it looked like in slices."""
    for layer in viewer.layers:
        kept = layer.metadata.pop(WAITS, None)
        for name, value in (kept or {}).items():
            if getattr(layer, name) != value:
                setattr(layer, name, value)


def _looks(viewer: Any, anatomical: Any | None) -> dict[str, dict[str, Any]]:
    """Look of each layer that is seen; none where there is no result."""
    luminance = outputs.find(viewer, outputs.LUMINANCE)
    uptake = outputs.find(viewer, outputs.ON_GRID)
    if luminance is None:
        return {}
    if uptake is None or uptake.rgb or anatomical is None or anatomical.rgb:
        return {_key(luminance): _ALONE}
    highest = max(float(np.nanmax(uptake.data)), 1e-6)
    hot = {"contrast_limits": (FROM * highest, highest)}
    return {_key(anatomical): _ANATOMY, _key(uptake): _UPTAKE | hot}


def _keep(layer: Any) -> None:
    if WAITS not in layer.metadata:
        names = [name for name in _KEPT if not (layer.rgb and name == "contrast_limits")]
        layer.metadata[WAITS] = {name: getattr(layer, name) for name in names}


def _key(layer: Any) -> str:
    return str(layer.unique_id)
