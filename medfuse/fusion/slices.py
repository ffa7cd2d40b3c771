"""The work of a fusion in slice order: prepare, guide, blend, paint, a few slices at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

from medfuse.audit import ReadBack, estimated_weights
from medfuse.imaging.grid import SLICE_ANISOTROPY, DisplayOrder, Grid
from medfuse.imaging.windows import Window
from medfuse.kernel.blend import Fused, bound_luminance, fuse_luminance, fuse_volume, slabs
from medfuse.kernel.color import clip_gamut, fit_gamut, rgb_to_ycbcr, ycbcr_to_rgb
from medfuse.kernel.colormaps import COLORMAPS
from medfuse.kernel.pyramid import Kernel
from medfuse.kernel.scratch import empty
from medfuse.kernel.threads import share_out
from medfuse.methods.base import Method, Painter

Mode = Literal["auto", "slices", "volume"]
Gamut = Literal["fit", "clip"]
Progress = Callable[[float, str], None]
Ask = Callable[[Tensor, Tensor], Tensor]  # (N, 1, R, K) of both sources -> (N, 1, R, K)

MIN_SIDE = 32  # voxels; a guide sees too little of a slice that is narrower
SAMPLES = 200_000  # voxels in which the audit reads uptake back


@dataclass(frozen=True)
class Sources:
    """The pair before windowing: (C, X, Y, Z); 2-D images have Z = 1."""

    functional: Tensor
    anatomical: Tensor
    window: Window | None
    anatomical_window: Window | None
    colormap: str | None
    coverage: Tensor | None  # (X, Y, Z) bool
    gamut: Gamut
    bias: float
    weights: Tensor | None  # (1, X, Y, Z)
    flat: bool  # the images came without a third axis
    table: Tensor | None = None  # (256, 3) RGB of the colour map, where it is not that of the name
    bounded: bool = False

    def ycbcr(self, functional: Tensor) -> Tensor:
        """(N, C, R, K) functional values -> (N, 3, R, K) Y, Cb, Cr."""
        if self.colormap is None:
            return rgb_to_ycbcr(functional)
        # Colour conversion is affine, so a table of YCbCr interpolates like the table of RGB.
        colours = COLORMAPS[self.colormap] if self.table is None else self.table
        table = rgb_to_ycbcr(colours.T[None])[0].T.contiguous()
        position = _windowed(functional[:, 0], self.window).mul_(len(table) - 1)
        index = position.floor().clamp_max_(len(table) - 2)
        fraction = position.sub_(index)
        index = index.long()
        steps = table.diff(dim=0)
        planes = [torch.addcmul(table[:, c][index], steps[:, c][index], fraction) for c in range(3)]
        return torch.stack(planes, dim=1)


@dataclass(frozen=True)
class Planes:
    """Outputs in slice order, each (S, C, R, K), and the way back to (C, X, Y, Z)."""

    order: DisplayOrder
    values: dict[str, Tensor]

    def volume(self, name: str) -> Tensor:
        """(C, X, Y, Z): a view of the plane where nothing is flipped, else a copy."""
        turned = _turned(self.values[name], self.order)
        unflipped = replace(self.order, flips=(False, False, False))
        return unflipped.invert(turned.transpose(0, 1))


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
    orders = _orders(sources, mode)
    planes = _allocate(sources, orders[0])
    slices = planes.values["a"].shape[0]
    for part in slabs(slices):
        notify(0.2 * part.start / slices, "colour")
        _prepare_chunk(sources, planes, part)
    painting = None
    if isinstance(guide, Painter):
        painting = _ask_along(guide.luminance, planes, orders, notify)
    planes.values["weights"] = _weights(sources, guide, painting, planes, orders, notify)
    covered = planes.values.get("coverage")
    if covered is not None:
        for part in slabs(slices):
            planes.values["weights"][part].masked_fill_(~covered[part], 1.0)
    _blend(planes, guide.info.levels, mode, kernel, notify)
    if painting is not None:
        _keep_painting(planes.values, painting)
    if sources.bounded:
        _bound(planes.values)
    _room(planes.values, "gamut", "chroma")
    planes.values["rgb"] = empty((slices, 3, *planes.values["a"].shape[2:]))
    for part in slabs(slices):
        notify(0.8 + 0.1 * part.start / slices, "picture")
        _paint_chunk(planes, part, sources.gamut)
    del planes.values["cbcr"]
    notify(0.9, "audit")
    return planes


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
    planes = _allocate(sources, _orders(sources, "slices")[0])
    v = planes.values
    parts = slabs(len(v["a"]))
    for part in parts:
        _prepare_chunk(sources, planes, part)
    luminance = v["b"].clone()
    assert sources.weights is not None
    v["weights"] = planes.order.apply(sources.weights).transpose(0, 1).contiguous()
    _blend(planes, levels, mode, kernel, lambda fraction, text: None)
    v["luminance"] = luminance
    _room(v, "gamut", "chroma")
    v["rgb"] = empty((len(luminance), 3, *luminance.shape[2:]))
    for part in parts:
        _paint_chunk(planes, part, sources.gamut)
    return planes.volume("rgb"), planes.volume("from_a")


def _orders(sources: Sources, mode: Mode) -> list[DisplayOrder]:
    """Slice order of the guide: one, or one for each axis in volume mode."""
    image = sources.anatomical
    if isinstance(image, MetaTensor):
        grid = Grid.from_volume(image)
        first = DisplayOrder.from_grid(grid)
        others = [DisplayOrder.from_grid(grid, axis=a) for a in range(3) if a != first.axes[0]]
    else:
        plain = ((2, 0, 1), (0, 1, 2), (1, 0, 2))
        first, *others = (
            DisplayOrder("axial", axes, (False, False, False), (1.0, 1.0, 1.0)) for axes in plain
        )
    return [first, *others] if mode == "volume" and min(image.shape[1:]) > 1 else [first]


def _allocate(sources: Sources, order: DisplayOrder) -> Planes:
    slices, rows, columns = (sources.anatomical.shape[1 + axis] for axis in order.axes)
    values = {name: empty((slices, 1, rows, columns)) for name in ("a", "b")}
    values["cbcr"] = empty((slices, 2, rows, columns))
    values |= {"chroma_before": torch.zeros(()), "saturated": torch.zeros((), dtype=torch.int64)}
    if sources.coverage is not None:
        values["coverage"] = order.apply(sources.coverage).unsqueeze(1).contiguous()
    return Planes(order, values)


def _room(v: dict[str, Tensor], *names: str) -> None:
    for name in names:
        v[name] = empty(v["a"].shape)


def in_slices(image: Tensor, order: DisplayOrder) -> Tensor:
    """(C, X, Y, Z) -> (S, C, R, K): a view where nothing is flipped, else a copy."""
    return _turned(order.cut(plain(image), slice(None)).transpose(0, 1), order)


def _turned(planes: Tensor, order: DisplayOrder) -> Tensor:
    """Flip (S, C, R, K) where the order does, a few slices at a time."""
    if not any(order.flips):
        return planes
    out, count = empty(planes.shape, planes.dtype), len(planes)
    for part in slabs(count):
        there = slice(count - part.stop, count - part.start) if order.flips[0] else part
        out[there] = order.turned(planes[part].transpose(0, 1)).transpose(0, 1)
    return out


def _prepare_chunk(sources: Sources, planes: Planes, part: slice) -> None:
    v = planes.values
    func, anat = (
        planes.order.turned(planes.order.cut(plain(image), part)).transpose(0, 1)
        for image in (sources.functional, sources.anatomical)
    )
    ycbcr = sources.ycbcr(func)
    v["b"][part] = _windowed(anat, sources.anatomical_window)
    if sources.window is not None and sources.functional.shape[0] == 1:
        above = func > sources.window.high
        v["saturated"] += (above & v["coverage"][part] if "coverage" in v else above).sum()
    if "coverage" in v:
        outside = ~v["coverage"][part]
        ycbcr[:, :1].masked_fill_(outside, 0.0)
        ycbcr[:, 1:].masked_fill_(outside, 0.5)
    v["a"][part], v["cbcr"][part] = ycbcr[:, :1], ycbcr[:, 1:]


def _weights(
    sources: Sources,
    guide: Method | Painter,
    painting: Tensor | None,
    planes: Planes,
    orders: list[DisplayOrder],
    notify: Progress,
) -> Tensor:
    """Weights as given, as the guide chooses, or those that explain a painting best."""
    if sources.weights is not None:
        given = orders[0].apply(sources.weights).transpose(0, 1)
        return empty(given.shape).copy_(given)  # never the caller's own: it is changed in place
    if isinstance(guide, Painter):
        assert painting is not None
        return _fit_weights(planes, painting)
    weights = _ask_along(guide.weights, planes, orders, notify)
    _shift(weights, sources.bias)
    return weights


def _fit_weights(planes: Planes, painting: Tensor) -> Tensor:
    v, fitted = planes.values, empty(painting.shape)
    for part in slabs(len(painting)):
        fitted[part] = estimated_weights(painting[part], v["a"][part], v["b"][part])
    return fitted


def _ask_along(ask: Ask, planes: Planes, orders: list[DisplayOrder], notify: Progress) -> Tensor:
    """Answers to the slices of every order, averaged in the slice order of the result."""
    v = planes.values
    total = empty(v["a"].shape).zero_()
    for number, order in enumerate(orders):

        def tell(part: float, before: int = number) -> None:
            notify(0.2 + 0.4 * (before + part) / len(orders), "guide")

        _ask(ask, v["a"], v["b"], total, order.after(planes.order), tell)
    return total.div_(len(orders)) if len(orders) > 1 else total


def _ask(
    ask: Ask,
    a: Tensor,
    b: Tensor,
    total: Tensor,
    order: DisplayOrder,
    notify: Callable[[float], None],
) -> None:
    """Add the answers to all slices of another order, a few at a time."""
    a, b, total = (x.transpose(0, 1) for x in (a, b, total))

    def add(part: slice) -> None:
        asked = (order.turned(order.cut(x, part)).transpose(0, 1) for x in (a, b))
        answer = ask(*(x.contiguous() for x in asked))
        order.cut(total, part).add_(order.turned(answer.transpose(0, 1)))

    parts = slabs(total.shape[1 + order.axes[0]])
    share_out(add, parts, lambda done: notify(done / len(parts)))


def _shift(weights: Tensor, bias: float) -> None:
    """Move weights in place toward 1 (bias > 0) or 0 (bias < 0); they stay in [0, 1]."""
    if bias > 0:
        weights.lerp_(torch.ones(()), bias)
    elif bias < 0:
        weights.mul_(1 + bias)


def _blend(planes: Planes, levels: int, mode: Mode, kernel: Kernel, notify: Progress) -> None:
    """Fixed kernel, then the anatomical image alone where nothing functional was measured."""
    v = planes.values
    parts = slabs(len(v["a"]))
    if mode == "volume":
        notify(0.6, "kernel")
        a, b, w = (v[name][:, 0] for name in ("a", "b", "weights"))
        fused = fuse_volume(a, b, w, levels=levels, kernel=kernel)
        for name in ("luminance", "from_a", "from_b"):
            v[name] = getattr(fused, name).unsqueeze(1)
    else:
        _room(v, "luminance", "from_a", "from_b")

        def blend(part: slice) -> None:
            a, b, w = (v[name][part] for name in ("a", "b", "weights"))
            fused = fuse_luminance(a, b, w, levels=levels, kernel=kernel)
            for name in ("luminance", "from_a", "from_b"):
                v[name][part] = getattr(fused, name)

        share_out(blend, parts, lambda done: notify(0.6 + 0.2 * done / len(parts), "kernel"))
    _room(v, "share")
    for part in parts:
        _share_chunk(v, part)


def _share_chunk(v: dict[str, Tensor], part: slice) -> None:
    """What came from where, and the anatomical image alone outside the field of view."""
    luminance, from_a, from_b = (v[name][part] for name in ("luminance", "from_a", "from_b"))
    v["share"][part] = Fused(luminance, from_a, from_b).share()
    if "coverage" in v:
        outside, b = ~v["coverage"][part], v["b"][part]
        from_a.masked_fill_(outside, 0.0)
        v["share"][part].masked_fill_(outside, 1.0)
        for plane in (luminance, from_b):
            torch.where(outside, b, plane, out=plane)


def _keep_painting(v: dict[str, Tensor], painting: Tensor) -> None:
    """Take the painting for the blend; what the blend does not explain is the network's."""
    _room(v, "painted")
    for part in slabs(len(painting)):
        if "coverage" in v:
            outside = ~v["coverage"][part]
            painting[part] = torch.where(outside, v["b"][part], painting[part])
        torch.sub(painting[part], v["luminance"][part], out=v["painted"][part])
    v["luminance"] = painting


