"""Pictures of a registration beside its result: other positions, and how far off it may be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfuse.imaging.grid import Grid, transform_points
from medfuse.report.panels import View, draw_regions, side_by_side
from medfuse.results.export import Bytes, to_bytes, write_png
from medfuse.results.outlines import Outlines

#: Bound of the error, (N, 3) points of the anatomical world in RAS mm -> (N,) mm.
ErrorAt = Callable[[NDArray[np.float64]], NDArray[np.float64]]
#: The scale of the map ends here, mm.
TOP_MM = 20.0
#: From agreement to doubt; even in lightness steps, safe for color-blind eyes.
ERROR_COLOURS = np.array(
    [(36, 62, 120), (62, 130, 170), (170, 190, 160), (235, 175, 80), (200, 50, 40)],
    dtype=np.float32,
)


def error_strip(
    anatomical: NDArray[Any],
    cuts: list[tuple[View, int]],
    grid: Grid,
    error_at: ErrorAt,
    regions: Outlines | None = None,
) -> Bytes:
    """Bound of the error as color over the anatomical image, one panel a plane."""
    panels = []
    for view, k in cuts:
        index = np.stack([view.cut(axis, k) for axis in _axes(grid)], axis=-1)
        within = error_at(transform_points(grid.affine, index.reshape(-1, 3)))
        colour = error_colours(within.reshape(index.shape[:-1]))
        light = 0.35 + 0.65 * np.clip(view.cut(anatomical, k), 0, 1)[..., None]
        panel = view.enlarge(to_bytes(colour * light))
        panels.append(draw_regions(panel, view, k, regions))
    return side_by_side(panels, [view.letters for view, _ in cuts])


def error_colours(within_mm: NDArray[Any]) -> NDArray[Any]:
    """(..., 3) color in [0, 1] of a bound in mm."""
    at = np.clip(np.nan_to_num(within_mm, posinf=TOP_MM) / TOP_MM, 0, 1)
    steps = np.linspace(0, 1, len(ERROR_COLOURS))
    return np.stack([np.interp(at, steps, c) for c in ERROR_COLOURS.T / 255.0], axis=-1)


def write_error_map(
    folder: Path,
    anatomical: NDArray[Any],
    cuts: list[tuple[View, int]],
    grid: Grid,
    at: ErrorAt,
    *,
    name: str = "expected_error",
    regions: Outlines | None = None,
) -> dict[str, Any]:
    """Write the map and its scale; what `figures.json` says of them."""
    ramp = error_colours(np.linspace(0, TOP_MM, 256))[None]
    scale = np.repeat(to_bytes(ramp), 12, axis=0)
    strip = error_strip(anatomical, cuts, grid, at, regions)
    return {
        "file": write_png(folder / f"{name}.png", strip).name,
        "scale": write_png(folder / f"scale_{name}.png", scale).name,
        "top_mm": TOP_MM,
    }


def _axes(grid: Grid) -> list[NDArray[np.float64]]:
    """Index of every voxel along each axis, (X, Y, Z) without memory of their own."""
    return [
        np.broadcast_to(
            np.arange(n, dtype=np.float64).reshape([-1 if a == axis else 1 for a in range(3)]),
            grid.shape,
        )
        for axis, n in enumerate(grid.shape)
    ]
