"""Enhance a layer by GIFNet: what is shown is painted again, slice by slice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medfuse.errors import UsageError
from medfuse.imaging.pictures import over_black
from medfuse.pictures.enhance import (
    WARNING,
    Enhancement,
    enhance_planes,
    find_painter,
    measures,
    remarks,
)
from napari_plugin.jobs import Progress
from napari_plugin.layers import TAG, LayerData
from napari_plugin.placing import TRANSFORM
from napari_plugin.private import FROM_FILE


@dataclass(frozen=True)
class Shown:
    """A layer as it was when the job began: its values, and which are black and white."""

    name: str
    data: NDArray[Any]
    rgb: bool
    limits: tuple[float, float]
    look: dict[str, Any]
    entry: dict[str, Any]


def read_shown(layer: Any) -> Shown:
    """Read an image layer of two or three axes; its contrast limits are the window.

    Raises
    ------
    UsageError
        ``E_NOT_A_VOLUME`` for anything else.
    """
    if getattr(layer, "_type_string", "") != "image" or layer.ndim not in (2, 3):
        raise UsageError(
            "E_NOT_A_VOLUME",
            what="Cannot enhance",
            where=getattr(layer, "name", "no layer"),
            cause="it is no image of two or three axes",
            remedy="Select one image layer in the list",
        )
    look = {name: getattr(layer, name) for name in TRANSFORM}
    if not layer.rgb:
        look["colormap"] = layer.colormap
    data = np.asarray(layer.data[0] if layer.multiscale else layer.data)
    data = over_black(data) if layer.rgb else data
    low, high = (0, 1) if layer.rgb else layer.contrast_limits
    entry = dict(layer.metadata.get(TAG) or {})
    return Shown(layer.name, data, layer.rgb, (float(low), float(high)), look, entry)


def enhance_shown(shown: Shown, progress: Progress, *, method: str = "gifnet") -> LayerData:
    """Make the layer to add: in the same place, from 0 to 1 and no longer in its unit."""
    found = enhance_planes(_planes(shown), find_painter(method), progress)
    last = found.image.permute(0, 2, 3, 1).numpy()
    notes = [WARNING, _numbers(found), *remarks(found)]
    meta = {**shown.entry.get("meta", {}), "unit": "a.u.", "suv": None, "notes": notes}
    entry = {name: value for name, value in shown.entry.items() if name != FROM_FILE}
    kwargs = {
        **shown.look,
        "name": f"{shown.name} (enhanced, painted by a network)",
        "rgb": shown.rgb,
        "metadata": {TAG: {**entry, "meta": meta, "enhanced": measures(found)}},
    }
    if not shown.rgb:
        kwargs["contrast_limits"] = (0.0, 1.0)
    return last.reshape(shown.data.shape), kwargs, "image"


def _numbers(found: Enhancement) -> str:
    gain, invented = 100 * found.gradient_gain, 100 * found.invented.value
    return (
        f"PSNR to what was shown {found.psnr_db:.1f} dB, gradients {gain:+.1f} %, structure that "
        f"it does not explain {invented:.1f} %."
    )


def _planes(shown: Shown) -> torch.Tensor:
    """(S, 1 or 3, R, K) in [0, 1]."""
    values = shown.data if shown.rgb else shown.data[..., None]
    low, high = shown.limits
    windowed = np.clip((values.astype(np.float32) - low) / max(high - low, 1e-12), 0, 1)
    planes = np.moveaxis(windowed, -1, -3).reshape(-1, windowed.shape[-1], *windowed.shape[-3:-1])
    return torch.from_numpy(np.ascontiguousarray(planes))
