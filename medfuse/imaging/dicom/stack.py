"""All frames of a series, and what is true of them together: places, kinds, missing slices."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from medfuse.errors import MedfuseError
from medfuse.imaging.dicom.frames import Frame, split_planes
from medfuse.imaging.dicom.geometry import SAME_POSITION_MM, Grid, require_positions
from medfuse.imaging.dicom.planes import Plane
from medfuse.imaging.volume import Place

#: Frames whose corners lie closer together than this lie at one place, mm.
SAME_PLACE_MM = 0.1
_MAX_SHOWN = 6

Hashes = Callable[[Sequence[Plane]], list[bytes]]


@dataclass(frozen=True, eq=False)
class Stack:
    """The frames of a series.

    Attributes
    ----------
    frames : tuple of Frame
        At least one of them has a grid.
    notes : tuple of str
    """

    frames: tuple[Frame, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def whole(self) -> tuple[Frame, ...]:
        """The frames that lack no slice."""
        return tuple(f for f in self.frames if f.grid is not None)

    @property
    def first(self) -> Grid:
        """Grid of the first whole frame."""
        grid = self.whole[0].grid
        assert grid is not None
        return grid

    @property
    def difference(self) -> str:
        """In what the places of whole frames differ; an empty text where they do not."""
        apart = max(self.first.distance_mm(f.grid) for f in self.whole if f.grid)
        if apart <= SAME_PLACE_MM:
            return ""
        if math.isinf(apart):
            return "the frames have different sizes"
        return f"the frames lie at different places, up to {apart:.1f} mm apart"

    @property
    def frame_text(self) -> str:
        """What tells the frames apart, in a few words."""
        labels = [f.label for f in self.frames]
        if len(set(labels)) == 1:
            return labels[0]
        keys = {label.rpartition(" ")[0] for label in labels}
        if len(keys) == 1 and (key := keys.pop()):
            labels = [labels[0], *(label.removeprefix(f"{key} ") for label in labels[1:])]
        return ", ".join(labels[:_MAX_SHOWN]) + (", ..." if len(labels) > _MAX_SHOWN else "")

    @property
    def lacking(self) -> str:
        """The incomplete frames, in words; an empty text where there are none."""
        most = max(len(f.planes) for f in self.frames)
        short = [
            f"frame {n} ({len(f.planes)} of {most} slices)"
            for n, f in enumerate(self.frames)
            if f.grid is None
        ]
        rest = f" and {len(short) - _MAX_SHOWN} more" if len(short) > _MAX_SHOWN else ""
        return ", ".join(short[:_MAX_SHOWN]) + rest


def stack_planes(planes: Sequence[Plane], place: Place, hashes: Hashes) -> Stack:
    """Sort the planes of a series into frames, each on its own grid; identical copies count once.

    Parameters
    ----------
    planes : sequence of Plane
    place : Place
    hashes : callable
        Hashes of the pixels of planes; asked only where planes may be copies of each other.

    Returns
    -------
    Stack

    Raises
    ------
    GeometryError, SeriesError
        See `require_positions` and `lay_out`.
    """
    require_positions(planes, place)
    planes, notes = _without_copies(planes, hashes, same_number=True)
    try:
        frames = split_planes(planes, place)
    except MedfuseError:
        fewer, notes_of_all = _without_copies(planes, hashes, same_number=False)
        if len(fewer) == len(planes):
            raise
        frames, notes = split_planes(fewer, place), notes + notes_of_all
    grids = [f.grid for f in frames if f.grid is not None]
    return Stack(tuple(frames), (*dict.fromkeys(n for g in grids for n in g.notes), *notes))


def _without_copies(
    planes: Sequence[Plane], hashes: Hashes, *, same_number: bool
) -> tuple[list[Plane], tuple[str, ...]]:
    """Drop planes with the place, tags and pixels of another one.

    Parameters
    ----------
    same_number : bool
        Whether only images with equal InstanceNumber are compared: a repeated blank slice of a
        dynamic scan is no copy.
    """
    by_tags: dict[object, list[Plane]] = {}
    for plane in planes:
        tags = {k: v for k, v in plane.keys.items() if same_number or k != "InstanceNumber"}
        at = tuple(round(x / SAME_POSITION_MM) for x in plane.position or ())
        same = (at, plane.orientation, plane.slope, plane.intercept, plane.kind)
        by_tags.setdefault((same, tuple(sorted(tags.items()))), []).append(plane)
    suspects = [p for group in by_tags.values() if len(group) > 1 for p in group]
    if not suspects:
        return list(planes), ()
    pixels = dict(zip(map(id, suspects), hashes(suspects), strict=True))
    kept: list[Plane] = []
    for group in by_tags.values():
        unique = {pixels.get(id(p), b""): p for p in reversed(group)}
        kept += [p for p in group if unique.get(pixels.get(id(p), b"")) is p]
    dropped = len(planes) - len(kept)
    note = f"{dropped} images are copies with identical pixels and were dropped"
    return kept, (note,) if dropped else ()
