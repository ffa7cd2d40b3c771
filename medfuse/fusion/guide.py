"""Asking the guide: slices of every order in, weights or a painting out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, cast

import torch
from torch import Tensor

from medfuse.audit import estimated_weights
from medfuse.fusion.bands import ask_bands, cover_bands, given_maps, shown_map
from medfuse.fusion.planes import Painting, Weights, Windowed
from medfuse.fusion.sources import Sources
from medfuse.imaging.grid import DisplayOrder, Grid
from medfuse.imaging.located import is_located
from medfuse.kernel.blend import slabs
from medfuse.kernel.scratch import empty
from medfuse.kernel.threads import share_out
from medfuse.methods.base import Method, Painter
from medfuse.settings import Progress

Mode = Literal["auto", "slices", "volume"]
Ask = Callable[[Tensor, Tensor], Tensor]  # (N, 1, R, K) of both sources -> (N, 1, R, K)


def slice_orders(image: Tensor, mode: Mode) -> list[DisplayOrder]:
    """Slice orders in which a guide sees an image: one, or one for each axis in volume mode.

    Parameters
    ----------
    image : (1, X, Y, Z) tensor or MetaTensor
    mode : {"slices", "volume"}
    """
    if is_located(image):
        grid = Grid.from_volume(image)
        first = DisplayOrder.from_grid(grid)
        others = [DisplayOrder.from_grid(grid, axis=a) for a in range(3) if a != first.axes[0]]
    else:
        plain = ((2, 0, 1), (0, 1, 2), (1, 0, 2))
        first, *others = (
            DisplayOrder("axial", axes, (False, False, False), (1.0, 1.0, 1.0)) for axes in plain
        )
    return [first, *others] if mode == "volume" and min(image.shape[1:]) > 1 else [first]


def ask_guide(
    guide: Method | Painter,
    sources: Sources,
    windowed: Windowed,
    orders: list[DisplayOrder],
    notify: Progress,
) -> Weights | Painting:
    """Ask along every order; weights are 1 where nothing functional was measured.

    Parameters
    ----------
    guide : Method or Painter
        A painter is asked for its luminance too.
    sources : Sources
        With weights where the guide must not choose them.
    windowed : Windowed
        In the first of the orders.
    """
    painting = None
    if isinstance(guide, Painter):
        painting = _ask_along(guide.luminance, windowed, orders, notify)
    maps = _maps(guide, sources, painting, windowed, orders, notify)
    if len(maps) > 1:
        stored = sources.weights is not None
        cover_bands(maps, windowed.coverage, volume=len(orders) > 1, stored=stored)
    elif windowed.coverage is not None:
        for part in slabs(len(maps[0])):
            maps[0][part].masked_fill_(~windowed.coverage[part], 1.0)
    chosen = Weights(maps, shown_map(maps, volume=len(orders) > 1))
    return chosen if painting is None else Painting(painting, chosen)


def _maps(
    guide: Method | Painter,
    sources: Sources,
    painting: Tensor | None,
    windowed: Windowed,
    orders: list[DisplayOrder],
    notify: Progress,
) -> list[Tensor]:
    """Weights as given, as the guide chooses, or those that explain a painting best."""
    if sources.weights is not None:
        return given_maps(sources.weights, windowed, orders)
    if isinstance(guide, Painter):
        assert painting is not None
        return [_fitted(painting, windowed)]
    if guide.info.maps > 1:
        maps = ask_bands(guide, windowed, orders, notify)
    else:
        maps = [_ask_along(cast(Ask, guide.weights), windowed, orders, notify)]
    if sources.gamut not in ("band", "overlay"):  # there the emphasis acts on the colours
        for one in maps:
            _shift(one, sources.bias)
    return maps


def _fitted(painting: Tensor, windowed: Windowed) -> Tensor:
    fitted = empty(painting.shape)
    for part in slabs(len(painting)):
        fitted[part] = estimated_weights(painting[part], windowed.a[part], windowed.b[part])
    return fitted


def _ask_along(
    ask: Ask, windowed: Windowed, orders: list[DisplayOrder], notify: Progress
) -> Tensor:
    """Answers to the slices of every order, averaged in the slice order of the result."""
    total = empty(windowed.a.shape).zero_()
    for number, order in enumerate(orders):

        def tell(part: float, before: int = number) -> None:
            notify(0.2 + 0.4 * (before + part) / len(orders), "guide")

        _ask(ask, windowed, total, order.after(orders[0]), tell)
    return total.div_(len(orders)) if len(orders) > 1 else total


def _ask(
    ask: Ask,
    windowed: Windowed,
    total: Tensor,
    order: DisplayOrder,
    notify: Callable[[float], None],
) -> None:
    """Add the answers to all slices of another order, a few at a time."""
    a, b, total = (x.transpose(0, 1) for x in (windowed.a, windowed.b, total))

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
