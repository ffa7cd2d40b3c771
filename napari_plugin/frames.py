"""One frame of a layer with four axes, or their mean, as a layer of three."""

from __future__ import annotations

from typing import Any

import numpy as np

from medfuse.errors import UsageError
from napari_plugin.layers import TAG, LayerData, facts
from napari_plugin.picking import MEAN
from napari_plugin.placing import linear_map


def frames_of(layer: Any) -> int:
    """How many frames a layer has; 1 where it has no fourth axis."""
    return int(layer.data.shape[0]) if layer.ndim == 4 else 1


def take_frame(layer: Any, frame: int | str) -> LayerData:
    """Make the layer to add: a frame by its number from 0, or the unweighted "mean".

    Raises
    ------
    UsageError
        ``E_FRAME``: there is no such frame. ``E_NOT_A_VOLUME``: frames are moved against each
        other by the layer's own transform.
    """
    count = frames_of(layer)
    if frame != MEAN and not (isinstance(frame, int) and 0 <= frame < count):
        raise UsageError(
            "E_FRAME",
            what="Cannot take the frame",
            where=layer.name,
            cause=f"there is no frame {frame}: the layer has {count}",
            remedy=f"Choose 0 to {count - 1}, or the mean",
        )
    matrix = linear_map(layer)
    if np.abs(matrix[1:4, 0]).max() > 1e-9 or np.abs(matrix[0, 1:4]).max() > 1e-9:
        raise UsageError(
            "E_NOT_A_VOLUME",
            what="Cannot take the frame",
            where=layer.name,
            cause="the transform of the layer mixes the first axis with the others",
            remedy="Reset the rotation and the affine of the layer",
        )
    data = np.asarray(layer.data if frame == MEAN else layer.data[frame])
    if frame == MEAN:
        data = data.mean(axis=0, dtype=np.float32)
        note, name = f"unweighted mean of {count} frames", "mean of frames"
    else:
        note, name = f"frame {frame} of 0 to {count - 1}", f"frame {frame}"
    meta = facts(layer)
    meta |= {"notes": [*(meta.get("notes") or ()), note]}
    meta.setdefault("source", {"kind": "array", "name": layer.name})
    kwargs = {
        "name": f"{layer.name}, {name}",
        "affine": matrix[1:, 1:],
        "units": layer.units[1:],
        "axis_labels": layer.axis_labels[1:],
        "metadata": {TAG: {"meta": meta}},
    }
    if not layer.rgb:
        kwargs |= {"colormap": layer.colormap, "contrast_limits": layer.contrast_limits}
    return data, kwargs | {"rgb": layer.rgb, "opacity": layer.opacity}, "image"
