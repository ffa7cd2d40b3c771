"""Lines around regions in pictures: where regions lie on a grid, and their borders in a slice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfuse.imaging.grid import DisplayOrder

Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]

#: Bright, and apart for people who see few colors (Okabe & Ito 2008, without black).
REGION_COLOURS = np.array(
    [(86, 180, 233), (0, 158, 115), (240, 228, 66), (204, 121, 167), (230, 159, 0), (213, 94, 0)],
    dtype=np.uint8,
)
COLOUR_WORDS = ("sky blue", "green", "yellow", "pink", "orange", "red")
MOST_LABELS = 255  # of a byte
RIM = 0.55  # of the light that the dark rim of a line takes away


@dataclass(frozen=True, eq=False)
class Piece:
    """One region on a grid, cut out to where it lies.

    Attributes
    ----------
    label : int
        From 1 on.
    inside : (X, Y, Z) bool
    start : (3,) int
        First voxel of the cut in the grid.
    """

    label: int
    inside: Mask
    start: tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Outlines:
    """Regions on a grid. They may overlap: each has a line of its own.

    Attributes
    ----------
    shape : (X, Y, Z) int
        Of the grid.
    names : tuple of str
        Of all regions, label 1 first; some may have no voxel of the grid.
    pieces : tuple of Piece
    """

    shape: tuple[int, int, int]
    names: tuple[str, ...]
    pieces: tuple[Piece, ...]

    def labels(self) -> Bytes:
        """(X, Y, Z) labels, 0 outside; of regions that overlap the smaller one, up to 255."""
        labels = np.zeros(self.shape, dtype=np.uint8)
        for piece in sorted(self.pieces, key=lambda p: -int(p.inside.sum())):
            if piece.label <= MOST_LABELS:
                ends = zip(piece.start, piece.inside.shape, strict=True)
                labels[tuple(slice(a, a + n) for a, n in ends)][piece.inside] = piece.label
        return labels

    def cut(self, order: DisplayOrder, index: int | None) -> Iterator[tuple[int, Mask]]:
        """Label and (R, C) mask of each region in a slice; None: of all slices, as projected."""
        for piece in self.pieces:
            start, inside = _in_order(piece, self.shape, order)
            if index is not None and not start[0] <= index < start[0] + len(inside):
                continue
            part = inside.any(axis=0) if index is None else inside[index - start[0]]
            if not part.any():
                continue
            mask = np.zeros([self.shape[axis] for axis in order.axes[1:]], dtype=bool)
            rows, columns = (slice(a, a + n) for a, n in zip(start[1:], part.shape, strict=True))
            mask[rows, columns] = part
            yield piece.label, mask

    def slices(self, order: DisplayOrder) -> list[int]:
        """The slices in which some region lies, in order."""
        found: set[int] = set()
        for piece in self.pieces:
            start, inside = _in_order(piece, self.shape, order)
            found |= {start[0] + int(k) for k in np.flatnonzero(inside.any(axis=(1, 2)))}
        return sorted(found)

    def words(self) -> str:
        """Which region has which color."""
        shown = sorted(piece.label for piece in self.pieces)
        return ", ".join(
            f"{self.names[n - 1]} ({COLOUR_WORDS[(n - 1) % len(COLOUR_WORDS)]})" for n in shown
        )


def region_rgb(label: int) -> tuple[int, int, int]:
    """The color of the line around a region, 0 to 255; labels count from 1."""
    r, g, b = REGION_COLOURS[(label - 1) % len(REGION_COLOURS)].tolist()
    return r, g, b


def region_colour(label: int) -> str:
    """The color of the line around a region, ``#rrggbb``."""
    return "#" + bytes(region_rgb(label)).hex()


def draw_outlines(image: Bytes, found: Iterable[tuple[int, Mask]], *, rim: bool = False) -> Bytes:
    """Draw a line around each mask, on the pixels just outside of it: none of its own is hidden.

    Parameters
    ----------
    image : (H, W, 3) uint8
    found : iterable of (label, (R, C) bool)
        Enlarged to the size of the image.
    rim : bool
        Also darken the pixels around the line, where the image is larger than its voxels.
    """
    drawn = image.copy()
    for label, mask in found:
        part = _around(large := _enlarged(mask, image.shape[:2]))
        own, shown = large[part], drawn[part]
        line = _grown(own)
        if rim:
            dark = _grown(line) & ~line
            shown[dark] = np.rint(shown[dark] * (1 - RIM)).astype(np.uint8)
        shown[line & ~own] = region_rgb(label)
    return drawn


def _enlarged(mask: Mask, shape: tuple[int, ...]) -> Mask:
    """The mask on (H, W) pixels, each like the voxel below its middle."""
    rows, columns = (
        ((np.arange(pixels) + 0.5) * voxels / pixels).astype(np.intp)
        for pixels, voxels in zip(shape, mask.shape, strict=True)
    )
    return np.asarray(mask[rows][:, columns])


def _around(mask: Mask) -> tuple[slice, slice]:
    """The part of an image that a line and its rim around a mask can touch."""
    ends = [np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0)]
    rows, columns = (
        slice(max(0, int(at[0]) - 2), int(at[-1]) + 3) if at.size else slice(0, 0) for at in ends
    )
    return rows, columns


def _grown(mask: Mask) -> Mask:
    """With the eight neighbors of each pixel."""
    for axis in (0, 1):
        grown = mask.copy()
        one, other = np.moveaxis(mask, axis, 0), np.moveaxis(grown, axis, 0)
        other[1:] |= one[:-1]
        other[:-1] |= one[1:]
        mask = grown
    return mask


def rings(mask: Mask) -> list[NDArray[np.float64]]:
    """Closed lines around a mask and around its holes.

    Returns
    -------
    list of (N, 2) float
        Column and row of each corner, where the first pixel reaches from 0 to 1; the first corner
        comes again at the end.
    """
    from contourpy import contour_generator

    padded = np.pad(mask, 1).astype(np.float64)
    lines = contour_generator(z=padded, name="serial").lines(0.5)
    return [np.clip(np.asarray(line) - 0.5, 0, mask.shape[::-1]) for line in lines]


def _in_order(
    piece: Piece, shape: tuple[int, int, int], order: DisplayOrder
) -> tuple[tuple[int, ...], Mask]:
    """First slice, row and column of a piece in display order, and the piece in that order."""
    start = tuple(
        shape[axis] - piece.start[axis] - piece.inside.shape[axis] if flip else piece.start[axis]
        for axis, flip in zip(order.axes, order.flips, strict=True)
    )
    return start, np.asarray(order.apply(piece.inside))
