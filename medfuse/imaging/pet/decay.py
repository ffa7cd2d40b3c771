"""From the injection to the time to which the voxels are decay-corrected."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import Any

from medfuse.errors import SuvUnavailable
from medfuse.imaging.pet.header import PetHeader, suv_unavailable
from medfuse.imaging.pet.reference import (
    CLOCK_TOLERANCE,
    LONG_LIVED_S,
    reference_time,
    require_precision,
    span,
)

_LONGEST_S = 6 * 3600.0


def decay_seconds(header: PetHeader, half_life_s: float, record: dict[str, Any]) -> float:
    """Seconds from injection to the time to which the voxels are decay-corrected.

    Writes the times and the rules that gave them to `record` (times of day only).

    Raises
    ------
    SuvUnavailable
        A time is missing, contradicted, too coarse, before the injection or implausibly late.
    """
    if header.dates_modified:
        record["remarks"].append(
            "dates were modified by de-identification: decay rests on the shifted times"
        )
    header.require_sound("injection", "injection_time")
    if header.injection is None and header.injection_time is None:
        raise header.missing("injection_time")
    reference = reference_time(header, half_life_s, record)
    injection = _injection(header, reference, half_life_s, record)
    record["injection_time"] = injection.time().isoformat()
    record["reference_time"] = reference.time().isoformat()
    _refuse_dummies(header, injection, reference)
    seconds = (reference - injection).total_seconds()
    longest = _longest_uptake(half_life_s)
    if seconds < -CLOCK_TOLERANCE.total_seconds() and not _during_scan(header, injection, record):
        raise _after_scan(record, -seconds)
    if seconds > longest:
        raise suv_unavailable(
            f"{record['injection_from']} lies {span(seconds)} before the reference time, "
            f"which is that of {record['reference_rule']}, expected {span(longest)} at most with "
            f"a half-life of {span(half_life_s)}"
        )
    return seconds


def _longest_uptake(half_life_s: float) -> float:
    return 10 * half_life_s if half_life_s > LONG_LIVED_S else min(_LONGEST_S, 15 * half_life_s)


def _injection(
    header: PetHeader, reference: datetime, half_life_s: float, record: dict[str, Any]
) -> datetime:
    if header.injection is not None:
        require_precision(header, "injection", half_life_s, record)
        record["injection_from"] = header.name("injection")
        return header.injection
    assert header.injection_time is not None
    require_precision(header, "injection_time", half_life_s, record)
    record["injection_from"] = header.name("injection_time")
    if half_life_s > LONG_LIVED_S:
        return _dated(header, half_life_s, record)
    injection = datetime.combine(reference.date(), header.injection_time)
    if injection <= reference + CLOCK_TOLERANCE:
        return injection
    day_before = injection - timedelta(days=1)
    if (reference - day_before).total_seconds() <= _longest_uptake(half_life_s):
        record["remarks"].append("injection is taken as the day before (the scan is past midnight)")
        return day_before
    return injection


def _dated(header: PetHeader, half_life_s: float, record: dict[str, Any]) -> datetime:
    """The injection of a long-lived nuclide, which needs a date."""
    dated = header.ge_injection
    if (
        dated is not None
        and header.injection_time is not None
        and _same_clock(dated.time(), header.injection_time)
    ):
        record["injection_from"] = header.name("ge_injection")
        return dated
    raise suv_unavailable(
        f"{header.name('injection_time')} gives a time of day without a date, and "
        f"{header.name('injection')} is missing: with a half-life of {span(half_life_s)} the scan "
        "may be days after the injection"
    )


def _same_clock(one: time, other: time) -> bool:
    gap = datetime.combine(datetime.min, one) - datetime.combine(datetime.min, other)
    return abs(gap) <= CLOCK_TOLERANCE


def _during_scan(header: PetHeader, injection: datetime, record: dict[str, Any]) -> bool:
    """Whether a scan, on the clock of the injection, was running when it was given."""
    if header.scan_end is None or not injection < header.scan_end:
        return False
    record["remarks"].append("the injection was given while the scan was running")
    return True


def _after_scan(record: dict[str, Any], seconds: float) -> SuvUnavailable:
    return suv_unavailable(
        f"{record['injection_from']} ({record['injection_time']}) lies {span(seconds)} after the "
        f"reference time {record['reference_time']}, which is that of {record['reference_rule']}: "
        "the clocks of dose calibrator and scanner differ, or the injection was given during the "
        "scan"
    )


def _refuse_dummies(header: PetHeader, injection: datetime, reference: datetime) -> None:
    times = {injection.time(), reference.time()}
    if header.first_acquisition is not None:
        times.add(header.first_acquisition.time())
    if times == {time()}:
        raise suv_unavailable(
            f"{header.name('injection_time')} and the times of the scan are all 00:00:00, as "
            "de-identification writes them"
        )
