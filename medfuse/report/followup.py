"""The page of two times of one person: both images side by side, their difference, the changes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import medfuse
from medfuse.errors import NOTICE, MedfuseError
from medfuse.imaging.grid import DisplayOrder, Grid, transform_points
from medfuse.imaging.windows import Window, apply_window
from medfuse.kernel.colormaps import COLORMAPS
from medfuse.measurement.region import Region
from medfuse.measurement.table import RegionTable
from medfuse.registration.result import Registration
from medfuse.report.page import inline_pictures, render
from medfuse.report.panels import Point, make_views, side_by_side
from medfuse.results.export import Bytes, to_bytes, write_png

SIDE, MOST = 260, 8
_MAP = "hot"


@dataclass(frozen=True, eq=False)
class FollowUp:
    """What two times of one person say.

    Attributes
    ----------
    registration : Registration
        Anatomical image of the first time -> that of the second.
    rows : list of dict
        Changes, as `medfuse.measurement.change` makes them.
    first, second : RegionTable
        The same regions at both times.
    regions : list of Region
        As drawn at the first time, in the anatomical world of that time.
    anatomical, before, after, difference : (X, Y, Z) float32
        On the anatomical grid of the first time; the functional images in their unit, 0 where one
        of them was not measured.
    """

    registration: Registration
    rows: list[dict[str, Any]]
    first: RegionTable
    second: RegionTable
    regions: list[Region]
    grid: Grid
    anatomical: NDArray[np.float32]
    before: NDArray[np.float32]
    after: NDArray[np.float32]
    difference: NDArray[np.float32]
    unit: str
    window: Window
    failures: tuple[MedfuseError, ...]


def write_page(folder: Path, found: FollowUp) -> None:
    """Write ``followup.html`` and its pictures into the folder of a comparison."""
    pictures = folder / "figures"
    pictures.mkdir()
    files = _strips(pictures, found)
    page = render(
        "followup.html.j2",
        "study.js",
        found=found,
        strips=files,
        pictures=inline_pictures(sorted(pictures.glob("*.png"))),
        version=medfuse.__version__,
        notice=NOTICE,
    )
    (folder / "followup.html").write_text(page, encoding="utf-8")


def _strips(folder: Path, found: FollowUp) -> list[dict[str, str]]:
    """One strip a region, through its middle: anatomy, first, second, difference.

    Without a region it goes through the largest change.
    """
    high = float(np.quantile(found.anatomical, 0.995)) or 1.0
    grey = np.clip(found.anatomical / high, 0, 1)
    view = make_views(found.grid, grey > 0.05, [DisplayOrder.from_grid(found.grid)], side=SIDE)[0]
    strips = []
    for number, (name, at) in enumerate(_places(found)):
        index = view.index_of(at)[0]
        panels: list[Bytes] = [view.enlarge(to_bytes(view.cut(grey, index)))]
        for values in (found.before, found.after):
            shown = apply_window(view.cut(values, index), found.window)
            panels.append(view.enlarge(_hot(shown)))
        panels.append(view.enlarge(_diverging(view.cut(found.difference, index), found.window)))
        strip = side_by_side(panels, [view.letters] * len(panels))
        file = write_png(folder / f"region_{number:02d}.png", strip).name
        strips.append({"region": name, "file": file})
    return strips


def _places(found: FollowUp) -> list[tuple[str, Point]]:
    """What is shown, and a voxel in it."""
    shown = [region for region in found.regions[:MOST] if np.isfinite(region.centre).all()]
    if shown:
        return [(region.name, _voxel(found.grid, region)) for region in shown]
    largest = int(np.abs(found.difference).argmax())
    x, y, z = (int(i) for i in np.unravel_index(largest, found.difference.shape))
    return [("Largest change", (x, y, z))]


def _voxel(grid: Grid, region: Region) -> Point:
    index = np.rint(transform_points(np.linalg.inv(grid.affine), region.centre)).astype(int)
    x, y, z = np.clip(index, 0, np.array(grid.shape) - 1)
    return int(x), int(y), int(z)


def _hot(values: NDArray[Any]) -> Bytes:
    table = COLORMAPS[_MAP].numpy()
    steps = np.linspace(0, 1, len(table))
    return to_bytes(np.stack([np.interp(values, steps, c) for c in table.T], axis=-1))


def _diverging(values: NDArray[Any], window: Window) -> Bytes:
    """Blue for less, red for more, white for half of the window; black for no change."""
    part = np.clip(values / (0.5 * (window.high - window.low)), -1, 1)
    strong = np.abs(part)
    pale = np.clip(2 * strong - 1, 0, 1)
    full = np.clip(2 * strong, 0, 1)
    more, less = np.where(part > 0, full, pale), np.where(part < 0, full, pale)
    return to_bytes(np.stack([more, pale, less], axis=-1))
