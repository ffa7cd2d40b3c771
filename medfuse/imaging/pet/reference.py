"""The time to which DecayCorrection START refers, never later than the first acquisition.

Where two attributes allow two readings that differ in SUV, there is no SUV, or a remark where the
rule of QIBA decides.

References
----------
QIBA FDG-PET/CT profile, "Vendor-neutral pseudo-code for SUV calculation"; DICOM PS3.3 C.8.9.1.1.6
(decay correction), C.8.9.4.1.5 (frame reference time), C.8.22.4 (enhanced PET).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from medfuse.imaging.pet.header import PetHeader, suv_unavailable

#: Header clocks are rounded to whole seconds at places.
CLOCK_TOLERANCE = timedelta(seconds=1)
#: Two readings of a header are one where they give the same SUV to this part.
SAME_SUV = 0.02
#: Less than this is not worth a remark.
_EXACT_SUV = 0.001
#: A nuclide that lives longer may be scanned on a later day: a time of day alone is no date.
LONG_LIVED_S = 3 * 3600.0
#: No frame and no exam is so long: the number is none.
_ABSURD_S = 1e7
_LATE_START = timedelta(hours=1)
_LONGEST_EXAM = timedelta(hours=12)


def change_of_suv(seconds: float, half_life_s: float) -> float:
    """Relative change of SUV where the decay time is wrong by so much."""
    return float(2 ** min(abs(seconds) / half_life_s, 100.0) - 1)


def reference_time(header: PetHeader, half_life_s: float, record: dict[str, Any]) -> datetime:
    """Time to which DecayCorrection START refers (QIBA: series time unless it is a later one)."""
    header.require_sound("decay_corrected_to")
    if header.decay_corrected_to is not None:
        return _stated_reference(header, half_life_s, record)
    header.require_sound("first_acquisition", "series_start")
    series, first = header.series_start, header.first_acquisition
    if first is None:
        raise header.missing("first_acquisition")
    require_precision(header, "first_acquisition", half_life_s, record)
    if series is not None and series <= first + CLOCK_TOLERANCE:
        require_precision(header, "series_start", half_life_s, record)
        record["reference_rule"] = "SeriesTime (not after the earliest acquisition)"
        _compare_start(header, series, half_life_s, record)
        return series
    why = "SeriesTime is missing" if series is None else "the series is a post-processed one"
    if header.ge_scan_start is not None:
        _require_before(header, "ge_scan_start", header.ge_scan_start, first)
        record["reference_rule"] = f"{header.name('ge_scan_start')}: {why}"
        return header.ge_scan_start
    return _scan_start_from_frame(header, first, half_life_s, record, why)


def _stated_reference(header: PetHeader, half_life_s: float, record: dict[str, Any]) -> datetime:
    reference = header.decay_corrected_to
    assert reference is not None
    require_precision(header, "decay_corrected_to", half_life_s, record)
    record["reference_rule"] = header.name("decay_corrected_to")
    first, series = header.first_acquisition, header.series_start
    if first is not None and "first_acquisition" not in header.problems:
        _require_before(header, "decay_corrected_to", reference, first, longest=None)
        _require_decay_factor(header, first, reference, half_life_s, record)
        if series is not None and series <= first + CLOCK_TOLERANCE:
            record["remarks"] += _differences(
                reference, {header.name("series_start"): series}, half_life_s, record
            )
    return reference


def _require_before(
    header: PetHeader,
    name: str,
    start: datetime,
    first: datetime,
    *,
    longest: timedelta | None = _LONGEST_EXAM,
) -> None:
    """Refuse a start of the scan that is later than its first acquisition, or of another exam."""
    gap = first - start
    if gap < -CLOCK_TOLERANCE or (longest is not None and gap > longest):
        word = "after" if gap < timedelta() else "before"
        raise suv_unavailable(
            f"{header.name(name)} lies {span(abs(gap.total_seconds()))} {word} the first "
            f"acquisition ({header.name('first_acquisition')})"
        )


def _compare_start(
    header: PetHeader, series: datetime, half_life_s: float, record: dict[str, Any]
) -> None:
    """Remark what else in the header speaks of another start of the scan than SeriesTime."""
    first = header.first_acquisition
    assert first is not None
    if half_life_s <= LONG_LIVED_S:
        _require_before(header, "series_start", series, first)
    if first - series > _LATE_START:
        record["remarks"].append(
            f"the first acquisition begins {span((first - series).total_seconds())} after "
            "SeriesTime, which is the reference time"
        )
    others = {}
    if header.ge_scan_start is not None:
        others[header.name("ge_scan_start")] = header.ge_scan_start
    readings = list(_starts_by_frame(header, first, half_life_s))
    if readings and all(_apart(r, series, half_life_s) for r in readings):
        others[header.name("first_frame_reference_s")] = readings[0]
    by_factor = starts_by_decay_factor(header, first, half_life_s)
    if by_factor and all(_apart(r, series, half_life_s) for r in by_factor):
        others[header.name("first_decay_factor")] = by_factor[0]
    record["remarks"] += _differences(series, others, half_life_s, record)


def _apart(one: datetime, other: datetime, half_life_s: float) -> bool:
    return change_of_suv((one - other).total_seconds(), half_life_s) > SAME_SUV


def _differences(
    taken: datetime, others: dict[str, datetime], half_life_s: float, record: dict[str, Any]
) -> Iterator[str]:
    for name, other in others.items():
        seconds = (other - taken).total_seconds()
        if change_of_suv(seconds, half_life_s) > SAME_SUV:
            yield (
                f"{name} puts the reference time {span(abs(seconds))} "
                f"{'later' if seconds > 0 else 'earlier'} than {record['reference_rule']}, which "
                "was taken"
            )


def _mean_count_time(duration_s: float, half_life_s: float) -> float:
    """Seconds from the start of a frame to the time of its mean count rate (QIBA)."""
    decay = math.log(2) / half_life_s
    in_frame = decay * duration_s
    return math.log(in_frame / -math.expm1(-in_frame)) / decay if in_frame > 0 else 0.0


def _starts_by_frame(header: PetHeader, first: datetime, half_life_s: float) -> Iterator[datetime]:
    """Starts of the scan by FrameReferenceTime: as the time of mean count rate, as start of frame.

    Nothing where the attribute is 0, as vendors fill it in, or the duration is missing.
    """
    offset, duration = header.first_frame_reference_s, header.first_frame_duration_s
    if not offset or duration is None or not abs(offset) + abs(duration) < _ABSURD_S:
        return
    for within in (_mean_count_time(duration, half_life_s), 0.0):
        if within - offset <= CLOCK_TOLERANCE.total_seconds():
            yield first + timedelta(seconds=min(0.0, within - offset))


def _scan_start_from_frame(
    header: PetHeader, first: datetime, half_life_s: float, record: dict[str, Any], why: str
) -> datetime:
    """Scan start = acquisition - frame reference time + time of the mean count rate (QIBA)."""
    header.require_sound("first_frame_reference_s", "first_frame_duration_s")
    offset = header.first_frame_reference_s
    if offset is None or not abs(offset) < _ABSURD_S:
        raise header.missing("first_frame_reference_s")
    if offset <= 0:
        record["reference_rule"] = (
            f"earliest acquisition: {why}, and {header.name('first_frame_reference_s')} is "
            f"{offset:g}"
        )
        start = first
    else:
        duration = header.first_frame_duration_s
        if duration is None or not abs(duration) < _ABSURD_S:
            raise header.missing("first_frame_duration_s")
        record["reference_rule"] = (
            f"earliest acquisition taken back by {header.name('first_frame_reference_s')}: {why}"
        )
        start = next(_starts_by_frame(header, first, half_life_s), first)
    _require_decay_factor(header, first, start, half_life_s, record)
    return start


def _require_decay_factor(
    header: PetHeader,
    first: datetime,
    start: datetime,
    half_life_s: float,
    record: dict[str, Any],
) -> None:
    """Refuse a start that the decay factor of the first slice contradicts; 1 says nothing."""
    readings = starts_by_decay_factor(header, first, half_life_s)
    if readings and all(_apart(start, other, half_life_s) for other in readings):
        raise suv_unavailable(
            f"{header.name('first_decay_factor')} is {header.first_decay_factor:g}, which speaks "
            f"of a reference time {span(abs((readings[0] - start).total_seconds()))} from that of "
            f"{record['reference_rule']}"
        )


def starts_by_decay_factor(
    header: PetHeader, first: datetime, half_life_s: float
) -> list[datetime]:
    """Reference times by the decay factor of the first slice, with and without decay in the frame.

    None where the factor is missing, or 1, as vendors fill it in.
    """
    factor = header.first_decay_factor
    if factor is None or not math.isfinite(factor) or factor <= 0 or factor == 1.0:
        return []
    before = half_life_s * math.log2(factor)
    duration = header.first_frame_duration_s or 0.0
    if not (abs(before) < _ABSURD_S and abs(duration) < _ABSURD_S):
        return []
    within = _mean_count_time(duration, half_life_s)
    start = first - timedelta(seconds=before)
    return [start + timedelta(seconds=within), start]


def require_precision(
    header: PetHeader, name: str, half_life_s: float, record: dict[str, Any]
) -> None:
    """Refuse a time that is written so coarsely that the SUV is open, or remark it."""
    width = header.widths.get(name, 0.0)
    change = change_of_suv(width, half_life_s)
    if change <= _EXACT_SUV:
        return
    to = "minute" if width <= 60 else "hour" if width <= 3600 else "day"
    text = f"{header.name(name)} is written to the {to} only"
    if change > SAME_SUV:
        raise suv_unavailable(f"{text}: SUV would be uncertain by {100 * change:.0f} %")
    record["remarks"].append(f"{text}: SUV is uncertain by {100 * change:.1f} %")


def span(seconds: float) -> str:
    """A time in the unit in which people say it."""
    if abs(seconds) < 120:
        return f"{seconds:.0f} s"
    if abs(seconds) < 3 * 3600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h" if abs(seconds) < 2 * 86400 else f"{seconds / 86400:.1f} days"
