"""DICOM dates and times: every form of PS3.5 6.2, and nothing else."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfuse.imaging.dicom.times import (
    Moment,
    local_by_clock,
    parse_clock,
    parse_day,
    parse_moment,
    parse_offset,
    same_instant,
)

ZONES = st.integers(-12 * 4, 14 * 4).map(lambda quarters: timedelta(minutes=15 * quarters))
MOMENTS = st.datetimes(datetime(1950, 1, 2), datetime(2100, 1, 1))


def _offset(zone: timedelta) -> str:
    minutes = int(zone.total_seconds()) // 60
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}{abs(minutes) % 60:02d}"


@given(MOMENTS, ZONES)
def test_a_date_time_with_offset_is_one_instant_in_every_zone(
    at: datetime, zone: timedelta
) -> None:
    text = f"{at:%Y%m%d%H%M%S.%f}{_offset(zone)}"
    moment = parse_moment(text)
    assert moment == Moment(at, 0.0, zone)
    local = moment.in_zone(timedelta(0))
    assert local is not None
    assert local.at + zone == at
    assert moment.in_zone(None) is None


@given(MOMENTS, st.integers(0, 6))
def test_fractions_may_have_one_to_six_digits(at: datetime, digits: int) -> None:
    fraction = f"{at:%f}"[:digits]
    text = f"{at:%H%M%S}" + (f".{fraction}" if fraction else "")
    exact = at.replace(microsecond=int(f"{fraction or '0':0<6}"))
    assert parse_clock(text) == (exact.time(), 0.0)
    assert parse_clock(f"{at:%H:%M:%S}") == (at.replace(microsecond=0).time(), 0.0)


@given(MOMENTS, st.sampled_from([("%Y%m%d%H%M", 60), ("%Y%m%d%H", 3600), ("%Y%m%d", 86400)]))
def test_what_is_left_out_on_the_right_is_the_width(at: datetime, form: tuple[str, int]) -> None:
    moment = parse_moment(at.strftime(form[0]))
    assert moment is not None
    assert moment.width_s == form[1]
    assert moment.at <= at < moment.at + timedelta(seconds=form[1])
    assert same_instant(moment, Moment(at), timedelta(0))


@given(MOMENTS, ZONES)
def test_the_local_clock_finds_the_zone(at: datetime, zone: timedelta) -> None:
    utc = Moment(at - zone, 0.0, timedelta(0))
    found = local_by_clock(utc, at.time())
    # 26 hours of zones: between -12 h and -10 h two days may be meant, and none is taken.
    assert found == at or (found is None and not -timedelta(hours=10) < zone < timedelta(hours=12))


@given(st.text(max_size=30))
def test_any_text_is_read_or_none(text: str) -> None:
    for parse in (parse_clock, parse_day, parse_moment, parse_offset):
        parse(text)


@pytest.mark.parametrize(
    ("text", "clock"),
    [
        ("10", (time(10), 3600.0)),
        ("1027", (time(10, 27), 60.0)),
        ("10:27", (time(10, 27), 60.0)),
        ("102731", (time(10, 27, 31), 0.0)),
        ("102731.5 ", (time(10, 27, 31, 500000), 0.0)),
        ("000000", (time(), 0.0)),
        ("235960", (time(23, 59, 59, 999999), 0.0)),
        ("240000", None),
        ("106100", None),
        ("1027315", None),
        ("102731.1234567", None),
        ("-10", None),
        ("", None),
        (None, None),
    ],
)
def test_times_of_day(text: str | None, clock: tuple[time, float] | None) -> None:
    assert parse_clock(text) == clock


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("20240229", date(2024, 2, 29)),
        ("2024.02.29", date(2024, 2, 29)),
        ("20230229", None),
        ("202402", None),
        ("20241301", None),
        ("00010101", None),
        ("99991231", None),
        ("2024.0229", None),
    ],
)
def test_days(text: str, day: date | None) -> None:
    assert parse_day(text) == day


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("+0100", 60), ("-0330", -210), ("+1400", 840), ("-1200", -720), ("+0000", 0),
        ("+05:30", 330), ("-0000", None), ("+1500", None), ("-1230", None), ("0100", None),
        ("+0160", None), ("CET", None), (None, None),
    ],
)  # fmt: skip
def test_offsets_from_utc(text: str | None, minutes: int | None) -> None:
    assert parse_offset(text) == (None if minutes is None else timedelta(minutes=minutes))


@pytest.mark.parametrize(
    "text",
    ["2024030511+01", "20240305110000+1500", "2024-03-05T11:00", "20240305250000", "24", "0000"],
)
def test_a_damaged_date_time_is_none(text: str) -> None:
    assert parse_moment(text) is None
