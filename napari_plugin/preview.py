"""One slice, fused at once: what the live preview paints into the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

from medfuse.fusion import fuse
from medfuse.fusion.choice import AUTO, choose_gamut, choose_method
from medfuse.fusion.slices import Sources, plain, run_slices
from medfuse.imaging.grid import Grid, Matrix, coverage, slice_axis
from medfuse.imaging.windows import Window, apply_window, default_window
from medfuse.registration.result import Registration
from medfuse.results.export import to_bytes
from medfuse.settings import CaseSettings
from napari_plugin import outputs
from napari_plugin.layers import shown
from napari_plugin.moving import resample_on
from napari_plugin.records import Aligned, Fusion, PaintedSlice, Pair
from napari_plugin.result import decisive
from napari_plugin.source import Source
from napari_plugin.work import chosen_method, fusion_keywords, preview_guide

SURE = 1e-3  # weights shifted further than 1 - SURE to one side do not tell what they were


def fuse_slice(
    fusion: Fusion,
    settings: CaseSettings,
    moved: Registration | None,
    index: Sequence[float],
) -> PaintedSlice:
    """Fuse one slice with new settings.

    Parameters
    ----------
    fusion : Fusion
        Earlier fusion of the same pair.
    settings : CaseSettings
        What is to be previewed. The slice is blended by itself, also where the volume is blended
        in 3-D; the weights are those of the volume where only the bias is new.
    moved : Registration or None
        Where the functional image was moved since; then the slice is resampled.
    index : (3,) or (2,) float
        Data index in the picture that the slice goes through.
    """
    source = fusion.pair.anatomical
    axis, number = _slice_at(source, index)
    plane = source if source.flat else cut(source, axis, number)
    anatomical = plane.volume()
    functional, inside = _functional(fusion, moved, anatomical, axis, number)
    result = fusion.result
    colormap = None if result.colormap is None else settings.colormap or result.colormap
    gamut = choose_gamut(settings.gamut, colormap)
    sources = Sources(
        functional=functional,
        anatomical=anatomical,
        window=_window(settings.window, result.window),
        anatomical_window=_window(settings.anatomical_window, result.anatomical_window),
        colormap=colormap,
        coverage=inside,
        gamut=gamut,
        bias=settings.bias,
        bounded=settings.bounded,
        weights=None if moved else _known_weights(fusion, settings, axis, number),
        flat=False,
    )
    name = settings.method
    if name == AUTO:
        name = choose_method(fusion.pair.functional.meta["modality"], colormap, gamut).name
    guide = preview_guide(name)
    # As medfuse.fuse does it, without the audit: a slider cannot wait for that.
    planes = run_slices(sources, guide, "slices", result.kernel, lambda fraction, text: None)
    painted = shown(to_bytes(planes.volume(planes.picture.rgb)), source.order, flat=source.flat)
    return PaintedSlice(fusion, _where(source, axis, number), painted)


def first_slice(aligned: Aligned, settings: CaseSettings, index: Sequence[float]) -> outputs.Output:
    """A picture to look at while the volume is fused: one slice fused, the others anatomical.

    Parameters
    ----------
    aligned : Aligned
    settings : CaseSettings
    index : (3,) or (2,) float
        Data index in the anatomical layer that the slice goes through.
    """
    source, on_grid = aligned.pair.anatomical, aligned.on_grid
    axis, number = _slice_at(source, index)
    plane = source if source.flat else cut(source, axis, number)
    functional = MetaTensor(
        _slice(source, plain(on_grid), axis, number),
        affine=torch.from_numpy(plane.affine.copy()),
        meta={key: value for key, value in on_grid.meta.items() if key != "affine"},
    )
    return _one_slice(aligned.pair, settings, functional, on_grid, (axis, number))


def coarse_slice(
    pair: Pair, matrix: Matrix, settings: CaseSettings, index: Sequence[float]
) -> outputs.Output:
    """The same at a position that a registration has found so far: only the slice is resampled.

    Parameters
    ----------
    matrix : (4, 4) float64
        Anatomical -> functional point, RAS mm.
    """
    source = pair.anatomical
    axis, number = _slice_at(source, index)
    plane = source if source.flat else cut(source, axis, number)
    moving = pair.functional.volume()
    functional = Registration.given(matrix, plane.grid).resample(moving)
    return _one_slice(pair, settings, functional, moving, (axis, number))


def _one_slice(
    pair: Pair,
    settings: CaseSettings,
    functional: MetaTensor,
    whole: MetaTensor,
    at: tuple[int, int],
) -> outputs.Output:
    """Fuse one slice; ``whole`` gives the window of the functional image."""
    source, (axis, number) = pair.anatomical, at
    anatomical = source.volume()
    windows = _both_windows(settings, whole, anatomical)
    grey = apply_window(np.asarray(anatomical), windows["anatomical_window"])
    plane = source if source.flat else cut(source, axis, number)
    chosen = fusion_keywords(settings, rgb=len(whole) == 3)
    chosen |= {name: (w.low, w.high) for name, w in windows.items() if w is not None}
    result = fuse(
        functional=functional,
        anatomical=plane.volume(),
        method=chosen_method(settings.method),
        audit=False,
        **{**chosen, "mode": "slices"},
    )
    data = np.repeat(to_bytes(grey), 3, axis=0)
    data = np.ascontiguousarray(shown(data, source.order, flat=source.flat))
    data[_where(source, axis, number)] = shown(to_bytes(result.rgb), source.order, flat=source.flat)
    return outputs.picture(data, pair.words)


def _both_windows(
    settings: CaseSettings, functional: MetaTensor, anatomical: MetaTensor
) -> dict[str, Window | None]:
    """As they will be for the volume; None for RGB."""
    chosen = {
        "window": (settings.window, functional),
        "anatomical_window": (settings.anatomical_window, anatomical),
    }
    return {
        name: None if len(volume) == 3 else _window(given, default_window(volume))
        for name, (given, volume) in chosen.items()
    }


def _slice_at(source: Source, index: Sequence[float]) -> tuple[int, int]:
    """Display axis of the slices, and the number of the slice through a data index."""
    axis = 0 if source.flat else source.order.axes.index(slice_axis(source.grid))
    number = np.clip(np.floor(index[axis] + 0.5), 0, source.data.shape[axis] - 1)
    return axis, int(number)


def _where(source: Source, axis: int, number: int) -> tuple[slice, ...]:
    """Place of a slice in the picture."""
    where = [slice(None)] * (2 if source.flat else 3)
    if not source.flat:
        where[axis] = slice(number, number + 1)
    return tuple(where)


def cut(source: Source, axis: int, number: int) -> Source:
    """One slice of a source, at the same place in the world."""
    affine = source.affine.copy()
    affine[:3, 3] += affine[:3, source.order.axes[axis]] * _first(source, axis, number)
    where = [slice(None)] * 3
    where[axis] = slice(number, number + 1)
    return replace(source, data=source.data[tuple(where)], affine=affine)


def _first(source: Source, axis: int, number: int) -> int:
    """Index in the volume of a slice that is counted in display order."""
    return source.data.shape[axis] - 1 - number if source.order.flips[axis] else number


def _functional(
    fusion: Fusion, moved: Registration | None, anatomical: MetaTensor, axis: int, number: int
) -> tuple[Tensor, Tensor]:
    """One slice (C, X, Y, Z) of the functional image and where it was measured, (X, Y, Z) bool."""
    if moved is not None:
        moving = fusion.pair.functional.volume()
        grids = (Grid.from_volume(anatomical), Grid.from_volume(moving))
        inside = torch.from_numpy(coverage(*grids, moved.matrix))
        return resample_on(moved, moving, anatomical).as_tensor(), inside
    whole = (plain(fusion.on_grid), plain(fusion.result.coverage))
    source = fusion.pair.anatomical
    functional, inside = (_slice(source, volume, axis, number) for volume in whole)
    return functional, inside[0]


def _known_weights(
    fusion: Fusion, settings: CaseSettings, axis: int, number: int
) -> tuple[Tensor] | None:
    """Weights of the last run, shifted by the new bias; None where the guide must be asked."""
    result, old = fusion.result, fusion.settings.bias
    if result.band_weights:  # one map does not tell those of the bands
        return None
    same_but_bias = decisive(settings.model_copy(update={"bias": old})) == decisive(fusion.settings)
    if not same_but_bias or abs(old) > 1 - SURE:
        return None
    weights = _slice(fusion.pair.anatomical, plain(fusion.result.weights), axis, number).clone()
    if result.gamut == "band":  # there the emphasis acts on the colours
        return (weights,)
    weights = (weights - max(old, 0.0)) / (1 - abs(old))
    if settings.bias > 0:
        weights.lerp_(torch.ones(()), settings.bias)
    else:
        weights.mul_(1 + settings.bias)
    return (weights.clamp_(0, 1),)


def _slice(source: Source, volume: Tensor, axis: int, number: int) -> Tensor:
    """One slice (C, X, Y, Z) of a volume on the grid of a source."""
    if source.flat:
        return volume
    return volume.narrow(1 + source.order.axes[axis], _first(source, axis, number), 1)


def _window(chosen: tuple[float, float] | None, before: Window | None) -> Window | None:
    """The window that was typed, else the automatic one of the last run."""
    if chosen is None or before is None:
        return before
    low, high = chosen
    if not low < high:
        raise ValueError(f"the window must rise, got {low:g} to {high:g}")
    return Window(low, high, before.unit, "given")
