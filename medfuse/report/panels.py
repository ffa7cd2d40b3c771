"""Drawing of one report panel: a slice cut out, scaled in mm, coloured, lettered.

Everything is uint8 RGB in display order; nothing here knows files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from medfuse.imaging.grid import DisplayOrder, Grid, transform_points
from medfuse.results.export import Bytes
from medfuse.results.outlines import Outlines, draw_outlines

Point = tuple[int, int, int]

LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))  # negative and positive end of R, A, S
OBLIQUE = 0.3  # a second letter is shown from about 17 degrees on
CROSS_GAP = 0.055
CROSS_COLOUR = (150, 200, 255)
EDGE_COLOUR = (70, 225, 235)
LIGHT_INK, DARK_INK = (240, 243, 247), (0, 0, 0)
GAP, GAP_GREY = 4, 56
BLOCK = 14  # checkerboard squares along the longer side

# From "functional" (deep blue) over grey to "anatomical" (sand): even in lightness, safe for
# colour-blind eyes, and unlike any uptake scale. After cividis (Nunez et al. 2018), but less bright
# at the anatomical end, which fills most of every picture.
SHARE_COLOURS = np.array(
    [(0, 34, 78), (45, 66, 102), (98, 104, 112), (146, 139, 112), (196, 176, 106)], dtype=np.float32
)


@dataclass(frozen=True)
class View:
    """One plane of a volume: which way up, which part of it, how large.

    Attributes
    ----------
    order : DisplayOrder
    shape : (X, Y, Z) int
        Of the volume.
    rows, columns : slice
        The part that is shown, in display order.
    size : (width, height) int
        Of the panel, pixels.
    letters : (left, right, top, bottom) str
    """

    order: DisplayOrder
    shape: Point
    rows: slice
    columns: slice
    size: tuple[int, int]
    letters: tuple[str, str, str, str]

    @property
    def plane(self) -> str:
        return self.order.plane

    @property
    def slices(self) -> int:
        """Number of slices of this plane."""
        return self.shape[self.order.axes[0]]

    def index_of(self, voxel: Point) -> Point:
        """Voxel index -> (slice, row, column) in display order, before cropping."""
        s, r, c = (
            self.shape[axis] - 1 - voxel[axis] if flip else voxel[axis]
            for axis, flip in zip(self.order.axes, self.order.flips, strict=True)
        )
        return s, r, c

    def pixel_of(self, voxel: Point) -> tuple[float, float]:
        """Voxel index -> (x, y) in the panel."""
        _, row, column = self.index_of(voxel)
        width, height = self.size
        y = (row - self.rows.start + 0.5) / (self.rows.stop - self.rows.start) * height
        x = (column - self.columns.start + 0.5) / (self.columns.stop - self.columns.start) * width
        return x, y

    def cut(self, volume: NDArray[Any], index: int) -> NDArray[Any]:
        """(X, Y, Z) -> (R, C), or (3, X, Y, Z) -> (R, C, 3): one slice, cropped."""
        picked = self.order.apply(volume)[..., index, self.rows, self.columns]
        return picked if picked.ndim == 2 else np.moveaxis(picked, 0, -1)

    def enlarge(self, image: Bytes) -> Bytes:
        """Bring a cropped slice to the size of the panel, in RGB; pixels become square."""
        picture = Image.fromarray(np.ascontiguousarray(image))
        return np.asarray(picture.resize(self.size, Image.Resampling.BICUBIC).convert("RGB"))


def make_views(
    grid: Grid, foreground: NDArray[np.bool_], orders: Sequence[DisplayOrder], *, side: int
) -> list[View]:
    """Views cropped to the foreground, all in one scale; the longest side has `side` pixels.

    A plane that would be a thin stripe (single slices and slabs) is left out.
    """
    crops = [_crop(order.apply(foreground)) for order in orders]
    extents = [
        ((rows.stop - rows.start) * o.spacing[1], (columns.stop - columns.start) * o.spacing[2])
        for o, (rows, columns) in zip(orders, crops, strict=True)
    ]
    scale = side / max(max(e) for e in extents)
    views = [
        View(
            order=order,
            shape=grid.shape,
            rows=rows,
            columns=columns,
            size=(max(1, round(extent[1] * scale)), max(1, round(extent[0] * scale))),
            letters=_letters(grid, order),
        )
        for order, (rows, columns), extent in zip(orders, crops, extents, strict=True)
    ]
    return [v for v in views if min(v.size) > side / 8] or views[:1]


def share_colours(values: NDArray[Any]) -> Bytes:
    """Weights or share in [0, 1] -> (R, C, 3) uint8; see `SHARE_COLOURS`."""
    position = np.clip(np.nan_to_num(values), 0, 1) * (len(SHARE_COLOURS) - 1)
    low = np.minimum(position.astype(np.int64), len(SHARE_COLOURS) - 2)
    part = (position - low)[..., None]
    mixed = SHARE_COLOURS[low] * (1 - part) + SHARE_COLOURS[low + 1] * part
    rounded: Bytes = np.rint(mixed).astype(np.uint8)
    return rounded


def letter(image: Bytes, letters: tuple[str, str, str, str], *, paper: int = 0) -> Bytes:
    """Write the orientation letters (left, right, top, bottom) on a panel of ground `paper`."""
    ink, halo = (DARK_INK, LIGHT_INK) if paper else (LIGHT_INK, DARK_INK)
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    height, width = image.shape[:2]
    font = ImageFont.load_default(max(17, round(0.05 * max(height, width))))
    margin = max(4, round(0.014 * max(height, width)))
    places = (
        ((margin, height / 2), "lm"),
        ((width - margin, height / 2), "rm"),
        ((width / 2, margin), "mt"),
        ((width / 2, height - margin), "mb"),
    )
    for text, (place, anchor) in zip(letters, places, strict=True):
        draw.text(place, text, fill=ink, font=font, anchor=anchor, stroke_width=2, stroke_fill=halo)
    return np.asarray(picture)


def crosshair(image: Bytes, centre: tuple[float, float]) -> Bytes:
    """Point at a place with four thin lines that leave the place itself free."""
    lines = Image.new("L", (image.shape[1], image.shape[0]))
    draw = ImageDraw.Draw(lines)
    height, width = image.shape[:2]
    gap = CROSS_GAP * max(height, width)
    x, y = (round(c) for c in centre)
    for line in (((0, y), (x - gap, y)), ((x + gap, y), (width, y))):
        draw.line(line, fill=150)
    for line in (((x, 0), (x, y - gap)), ((x, y + gap), (x, height))):
        draw.line(line, fill=150)
    return _paint(image, np.asarray(lines, dtype=np.float32) / 255, CROSS_COLOUR)


def draw_edges(image: Bytes, of: Bytes) -> Bytes:
    """Draw the outlines of one grey panel (R, C, 3) on another.

    Outlines are zero crossings of the Laplacian of Gaussian (Marr & Hildreth 1980) where the
    gradient is strong: closed thin lines that do not hide the picture beneath.
    """
    smooth = np.asarray(
        Image.fromarray(of[..., 0]).filter(ImageFilter.GaussianBlur(max(of.shape) / 110)),
        dtype=np.float32,
    )
    dy, dx = np.gradient(smooth)
    slope = np.hypot(dx, dy)
    bent = np.gradient(dy, axis=0) + np.gradient(dx, axis=1)
    crossing = np.zeros(bent.shape, dtype=bool)
    crossing[:-1] |= (bent[:-1] > 0) != (bent[1:] > 0)
    crossing[:, :-1] |= (bent[:, :-1] > 0) != (bent[:, 1:] > 0)
    inside = slope[slope > 0.5]
    limit = max(1.0, float(np.quantile(inside, 0.65))) if inside.size else np.inf
    lines = Image.fromarray((crossing & (slope > limit)).astype(np.uint8) * 255)
    soft = np.asarray(lines.filter(ImageFilter.GaussianBlur(0.6)), dtype=np.float32) / 255
    return _paint(image, np.minimum(soft * 1.6, 0.95), EDGE_COLOUR)


def draw_regions(image: Bytes, view: View, index: int | None, regions: Outlines | None) -> Bytes:
    """Draw a line around each region of a slice, in its own color; None: of all slices."""
    if regions is None:
        return image
    shown = ((n, mask[view.rows, view.columns]) for n, mask in regions.cut(view.order, index))
    return draw_outlines(image, shown, rim=True)


def outline(image: Bytes, places: NDArray[np.bool_]) -> Bytes:
    """Draw a line with a dark rim around places (R, C) of a slice, just outside of them."""
    height, width = image.shape[:2]
    inside = Image.fromarray(places.astype(np.uint8) * 255)
    inside = inside.resize((width, height), Image.Resampling.NEAREST)
    line, rim = (np.asarray(inside.filter(ImageFilter.MaxFilter(n))) > 0 for n in (5, 9))
    alpha = (line & ~(np.asarray(inside) > 0)).astype(np.float32)
    image = _paint(image, 0.7 * (rim & ~line), DARK_INK)
    return _paint(image, alpha, EDGE_COLOUR)


def checkerboard(first: Bytes, second: Bytes) -> Bytes:
    """Alternate squares of two panels."""
    rows, columns = np.indices(first.shape[:2]) // max(1, max(first.shape) // BLOCK)
    mixed: Bytes = np.where(((rows + columns) % 2 == 0)[..., None], first, second)
    return mixed


def side_by_side(
    panels: Sequence[Bytes], letters: Sequence[tuple[str, str, str, str]], *, paper: int = 0
) -> Bytes:
    """Join panels in a row, lettered; lower ones are centred on the ground colour `paper`."""
    height = max(p.shape[0] for p in panels)
    space = np.full((height, GAP, 3), paper or GAP_GREY, np.uint8)
    cells = [
        letter(centred(p, height, paper=paper), w, paper=paper)
        for p, w in zip(panels, letters, strict=True)
    ]
    return np.hstack([part for cell in cells for part in (cell, space)][:-1])


def centred(image: Bytes, height: int, *, paper: int = 0) -> Bytes:
    """Put a panel in the middle of one that may be higher."""
    canvas = np.full((height, image.shape[1], 3), paper, np.uint8)
    top = (height - image.shape[0]) // 2
    canvas[top : top + image.shape[0]] = image
    return canvas


def position(view: View, grid: Grid, index: int) -> str:
    """Where a slice is, e.g. ``"S 42 mm"``: its middle along the nearest anatomical axis."""
    middle = (np.array(grid.shape) - 1) / 2.0
    axis, flip = view.order.axes[0], view.order.flips[0]
    middle[axis] = grid.shape[axis] - 1 - index if flip else index
    world = {"sagittal": 0, "coronal": 1, "axial": 2}[view.plane]
    return along(world, float(transform_points(grid.affine, middle)[world]))


def along(world: int, mm: float) -> str:
    """A distance along R, A or S (0, 1, 2) in words, e.g. ``"P 82 mm"``."""
    return f"{LETTERS[world][int(mm >= 0)]} {abs(mm):.0f} mm"


def _crop(foreground: NDArray[np.bool_]) -> tuple[slice, slice]:
    seen: NDArray[np.bool_] = np.any(foreground, axis=0)
    return _span(np.any(seen, axis=1)), _span(np.any(seen, axis=0))


def _span(line: NDArray[np.bool_]) -> slice:
    """From the first to the last true entry and 3 % more on both sides."""
    found = np.flatnonzero(line)
    if not found.size:
        return slice(0, len(line))
    margin = round(0.03 * len(line)) + 1
    return slice(max(0, int(found[0]) - margin), min(len(line), int(found[-1]) + 1 + margin))


def _letters(grid: Grid, order: DisplayOrder) -> tuple[str, str, str, str]:
    _, rows, columns = (
        grid.affine[:3, axis] / np.linalg.norm(grid.affine[:3, axis]) * (-1 if flip else 1)
        for axis, flip in zip(order.axes, order.flips, strict=True)
    )
    return _ends(-columns), _ends(columns), _ends(-rows), _ends(rows)


def _ends(direction: NDArray[np.float64]) -> str:
    axes = [a for a in np.argsort(-np.abs(direction)) if abs(direction[a]) > OBLIQUE]
    return "".join(LETTERS[a][int(direction[a] > 0)] for a in axes)


def _paint(image: Bytes, alpha: NDArray[np.floating[Any]], colour: tuple[int, int, int]) -> Bytes:
    a = alpha[..., None]
    painted: Bytes = np.rint(image * (1 - a) + np.array(colour, np.float32) * a).astype(np.uint8)
    return painted
