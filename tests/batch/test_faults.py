"""What a batch must survive: nothing lost, nothing half-written, and the summary is right."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from medfuse.batch import read_ledger, run_batch
from medfuse.batch.ledger import write_summary
from medfuse.batch.lock import LOCK_NAME, BatchLock
from medfuse.batch.worker import Job, PipelineRunner
from medfuse.case.pipeline import case_key
from medfuse.errors import OutputError
from medfuse.methods.zoo import WEIGHTS
from medfuse.results.folder import PREFIX, ResultFolder, is_complete, remove_stale
from medfuse.settings import CaseSettings
from medfuse.study import Case, Study, discover
from tests._helpers.batch_study import (
    by_case,
    half_built,
    leftovers,
    make_study,
    small_work,
    start_batch,
    wait_for,
    when,
    write_manifest,
)

SETTINGS = CaseSettings(method="mean", registration="identity")


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Any:
    return small_work(monkeypatch)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 300 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=300k", "medfuse-test", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def summary_of(out: Path) -> dict[str, str]:
    return {row["case"]: row["status"] for row in csv.DictReader((out / "summary.csv").open())}


def assert_whole(out: Path, *names: str) -> None:
    """These results and no other folder, half-built or not."""
    folders = {p.name for p in out.iterdir() if p.is_dir()} - {"logs"}
    assert folders == set(names)
    assert all(is_complete(out / name, rehash=True) for name in names)
    assert leftovers(out) == []


# Processes that are killed ------------------------------------------------------------------------


def test_a_worker_that_is_killed_costs_its_case_and_a_rerun_does_it(
    tmp_path: Path, runner: Any
) -> None:
    out = tmp_path / "out"
    study = make_study(tmp_path / "in", "slow-1", "slow-2", "fine", seconds=1.5)

    def kill_worker() -> None:
        (place,) = half_built(out)
        os.kill(int(place.parent.stem.rpartition("-")[2]), signal.SIGKILL)

    killer = when(lambda: half_built(out), kill_worker)
    summary = run_batch(study, out, SETTINGS, workers=1, runner=runner)
    killer.join()
    assert summary.exit_code == 8
    assert by_case(summary)["slow-1"].code == "E_KILLED"
    assert summary_of(out) == {"slow-1": "failed", "slow-2": "done", "fine": "done"}
    assert_whole(out, "slow-2", "fine")
    assert run_batch(study, out, SETTINGS, runner=runner).exit_code == 0
    assert summary_of(out) == {"slow-1": "done", "slow-2": "skipped", "fine": "skipped"}
    assert_whole(out, "slow-1", "slow-2", "fine")


def test_a_case_that_memory_cannot_hold_ends_alone(tmp_path: Path, runner: Any) -> None:
    study = make_study(tmp_path / "in", "hungry", "fine")
    found = by_case(run_batch(study, tmp_path / "out", SETTINGS, workers=1, runner=runner))
    assert (found["hungry"].code, found["fine"].status) == ("E_MEMORY", "done")
    assert_whole(tmp_path / "out", "fine")


@pytest.mark.slow
def test_a_parent_that_is_killed_again_and_again_loses_running_cases_alone(tmp_path: Path) -> None:
    out, names = tmp_path / "out", [f"slow-{n}" for n in range(5)]
    write_manifest(tmp_path / "in", *names, seconds=0.4)
    for number in (1, 3):
        batch = start_batch(tmp_path / "in", out)
        wait_for(lambda n=number: half_built(out) and is_complete(out / f"slow-{n - 1}"), batch)
        running = [int(p.parent.stem.rpartition("-")[2]) for p in half_built(out)]
        batch.kill()
        batch.wait()
        wait_for(lambda pids=running: not any(Path(f"/proc/{pid}").exists() for pid in pids), batch)
        built = [out / name for name in names if (out / name).exists()]
        assert all(is_complete(folder, rehash=True) for folder in built)
    last = start_batch(tmp_path / "in", out)
    assert last.communicate(timeout=60)[1] == ""
    assert last.returncode == 0
    assert_whole(out, *names)
    ended = [e["case"] for e in read_ledger(out) if e.get("status") == "done"]
    assert len(ended) == len(set(ended)), "no finished case was done twice"
    assert summary_of(out).keys() == set(names)
    assert set(summary_of(out).values()) <= {"done", "skipped"}


# The disk -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_full_disk_is_named_and_a_rerun_with_space_completes(
    small_disk: Path, tmp_path: Path, sample_data: Path
) -> None:
    source, out = sample_data / "study/sts001-aligned", small_disk / "out"
    case = Case("ct-mr", source / "mr-t1.nii.gz", source / "ct.nii.gz", "test")
    study = Study(source, "manifest", (case,))
    (result,) = run_batch(study, out, SETTINGS).results
    assert result.code == "E_WRITE"
    assert "No space left on device. Free disk space" in result.message
    assert summary_of(out) == {"ct-mr": "failed"}
    assert_whole(out)
    grow = ["mount", "-o", "remount,size=200m", str(small_disk)]
    subprocess.run(grow, check=True)
    assert run_batch(study, out, SETTINGS).exit_code == 0
    assert summary_of(out) == {"ct-mr": "done"}
    assert_whole(out, "ct-mr")


def test_a_disk_too_full_for_the_ledger_stops_the_batch_and_loses_nothing(
    small_disk: Path, tmp_path: Path, runner: Any
) -> None:
    study, out = make_study(tmp_path / "in", "a", "b", "c"), small_disk / "out"
    filler = small_disk / "filler"

    def fill(event: dict[str, Any]) -> None:
        if (event["event"], event.get("case")) == ("case-end", "a"):
            with filler.open("wb", 0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(4096))
            with (out / "batch.jsonl").open("ab", 0) as ledger:  # the rest of its last page
                room = -(out / "batch.jsonl").stat().st_size % 4096
                ledger.write(b" " * (room - 20) + b"\n")

    with pytest.raises(OutputError, match=r"batch\.jsonl: No space left on device"):
        run_batch(study, out, SETTINGS, workers=1, runner=runner, on_event=fill)
    assert_whole(out, "a")
    filler.unlink()
    assert run_batch(study, out, SETTINGS, runner=runner).exit_code == 0
    assert summary_of(out) == {"a": "skipped", "b": "done", "c": "done"}
    assert_whole(out, "a", "b", "c")


def test_three_unwritable_results_in_a_row_stop_the_batch(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_manifest(tmp_path / "in", *(f"big-{n}" for n in range(5)))
    limit = (200_000, 200_000)  # bytes of a file; a big one has a million
    batch = start_batch(
        tmp_path / "in", out, before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    )
    assert batch.communicate(timeout=60)[1] == ""
    assert batch.returncode == 4
    ended = [e for e in read_ledger(out) if e["event"] == "case-end"]
    assert [event["code"] for event in ended] == ["E_WRITE"] * 3
    assert "big-0: File too large" in ended[0]["message"]
    assert list(summary_of(out).values()) == ["failed"] * 3 + ["not run"] * 2
    assert_whole(out)


def test_an_output_folder_that_is_removed_stops_the_batch_and_a_rerun_completes(
    tmp_path: Path, runner: Any
) -> None:
    out = tmp_path / "out"
    study = make_study(tmp_path / "in", "fine", "slow-1", "slow-2", seconds=1.0)
    remover = when(lambda: half_built(out) and is_complete(out / "fine"), lambda: away(out))
    with pytest.raises(OutputError, match=r"batch\.jsonl: it was removed .* while the batch ran"):
        run_batch(study, out, SETTINGS, workers=1, runner=runner)
    remover.join()
    assert not out.exists() or leftovers(out) == []
    assert run_batch(study, out, SETTINGS, runner=runner).count("done") == 3
    assert_whole(out, "fine", "slow-1", "slow-2")
    assert set(summary_of(out).values()) == {"done"}


def away(folder: Path) -> None:
    """Remove a folder in one step, as far as the batch can see."""
    shutil.rmtree(folder.rename(folder.with_name("gone")))


# Inputs -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_input_that_is_deleted_during_the_run_fails_its_case_alone(
    tmp_path: Path, sample_data: Path
) -> None:
    root, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(sample_data / "study/sts001-aligned", root)
    pet = root / "pet-suv-dicom"
    cases = (
        Case("first", root / "ct.nii.gz", pet, "test"),
        Case("second", root / "mr-t1.nii.gz", root / "ct.nii.gz", "test"),
    )

    def delete(event: dict[str, Any]) -> None:
        if (event["event"], event.get("case")) == ("case-start", "first"):
            (root / "mr-t1.nii.gz").unlink()

    study = Study(root, "manifest", cases)
    summary = run_batch(study, out, SETTINGS, workers=1, on_event=delete)
    second = by_case(summary)["second"]
    assert (summary.exit_code, second.code) == (8, "E_UNREADABLE")
    assert "mr-t1.nii.gz: No such file or directory" in second.message
    assert summary_of(out) == {"first": "done", "second": "failed"}
    assert_whole(out, "first")


def test_a_result_of_other_weights_is_not_taken_for_finished(
    tmp_path: Path, sample_data: Path
) -> None:
    source, weights = sample_data / "study/sts001-aligned", tmp_path / "own.safetensors"
    images = source / "mr-t1.nii.gz", source / "ct.nii.gz"
    shutil.copy(WEIGHTS / "both-ct.safetensors", weights)
    settings = CaseSettings(method=str(weights))
    job = Job("case", *images, tmp_path / "out/case", settings.model_dump())
    with ResultFolder(job.folder, key=case_key(*images, settings)):
        pass
    assert PipelineRunner().is_finished(job)
    tensors = load_file(weights)
    next(iter(tensors.values())).view(-1)[0] += 1
    with safe_open(weights, "pt") as file:
        save_file(tensors, weights, metadata=file.metadata())
    assert not PipelineRunner().is_finished(job)


# Two batches --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_second_batch_on_the_same_output_is_told_who_holds_it(
    tmp_path: Path, runner: Any
) -> None:
    out = tmp_path / "out"
    write_manifest(tmp_path / "in", "slow-1", seconds=3)
    first = start_batch(tmp_path / "in", out)
    wait_for(lambda: half_built(out), first)
    with pytest.raises(OutputError, match="E_LOCKED") as caught:
        run_batch(discover(tmp_path / "in"), out, SETTINGS, runner=runner)
    assert f"process {first.pid} on {socket.gethostname()}" in str(caught.value)
    assert first.communicate(timeout=60)[1] == ""
    assert first.returncode == 0
    assert summary_of(out) == {"slow-1": "done"}
    assert_whole(out, "slow-1")


def test_a_dead_lock_is_taken_over_and_a_foreign_one_only_when_it_is_old(tmp_path: Path) -> None:
    lock = tmp_path / LOCK_NAME
    lock.write_text(json.dumps({"pid": 1, "host": socket.gethostname(), "since": "2020"}))
    with BatchLock(tmp_path):
        assert json.loads(lock.read_text())["pid"] == os.getpid()
    lock.write_text(json.dumps({"pid": 1, "host": "elsewhere", "since": "2020"}))
    with pytest.raises(OutputError, match="process 1 on elsewhere since 2020"):
        BatchLock(tmp_path).__enter__()
    long_ago = time.time() - 3600
    os.utime(lock, (long_ago, long_ago))
    with BatchLock(tmp_path):
        assert json.loads(lock.read_text())["host"] == socket.gethostname()


@pytest.mark.parametrize("ahead_s", [-86400.0, 86400.0])
def test_a_machine_whose_clock_is_a_day_off_takes_nothing_that_another_one_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead_s: float
) -> None:
    lock, built = tmp_path / LOCK_NAME, tmp_path / f"{PREFIX}case-1.tmp"
    lock.write_text(json.dumps({"pid": 1, "host": "elsewhere", "since": "2020"}))
    built.mkdir()
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + ahead_s)
    with pytest.raises(OutputError, match="E_LOCKED"):
        BatchLock(tmp_path).__enter__()
    assert remove_stale(tmp_path) == []
    for path in (lock, built):
        os.utime(path, (now() - 7200, now() - 7200))
    with BatchLock(tmp_path):
        assert remove_stale(tmp_path) == [built.name]


# The ledger and the clock -------------------------------------------------------------------------


def test_a_ledger_cut_anywhere_costs_no_result_its_line_in_the_summary(
    tmp_path: Path, runner: Any
) -> None:
    study, out = make_study(tmp_path / "in", "a", "b", "refused", "d"), tmp_path / "out"
    run_batch(study, out, SETTINGS, runner=runner)
    ledger = out / "batch.jsonl"
    content = ledger.read_bytes()
    for size in range(0, len(content), 41):
        ledger.write_bytes(content[:size])
        write_summary(out)
        rows = {row["case"]: row for row in csv.DictReader((out / "summary.csv").open())}
        assert {"a", "b", "d"} <= rows.keys()
        assert all((rows[n]["status"], rows[n]["verdict"]) == ("done", "look") for n in "abd")
    ledger.write_bytes(content[: len(content) // 2])
    assert by_case(run_batch(study, out, SETTINGS, runner=runner))["refused"].status == "failed"
    expected = {"a": "skipped", "b": "skipped", "refused": "failed", "d": "skipped"}
    assert summary_of(out) == expected
    assert_whole(out, "a", "b", "d")


def test_a_line_that_a_power_cut_left_unfinished_harms_no_other(
    tmp_path: Path, runner: Any
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "batch.jsonl").write_text('{"event": "case-end", "case": "old"}\n{"event": "ca')
    run_batch(make_study(tmp_path / "in", "a"), out, SETTINGS, runner=runner)
    events = [event["event"] for event in read_ledger(out)]
    assert events == ["case-end", "batch-start", "case-start", "case-end", "batch-end"]


@pytest.mark.parametrize("years", [-30, 30])
def test_a_clock_that_was_wrong_changes_neither_what_is_done_nor_the_summary(
    tmp_path: Path, runner: Any, years: int
) -> None:
    study, out = make_study(tmp_path / "in", "a", "refused", "c"), tmp_path / "out"
    run_batch(study, out, SETTINGS, runner=runner)
    ledger, now = out / "batch.jsonl", time.gmtime().tm_year
    ledger.write_text(ledger.read_text().replace(f'"time": "{now}', f'"time": "{now + years}'))
    shutil.rmtree(out / "c")
    stale = out / f"{PREFIX}c-1.tmp"
    stale.mkdir()
    (stale / ".lock").touch()
    then = time.time() + years * 365 * 86400
    for path in (*out.rglob("*"), *study.root.iterdir()):
        os.utime(path, (then, then))
    study.cases[1].functional.rename(tmp_path / "in/fine-pet.txt")
    mended = Case("refused", study.cases[1].anatomical, tmp_path / "in/fine-pet.txt", "test")
    again = Study(study.root, "folders", (study.cases[0], mended, study.cases[2]))
    found = by_case(run_batch(again, out, SETTINGS, runner=runner))
    assert {name: result.status for name, result in found.items()} == summary_of(out)
    assert summary_of(out) == {"a": "skipped", "refused": "failed", "c": "done"}
    assert_whole(out, "a", "c")


def test_every_promise_of_the_guide_names_a_test_that_exists() -> None:
    tests = Path(__file__).parents[1]
    guide = (tests.parent / "docs/studies.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", guide))
    defined = set(re.findall(r"^def (test_\w+)", "".join(map(read, tests.rglob("*.py"))), re.M))
    assert len(named) > 20
    assert named - defined == set()


def read(path: Path) -> str:
    return path.read_text("utf-8")
