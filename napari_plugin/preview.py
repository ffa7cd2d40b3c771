"""One slice, fused at once: what the live preview paints into the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from monai.data import MetaTensor

from medfuse.fusion import fuse
from medfuse.imaging.export import to_bytes
from medfuse.imaging.grid import slice_axis
from medfuse.imaging.registration import Registration
from medfuse.imaging.windows import Window
from napari_plugin.layers import Source, shown
from napari_plugin.moving import resample_on
from napari_plugin.work import Fusion, Settings, preview_guide


def paint_slice(
    picture: Any,
    fusion: Fusion,
    settings: Settings,
    moved: Registration | None,
    index: Sequence[float],
) -> int:
    """Fuse one slice with new settings and paint it into a picture.

    Parameters
    ----------
    picture : (slices, rows, columns, 3) or (rows, columns, 3) uint8
        Changed in place.
    fusion : Fusion
        Earlier fusion of the same pair.
    settings : Settings
        What is to be previewed; 3-D fusion is previewed slice by slice.
    moved : Registration or None
        Where the functional image was moved since; then the slice is resampled.
    index : data index in the picture that the slice goes through.

    Returns
    -------
    int
        Display axis along which the slice lies.
    """
    source = fusion.pair.anatomical
    axis = source.order.axes.index(slice_axis(source.grid)) if not source.flat else 0
    number = int(np.clip(np.floor(index[axis] + 0.5), 0, picture.shape[axis] - 1))
    plane = source if source.flat else cut(source, axis, number)
    anatomical = plane.volume()
    if moved is None:
        functional = _cut_volume(fusion.on_grid, source, axis, number)
    else:
        functional = resample_on(moved, fusion.pair.functional.volume(), anatomical)
    result = fuse(
        functional=functional,
        anatomical=anatomical,
        method=preview_guide(settings.method),
        bias=settings.bias,
        colormap=None if fusion.pair.functional.rgb else settings.colormap,
        window=settings.window or _ends(fusion.result.window),
        anatomical_window=settings.anatomical_window or _ends(fusion.result.anatomical_window),
    )
    painted = shown(to_bytes(result.rgb), source.order, flat=source.flat)
    where = [slice(None)] * picture.ndim
    if not source.flat:
        where[axis] = slice(number, number + 1)
    picture[tuple(where)] = painted
    return axis


def cut(source: Source, axis: int, number: int) -> Source:
    """One slice of a source, at the same place in the world."""
    volume_axis, flip = source.order.axes[axis], source.order.flips[axis]
    size = source.data.shape[axis]
    affine = source.affine.copy()
    affine[:3, 3] += affine[:3, volume_axis] * (size - 1 - number if flip else number)
    where = [slice(None)] * 3
    where[axis] = slice(number, number + 1)
    return replace(source, data=source.data[tuple(where)], affine=affine)


def _cut_volume(volume: MetaTensor, source: Source, axis: int, number: int) -> MetaTensor:
    """The same slice of a (C, X, Y, Z) volume on the grid of the source."""
    if source.flat:
        return volume
    volume_axis, flip = source.order.axes[axis], source.order.flips[axis]
    first = source.data.shape[axis] - 1 - number if flip else number
    plane = volume.as_tensor().narrow(1 + volume_axis, first, 1)
    affine = volume.affine.clone()
    affine[:3, 3] += affine[:3, volume_axis] * first
    meta = {key: value for key, value in volume.meta.items() if key != "affine"}
    return MetaTensor(plane, affine=affine, meta=meta)


def _ends(window: Window | None) -> tuple[float, float] | None:
    return (window.low, window.high) if window is not None else None
