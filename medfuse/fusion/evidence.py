"""From planes to what the audit looks at: of our own fusions and of pictures of any tool."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medfuse.audit import Evidence, Functional, ReadBack, contradiction_map
from medfuse.fusion.guide import slice_orders
from medfuse.fusion.planes import Planes, Windowed, in_slices
from medfuse.fusion.sources import Sources, plain, windowed
from medfuse.imaging.grid import DisplayOrder, Grid
from medfuse.imaging.located import is_located
from medfuse.kernel import blend
from medfuse.kernel.color import luma
from medfuse.kernel.scratch import empty
from medfuse.kernel.threads import share_out

SAMPLES = 200_000  # voxels in which the audit reads uptake back
ALIKE = 1e-4  # of luminance; closer is the anatomical image alone


def evidence_of(planes: Planes, sources: Sources) -> Evidence:
    """Put together the evidence of one fusion; adds ``overshoot`` to the planes."""
    blended, picture = planes.blended, planes.picture
    blended.overshoot = overshoot(blended.luminance, planes.windowed)
    shown = evidence_of_picture(
        sources, planes.order, planes.windowed, blended.luminance, picture.rgb
    )
    return replace(
        shown,
        weights=planes.weights.shown,
        from_a=blended.from_a,
        from_b=blended.from_b,
        share=blended.share,
        overshoot=blended.overshoot,
        bound_change=blended.bound_change,
        painted=blended.painted,
        gamut_change=picture.gamut_change,
        chroma_change=picture.chroma_change,
        chroma_change_before=picture.chroma_change_before,
    )


def evidence_of_picture(
    sources: Sources, order: DisplayOrder, pair: Windowed, luminance: Tensor, rgb: Tensor
) -> Evidence:
    """What can be told of a picture whoever made it: all but how the two sources were mixed.

    Parameters
    ----------
    sources : Sources
        With the colour map of the picture; without, or where that is grey, nothing is read back.
    order : DisplayOrder
        In which all planes lie.
    pair : Windowed
    luminance : (S, 1, R, K) float32
        Of the picture.
    rgb : (S, 3, R, K) float32 in [0, 1]
        The picture.
    """
    values, window, grid = in_slices(sources.functional, order), sources.window, sources.grid
    func = sources.functional
    facts = func.meta if is_located(func) else {}
    return Evidence(
        a=pair.a,
        b=pair.b,
        luminance=luminance,
        rgb=rgb,
        coverage=pair.coverage,
        saturated=pair.saturated,
        window_by_design=window is not None and window.unit == "HU",
        gamut=sources.gamut,
        read_back=_read_back_sample(sources, pair, values, luminance, rgb),
        functional=Functional(
            values=values,
            window=(window.low, window.high) if window else None,
            colormap=sources.colormap,
            unit=window.unit if window else "",
            modality=facts.get("modality", "unknown"),
        ),
        affine=slice_affine(order, grid) if grid else None,
        stored_affine=np.asarray(grid.affine) if grid else None,
    )


def contradictions(sources: Sources, luminance: Tensor, rgb: Tensor) -> Tensor:
    """Where a finished fusion contradicts both sources: the map behind ``contradiction``.

    Parameters
    ----------
    sources : Sources
        As they were fused.
    luminance : (1, X, Y, Z) float32
    rgb : (3, X, Y, Z) float32
        Of the result.

    Returns
    -------
    (X, Y, Z) uint8
        See :func:`medfuse.audit.contradiction_map`.
    """
    order = slice_orders(sources.anatomical, "slices")[0]
    shown = luma(plain(rgb)[None])[0] if sources.gamut == "overlay" else plain(luminance)
    out = torch.zeros(order.apply(shown)[0].shape, dtype=torch.uint8)
    for part in blend.slabs(len(out)):
        func, anat, fused = (
            order.turned(order.cut(x, part)).transpose(0, 1)
            for x in (plain(sources.functional), plain(sources.anatomical), shown)
        )
        a = sources.ycbcr(func)[:, :1]
        if sources.coverage is not None:
            inside = order.turned(order.cut(sources.coverage, part))
            a.masked_fill_(~inside.unsqueeze(1), 0.0)
        out[part] = contradiction_map(a, windowed(anat, sources.anatomical_window), fused)
    return order.invert(out)


def overshoot(luminance: Tensor, pair: Windowed) -> Tensor:
    """(S, 1, R, K): :func:`medfuse.kernel.blend.overshoot`, a few slices at a time."""
    out = empty(luminance.shape)

    def fill(part: slice) -> None:
        out[part] = blend.overshoot(luminance[part], pair.a[part], pair.b[part])

    share_out(fill, blend.slabs(len(out)))
    return out


def slice_affine(order: DisplayOrder, grid: Grid) -> NDArray[np.float64]:
    """(4, 4) map from a (slice, row, column) index of the display order to RAS mm."""
    voxel_from_slice = np.zeros((4, 4))
    voxel_from_slice[3, 3] = 1
    for place, (axis, flip) in enumerate(zip(order.axes, order.flips, strict=True)):
        voxel_from_slice[axis, place] = -1 if flip else 1
        voxel_from_slice[axis, 3] = grid.shape[axis] - 1 if flip else 0
    return np.asarray(grid.affine @ voxel_from_slice)


def _read_back_sample(
    sources: Sources, pair: Windowed, functional: Tensor, luminance: Tensor, rgb: Tensor
) -> ReadBack | None:
    """Every n-th covered voxel with uptake: its value, its 8-bit colour. Grey has no chroma."""
    if sources.colormap in (None, "gray"):
        return None
    size = pair.a.numel()
    places = np.unravel_index(np.arange(0, size, max(1, size // SAMPLES)), tuple(pair.a.shape))
    s, _, r, k = map(torch.from_numpy, places)  # torch's own unravel_index imports sympy: 0.4 s
    values = windowed(functional[s, 0, r, k], sources.window)
    wanted = values > 0.02
    if pair.coverage is not None:
        wanted &= pair.coverage[s, 0, r, k]
    chosen = s[wanted], r[wanted], k[wanted]
    colours = (rgb[chosen[0], :, chosen[1], chosen[2]].T * 255).round_().div_(255)
    shown, anatomy = (x[chosen[0], 0, chosen[1], chosen[2]] for x in (luminance, pair.b))
    two_way = sources.gamut == "band"
    alone = two_way and bool(((shown.clamp(0, 1) - anatomy).abs() <= ALIKE).all())
    return ReadBack(
        values[wanted],
        colours,
        sources.colormap,
        bias=sources.bias,
        two_way=two_way,
        anatomy=anatomy if alone else None,
    )
