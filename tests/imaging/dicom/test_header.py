"""Single values of a DICOM header."""

from __future__ import annotations

from medfuse.imaging.dicom.header import parse_datetime, parse_time


def test_odd_dates_and_times_parse_or_are_none() -> None:
    assert str(parse_time("102731.687000")) == "10:27:31.687000"
    assert str(parse_time("1027")) == "10:27:00"
    assert str(parse_time("10:27:31")) == "10:27:31"
    assert str(parse_datetime("20240305110000.5+0100")) == "2024-03-05 11:00:00.500000"
    for bad in (None, "", "25", "102", "ZZPHI", "106100"):
        assert parse_time(bad) is None
    assert parse_datetime("20241305110000") is None
