"""Layers by which a fused image is checked: checkerboard, edges, overlay, contradictions."""

from __future__ import annotations

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from medfuse.fusion import FusionResult
from medfuse.fusion.choice import OVERLAY_MAP
from medfuse.fusion.paint import lay_over
from medfuse.fusion.sources import plain, windowed
from medfuse.imaging.grid import DisplayOrder
from medfuse.kernel.colormaps import COLORMAPS
from medfuse.results.export import to_bytes
from napari_plugin.layers import shown
from napari_plugin.outputs import (
    CHECKER,
    CONTRADICTION,
    EDGES,
    GREY_LEVEL,
    MASK,
    OVERLAY,
    Output,
)
from napari_plugin.source import Source

SLAB = 32  # voxels at a time


def checkerboard(result: FusionResult, source: Source, *, blocks: int = 8) -> Output:
    """Both sources in turns: structures must run on across the fields."""
    anatomical = np.asarray(result.anatomical)[0]
    size = max(1, max(anatomical.shape) // blocks)
    index = np.indices(anatomical.shape, sparse=True)
    odd = sum(i // size for i in index) % 2 == 1
    covered = odd & np.asarray(result.coverage)[0]
    functional = np.asarray(result.functional_luminance)[0]
    bright = to_bytes(functional / max(float(functional.max()), GREY_LEVEL))
    covered, bright, grey = (
        np.ascontiguousarray(shown(volume[None], source.order, flat=source.flat))
        for volume in (covered, bright, to_bytes(anatomical))
    )
    data = to_bytes(COLORMAPS["ember"])[bright]
    np.copyto(data, grey[..., None], where=~covered[..., None])
    return Output(CHECKER, "Check: checkerboard", data, {"rgb": True})


def edges(result: FusionResult, source: Source) -> Output:
    """Strong edges of the functional image, to lay over the anatomical one."""
    image = np.asarray(result.functional_luminance)[0]
    steps = [np.gradient(image, axis=a) for a in range(image.ndim) if image.shape[a] > 1]
    strength = np.sqrt(sum(step**2 for step in steps))
    strength = np.where(np.asarray(result.coverage)[0], strength, 0)
    positive = strength[strength > GREY_LEVEL]
    limit = np.quantile(positive[:: max(1, positive.size // 200_000)], 0.85) if positive.size else 1
    mask = (strength > limit).astype(np.uint8)[None]
    return Output(
        EDGES, "Check: edges", shown(mask, source.order, flat=source.flat),
        {"opacity": 0.7, "interpolation2d": "nearest"}, MASK,
    )  # fmt: skip


def overlay(result: FusionResult, source: Source, on_grid: MetaTensor) -> Output:
    """The customary overlay, as the style ``overlay`` paints it, to compare with the picture."""
    grey, inside, values = (plain(x) for x in (result.anatomical, result.coverage, on_grid))
    colormap = None if result.colormap is None else OVERLAY_MAP
    data = np.empty((3, *grey.shape[1:]), np.uint8)
    for x in range(0, grey.shape[1], SLAB):
        part = np.s_[:, x : x + SLAB]
        uptake = torch.where(inside[part], windowed(values[part], result.window), -1.0)
        data[part] = to_bytes(lay_over(grey[part][None], uptake[None], colormap)[0])
    picture = np.ascontiguousarray(shown(data, source.order, flat=source.flat))
    return Output(OVERLAY, "Compare: customary overlay", picture, {"rgb": True})


def contradiction(found: NDArray[np.uint8], source: Source) -> Output:
    """Lines around the places at which the picture contradicts both sources.

    ``found``: (X, Y, Z), as :func:`medfuse.audit.contradiction_map`.
    """
    order = DisplayOrder.from_grid(source.grid)
    places = order.apply(found) > 0
    wide = np.pad(places, ((0, 0), (1, 1), (1, 1)))
    near = [wide[:, i : i + places.shape[1], j : j + places.shape[2]]
            for i in range(3) for j in range(3)]  # fmt: skip
    lines = order.invert(np.logical_or.reduce(near) & ~places)
    data = shown(lines.astype(np.uint8)[None], source.order, flat=source.flat)
    style = {"interpolation2d": "nearest"}
    return Output(CONTRADICTION, "Audit: contradicts both sources", data, style, MASK)
