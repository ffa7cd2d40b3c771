"""What a case may need of memory and disk, told before it is registered."""

from __future__ import annotations

import pytest

from medfuse.errors import InputError
from medfuse.imaging.volume import disk_for_case

BODY = (512, 512, 600)


def test_a_case_that_memory_holds_needs_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    assert disk_for_case(BODY, "ct", 32) == 0
    monkeypatch.setattr("medfuse.imaging.volume.machine_memory", lambda: 32 * 2**30)
    assert disk_for_case(BODY, "ct", None) == 0


def test_512_x_512_x_600_goes_with_6_gigabytes_and_some_disk() -> None:
    assert disk_for_case(BODY, "ct", 6) == 80 * 512 * 512 * 600


def test_disk_is_used_only_where_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medfuse.imaging.volume.machine_memory", lambda: 8 * 2**30)
    cause = r"512 x 512 x 600 voxels.* 15\.5 GB of memory, or 4\.9 GB .*max_memory\); 8\.0 GB"
    with pytest.raises(InputError, match=cause):
        disk_for_case(BODY, "ct", None)


def test_a_case_that_needs_more_even_so_is_refused_with_both_figures() -> None:
    with pytest.raises(InputError, match=r"15\.5 GB of memory, or 4\.9 GB.*4\.0 GB may be used"):
        disk_for_case(BODY, "ct", 4)
    with pytest.raises(InputError, match=r"or 6\.7 GB with the rest on disk"):
        disk_for_case(BODY, "ct", 6, dicom=True)
