"""What a case may need of memory and disk, told before it is registered."""

from __future__ import annotations

import pytest

from medfuse.errors import InputError
from medfuse.imaging.memory import disk_for_case, memory_limit, require_memory
from medfuse.imaging.volume import Place

BODY = (512, 512, 600)


def test_a_case_that_memory_holds_needs_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    assert disk_for_case(BODY, "ct", 32) == 0
    monkeypatch.setattr("medfuse.imaging.memory.machine_memory", lambda: 32 * 2**30)
    assert disk_for_case(BODY, "ct", None) == 0


def test_512_x_512_x_600_goes_with_6_gigabytes_and_some_disk() -> None:
    assert disk_for_case(BODY, "ct", 6) == 80 * 512 * 512 * 600


def test_disk_is_used_only_where_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medfuse.imaging.memory.machine_memory", lambda: 8 * 2**30)
    cause = r"512 x 512 x 600 voxels.* 15\.5 GB of memory, or 4\.9 GB .*max_memory\); 8\.0 GB"
    with pytest.raises(InputError, match=cause):
        disk_for_case(BODY, "ct", None)


def test_a_case_that_needs_more_even_so_is_refused_with_both_figures() -> None:
    with pytest.raises(InputError, match=r"15\.5 GB of memory, or 4\.9 GB.*4\.0 GB may be used"):
        disk_for_case(BODY, "ct", 4)
    with pytest.raises(InputError, match=r"or 6\.7 GB with the rest on disk"):
        disk_for_case(BODY, "ct", 6, dicom=True)


def test_the_limit_of_reading_is_raised_by_the_setting_that_the_refusal_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("medfuse.imaging.memory.machine_memory", lambda: 1000)
    place = Place("Cannot read", "ct")
    with pytest.raises(InputError, match=r"use a larger machine\. \[E_TOO_LARGE\]"):
        require_memory((10, 10, 10), 4, place)  # outside of a case no setting raises it
    with (
        memory_limit(None),
        pytest.raises(InputError, match="allow more with max_memory=GB"),
    ):
        require_memory((10, 10, 10), 4, place)
    with memory_limit(0.1):
        require_memory((10, 10, 10), 4, place)
