"""3-D: the brightest uptake along each line of sight, over an anatomy that can be seen through.

What a layer looked like in slices is kept in its metadata and comes back with the slices.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from napari.layers import Image

from napari_plugin import outputs
from napari_plugin.fewer_voxels import SMALL
from napari_plugin.layers import TAG

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


def to_solid(viewer: Any, anatomical: Any | None) -> Iterator[None]:
    """Hide every image and show what 3-D shows, one layer at each step."""
    looks = _looks(viewer, anatomical)
    if not looks:
        return
    images = [layer for layer in viewer.layers if isinstance(layer, Image)]
    for layer in images:
        is_there = WAITS in layer.metadata and _key(layer) in looks
        _keep(layer)
        layer.visible = layer.visible and is_there
    yield
    for layer in (layer for layer in images if _key(layer) in looks):
        for name, value in looks[_key(layer)].items():
            if getattr(layer, name) != value:
                setattr(layer, name, value)
        layer.visible = True
        yield


def to_slices(viewer: Any) -> Iterator[None]:
    """Give every layer back what it looked like in slices; what 3-D alone shows goes first."""
    waiting = [layer for layer in viewer.layers if WAITS in layer.metadata]
    for layer in sorted(waiting, key=lambda layer: bool(layer.metadata[WAITS]["visible"])):
        for name, value in layer.metadata.pop(WAITS).items():
            if getattr(layer, name) != value:
                setattr(layer, name, value)
    yield


def uptake_layer(viewer: Any) -> Any | None:
    """The layer whose uptake 3-D shows; None where there is none."""
    uptake, small = outputs.find(viewer, outputs.ON_GRID), _small(viewer)
    return small[0] if small else uptake


def _looks(viewer: Any, anatomical: Any | None) -> dict[str, dict[str, Any]]:
    """Look of each layer that is seen; none where there is no result."""
    luminance = outputs.find(viewer, outputs.LUMINANCE)
    uptake, small = outputs.find(viewer, outputs.ON_GRID), _small(viewer)
    if luminance is None:
        return {}
    if uptake is None or uptake.rgb or anatomical is None or anatomical.rgb:
        return {_key(luminance): _ALONE}
    if small:
        uptake, anatomical = small
    highest = max(float(np.nanmax(uptake.data)), 1e-6)
    hot = {"contrast_limits": (FROM * highest, highest)}
    return {_key(anatomical): _ANATOMY, _key(uptake): _UPTAKE | hot}


def _small(viewer: Any) -> list[Any]:
    """Both layers of fewer voxels, where they are of the result that is shown."""
    uptake = outputs.find(viewer, outputs.ON_GRID)
    found = [outputs.find(viewer, role) for role in SMALL]
    of = [None if layer is None else layer.metadata[TAG]["of"] for layer in (uptake, *found)]
    return found if of[0] is not None and len(set(of)) == 1 else []


def _keep(layer: Any) -> None:
    if WAITS not in layer.metadata:
        names = [name for name in _KEPT if not (layer.rgb and name == "contrast_limits")]
        layer.metadata[WAITS] = {name: getattr(layer, name) for name in names}


def _key(layer: Any) -> str:
    return str(layer.unique_id)
