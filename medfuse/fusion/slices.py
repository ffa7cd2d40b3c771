"""The work of a fusion in slice order: prepare, guide, blend, paint, a few slices at a time."""

from __future__ import annotations

import torch
from monai.data import MetaTensor
from torch import Tensor

from medfuse.fusion.guide import Mode, Progress, ask_guide, slice_orders
from medfuse.fusion.planes import (
    Blended,
    Painting,
    Picture,
    Planes,
    Weights,
    Windowed,
    covered_slices,
    image_axes,
)
from medfuse.fusion.sources import Gamut, Sources, plain, windowed
from medfuse.imaging.grid import SLICE_ANISOTROPY, DisplayOrder, Grid
from medfuse.kernel.blend import Fused, bound_luminance, fuse_luminance, fuse_volume, slabs
from medfuse.kernel.color import clip_gamut, fit_gamut, rgb_to_ycbcr, ycbcr_to_rgb
from medfuse.kernel.pyramid import Kernel
from medfuse.kernel.scratch import empty
from medfuse.kernel.threads import share_out
from medfuse.methods.base import Method, Painter

__all__ = ["Sources", "chroma_drift", "plain", "repaint", "resolve_mode", "run_slices"]

MIN_SIDE = 32  # voxels; a guide sees too little of a slice that is narrower


def resolve_mode(mode: Mode, anatomical: Tensor, *, paints: bool = False) -> Mode:
    """Decide ``auto``: ``volume`` where slices along all three axes are worth looking at.

    That is a geometry whose spacings differ by no more than a factor of 1.5, with 32 voxels or
    more along every axis. Arrays without geometry are taken slice by slice, and so is what a
    network ``paints``: the mean of three paintings is more blurred than each.
    """
    if mode != "auto":
        return mode
    if paints or not isinstance(anatomical, MetaTensor) or min(anatomical.shape[1:]) < MIN_SIDE:
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
    pair, cbcr = _prepare(sources, orders[0], notify)
    answer = ask_guide(guide, sources, pair, orders, notify)
    weights = answer.weights if isinstance(answer, Painting) else answer
    blended = _blend(pair, weights, guide.info.levels, mode, kernel, notify)
    if isinstance(answer, Painting):
        _keep_painting(blended, pair, answer.luminance)
    if sources.bounded:
        _bound(blended, pair)
    picture = _paint(blended.luminance, cbcr, sources.gamut, notify)
    notify(0.9, "audit")
    return Planes(orders[0], pair, weights, blended, picture)


def repaint(sources: Sources, *, levels: int, mode: Mode, kernel: Kernel) -> tuple[Tensor, Tensor]:
    """Make the picture of a stored fusion again without its anatomical image.

    Parameters
    ----------
    sources : Sources
        With the stored weights and, as ``anatomical`` without a window, the fused luminance.

    Returns
    -------
    rgb : (3, X, Y, Z)
        Functional colour at that luminance.
    from_functional : (1, X, Y, Z)
        What the functional image gave to it, which no anatomical image changes.
    """
    assert sources.weights is not None
    order = slice_orders(sources.anatomical, "slices")[0]
    pair, cbcr = _prepare(sources, order, _silent)
    weights = Weights([order.apply(sources.weights).transpose(0, 1).contiguous()])
    blended = _blend(pair, weights, levels, mode, kernel, _silent)
    picture = _paint(pair.b, cbcr, sources.gamut, _silent)
    return image_axes(picture.rgb, order), image_axes(blended.from_a, order)


def _silent(fraction: float, text: str) -> None:
    """Progress that nobody follows."""


def _prepare(sources: Sources, order: DisplayOrder, notify: Progress) -> tuple[Windowed, Tensor]:
    """Both luminances, and Cb and Cr (S, 2, R, K) of the coloured functional image."""
    slices, rows, columns = (sources.anatomical.shape[1 + axis] for axis in order.axes)
    a, b = (empty((slices, 1, rows, columns)) for _ in range(2))
    pair = Windowed(a, b, covered_slices(sources.coverage, order))
    cbcr = empty((slices, 2, rows, columns))
    for part in slabs(slices):
        notify(0.2 * part.start / slices, "colour")
        _prepare_chunk(sources, order, pair, cbcr, part)
    return pair, cbcr


def _prepare_chunk(
    sources: Sources, order: DisplayOrder, pair: Windowed, cbcr: Tensor, part: slice
) -> None:
    func, anat = (
        order.turned(order.cut(plain(image), part)).transpose(0, 1)
        for image in (sources.functional, sources.anatomical)
    )
    covered = None if pair.coverage is None else pair.coverage[part]
    ycbcr = sources.ycbcr(func)
    pair.b[part] = windowed(anat, sources.anatomical_window)
    pair.saturated += sources.count_above(func, covered)
    if covered is not None:
        ycbcr[:, :1].masked_fill_(~covered, 0.0)
        ycbcr[:, 1:].masked_fill_(~covered, 0.5)
    pair.a[part], cbcr[part] = ycbcr[:, :1], ycbcr[:, 1:]


def _blend(
    pair: Windowed, weights: Weights, levels: int, mode: Mode, kernel: Kernel, notify: Progress
) -> Blended:
    """Fixed kernel, then the anatomical image alone where nothing functional was measured."""
    if mode == "volume":
        notify(0.6, "kernel")
        a, b, w = (x[:, 0] for x in (pair.a, pair.b, weights.maps[0]))
        whole = fuse_volume(a, b, w, levels=levels, kernel=kernel)
        planes = [x.unsqueeze(1) for x in (whole.luminance, whole.from_a, whole.from_b)]
    else:
        planes = [empty(pair.a.shape) for _ in range(3)]

        def blend(part: slice) -> None:
            a, b, w = (x[part] for x in (pair.a, pair.b, weights.maps[0]))
            fused = fuse_luminance(a, b, w, levels=levels, kernel=kernel)
            found = (fused.luminance, fused.from_a, fused.from_b)
            for plane, values in zip(planes, found, strict=True):
                plane[part] = values

        parts = slabs(len(pair.a))
        share_out(blend, parts, lambda done: notify(0.6 + 0.2 * done / len(parts), "kernel"))
    blended = Blended(planes[0], planes[1], planes[2], share=empty(pair.a.shape))
    for part in slabs(len(pair.a)):
        _share_chunk(blended, pair, part)
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


def _paint(luminance: Tensor, cbcr: Tensor, gamut: Gamut, notify: Progress) -> Picture:
    """Functional colour at the fused luminance, brought into the RGB range."""
    slices = len(luminance)
    gamut_change, chroma_change = (empty(luminance.shape) for _ in range(2))
    rgb, before = empty((slices, 3, *luminance.shape[2:])), torch.zeros(())
    for part in slabs(slices):
        notify(0.8 + 0.1 * part.start / slices, "picture")
        y, colour = luminance[part], cbcr[part]
        exact = ycbcr_to_rgb(torch.cat([y, colour], dim=1))
        before = torch.maximum(before, chroma_drift(exact, colour).amax())
        shown, gamut_change[part] = clip_gamut(exact) if gamut == "clip" else fit_gamut(y, colour)
        chroma_change[part] = chroma_drift(shown, colour)
        rgb[part] = shown
    return Picture(rgb, gamut_change, chroma_change, float(before))


def chroma_drift(rgb: Tensor, cbcr: Tensor) -> Tensor:
    """By how much Cb or Cr, whichever more, of (S, 3, R, K) is off (S, 2, R, K): (S, 1, R, K)."""
    return rgb_to_ycbcr(rgb)[:, 1:].sub_(cbcr).abs_().amax(dim=1, keepdim=True)
