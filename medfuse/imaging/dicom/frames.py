"""From the image planes of a series to its frames: times, echoes, kinds; each on its own grid.

A frame that lacks slices does not make the others unusable, and a frame that lies elsewhere lies
there: nothing of one frame is taken for another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from medfuse.errors import MedfuseError, SeriesError
from medfuse.imaging.dicom.geometry import LPS_TO_RAS, SAME_POSITION_MM, Grid, lay_out
from medfuse.imaging.dicom.orientation import REEXPORT
from medfuse.imaging.dicom.planes import FRAME_KEYS, Plane
from medfuse.imaging.volume import Place

#: Frames that are turned by more against each other are stacks, not frames: cosine of 15 degrees.
_TURNED = 0.966
#: Share of equal steps between all slices above which they are one volume, not displaced frames.
_ONE_LATTICE = 0.8
#: InstanceNumber of the first image of a series of single images.
_FIRST_IMAGE = 1
_TIME_POINT = "TemporalPositionIdentifier"


@dataclass(frozen=True, eq=False)
class Frame:
    """The planes of one time, echo or kind.

    Attributes
    ----------
    planes : tuple of Plane
    grid : Grid or None
        None where slices are missing.
    label : str
        What tells it from the others: "FrameReferenceTime 60000", "phase" ...
    """

    planes: tuple[Plane, ...]
    grid: Grid | None
    label: str = ""

    @property
    def kind(self) -> str:
        """What is shown: "magnitude", "phase" ..., or an empty text."""
        return self.planes[0].kind


def split_planes(planes: Sequence[Plane], place: Place) -> list[Frame]:
    """Sort the planes of a series into frames, at least one of them whole.

    One regular stack is one frame, whatever its tags say, unless time points lie between each
    other. Else images of different kinds are parted; images that share a position are told apart
    by `FRAME_KEYS`; what has no such tag, by the order of the images.

    Raises
    ------
    GeometryError, SeriesError
        What is wrong with the planes as one volume; see `lay_out`.
    """
    if frames := _interleaved(planes, place):
        return frames
    try:
        return [Frame(tuple(planes), lay_out(planes, place))]
    except MedfuseError as error:
        frames = _by_kind(planes, place) or _by_position(planes, place) or _by_key(planes, place)
        if frames:
            return frames
        raise _incomplete(planes, place) or error from None


def _interleaved(planes: Sequence[Plane], place: Place) -> list[Frame]:
    """Time points that lie between each other, which together could pass for one finer stack."""
    frames = _frames_of(_groups(planes, _TIME_POINT), _TIME_POINT, place)
    return frames if all(f.grid for f in frames) else []


def _by_kind(planes: Sequence[Plane], place: Place) -> list[Frame]:
    """Frames of magnitude, phase, water, fat ... one kind after the other."""
    kinds = sorted({p.kind for p in planes})
    if len(kinds) == 1:
        return []
    found: list[Frame] = []
    for kind in kinds:
        own = [p for p in planes if p.kind == kind]
        words = kind or "other images"
        try:
            frames = split_planes(own, place)
        except MedfuseError:
            frames = [Frame(tuple(own), None)]
        found += [Frame(f.planes, f.grid, f"{words} {f.label}".strip()) for f in frames]
    return found if _size(found) == max(len(f.planes) for f in found) else []


def _by_position(planes: Sequence[Plane], place: Place) -> list[Frame]:
    """Frames where every position along the normal holds equally many images."""
    groups = _positions(planes)
    count = len(groups[0]) if groups else 0
    if count < 2 or any(len(g) != count for g in groups):
        return []
    for key in FRAME_KEYS:
        values = [{p.keys.get(key) for p in g} for g in groups]
        everywhere = set.union(*values)
        if None in everywhere or any(len(v) != count for v in values):
            continue
        if key != "InstanceNumber" and len(everywhere) != count:
            continue
        ordered = [sorted(g, key=lambda p, k=key: p.keys[k]) for g in groups]  # type: ignore[misc]
        frames = list(zip(*ordered, strict=True))
        if all(_is_of_one_kind(frame) for frame in frames):
            return [_whole_frame(frame, key, place) for frame in frames]
    return []


def _is_of_one_kind(planes: Sequence[Plane]) -> bool:
    return len({p.kind for p in planes}) == 1


def _whole_frame(planes: Sequence[Plane], key: str, place: Place) -> Frame:
    label = key
    if key not in ("InstanceNumber", "acquisition time"):
        label = f"{key} {planes[0].keys[key]:g}"
    return Frame(tuple(planes), lay_out(planes, place), label)


def _positions(planes: Sequence[Plane]) -> list[list[Plane]]:
    """Planes by place along their normal; nothing where they have several normals."""
    cosines = np.array([p.orientation for p in planes])
    if np.abs(cosines - cosines[0]).max() > 1e-2:
        return []
    normal = np.cross(cosines[0, :3], cosines[0, 3:])
    along = np.array([p.position for p in planes]) @ normal
    order = np.argsort(along, kind="stable")
    cuts = np.flatnonzero(np.diff(along[order]) > SAME_POSITION_MM) + 1
    return [[planes[k] for k in part] for part in np.split(order, cuts)]


def _by_key(planes: Sequence[Plane], place: Place) -> list[Frame]:
    """Frames of which some lack slices, or that lie at different places, by the best tag.

    The best is the one with the largest whole frames: a tag that tells packages of slices apart
    would make small ones.
    """
    found: list[Frame] = []
    for key in FRAME_KEYS:
        frames = _frames_of(_groups(planes, key), key, place)
        if frames and _size(frames) > _size(found):
            found = frames
    return [] if _is_one_lattice(planes, found) else found


def _size(frames: list[Frame]) -> int:
    return max((len(f.planes) for f in frames if f.grid), default=0)


def _groups(planes: Sequence[Plane], key: str) -> list[tuple[str, list[Plane]]]:
    """Planes by the value of a tag, or in runs of the image number; nothing where it is absent."""
    if any(key not in p.keys for p in planes):
        return []
    if key == "InstanceNumber":
        return [(key, run) for run in _runs(planes)]
    by_value: dict[float, list[Plane]] = {}
    for plane in sorted(planes, key=lambda p: p.keys[key]):
        by_value.setdefault(plane.keys[key], []).append(plane)
    if key == "acquisition time":
        return [(key, group) for group in by_value.values()]
    return [(f"{key} {value:g}", group) for value, group in by_value.items()]


def _runs(planes: Sequence[Plane]) -> Iterator[list[Plane]]:
    """Consecutive images up to the first that lies where one of the run lies already."""
    run: list[Plane] = []
    taken: set[tuple[float, ...]] = set()
    for plane in sorted(planes, key=lambda p: p.keys["InstanceNumber"]):
        at = _place_of(plane)
        if at in taken:
            yield run
            run, taken = [], set()
        run.append(plane)
        taken.add(at)
    yield run


def _frames_of(groups: Iterable[tuple[str, list[Plane]]], key: str, place: Place) -> list[Frame]:
    """Frames of groups of which at least one is whole; nothing where the groups make no frames."""
    frames: list[Frame] = []
    groups = list(groups)
    most = max((len(g) for _, g in groups), default=0)
    if len(groups) < 2 or most < 2 or not all(_is_of_one_kind(g) for _, g in groups):
        return []
    for label, group in groups:
        if len(group) < most:
            frames.append(Frame(tuple(group), None, label))
            continue
        try:
            frames.append(Frame(tuple(group), lay_out(group, place), label))
        except MedfuseError:
            return []
    if key == "InstanceNumber" and not _are_told_by_number(frames):
        return []
    return frames if _are_repetitions(frames) else []


def _are_told_by_number(frames: list[Frame]) -> bool:
    """Whether runs of image numbers are frames.

    Whole ones have all positions, no gap, and begin where a frame begins if the first image has
    number 1: else a lost first slice would be filled by that of the next frame.
    """
    numbers = [p.keys["InstanceNumber"] for f in frames for p in f.planes]
    positions = {_place_of(p) for f in frames for p in f.planes}
    first = min(numbers) if frames[0].planes[0].file.frames > 1 else _FIRST_IMAGE
    if len(set(numbers)) < len(numbers):
        return False
    for planes in (f.planes for f in frames if f.grid):
        own = sorted(p.keys["InstanceNumber"] for p in planes)
        has_gap = len({b - a for a, b in pairwise(own)}) > 1
        if has_gap or len(planes) < len(positions) or (own[0] - first) % len(planes):
            return False
    return True


def _place_of(plane: Plane) -> tuple[float, ...]:
    return tuple(round(x, 2) for x in plane.position or ())


def _are_repetitions(frames: list[Frame]) -> bool:
    """Whether frames show one region: not stacks across each other, nor beds."""
    grids = [f.grid for f in frames if f.grid is not None]
    step = LPS_TO_RAS[:3, :3] @ grids[0].affine[:3, 2]
    extent = float(np.linalg.norm(step)) * grids[0].shape[2]
    normal = step / np.linalg.norm(step)
    middles = []
    for frame in frames:
        middles.append(np.array([p.position for p in frame.planes]).mean(axis=0) @ normal)
        own = np.array(frame.planes[0].orientation)
        if float(np.cross(own[:3], own[3:]) @ normal) < _TURNED:
            return False
    first = next(m for m, f in zip(middles, frames, strict=True) if f.grid is not None)
    return bool(np.abs(np.array(middles) - first).max() <= extent / 2)


def _is_one_lattice(planes: Sequence[Plane], frames: list[Frame]) -> bool:
    """Whether slices at places of their own make one volume that has a fault, not frames."""
    groups = _positions(planes)
    if not frames or not groups or any(len(g) > 1 for g in groups):
        return False
    normal = np.cross(planes[0].orientation[:3], planes[0].orientation[3:])  # type: ignore[index]
    steps = np.diff([float(np.dot(g[0].position or (), normal)) for g in groups])
    usual = float(np.median(steps))
    return bool(np.mean(np.abs(steps - usual) < 0.1 * usual) >= _ONE_LATTICE)


def _incomplete(planes: Sequence[Plane], place: Place) -> MedfuseError | None:
    """What to say of repeated positions that no tag sorts into frames."""
    groups = _positions(planes)
    counts = {len(g) for g in groups}
    if len(groups) < 2 or min(counts) == 1:
        return None
    if len(counts) == 1:
        return _untold(counts.pop(), place)
    return place.error(
        SeriesError,
        "E_MISSING_SLICE",
        f"positions hold {min(counts)} to {max(counts)} images: a time frame is incomplete, and "
        "no tag says which images belong together",
        REEXPORT,
    )


def _untold(count: int, place: Place) -> MedfuseError:
    return place.error(
        SeriesError,
        "E_DUPLICATE_SLICE",
        f"every position holds {count} different images, and no tag tells them apart",
        REEXPORT,
    )
