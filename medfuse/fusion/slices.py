"""The work of a fusion in slice order: prepare, guide, blend, paint, a few slices at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medfuse.fusion.bands import given_maps
from medfuse.fusion.guide import Mode, ask_guide, slice_orders
from medfuse.fusion.paint import AT_A_TIME, paint
from medfuse.fusion.planes import (
    Blended,
    Colour,
    Painting,
    Picture,
    Planes,
    Weights,
    Windowed,
    covered_slices,
)
from medfuse.fusion.sources import Sources, plain, windowed
from medfuse.imaging.grid import SLICE_ANISOTROPY, DisplayOrder, Grid
from medfuse.imaging.located import is_located
from medfuse.kernel.blend import Fused, bound_luminance, fuse_luminance, fuse_volume, slabs
from medfuse.kernel.pyramid import Kernel
from medfuse.kernel.scratch import empty
from medfuse.kernel.threads import share_out
from medfuse.kernel.two_way_maps import MAPS
from medfuse.methods.base import Method, Painter
from medfuse.settings import Progress

__all__ = ["Sources", "plain", "repaint", "resolve_mode", "run_slices"]

MIN_SIDE = 32  # voxels; a guide sees too little of a slice that is narrower


def resolve_mode(mode: Mode, anatomical: Tensor, *, paints: bool = False) -> Mode:
    """Decide ``auto``: ``volume`` where slices along all three axes are worth looking at.

    That is a geometry whose spacings differ by no more than a factor of 1.5, with 32 voxels or
    more along every axis. Arrays without geometry are taken slice by slice, and so is what a
    network ``paints``: the mean of three paintings is more blurred than each.
    """
    if mode != "auto":
        return mode
    if paints or not is_located(anatomical) or min(anatomical.shape[1:]) < MIN_SIDE:
        return "slices"
    spacing = Grid.from_volume(anatomical).spacing
    return "volume" if max(spacing) <= SLICE_ANISOTROPY * min(spacing) else "slices"


def run_slices(
    sources: Sources, guide: Method | Painter, mode: Mode, kernel: Kernel, notify: Progress
) -> Planes:
    """Fuse: all planes of the result, in the slice order of the anatomical image.

    Parameters
    ----------
    mode : {"slices", "volume"}
    notify : callable (fraction, text)
        Told where the work is; an exception from it ends the work.
    """
    orders = slice_orders(sources.anatomical, mode)
    pair, colour = _prepare(sources, orders[0], notify)
    answer = ask_guide(guide, sources, pair, orders, notify)
    weights = answer.weights if isinstance(answer, Painting) else answer
    blended = _blend(pair, weights, guide.info.levels, mode, kernel, notify, sources.device)
    if isinstance(answer, Painting):
        _keep_painting(blended, pair, answer.luminance)
    if sources.bounded:
        _bound(blended, pair)
    picture = paint(blended.luminance, colour, sources, notify)
    notify(0.9, "audit")
    return Planes(orders[0], pair, weights, blended, picture)


@dataclass(frozen=True)
class Repainted:
    """A stored fusion painted again, in slice order.

    Attributes
    ----------
    order : DisplayOrder
    pair : Windowed
        With the fused luminance as ``b``.
    picture : Picture
        Functional colour at that luminance.
    from_functional : (S, 1, R, K) float32
        What the functional image gave to it, which no anatomical image changes.
    """

    order: DisplayOrder
    pair: Windowed
    picture: Picture
    from_functional: Tensor


def repaint(sources: Sources, *, levels: int, mode: Mode, kernel: Kernel) -> Repainted:
    """Make the picture of a stored fusion again without its anatomical image.

    Parameters
    ----------
    sources : Sources
        With the stored weights and, as ``anatomical`` without a window, the fused luminance.
    """
    assert sources.weights is not None
    orders = slice_orders(sources.anatomical, mode)
    pair, colour = _prepare(sources, orders[0], _silent)
    maps = given_maps(sources.weights, pair, orders)
    blended = _blend(pair, Weights(maps, maps[0]), levels, mode, kernel, _silent, sources.device)
    picture = paint(pair.b, colour, sources, _silent)
    return Repainted(orders[0], pair, picture, blended.from_a)


def _silent(fraction: float, text: str) -> None:
    """Progress that nobody follows."""


def _prepare(sources: Sources, order: DisplayOrder, notify: Progress) -> tuple[Windowed, Colour]:
    """Both luminances, and the colour of the functional image."""
    slices, rows, columns = (sources.anatomical.shape[1 + axis] for axis in order.axes)
    a, b = (empty((slices, 1, rows, columns)) for _ in range(2))
    pair = Windowed(a, b, covered_slices(sources.coverage, order))
    by_uptake = sources.gamut in ("band", "overlay")
    room = empty((slices, 3, rows, columns))
    colour = Colour(room[:, :2], room[:, 2:] if by_uptake else None, room)
    above = [0] * slices

    def prepare(part: slice) -> None:
        above[part.start] = _prepare_chunk(sources, order, pair, colour, part)

    parts = slabs(slices, AT_A_TIME)
    share_out(prepare, parts, lambda done: notify(0.2 * done / len(parts), "colour"))
    pair.saturated = sum(above)
    return pair, colour


def _prepare_chunk(
    sources: Sources, order: DisplayOrder, pair: Windowed, colour: Colour, part: slice
) -> int:
    """Fill a few slices; how many covered voxels lie above the functional window."""
    func, anat = (
        order.turned(order.cut(plain(image), part)).transpose(0, 1)
        for image in (sources.functional, sources.anatomical)
    )
    covered = None if pair.coverage is None else pair.coverage[part]
    ycbcr = sources.ycbcr(func)
    pair.b[part] = windowed(anat, sources.anatomical_window)
    above = sources.count_above(func, covered)
    if covered is not None:
        ycbcr[:, :1].masked_fill_(~covered, 0.0)
        ycbcr[:, 1:].masked_fill_(~covered, 0.5)
    pair.a[part], colour.cbcr[part] = ycbcr[:, :1], ycbcr[:, 1:]
    if colour.uptake is not None:
        uptake = windowed(func, sources.window)
        # Grey, or with nothing laid over it, where nothing was measured.
        outside = MAPS[str(sources.colormap)].neutral if sources.gamut == "band" else -1.0
        colour.uptake[part] = uptake if covered is None else uptake.masked_fill_(~covered, outside)
    return above


def _blend(
    pair: Windowed,
    weights: Weights,
    levels: int,
    mode: Mode,
    kernel: Kernel,
    notify: Progress,
    device: torch.device,
) -> Blended:
    """Fixed kernel, then the anatomical image alone where nothing functional was measured."""
    if mode == "volume":
        notify(0.6, "kernel")
        a, b, *maps = (x[:, 0].to(device) for x in (pair.a, pair.b, *weights.maps))
        w = maps if len(maps) > 1 else maps[0]
        whole = fuse_volume(a, b, w, levels=levels, kernel=kernel)
        planes = [x.cpu().unsqueeze(1) for x in (whole.luminance, whole.from_a, whole.from_b)]
    else:
        planes = [empty(pair.a.shape) for _ in range(3)]

        def blend(part: slice) -> None:
            a, b, *maps = (x[part].to(device) for x in (pair.a, pair.b, *weights.maps))
            w = maps if len(maps) > 1 else maps[0]
            fused = fuse_luminance(a, b, w, levels=levels, kernel=kernel)
            found = (fused.luminance, fused.from_a, fused.from_b)
            for plane, values in zip(planes, found, strict=True):
                plane[part] = values

        parts = slabs(len(pair.a))
        share_out(blend, parts, lambda done: notify(0.6 + 0.2 * done / len(parts), "kernel"))
    blended = Blended(planes[0], planes[1], planes[2], share=empty(pair.a.shape))
    share_out(lambda part: _share_chunk(blended, pair, part), slabs(len(pair.a), AT_A_TIME))
    return blended


def _share_chunk(blended: Blended, pair: Windowed, part: slice) -> None:
    """What came from where, and the anatomical image alone outside the field of view."""
    fused = Fused(blended.luminance[part], blended.from_a[part], blended.from_b[part])
    blended.share[part] = fused.share()
    if pair.coverage is not None:
        outside, b = ~pair.coverage[part], pair.b[part]
        fused.from_a.masked_fill_(outside, 0.0)
        blended.share[part].masked_fill_(outside, 1.0)
        for plane in (fused.luminance, fused.from_b):
            torch.where(outside, b, plane, out=plane)


def _keep_painting(blended: Blended, pair: Windowed, painting: Tensor) -> None:
    """Take the painting for the blend; what the blend does not explain is the network's."""
    painted = empty(painting.shape)
    for part in slabs(len(painting)):
        if pair.coverage is not None:
            outside = ~pair.coverage[part]
            painting[part] = torch.where(outside, pair.b[part], painting[part])
        torch.sub(painting[part], blended.luminance[part], out=painted[part])
    blended.luminance, blended.painted = painting, painted


def _bound(blended: Blended, pair: Windowed) -> None:
    """Project the luminance into the range of the sources nearby; record the change."""
    luminance, change = blended.luminance, empty(pair.a.shape)
    for part in slabs(len(luminance)):
        luminance[part], change[part] = bound_luminance(luminance[part], pair.a[part], pair.b[part])
    blended.bound_change = change
