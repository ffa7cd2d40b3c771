"""When the radiopharmaceutical was given: date-time and time of day of every item, compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, time, timedelta

from pydicom.dataset import Dataset

from medfuse.imaging.dicom.acquisition import NO_ZONE, SECOND
from medfuse.imaging.dicom.header import text
from medfuse.imaging.dicom.times import (
    Moment,
    local_by_clock,
    parse_clock,
    parse_moment,
    same_instant,
)
from medfuse.imaging.pet.header import ATTRIBUTES, DIFFERS

_DAY_S = 86400.0
_LONG = timedelta(minutes=2)
_DISAGREES = f"disagrees with {ATTRIBUTES['injection_time']}"


@dataclass(frozen=True)
class Injection:
    """Start of the administration on the local clock; `at` where a date is known."""

    at: datetime | None = None
    clock: time | None = None
    problems: dict[str, str] = field(default_factory=dict)
    widths: dict[str, float] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def read_injection(isotopes: Sequence[list[Dataset]], zone: timedelta | None) -> Injection:
    """Read the items of RadiopharmaceuticalInformationSequence of every file.

    References
    ----------
    DICOM PS3.3 C.8.9.2, attributes (0018,1072), (0018,1073), (0018,1078) and (0018,1079).
    """
    found = [_read(item, zone) for of_file in isotopes for item in of_file[:1]]
    if not found:
        return Injection()
    problems = {name: text for one in found for name, text in one.problems.items()}
    widths = {name: width for one in found for name, width in one.widths.items()}
    for name, values in (
        ("injection", {one.at for one in found}),
        ("injection_time", {one.clock for one in found}),
    ):
        if len(values) > 1:
            problems.setdefault(name, DIFFERS)
    return replace(found[0], problems=problems, widths=widths)


def _read(isotope: Dataset, zone: timedelta | None) -> Injection:
    clock = parse_clock(text(isotope, "RadiopharmaceuticalStartTime"))
    written = parse_moment(text(isotope, "RadiopharmaceuticalStartDateTime"))
    problems: dict[str, str] = {}
    start = _start(written, clock, zone, problems)
    widths = {"injection_time": clock[1]} if clock and clock[1] else {}
    if start is not None and start.width_s:
        widths["injection"] = start.width_s
    remarks = _remarks(isotope, start, clock, zone)
    return Injection(
        start.at if start else None, clock[0] if clock else None, problems, widths, remarks
    )


def _start(
    written: Moment | None,
    clock: tuple[time, float] | None,
    zone: timedelta | None,
    problems: dict[str, str],
) -> Moment | None:
    """The date-time on the local clock, checked against the time of day."""
    if written is None or written.width_s > _DAY_S:
        return None  # a month or a year says nothing that a time of day does not
    local = written.in_zone(zone)
    if local is None:
        at = local_by_clock(written, clock[0]) if clock else None
        if at is None:
            problems["injection"] = _DISAGREES if clock else NO_ZONE
            return None
        return Moment(at, clock[1] if clock else 0.0)
    if clock is None:
        return local
    day = local.at.date()
    timed = Moment(datetime.combine(day, clock[0]), clock[1])
    if not same_instant(timed, local, SECOND):
        problems["injection"] = _DISAGREES
    return min(timed, local, key=lambda moment: moment.width_s)


def _remarks(
    isotope: Dataset,
    start: Moment | None,
    clock: tuple[time, float] | None,
    zone: timedelta | None,
) -> tuple[str, ...]:
    """Say how long the administration took, where it was no bolus."""
    stop = parse_clock(text(isotope, "RadiopharmaceuticalStopTime"))
    ended = parse_moment(text(isotope, "RadiopharmaceuticalStopDateTime"))
    ended = ended and ended.in_zone(zone)
    lasted = timedelta()
    if start and ended and not ended.width_s:
        lasted = ended.at - start.at
    elif clock and stop and not stop[1]:
        lasted = datetime.combine(datetime.min, stop[0]) - datetime.combine(datetime.min, clock[0])
    if not _LONG < lasted < timedelta(hours=6):
        return ()
    minutes = lasted.total_seconds() / 60
    return (f"the injection took {minutes:.1f} min: decay is counted from its start",)
