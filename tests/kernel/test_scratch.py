"""Planes in nameless files: the same values, less memory, and nothing left behind."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch

from medfuse.errors import OutputError
from medfuse.kernel.scratch import empty, on_disk, require_disk, set_aside

SHAPE = (64, 512, 512)  # 67 MB


def test_values_survive_that_their_memory_is_let_go_again_and_again(tmp_path: Path) -> None:
    expected = torch.arange(SHAPE[0]).view(-1, 1, 1)
    with on_disk(tmp_path, limit=0):
        plane, mask = empty(SHAPE), empty(SHAPE, torch.bool)
        for _ in range(5):
            plane.zero_().add_(expected)
            mask.zero_().logical_or_(expected > 30)
        assert torch.equal(plane, expected.expand(SHAPE).float())
        assert torch.equal(mask, (expected > 30).expand(SHAPE))
    assert torch.equal(plane, expected.expand(SHAPE).float())  # a plane outlives the block


def test_files_have_no_name_while_they_are_used_and_after_an_interrupt(tmp_path: Path) -> None:
    def interrupted() -> None:
        with on_disk(tmp_path, limit=0):
            empty(SHAPE).zero_()
            assert list(tmp_path.iterdir()) == []
            raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() == before


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what is mapped and held")
def test_what_is_held_of_the_files_falls_back_to_nothing(tmp_path: Path) -> None:
    process = psutil.Process()
    before = process.memory_info().shared
    with on_disk(tmp_path, limit=0):
        plane = empty(SHAPE).zero_()
        end = time.monotonic() + 20
        while process.memory_info().shared - before > plane.nbytes / 4 and time.monotonic() < end:
            time.sleep(0.01)
        assert process.memory_info().shared - before < plane.nbytes / 4


def test_set_aside_copies_only_where_there_is_a_disk_for_it(tmp_path: Path) -> None:
    x = torch.rand(SHAPE)
    assert set_aside(x) is x
    with on_disk(tmp_path, limit=0):
        copy = set_aside(x)
    assert copy.data_ptr() != x.data_ptr()
    assert torch.equal(copy, x)


def test_a_disk_without_room_is_an_error_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"4096\.0 GB are wanted.*GB are free.*\[E_WRITE\]"):
        require_disk(tmp_path, 2**42)
    with on_disk(tmp_path, limit=0), pytest.raises(OutputError, match=r"are wanted.*\[E_WRITE\]"):
        empty((2**50,))
    require_disk(tmp_path, 1)
