"""The pictures of a case report, made from the volumes while they are in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from medfuse.fusion.choice import OVERLAY_MAP
from medfuse.fusion.paint import lay_over
from medfuse.imaging.grid import DisplayOrder, Grid, transform_points
from medfuse.kernel.colormaps import COLORMAPS
from medfuse.kernel.threads import share_out
from medfuse.report.contradiction import mark, write_contradiction
from medfuse.report.panels import (
    SHARE_COLOURS,
    Point,
    View,
    along,
    centred,
    checkerboard,
    crosshair,
    draw_edges,
    draw_regions,
    letter,
    make_views,
    position,
    share_colours,
    side_by_side,
)
from medfuse.report.positions import ErrorAt, write_error_map
from medfuse.report.viewer import write_viewer
from medfuse.results.export import LUMA, Bytes, plane_orders, to_bytes, write_png
from medfuse.results.folder import writing
from medfuse.results.outlines import Outlines, region_colour

SCHEMA = "medfuse-figures/1"
INDEX = "figures.json"
PLANE_SIDE = 420
SLICE_SIDE = 230
REGISTRATION_SIDE = 330
THUMBNAIL_SIDE = 160
ROWS = 6
EDGE_MM = 10.0
SLAB = 32  # voxels at a time
LONGEST = ("viewer", "slices", "planes")  # parts that take longest are begun first
SHOWN = ("anatomical", "functional", "fused", "overlay")
MAPS = ("weights", "share")

Floats = NDArray[np.floating[Any]]


class WindowLike(Protocol):
    """A display window (``imaging.windows.Window``)."""

    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def unit(self) -> str: ...
    @property
    def rule(self) -> str: ...


@dataclass(frozen=True)
class ReportVolumes:
    """What the pictures are made of, all on the anatomical grid.

    Attributes
    ----------
    anatomical : (X, Y, Z) float in [0, 1]
        Windowed.
    functional : (X, Y, Z) float in [0, 1], windowed, or (3, X, Y, Z) RGB in [0, 1]
    fused : (3, X, Y, Z) float in [0, 1]
    weights, share : (X, Y, Z) float in [0, 1]
    coverage : (X, Y, Z) bool
        Inside the functional field of view.
    affine : (4, 4) float64
        Index -> RAS mm.
    functional_values : (X, Y, Z) float, optional
        In the functional unit; the hottest spot is found on it (the windowed volume saturates).
    functional_before : like `functional`, optional
        Resampled without registration.
    functional_at : dict of name -> like `functional`
        Resampled at other positions that were considered.
    error_at : callable, optional
        (N, 3) points, RAS mm -> (N,) bound of the error of the registration, mm.
    displacement_at : callable, optional
        Likewise the length by which a local deformation moves them.
    colormap : str
        For a scalar functional volume.
    window, anatomical_window : Window, optional
        What 0 and 1 stand for.
    contradiction : (X, Y, Z) uint8, optional
        :func:`medfuse.audit.contradiction_map`, where the audit has flagged one.
    overlay : str, optional
        Colour map of the customary overlay that stands beside the fused image; None leaves it out.
    regions : Outlines, optional
        Around which every view draws a line.
    regions_at : dict of name -> Outlines or None
        The same for ``before`` and the other positions of `functional_at`, where regions that were
        drawn on the functional image lie elsewhere; default `regions`.
    """

    anatomical: Floats
    functional: Floats
    fused: Floats
    weights: Floats
    share: Floats
    coverage: NDArray[np.bool_]
    affine: Floats
    functional_values: Floats | None = None
    functional_before: Floats | None = None
    functional_at: Mapping[str, Floats] = field(default_factory=dict)
    error_at: ErrorAt | None = None
    displacement_at: ErrorAt | None = None
    colormap: str = "hot"
    window: WindowLike | None = None
    anatomical_window: WindowLike | None = None
    contradiction: NDArray[np.uint8] | None = None
    overlay: str | None = OVERLAY_MAP
    regions: Outlines | None = None
    regions_at: Mapping[str, Outlines | None] = field(default_factory=dict)

    @property
    def shown(self) -> tuple[str, ...]:
        """The pictures that stand side by side."""
        return SHOWN if self.overlay else SHOWN[:-1]


def write_figures(folder: Path, volumes: ReportVolumes, *, live: bool = True) -> dict[str, Any]:
    """Make ``figures/*.png`` and their list ``figures/figures.json`` in a result folder.

    Every picture is in radiological order with true proportions and orientation letters.

    Parameters
    ----------
    live : bool
        Also the volumes of the viewer in the report, which are most of its size.

    Returns
    -------
    dict
        The list: what `render_report` reads.

    Raises
    ------
    OutputError
        ``E_WRITE``.
    """
    target = folder / "figures"
    with writing(target):
        target.mkdir(parents=True, exist_ok=True)
    grid = _grid(volumes)
    orders = plane_orders(grid)
    foreground = _foreground(volumes)
    spot, spot_facts = _hottest(volumes, grid)
    of_planes = partial(make_views, grid, foreground, [*orders.values()])
    of_slices = partial(make_views, grid, foreground, [DisplayOrder.from_grid(grid)])
    work: dict[str, Callable[[], Any]] = {
        "planes": lambda: _write_planes(target, volumes, of_planes(side=PLANE_SIDE), spot),
        "slices": lambda: _write_slices(target, volumes, of_slices(side=SLICE_SIDE)[0], spot),
        "registration": lambda: _write_registration(
            target,
            volumes,
            of_planes(side=REGISTRATION_SIDE),
            _middle(foreground & volumes.coverage),
        ),
        "projection": lambda: _write_projection(target, volumes, of_planes(side=PLANE_SIDE)),
        "scales": lambda: _write_scales(target, volumes),
        "thumbnail": lambda: _write_thumbnail(
            target, volumes, of_slices(side=THUMBNAIL_SIDE)[0], spot
        ),
        "regions": lambda: _regions(volumes),
        "contradiction": lambda: write_contradiction(
            target,
            volumes.contradiction,
            grid,
            foreground,
            partial(_outlined, volumes),
            volumes.shown[:3],
        ),
        "viewer": lambda: (
            write_viewer(target, volumes, grid, foreground, hottest=spot_facts["value"])
            if live
            else None
        ),
    }
    index = {"schema": SCHEMA, "spot": spot_facts, **_done(work, first=LONGEST)}
    write_index(target, index)
    return index


def _done(work: dict[str, Callable[[], Any]], *, first: tuple[str, ...]) -> dict[str, Any]:
    """Do all parts side by side, and leave out those that have nothing to say."""
    made: dict[str, Any] = {}

    def make(name: str) -> None:
        made[name] = work[name]()

    share_out(make, [*first, *(name for name in work if name not in first)])
    return {name: made[name] for name in work if made[name] is not None}


def _regions(volumes: ReportVolumes) -> list[dict[str, str]] | None:
    """Name and color of each region; None where none was asked for."""
    if volumes.regions is None:
        return None
    return [
        {"name": name, "colour": region_colour(label)}
        for label, name in enumerate(volumes.regions.names, start=1)
    ]


def write_index(folder: Path, index: Mapping[str, Any]) -> None:
    """Write the list of the figures into their folder."""
    text = json.dumps(index, indent=1, ensure_ascii=False) + "\n"
    with writing(folder / INDEX):
        (folder / INDEX).write_text(text, encoding="utf-8")


def _write_planes(
    folder: Path, volumes: ReportVolumes, views: list[View], spot: Point
) -> list[dict[str, Any]]:
    """Orthogonal views of both sources and the result, with a crosshair at the hottest spot."""
    height = max(view.size[1] for view in views)
    planes = []
    for view in views:
        k, (x, y) = view.index_of(spot)[0], view.pixel_of(spot)
        files = {}
        for name in volumes.shown:
            panel = centred(_marked(volumes, view, k, name), height)
            panel = letter(crosshair(panel, (x, y + (height - view.size[1]) // 2)), view.letters)
            files[name] = write_png(folder / f"{view.plane}_{name}.png", panel).name
        planes.append(
            {
                "plane": view.plane,
                "position": position(view, _grid(volumes), k),
                "width": view.size[0],
                "height": height,
                "files": files,
            }
        )
    return planes


def _write_slices(folder: Path, volumes: ReportVolumes, view: View, spot: Point) -> dict[str, Any]:
    """One strip a slice: anatomical, functional, fused, overlay, weights, share."""
    rows, columns = [], (*volumes.shown, *MAPS)
    for number, k in enumerate(_chosen_slices(volumes, view, spot)):
        panels = [_marked(volumes, view, k, name) for name in columns]
        strip = side_by_side(panels, [view.letters] * len(panels))
        path = write_png(folder / f"slice_{number:02d}.png", strip)
        rows.append(
            {
                "file": path.name,
                "index": k,
                "position": position(view, _grid(volumes), k),
                "is_hottest": k == view.index_of(spot)[0],
            }
        )
    return {"plane": view.plane, "columns": list(columns), "rows": rows}


def _write_registration(
    folder: Path, volumes: ReportVolumes, views: list[View], centre: Point
) -> dict[str, Any]:
    """Outlines of the anatomical on the functional image and squares of both, before and after."""
    cuts = [(view, view.index_of(centre)[0]) for view in views]
    anatomical = [_panel(volumes, view, k, "anatomical") for view, k in cuts]
    letters = [view.letters for view in views]
    grid = _grid(volumes)
    edges = partial(_edges, cuts, anatomical)
    files = {}
    for name, source, regions in (
        ("before", "functional_before", volumes.regions_at.get("before", volumes.regions)),
        ("after", "functional", volumes.regions),
    ):
        if getattr(volumes, source) is None:
            continue
        squares = [
            checkerboard(a, _panel(volumes, view, k, source))
            for (view, k), a in zip(cuts, anatomical, strict=True)
        ]
        for kind, panels in (
            ("registration", edges(getattr(volumes, source), regions)),
            ("checkerboard", _with_lines(squares, cuts, regions)),
        ):
            path = write_png(folder / f"{kind}_{name}.png", side_by_side(panels, letters))
            files[f"{kind}_{name}"] = path.name
    more: dict[str, Any] = {}
    for name, at in (
        ("expected_error", volumes.error_at),
        ("displacement", volumes.displacement_at),
    ):
        if at is not None:
            more[name] = write_error_map(
                folder, volumes.anatomical, cuts, grid, at, name=name, regions=volumes.regions
            )
    alternatives = {}
    for name, moved in volumes.functional_at.items():
        panels = edges(moved, volumes.regions_at.get(name, volumes.regions))
        strip = side_by_side(panels, letters)
        alternatives[name] = write_png(folder / f"position_{name}.png", strip).name
    return {
        **more,
        "alternatives": alternatives,
        "files": files,
        "planes": [{"plane": view.plane, "position": position(view, grid, k)} for view, k in cuts],
    }


def _edges(
    cuts: list[tuple[View, int]],
    anatomical: list[Bytes],
    functional: Floats,
    regions: Outlines | None,
) -> list[Bytes]:
    """Outlines of the anatomy and lines around regions on a functional image, in each view."""
    panels = [
        draw_edges(view.enlarge(_faint(view.cut(functional, k))), edges)
        for (view, k), edges in zip(cuts, anatomical, strict=True)
    ]
    return _with_lines(panels, cuts, regions)


def _with_lines(
    panels: list[Bytes], cuts: list[tuple[View, int]], regions: Outlines | None
) -> list[Bytes]:
    return [
        draw_regions(panel, view, k, regions) for panel, (view, k) in zip(panels, cuts, strict=True)
    ]


def _write_projection(folder: Path, volumes: ReportVolumes, views: list[View]) -> dict[str, Any]:
    """Maximum intensity projection of the functional volume, dark on light as in the clinic."""
    scalar = _scalar(volumes.functional)
    panels = []
    for view in views:
        projected = view.order.apply(scalar).max(axis=0)[view.rows, view.columns]
        panel = 255 - view.enlarge(to_bytes(projected))
        panels.append(draw_regions(panel, view, None, volumes.regions))
    strip = side_by_side(panels, [view.letters for view in views], paper=255)
    path = write_png(folder / "projection.png", strip)
    return {"file": path.name, "planes": [view.plane for view in views]}


def _write_scales(folder: Path, volumes: ReportVolumes) -> dict[str, Any]:
    ramp = np.linspace(0, 1, 256, dtype=np.float32)[None]
    scales: dict[str, Any] = {
        "share": {
            "file": write_png(folder / "scale_share.png", share_colours(ramp)).name,
            "colours": SHARE_COLOURS.astype(int).tolist(),
        }
    }
    for name, window in (
        ("functional", volumes.window),
        ("anatomical", volumes.anatomical_window),
    ):
        if window is None:
            continue
        colours = to_bytes(ramp) if name == "anatomical" else _coloured(ramp, volumes.colormap)
        scales[name] = {
            "file": write_png(folder / f"scale_{name}.png", colours).name,
            "low": float(window.low),
            "high": float(window.high),
            "unit": window.unit,
            "rule": window.rule,
        }
    return scales


def _write_thumbnail(folder: Path, volumes: ReportVolumes, view: View, spot: Point) -> str:
    panel = _outlined(volumes, view, view.index_of(spot)[0], "fused")
    return write_png(folder / "thumbnail.png", panel).name


def _marked(volumes: ReportVolumes, view: View, index: int, name: str) -> Bytes:
    """A panel with the lines around regions, and around places that contradict the sources."""
    return mark(_outlined(volumes, view, index, name), view, index, volumes.contradiction)


def _outlined(volumes: ReportVolumes, view: View, index: int, name: str) -> Bytes:
    """A panel with the lines around regions."""
    return draw_regions(_panel(volumes, view, index, name), view, index, volumes.regions)


def _panel(volumes: ReportVolumes, view: View, index: int, name: str) -> Bytes:
    """One slice of one of the volumes, coloured and enlarged."""
    if name == "overlay":
        return view.enlarge(_laid_over(volumes, view, index))
    values = view.cut(getattr(volumes, name), index)
    if name in ("weights", "share"):
        return view.enlarge(share_colours(values))
    if name in ("functional", "functional_before") and values.ndim == 2:
        return view.enlarge(_coloured(values, volumes.colormap))
    return view.enlarge(to_bytes(values))


def _coloured(values: Floats, colormap: str) -> Bytes:
    """`kernel.color.apply_colormap` for one slice, without waking torch's threads for it."""
    table = COLORMAPS[colormap].numpy()
    steps = np.linspace(0, 1, len(table))
    return to_bytes(np.stack([np.interp(values, steps, channel) for channel in table.T], axis=-1))


def _laid_over(volumes: ReportVolumes, view: View, index: int) -> Bytes:
    """The customary overlay of a slice, as the style ``overlay`` paints it."""
    grey, uptake, inside = (
        torch.as_tensor(np.ascontiguousarray(view.cut(x, index)))
        for x in (volumes.anatomical, volumes.functional, volumes.coverage)
    )
    is_rgb = uptake.ndim == 3
    uptake = torch.where(inside[..., None], uptake if is_rgb else uptake[..., None], -1.0)
    rgb = lay_over(
        grey.float()[None, None], uptake.float().movedim(-1, 0)[None],
        None if is_rgb else volumes.overlay,
    )  # fmt: skip
    return to_bytes(rgb[0].movedim(0, -1))


def _faint(values: Floats) -> Bytes:
    """Grey with low values lifted, so that the body outline of a PET is seen."""
    scalar = values @ LUMA if values.ndim == 3 else values
    return to_bytes(np.sqrt(np.clip(scalar, 0, 1)))


def _scalar(volume: Floats) -> Floats:
    """(X, Y, Z), or (3, X, Y, Z) RGB -> (X, Y, Z)."""
    return volume if volume.ndim == 3 else np.tensordot(LUMA, volume, 1)


def _grid(volumes: ReportVolumes) -> Grid:
    x, y, z = volumes.anatomical.shape
    return Grid(shape=(x, y, z), affine=np.asarray(volumes.affine, dtype=np.float64))


def _foreground(volumes: ReportVolumes) -> NDArray[np.bool_]:
    return np.asarray((volumes.anatomical > 0.08) | (_scalar(volumes.functional) > 0.2))


def _hottest(volumes: ReportVolumes, grid: Grid) -> tuple[Point, dict[str, Any]]:
    """Voxel with the largest mean over 3 x 3 x 3 voxels inside the field of view.

    A centimetre at the faces of the grid is left out where there is room: at the edge of an image
    nothing around the spot could be seen.
    """
    given = volumes.functional_values
    values = np.asarray(_scalar(volumes.functional) if given is None else given, dtype=np.float32)
    allowed = volumes.coverage & _inner(grid)
    (x, y, z), mean = _peak(values, allowed if allowed.any() else np.ones_like(allowed))
    place = transform_points(grid.affine, (x, y, z))
    facts = {
        "index": [x, y, z],
        "ras_mm": place.round(1).tolist(),
        "place": ", ".join(along(world, mm) for world, mm in enumerate(place)),
        "value": float(values[x, y, z]) if given is not None else None,
        "mean": mean if given is not None else None,
        "unit": volumes.window.unit if volumes.window is not None else None,
    }
    return (x, y, z), facts


def _peak(values: NDArray[np.float32], allowed: NDArray[np.bool_]) -> tuple[Point, float]:
    """Where the neighbour mean is highest, the first such place, and how high; slab by slab."""
    place, highest = (0, 0, 0), -np.inf
    for start in range(0, len(values), SLAB):
        low = max(0, start - 1)
        near = np.nan_to_num(values[low : start + SLAB + 1])
        smooth = _neighbour_mean(near)[start - low :][:SLAB]
        smooth = np.where(allowed[start : start + SLAB], smooth, -np.inf)
        x, y, z = (int(i) for i in np.unravel_index(int(smooth.argmax()), smooth.shape))
        if smooth[x, y, z] > highest:
            place, highest = (start + x, y, z), float(smooth[x, y, z])
    return place, highest


def _neighbour_mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean over 3 x 3 x 3 voxels; what lies beyond a face repeats the face."""
    for axis, size in enumerate(values.shape):
        padded = np.pad(values, [(1, 1) if a == axis else (0, 0) for a in range(3)], mode="edge")
        lines = np.moveaxis(padded, axis, 0)
        mean = (lines[:size] + lines[1 : size + 1] + lines[2 : size + 2]) / np.float32(3)
        values = np.moveaxis(mean, 0, axis)
    return values


def _inner(grid: Grid) -> NDArray[np.bool_]:
    inner = np.ones(grid.shape, dtype=bool)
    for axis, (size, step) in enumerate(zip(grid.shape, grid.spacing, strict=True)):
        margin = round(EDGE_MM / step)
        if size > 6 * margin:
            index = np.arange(size)
            inside = (index >= margin) & (index < size - margin)
            inner &= np.expand_dims(inside, [a for a in range(3) if a != axis])
    return inner


def _middle(mask: NDArray[np.bool_]) -> Point:
    """Centre of mass of a mask; the middle of the grid when it is empty."""
    point = []
    for axis, size in enumerate(mask.shape):
        weight = mask.sum(axis=tuple(a for a in range(3) if a != axis), dtype=np.float64)
        total = weight.sum()
        point.append(round(float(weight @ np.arange(size) / total)) if total else size // 2)
    x, y, z = point
    return x, y, z


def _chosen_slices(volumes: ReportVolumes, view: View, spot: Point) -> list[int]:
    """Evenly spread over the part that both images show; the hottest slice is one of them."""
    seen = view.order.apply(_foreground(volumes) & volumes.coverage)
    found = np.flatnonzero(seen.any(axis=(1, 2)))
    first, last = (int(found[0]), int(found[-1])) if found.size else (0, view.slices - 1)
    inset = (last - first) * 0.06
    chosen = np.unique(np.rint(np.linspace(first + inset, last - inset, ROWS)).astype(int))
    hottest = view.index_of(spot)[0]
    chosen[np.abs(chosen - hottest).argmin()] = hottest
    return sorted({int(k) for k in chosen})
