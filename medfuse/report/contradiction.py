"""The picture of the worst place at which a fused image contradicts both of its sources."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfuse.imaging.grid import DisplayOrder, Grid
from medfuse.report.panels import View, make_views, outline, position, side_by_side
from medfuse.results.export import Bytes, write_png

MIDDLE = 2  # in the map: the middle of a window
SIDE = 330
AROUND = 0.6  # of its size that is shown around a place in the close-up, and no less than
LEAST = 12  # voxels

Draw = Callable[[View, int, str], Bytes]


def mark(image: Bytes, view: View, index: int, found: NDArray[np.uint8] | None) -> Bytes:
    """The panel of a slice, with a line around the places of a contradiction that lie in it.

    Parameters
    ----------
    image : (H, W, 3) uint8
        The slice as `view` shows it.
    found : (X, Y, Z) uint8 or None
        As :func:`medfuse.audit.contradiction_map`; None where there is none.
    """
    if found is None:
        return image
    places = view.cut(found, index) > 0
    return outline(image, places) if places.any() else image


def write_contradiction(
    folder: Path,
    found: NDArray[np.uint8] | None,
    grid: Grid,
    foreground: NDArray[np.bool_],
    draw: Draw,
    columns: Sequence[str],
) -> dict[str, Any] | None:
    """Draw the slice with most of it: as a whole with the place outlined, and a close-up without.

    Returns
    -------
    dict or None
        Files, slice and columns for the report; None where there is nothing to show.
    """
    if found is None or not found.any():
        return None
    order = DisplayOrder.from_grid(grid)
    slices = order.apply(found)
    worst = int((slices == MIDDLE).sum(axis=(1, 2)).argmax())
    near = np.zeros(slices.shape, dtype=bool)
    near[(slice(worst, worst + 1), *_around(slices[worst] > 0))] = True
    whole, close = (
        make_views(grid, seen, [order], side=SIDE)[0] for seen in (foreground, order.invert(near))
    )
    files = {}
    for name, view, shown in (("outlined", whole, found), ("close_up", close, None)):
        panels = [mark(draw(view, worst, column), view, worst, shown) for column in columns]
        strip = side_by_side(panels, [view.letters] * len(panels))
        files[name] = write_png(folder / f"contradiction_{name}.png", strip).name
    return {
        "files": files,
        "columns": list(columns),
        "index": worst,
        "position": position(whole, grid, worst),
    }


def _around(places: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns of a place and of what lies around it."""
    cuts = []
    for axis in (1, 0):
        seen = np.flatnonzero(places.any(axis=axis))
        first, last = int(seen[0]), int(seen[-1]) + 1
        margin = max(LEAST, round(AROUND * (last - first)))
        cuts.append(slice(max(0, first - margin), last + margin))
    return cuts[0], cuts[1]
