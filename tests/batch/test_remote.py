"""Cases that a Dask worker starts, without Dask."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from medfuse.batch import remote
from medfuse.batch.worker import Job
from tests._helpers.batch_study import half_built, make_study, small_work

RUNNER = "batch_runners:SmallWork"


@pytest.fixture(autouse=True)
def room(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Where the processes keep their logs; nothing is left there and none of them lives on."""
    room = tmp_path_factory.mktemp("room")
    monkeypatch.setenv("TMPDIR", str(room))
    monkeypatch.setattr(tempfile, "tempdir", str(room))
    monkeypatch.setattr(remote, "_idle", [])
    small_work(monkeypatch)
    yield room
    for process in remote._idle:
        process.communicate(timeout=60)
    assert list(room.iterdir()) == []


def jobs(root: Path, *names: str, seconds: float = 0.0) -> list[Job]:
    study = make_study(root / "in", *names, seconds=seconds)
    return [
        Job(case.name, case.anatomical, case.functional, root / "out" / case.name, {})
        for case in study.cases
    ]


def run(job: Job, **options: Any) -> dict[str, Any]:
    return remote.run_apart(job, runner=RUNNER, **options)


def test_one_process_does_case_after_case_and_outlives_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")  # as Dask does for its workers
    first, crashed, last = (run(job) for job in jobs(tmp_path, "a", "exits", "b"))
    assert (first["status"], last["status"]) == ("done", "done")
    assert crashed["code"] == "E_CRASHED"
    assert "library noise from batch_runners.py" in crashed["log"]
    (process,) = remote._idle
    assert "MALLOC_TRIM_THRESHOLD_" not in psutil.Process(process.pid).environ()


def test_a_case_that_takes_too_long_or_is_dropped_ends_at_once(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    hangs, slow, after = jobs(tmp_path, "hangs", "slow", "after", seconds=600)
    begun = time.monotonic()
    assert run(hangs, timeout_s=3)["code"] == "E_TIMEOUT"
    assert run(slow, is_dropped=lambda: bool(half_built(tmp_path / "out")))["status"] == "failed"
    assert time.monotonic() - begun < 300
    family = psutil.Process().children(recursive=True)
    mine = [p.cmdline() for p in family if p.status() != psutil.STATUS_ZOMBIE]
    assert not any("slow" in " ".join(line) for line in mine)
    assert run(after)["status"] == "done"


def test_a_process_that_ended_while_it_waited_costs_no_case(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    first, second = jobs(tmp_path, "a", "b")
    run(first)
    remote._idle[0].stdin.close()
    remote._idle[0].wait()
    assert run(second)["status"] == "done"
