"""Weights of every band: asked of a guide along all orders, covered, stored, and shown as one map.

Map k lies on level k of the pyramid: sample i of it is at sample ``2^k i`` of the image, along rows
and columns, and in volume mode along slices too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from medfuse.fusion.planes import Windowed, image_axes
from medfuse.imaging.grid import DisplayOrder, Grid
from medfuse.kernel.blend import slabs
from medfuse.kernel.pyramid import collapse, expand_part, gaussian_pyramid, reduce_axis, reduce_part
from medfuse.kernel.scratch import empty
from medfuse.kernel.threads import one_thread, share_out
from medfuse.methods.base import Method
from medfuse.settings import Progress


def level_shape(shape: Sequence[int], level: int, *, volume: bool) -> tuple[int, ...]:
    """(S, 1, R, K) of a level of planes (S, 1, R, K)."""
    slices, _, rows, columns = shape
    for _ in range(level):
        rows, columns = -(-rows // 2), -(-columns // 2)
        slices = -(-slices // 2) if volume else slices
    return slices, 1, rows, columns


def ask_bands(
    guide: Method, windowed: Windowed, orders: list[DisplayOrder], notify: Progress
) -> list[Tensor]:
    """Ask along every order; the answers are brought to the levels of the volume and averaged.

    Slices are asked in the direction of the index axes, so that levels of all orders have their
    samples at the same places.

    Returns
    -------
    list of (S_k, 1, R_k, K_k) float32 in [0, 1]
        In the first of the orders.
    """
    volume = len(orders) > 1
    shape = windowed.a.shape
    totals = [empty(level_shape(shape, k, volume=volume)).zero_() for k in range(guide.info.maps)]
    for number, order in enumerate(orders):
        relative = replace(order.after(orders[0]), flips=(False, False, False))

        def tell(done: int, parts: int, before: int = number) -> None:
            notify(0.2 + 0.4 * (before + done / parts) / len(orders), "guide")

        for k, answer in enumerate(_answers(guide, windowed, relative, tell)):
            lowered = _reduced(answer, k) if volume else answer
            totals[k].add_(relative.invert(lowered[:, 0]).unsqueeze(1))
    for total in totals:
        total.div_(len(orders)).clamp_(0, 1)
    return totals


def _reduced(answer: Tensor, times: int) -> Tensor:
    """Halved along the slices too, as often as its rows and columns were."""
    with one_thread():
        for _ in range(times):
            answer = reduce_axis(answer, 0)
    return answer


def _answers(
    guide: Method, windowed: Windowed, order: DisplayOrder, tell: Callable[[int, int], None]
) -> list[Tensor]:
    """Maps (S, 1, R_k, K_k) of all slices of an order."""
    a, b = (x.transpose(0, 1) for x in (windowed.a, windowed.b))
    slices, rows, columns = (a.shape[1 + axis] for axis in order.axes)
    shape = (slices, 1, rows, columns)
    maps = [empty(level_shape(shape, k, volume=False)) for k in range(guide.info.maps)]
    parts = slabs(slices)

    def ask(part: slice) -> None:
        asked = (order.cut(x, part).transpose(0, 1).contiguous() for x in (a, b))
        for one, answer in zip(maps, guide.weights(*asked), strict=True):
            one[part] = answer

    share_out(ask, parts, lambda done: tell(done, len(parts)))
    return maps


def given_maps(
    given: Sequence[Tensor], windowed: Windowed, orders: list[DisplayOrder]
) -> list[Tensor]:
    """Stored maps (1, X_k, Y_k, Z_k) in slice order; copies, since they are changed in place.

    Raises
    ------
    ValueError
        If a map of a band has not the size of its level.
    """
    maps = []
    for k, one in enumerate(given):
        turned = orders[0].apply(one).transpose(0, 1)
        wanted = level_shape(windowed.a.shape, k, volume=len(orders) > 1)
        if turned.shape != wanted:
            raise ValueError(
                f"weight map {k} must be {wanted} in slice order, got {tuple(turned.shape)}"
            )
        maps.append(empty(turned.shape).copy_(turned))
    return maps


def cover_bands(
    maps: list[Tensor], coverage: Tensor | None, *, volume: bool, stored: bool = False
) -> None:
    """Take the anatomical image alone where nothing functional was measured, softly by level.

    Stored maps are covered already: of those, none but what exceeds the covered part is changed.
    """
    if coverage is None:
        return
    with one_thread():
        if not volume:
            for part in slabs(len(coverage)):
                covered = gaussian_pyramid(coverage[part].float(), len(maps) - 1)
                for one, inside in zip(maps, covered, strict=True):
                    _cover(one[part], inside, stored=stored)
            return
        inside = coverage[:, 0].float()
        for k, one in enumerate(maps):
            if k:
                inside = torch.cat([reduce_part(inside, part) for part in slabs(len(one))])
            _cover(one, inside.unsqueeze(1), stored=stored)


def _cover(weights: Tensor, inside: Tensor, *, stored: bool) -> None:
    """In place: the functional image gets no more than the part that lies inside."""
    if stored:
        torch.maximum(weights, 1 - inside, out=weights)
    else:
        weights.sub_(1).mul_(inside).add_(1)


def shown_map(maps: list[Tensor], *, volume: bool) -> Tensor:
    """One map (S, 1, R, K) for people: the only one, or the mean over the bands."""
    if len(maps) == 1:
        return maps[0]
    if not volume:
        shown = empty(maps[0].shape)

        def add(part: slice) -> None:
            shown[part] = collapse([one[part] for one in maps]).div_(len(maps)).clamp_(0, 1)

        share_out(add, slabs(len(shown)))
        return shown
    total = maps[-1][:, 0]
    with one_thread():
        for finer in reversed(maps[:-1]):
            size, out = finer[:, 0].shape, empty(finer[:, 0].shape)
            for part in slabs(len(out)):
                out[part] = expand_part(total, size, part) + finer[part, 0]
            total = out
    return total.div_(len(maps)).clamp_(0, 1).unsqueeze(1)


def stored_bands(
    maps: Sequence[Tensor], order: DisplayOrder, grid: Grid | None, *, volume: bool
) -> list[tuple[Tensor, np.ndarray | None]]:
    """Maps (1, X_k, Y_k, Z_k) as they are stored, each with its affine (4, 4)."""
    return [
        (
            image_axes(one, order),
            None if grid is None else level_affine(grid, order, k, volume=volume),
        )
        for k, one in enumerate(maps)
    ]


def level_affine(grid: Grid, order: DisplayOrder, level: int, *, volume: bool) -> np.ndarray:
    """(4, 4) affine of a level in the axes of the image, RAS mm."""
    fine_from_level = np.eye(4)
    for place, (axis, flip) in enumerate(zip(order.axes, order.flips, strict=True)):
        if place == 0 and not volume:
            continue
        size, step = grid.shape[axis], 2**level
        samples = -(-size // step)
        fine_from_level[axis, axis] = step
        fine_from_level[axis, 3] = size - 1 - step * (samples - 1) if flip else 0
    return np.asarray(grid.affine @ fine_from_level)
