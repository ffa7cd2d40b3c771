"""Dates and times of DICOM as PS3.5 has them: partial precision, fractions, offsets from UTC.

What is written to the minute, or to the day, is known no better: `width_s` says how far.

References
----------
DICOM PS3.5 6.2, value representations DA, TM and DT; PS3.3 C.12.1.1.8, Timezone Offset From UTC.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta

_TIME = re.compile(r"(\d\d)(?::?(\d\d)(?::?(\d\d)(?:\.(\d{1,6}))?)?)?")
_DATE = re.compile(r"(\d{4})(\d\d)(\d\d)|(\d{4})\.(\d\d)\.(\d\d)|(\d{4})-(\d\d)-(\d\d)")
_DATE_TIME = re.compile(r"(\d{4})(?:(\d\d)(?:(\d\d)(\d[\d.]*)?)?)?([+-]\d{4})?")
_OFFSET = re.compile(r"([+-])(\d\d):?(\d\d)")
_YEARS = (1850, 2200)
_LEAST, _MOST = timedelta(hours=-12), timedelta(hours=14)


@dataclass(frozen=True)
class Moment:
    """A date with time, as written.

    Attributes
    ----------
    at : datetime
        The earliest instant that the text may mean, without zone.
    width_s : float
        How many seconds later it may be: 60 where the text ends with the minute, 86400 where it is
        a date alone. Whole seconds count as exact.
    offset : timedelta or None
        From UTC, where the text has one.
    """

    at: datetime
    width_s: float = 0.0
    offset: timedelta | None = None

    def in_zone(self, zone: timedelta | None) -> Moment | None:
        """The same instant on the clock of `zone`; None where only one of both is known."""
        if self.offset is None:
            return self
        if zone is None:
            return None
        return replace(self, at=self.at - self.offset + zone, offset=None)


def parse_clock(value: str | None) -> tuple[time, float] | None:
    """Read DICOM TM: the time of day, and how many seconds later it may be.

    Hours alone and hours with minutes are valid; colons are those of ACR-NEMA. The leap second 60
    is taken as the end of second 59. Midnight is 0000: 2400 is no time.
    """
    found = _TIME.fullmatch((value or "").strip())
    if found is None:
        return None
    hour, minute, second, fraction = found.groups()
    leap = second == "60"
    micro = 999999 if leap else int(f"{fraction or '0':0<6}")
    try:
        clock = time(int(hour), int(minute or 0), 59 if leap else int(second or 0), micro)
    except ValueError:
        return None
    return clock, 0.0 if second else 60.0 if minute else 3600.0


def parse_day(value: str | None) -> date | None:
    """Read DICOM DA: YYYYMMDD, or with the dots of ACR-NEMA."""
    found = _DATE.fullmatch((value or "").strip())
    if found is None:
        return None
    try:
        day = date(*(int(part) for part in found.groups() if part))
    except ValueError:
        return None
    return day if _YEARS[0] <= day.year <= _YEARS[1] else None


def parse_offset(value: str | None) -> timedelta | None:
    """Read an offset from UTC, e.g. +0530; None beyond -1200 to +1400, and for -0000."""
    found = _OFFSET.fullmatch((value or "").strip())
    if found is None or int(found[3]) > 59 or found[0].replace(":", "") == "-0000":
        return None
    span = timedelta(hours=int(found[2]), minutes=int(found[3]))
    offset = -span if found[1] == "-" else span
    return offset if _LEAST <= offset <= _MOST else None


def parse_moment(value: str | None) -> Moment | None:
    """Read DICOM DT; what was left out on the right makes `width_s`."""
    found = _DATE_TIME.fullmatch((value or "").strip())
    if found is None:
        return None
    year, month, day, clock, offset = found.groups()
    read = parse_clock(clock) if clock else (time(), 86400.0)
    start = parse_day(f"{year}{month or '01'}{day or '01'}")
    zone = parse_offset(offset)
    if read is None or start is None or (offset and zone is None):
        return None
    width = read[1] if day else 31 * 86400.0 if month else 366 * 86400.0
    return Moment(datetime.combine(start, read[0]), width, zone)


def same_instant(one: Moment, other: Moment, tolerance: timedelta) -> bool:
    """Whether two moments of one clock may be the same, each within its precision."""
    gap = one.at - other.at
    later = timedelta(seconds=other.width_s) + tolerance
    return -timedelta(seconds=one.width_s) - tolerance <= gap <= later


def local_by_clock(moment: Moment, clock: time) -> datetime | None:
    """Local date and time of an instant with offset, where the local time of day is also known.

    None where no zone of whole quarters of an hour between -1200 and +1400 brings both together,
    or where two do.
    """
    if moment.offset is None:
        return None
    utc = moment.at - moment.offset
    days = (utc.date() + timedelta(days=step) for step in (-1, 0, 1))
    found = [
        local
        for local in (datetime.combine(day, clock) for day in days)
        if _LEAST <= local - utc <= _MOST and _is_zone(local - utc)
    ]
    return found[0] if len(found) == 1 else None


def _is_zone(gap: timedelta) -> bool:
    past_quarter = gap % timedelta(minutes=15)
    return min(past_quarter, timedelta(minutes=15) - past_quarter) <= timedelta(seconds=1)
