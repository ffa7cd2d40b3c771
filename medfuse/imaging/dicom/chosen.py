"""Which frame of a series is read: the only one, one by its number, or the mean of all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from medfuse.errors import MedfuseError, SeriesError, UsageError, option
from medfuse.imaging.dicom.frames import Frame
from medfuse.imaging.dicom.geometry import Grid
from medfuse.imaging.dicom.planes import Plane
from medfuse.imaging.dicom.stack import Stack
from medfuse.imaging.volume import Place

FrameWish = int | Literal["mean"] | None


@dataclass(frozen=True, eq=False)
class Chosen:
    """What is read of a series: planes by slice (several for a mean), and where they lie."""

    planes: list[list[Plane]]
    grid: Grid
    notes: tuple[str, ...] = ()


def choose_frame(stack: Stack, wish: FrameWish, place: Place) -> Chosen:
    """The frame that is asked for, or all of them for the mean.

    Raises
    ------
    SeriesError
        ``E_DYNAMIC`` where several frames leave a choice; ``E_MISSING_SLICE`` for a frame that is
        not whole; ``E_FRAMES_DIFFER`` for the mean of frames at different places or of different
        kinds.
    UsageError
        ``E_FRAME``
    """
    frames = stack.frames
    count = len(frames)
    if count == 1 and wish in (None, 0, "mean"):
        return _only_frame(frames[0])
    if wish is None:
        raise _dynamic(stack, place)
    if wish == "mean":
        return _mean_frame(stack, place)
    if not 0 <= wish < count:
        raise place.error(
            UsageError,
            "E_FRAME",
            f"there is no frame {wish}: the series has {count}",
            f"Choose 0 to {count - 1}",
        )
    frame = frames[wish]
    if frame.grid is None:
        raise place.error(
            SeriesError,
            "E_MISSING_SLICE",
            f"slices are missing: {stack.lacking}; frame {wish} is not whole",
            "Choose another frame, or export the series again",
        )
    note = f"frame {wish} of 0 to {count - 1} ({frame.label or stack.frame_text})"
    return _only_frame(frame, note)


def _only_frame(frame: Frame, *notes: str) -> Chosen:
    assert frame.grid is not None
    return Chosen([[p] for p in frame.grid.planes], frame.grid, notes)


def _mean_frame(stack: Stack, place: Place) -> Chosen:
    """All whole frames, where they show one place and one kind of image."""
    if cause := _no_mean(stack):
        raise place.error(
            SeriesError,
            "E_FRAMES_DIFFER",
            f"{cause}: there is no mean of them",
            f"Choose one from 0 to {len(stack.frames) - 1} with {option('frame', 'NUMBER')}",
        )
    grids = [f.grid.planes for f in stack.whole if f.grid is not None]
    by_slice = [list(group) for group in zip(*grids, strict=True)]
    note = f"unweighted mean of {len(grids)} frames ({stack.frame_text})"
    lacking = (f"slices are missing in {stack.lacking}: left out",) if stack.lacking else ()
    return Chosen(by_slice, stack.first, (note, *lacking))


def _no_mean(stack: Stack) -> str:
    """Why there is no mean of the frames; an empty text where there is one."""
    kinds = sorted({f.kind or "other images" for f in stack.whole})
    if len(kinds) > 1:
        return f"the frames are of different kinds ({', '.join(kinds)})"
    if stack.difference:
        return stack.difference
    return "" if len(stack.whole) > 1 else f"slices are missing in {stack.lacking}"


def _dynamic(stack: Stack, place: Place) -> MedfuseError:
    count = len(stack.frames)
    cause = f"{count} frames at each of {stack.first.shape[2]} positions ({stack.frame_text})"
    if stack.lacking:
        cause += f"; slices are missing in {stack.lacking}"
    if stack.difference:
        cause += f"; {stack.difference}"
    mean = "" if _no_mean(stack) else f", or {option('frame', 'mean')}"
    return place.error(
        SeriesError,
        "E_DYNAMIC",
        cause,
        f"Choose one from 0 to {count - 1} with {option('frame', 'NUMBER')}{mean}",
    )
