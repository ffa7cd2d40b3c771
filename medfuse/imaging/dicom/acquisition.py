"""When a PET series was acquired: start of the series, first frame, zone of its clock."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pydicom.dataset import Dataset

from medfuse.imaging.dicom.header import items, number, text
from medfuse.imaging.dicom.times import (
    Moment,
    local_by_clock,
    parse_clock,
    parse_day,
    parse_moment,
    parse_offset,
    same_instant,
)
from medfuse.imaging.pet.header import DIFFERS

SECOND = timedelta(seconds=1)
#: Problem of a time with an offset from UTC where the zone of the other times is unknown.
NO_ZONE = "has an offset from UTC, and TimezoneOffsetFromUTC (0008,0201) is missing or not one"


@dataclass(frozen=True)
class Acquisition:
    """Times of a series on its local clock, as in `PetHeader`.

    Attributes
    ----------
    zone : timedelta or None
        Offset of that clock from UTC, where the header says it.
    """

    zone: timedelta | None
    series_start: datetime | None = None
    first: datetime | None = None
    frame_reference_s: float | None = None
    frame_duration_s: float | None = None
    decay_factor: float | None = None
    decay_corrected_to: datetime | None = None
    problems: dict[str, str] = field(default_factory=dict)
    widths: dict[str, float] = field(default_factory=dict)


def read_acquisition(headers: Sequence[Dataset]) -> Acquisition:
    """Gather the times of all files and frames of one series.

    References
    ----------
    DICOM PS3.3 C.8.9.4, C.7.6.16.2.2 (frame content), C.12.1 (time zone).
    """
    zone = _zone(headers)
    problems: dict[str, str] = {}
    widths: dict[str, float] = {}
    series = _agreed("series_start", [_stamp(h, "Series", zone) for h in headers], problems, widths)
    stated = [_moment_in(text(h, "DecayCorrectionDateTime"), zone) for h in headers]
    corrected = _agreed("decay_corrected_to", stated, problems, widths)
    frames = [frame for header in headers for frame in _frames(header)]
    first, owner = _first("first_acquisition", frames, zone, problems, widths)
    return Acquisition(
        zone,
        series,
        first,
        _seconds(_number(owner, "FrameReferenceTime")),
        _seconds(
            _number(owner, "ActualFrameDuration", "FrameAcquisitionDuration"),
        ),
        _number(owner, "DecayFactor"),
        corrected,
        problems,
        widths,
    )


Stamp = tuple[Moment | None, str | None]


def _stamp(owner: Dataset, prefix: str, zone: timedelta | None) -> Stamp:
    """A moment by date and time, by date-time, or both where they agree; and the problem."""
    day = parse_day(text(owner, f"{prefix}Date"))
    clock = parse_clock(text(owner, f"{prefix}Time"))
    plain = Moment(datetime.combine(day, clock[0]), clock[1]) if day and clock else None
    full, problem = _moment_in(text(owner, f"{prefix}DateTime"), zone)
    if problem and plain is not None:
        written = parse_moment(text(owner, f"{prefix}DateTime"))
        agrees = written and local_by_clock(written, plain.at.time()) == plain.at
        return plain, None if agrees else f"disagrees with {prefix}DateTime"
    if plain is None or full is None:
        return plain or full, problem
    if not same_instant(plain, full, SECOND):
        return plain, f"disagrees with {prefix}DateTime"
    return min(plain, full, key=lambda moment: moment.width_s), None


def _moment_in(value: str | None, zone: timedelta | None) -> Stamp:
    written = parse_moment(value)
    if written is None:
        return None, None
    local = written.in_zone(zone)
    return local, None if local else NO_ZONE


def _zone(headers: Sequence[Dataset]) -> timedelta | None:
    """Offset that all files state; else the one of the acquisition date-times, which are local."""
    stated = {text(h, "TimezoneOffsetFromUTC") for h in headers}
    if stated != {None}:
        return parse_offset(stated.pop()) if len(stated) == 1 else None
    written = [parse_moment(v) for h in headers for v in _acquisition_texts(h) if v]
    offsets = {moment.offset for moment in written if moment}
    return offsets.pop() if len(offsets) == 1 else None


def _acquisition_texts(header: Dataset) -> Iterator[str | None]:
    if parse_clock(text(header, "AcquisitionTime")) is None:
        yield text(header, "AcquisitionDateTime")
    for frame in items(header, "PerFrameFunctionalGroupsSequence"):
        for content in items(frame, "FrameContentSequence"):
            yield text(content, "FrameAcquisitionDateTime")


def _agreed(
    name: str, stamps: list[Stamp], problems: dict[str, str], widths: dict[str, float]
) -> datetime | None:
    """The moment that all files have, within a second."""
    for problem in (p for _, p in stamps if p):
        problems.setdefault(name, problem)
    found = [moment for moment, _ in stamps if moment]
    if not found:
        return None
    first = min(found, key=lambda moment: moment.at)
    if max(moment.at for moment in found) - first.at > SECOND:
        problems.setdefault(name, DIFFERS)
    if width := max(moment.width_s for moment in found):
        widths[name] = width
    return first.at


def _first(
    name: str,
    frames: list[tuple[Dataset, ...]],
    zone: timedelta | None,
    problems: dict[str, str],
    widths: dict[str, float],
) -> tuple[datetime | None, tuple[Dataset, ...]]:
    """The earliest acquisition, and the owners of its attributes."""
    stamps = [_acquired(owners, zone) for owners in frames]
    for problem in (p for _, p in stamps if p):
        problems.setdefault(name, problem)
    found = [(m, n) for n, (m, _) in enumerate(stamps) if m]
    if not found:
        return None, frames[0]
    if len(found) < len(frames):
        problems.setdefault(
            name, f"is missing in {len(frames) - len(found)} of {len(frames)} images"
        )

    def order(entry: tuple[Moment, int]) -> tuple[datetime, float]:
        # Where all images carry the time of the exam, the frame reference time tells them apart.
        offset = _number(frames[entry[1]], "FrameReferenceTime")
        return entry[0].at, offset if offset is not None and math.isfinite(offset) else math.inf

    moment, index = min(found, key=order)
    if moment.width_s:
        widths[name] = moment.width_s
    return moment.at, frames[index]


def _frames(header: Dataset) -> Iterator[tuple[Dataset, ...]]:
    """Owners of the attributes of each frame, the nearest first."""
    groups = items(header, "PerFrameFunctionalGroupsSequence")
    for group in groups:
        yield (
            *items(group, "FrameContentSequence"),
            *items(group, "UnassignedPerFrameConvertedAttributesSequence"),
            header,
        )
    if not groups:
        yield (header,)


def _acquired(owners: tuple[Dataset, ...], zone: timedelta | None) -> Stamp:
    for owner in owners:
        framed = _moment_in(text(owner, "FrameAcquisitionDateTime"), zone)
        found = framed if framed != (None, None) else _stamp(owner, "Acquisition", zone)
        if found != (None, None):
            return found
    return None, None


def _number(owners: tuple[Dataset, ...], *keywords: str) -> float | None:
    for owner in owners:
        for keyword in keywords:
            if (value := number(owner, keyword)) is not None:
                return value
    return None


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
