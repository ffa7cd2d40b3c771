"""One slice, fused at once: what the live preview paints into the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

from medfuse.fusion_slices import Sources, plain, run_slices
from medfuse.imaging.export import to_bytes
from medfuse.imaging.grid import Grid, coverage, slice_axis
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
    functional, inside = _functional(fusion, moved, anatomical, axis, number)
    result = fusion.result
    sources = Sources(
        functional=functional,
        anatomical=anatomical,
        window=_window(settings.window, result.window),
        anatomical_window=_window(settings.anatomical_window, result.anatomical_window),
        colormap=None if result.colormap is None else settings.colormap or result.colormap,
        coverage=inside,
        gamut=result.gamut,
        bias=settings.bias,
        weights=None,
        flat=False,
    )
    guide = preview_guide(settings.method)
    # As medfuse.fuse does it, without the audit: a slider cannot wait for that.
    planes = run_slices(sources, guide, "slices", result.kernel, lambda fraction, text: None)
    painted = shown(to_bytes(planes.volume("rgb")), source.order, flat=source.flat)
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


def _functional(
    fusion: Fusion, moved: Registration | None, anatomical: MetaTensor, axis: int, number: int
) -> tuple[Tensor, Tensor]:
    """One slice (C, X, Y, Z) of the functional image and where it was measured, (X, Y, Z) bool."""
    if moved is not None:
        moving = fusion.pair.functional.volume()
        grids = (Grid.from_volume(anatomical), Grid.from_volume(moving))
        inside = torch.from_numpy(coverage(*grids, moved.matrix))
        return resample_on(moved, moving, anatomical).as_tensor(), inside
    source = fusion.pair.anatomical
    whole = (plain(fusion.on_grid), plain(fusion.result.coverage))
    if source.flat:
        return whole[0], whole[1][0]
    volume_axis, flip = source.order.axes[axis], source.order.flips[axis]
    first = source.data.shape[axis] - 1 - number if flip else number
    functional, inside = (volume.narrow(1 + volume_axis, first, 1) for volume in whole)
    return functional, inside[0]


def _window(chosen: tuple[float, float] | None, before: Window | None) -> Window | None:
    """The window that was typed, else the automatic one of the last run."""
    if chosen is None or before is None:
        return before
    low, high = chosen
    if not low < high:
        raise ValueError(f"the window must rise, got {low:g} to {high:g}")
    return Window(low, high, before.unit, "given")