def _bound(v: dict[str, Tensor]) -> None:
    """Project the luminance into the range of the sources nearby; record the change."""
    _room(v, "bound_change")
    for part in slabs(len(v["a"])):
        v["luminance"][part], v["bound_change"][part] = bound_luminance(
            v["luminance"][part], v["a"][part], v["b"][part]
        )


def _paint_chunk(planes: Planes, part: slice, gamut: Gamut) -> None:
    v = planes.values
    luminance, cbcr = v["luminance"][part], v["cbcr"][part]
    exact = ycbcr_to_rgb(torch.cat([luminance, cbcr], dim=1))
    v["chroma_before"] = torch.maximum(v["chroma_before"], _chroma_drift(exact, cbcr).amax())
    rgb, v["gamut"][part] = clip_gamut(exact) if gamut == "clip" else fit_gamut(luminance, cbcr)
    v["chroma"][part] = _chroma_drift(rgb, cbcr)
    v["rgb"][part] = rgb


def _chroma_drift(rgb: Tensor, cbcr: Tensor) -> Tensor:
    return rgb_to_ycbcr(rgb)[:, 1:].sub_(cbcr).abs_().amax(dim=1, keepdim=True)


def read_back_sample(planes: Planes, sources: Sources, functional: Tensor) -> ReadBack | None:
    """Every n-th covered voxel with uptake: its value, its 8-bit colour. Grey has no chroma."""
    if sources.colormap in (None, "gray"):
        return None
    v = planes.values
    size = v["a"].numel()
    places = np.unravel_index(np.arange(0, size, max(1, size // SAMPLES)), tuple(v["a"].shape))
    s, _, r, k = map(torch.from_numpy, places)  # torch's own unravel_index imports sympy: 0.4 s
    values = _windowed(functional[s, 0, r, k], sources.window)
    wanted = values > 0.02
    if "coverage" in v:
        wanted &= v["coverage"][s, 0, r, k]
    rgb = v["rgb"][s[wanted], :, r[wanted], k[wanted]].T
    return ReadBack(values[wanted], (rgb * 255).round_().div_(255), sources.colormap)


def _windowed(x: Tensor, window: Window | None) -> Tensor:
    if window is None:
        return x.clone()
    return torch.sub(x, window.low).div_(window.high - window.low).clamp_(0, 1)


def plain(x: Tensor) -> Tensor:
    return x.as_tensor() if isinstance(x, MetaTensor) else x
