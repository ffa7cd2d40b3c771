"""Isolation, resume, ledger, lock, signals and exit codes of a batch."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from medfuse.batch import Job, PipelineRunner, Shard, read_ledger, run_batch
from medfuse.errors import OutputError, UsageError
from medfuse.kernel.cores import usable_cores
from medfuse.results.folder import is_complete
from medfuse.settings import CaseResult, CaseSettings
from medfuse.study import Study, discover
from tests._helpers.batch_study import (
    by_case,
    half_built,
    leftovers,
    make_study,
    small_work,
    start_batch,
    wait_for,
    write_manifest,
)

HERE = Path(__file__).resolve().parent
SETTINGS = CaseSettings(method="mean")


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Any:
    return small_work(monkeypatch)


def test_one_case_that_crashes_or_raises_ends_alone(tmp_path: Path, runner: Any) -> None:
    names = ("exits", "killed", "bug", "refused", "fine")
    study, out, events = make_study(tmp_path / "in", *names), tmp_path / "out", []
    summary = run_batch(study, out, SETTINGS, workers=3, runner=runner, on_event=events.append)
    found = by_case(summary)
    assert summary.exit_code == 8
    assert {name: found[name].code for name in names} == {
        "exits": "E_CRASHED",
        "killed": "E_KILLED",
        "bug": "E_INTERNAL",
        "refused": "E_EMPTY_FILE",
        "fine": None,
    }
    assert found["fine"].status == "done"
    assert found["fine"].verdict == "look"
    assert is_complete(out / "fine")
    assert "refused-pet.txt" in found["refused"].message
    assert "ValueError: cannot do bug-pet.txt" in found["bug"].message
    assert not any((out / name).exists() for name in names if name != "fine")
    assert leftovers(out) == []
    assert {"event": "progress", "case": "fine", "fraction": 0.5, "text": "half"} in events
    check_files(out, events, tmp_path)


def check_files(out: Path, events: list[dict[str, Any]], tmp_path: Path) -> None:
    logs = {p.name: p.read_text() for p in (out / "logs").iterdir()}
    assert "fine.log" not in logs
    assert "library noise from batch_runners.py" in logs["exits.log"]
    assert "Traceback" in logs["bug.log"]
    ledger = read_ledger(out)
    assert [e["event"] for e in (ledger[0], ledger[-1])] == ["batch-start", "batch-end"]
    ends = {e["case"]: e["code"] for e in ledger if e["event"] == "case-end"}
    assert ends == {e["case"]: e["code"] for e in events if e["event"] == "case-end"}
    rows = {row["case"]: row for row in csv.DictReader((out / "summary.csv").open())}
    assert rows["killed"]["code"] == "E_KILLED"
    assert rows["fine"]["notes"] == "'=SUM(1) | a note"
    written = [p.read_text() for p in out.rglob("*") if p.is_file()]
    assert not any(str(place) in text for text in written for place in (tmp_path, HERE))


def test_a_case_that_hangs_and_is_deaf_ends_after_its_time(tmp_path: Path, runner: Any) -> None:
    study, out = make_study(tmp_path / "in", "hangs", "fine"), tmp_path / "out"
    summary = run_batch(study, out, SETTINGS, timeout_s=8, runner=runner)
    hung, fine = (by_case(summary)[name] for name in ("hangs", "fine"))
    assert hung.code == "E_TIMEOUT"
    assert "it took longer than 8 s" in hung.message
    assert hung.seconds >= 8
    assert fine.status == "done"
    assert leftovers(out) == []


def test_a_second_run_skips_finished_cases_until_inputs_or_settings_change(
    tmp_path: Path, runner: Any
) -> None:
    study, out = make_study(tmp_path / "in", "a", "b"), tmp_path / "out"
    options = {"runner": runner, "workers": 2}
    assert run_batch(study, out, SETTINGS, **options).count("done") == 2
    again = run_batch(study, out, SETTINGS, **options)
    assert (again.count("skipped"), again.exit_code) == (2, 0)
    assert again.results[0].verdict == "look"
    study.cases[0].functional.write_text("changed")
    third = by_case(run_batch(study, out, SETTINGS, **options))
    assert (third["a"].status, third["b"].status) == ("done", "skipped")
    assert (out / "a/copy.txt").read_text() == "changed"
    (out / "b/copy.txt").write_text("cut")
    other = Study(study.root, "folders", study.cases[1:])
    assert run_batch(other, out, SETTINGS, **options).count("done") == 1
    changed = CaseSettings(method="max")
    assert run_batch(other, out, changed, **options).count("done") == 1
    assert run_batch(other, out, changed, force=True, **options).count("done") == 1
    assert len([e for e in read_ledger(out) if e["event"] == "batch-start"]) == 6


@pytest.mark.parametrize(
    ("told", "threads"), [("1", "1"), ("4,2", "4"), ("many", "None"), ("0", "None")]
)
def test_threads_that_the_user_asks_for_reach_every_case(
    told: str, threads: str, tmp_path: Path, runner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    run_batch(make_study(tmp_path / "in", "a"), tmp_path / "out", SETTINGS, runner=runner)
    assert (tmp_path / "out/a/threads.txt").read_text() == threads


@pytest.mark.parametrize(("asked", "threads"), [(1, 1), (None, min(2, usable_cores()))])
def test_a_case_computes_with_the_threads_it_was_given(
    asked: int | None, threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, seen = torch.get_num_threads(), []

    def run_case(*_: Any, **__: Any) -> CaseResult:
        seen.append(torch.get_num_threads())
        return CaseResult("a", "done")

    monkeypatch.setattr("medfuse.case.pipeline.run_case", run_case)
    try:
        job = Job("a", tmp_path, tmp_path, tmp_path, {}, threads=asked)
        PipelineRunner().run(job, lambda *_: None)
    finally:
        torch.set_num_threads(before)
    assert seen == [threads]


def test_overrides_of_a_case_go_before_the_settings_of_the_batch(
    tmp_path: Path, runner: Any
) -> None:
    study, out = make_study(tmp_path / "in", "a"), tmp_path / "out"
    own = replace(study.cases[0], overrides={"registration": "identity"})
    run_batch(Study(study.root, "manifest", (own,)), out, SETTINGS, runner=runner)
    used = json.loads((out / "a/settings.json").read_text())
    assert (used["registration"], used["method"]) == ("identity", "mean")


def test_a_study_without_a_case_is_exit_code_3_and_writes_nothing(tmp_path: Path) -> None:
    summary = run_batch(Study(tmp_path, "folders", ()), tmp_path / "out", SETTINGS)
    assert summary.exit_code == 3
    assert not (tmp_path / "out").exists()


def test_a_case_that_the_manifest_names_but_nobody_can_read_counts_as_failed(
    tmp_path: Path, runner: Any
) -> None:
    write_manifest(tmp_path / "in", "good")
    with (tmp_path / "in/cases.csv").open("a") as file:
        file.write("\n../../evil,x,y\nlost,nowhere.nii,good-pet.txt")
    out = tmp_path / "out"
    summary = run_batch(discover(tmp_path / "in"), out, SETTINGS, runner=runner)
    codes = {name: result.code for name, result in by_case(summary).items()}
    assert codes == {"evil-2b06f2": "E_UNSAFE_PATH", "lost": "E_UNREADABLE", "good": None}
    assert summary.exit_code == 8
    assert {p.name for p in tmp_path.iterdir()} == {"in", "out", "out.uid-salt"}


@pytest.mark.parametrize("place", ["in", "in/results", "in/sub-01/out"])
def test_an_output_among_the_inputs_is_refused(tmp_path: Path, place: str, runner: Any) -> None:
    study = make_study(tmp_path / "in", "a")
    with pytest.raises(UsageError, match="E_OUTPUT_IN_INPUT"):
        run_batch(study, tmp_path / place, SETTINGS, runner=runner)
    assert sorted(p.name for p in (tmp_path / "in").iterdir()) == ["a-mr.txt", "a-pet.txt"]


def test_derivatives_inside_the_study_are_a_good_place(tmp_path: Path, runner: Any) -> None:
    study = make_study(tmp_path / "in", "a")
    out = tmp_path / "in/derivatives/medfuse"
    assert run_batch(study, out, SETTINGS, runner=runner).exit_code == 0
    assert discover(tmp_path / "in").cases == ()


def test_a_result_that_would_replace_its_input_is_refused(tmp_path: Path, runner: Any) -> None:
    study = make_study(tmp_path / "a", "a")
    with pytest.raises(UsageError, match="would replace its input"):
        run_batch(study, tmp_path, SETTINGS, runner=runner)


def test_an_output_that_cannot_be_written_is_refused(tmp_path: Path, runner: Any) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="E_WRITE"):
        run_batch(make_study(tmp_path / "in", "a"), tmp_path / "out", SETTINGS, runner=runner)


@pytest.mark.slow
def test_ctrl_c_drops_the_running_case_and_leaves_nothing_half_built(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_manifest(tmp_path / "in", "quick", "slow-1", "slow-2", seconds=300)
    batch = start_batch(tmp_path / "in", out)
    wait_for(lambda: half_built(out) and is_complete(out / "quick"), batch)
    os.killpg(batch.pid, signal.SIGINT)  # as a terminal does, to the children too
    stdout, stderr = batch.communicate(timeout=60)
    assert batch.returncode == 130
    assert stderr == ""
    assert leftovers(out) == []
    assert read_ledger(out)[-1]["not_run"] == ["slow-1", "slow-2"]
    assert "case-end quick" in stdout


@pytest.mark.slow
def test_the_pipeline_runs_in_case_processes_and_is_resumed(
    tmp_path: Path, sample_data: Path
) -> None:
    source = sample_data / "study/sts001-aligned"
    root, out = tmp_path / "in", tmp_path / "out"
    root.mkdir()
    (root / "empty.nii.gz").touch()
    (root / "cases.csv").write_text(
        "case,anatomical,functional,method,registration\n"
        f"empty,{source / 'mr-t1.nii.gz'},empty.nii.gz,mean,identity\n"
        f"aligned,{source / 'mr-t1.nii.gz'},{source / 'pet-suv-dicom'},mean,identity\n"
    )
    first = by_case(run_batch(discover(root), out, SETTINGS))
    assert first["empty"].code == "E_EMPTY_FILE"
    assert (first["aligned"].status, first["aligned"].message) == ("done", None)
    assert is_complete(out / "aligned", rehash=True)
    record = json.loads((out / "aligned/provenance.json").read_text())
    assert record["inputs"]["functional"]["unit"] == "SUVbw"
    second = run_batch(discover(root), out, SETTINGS)
    assert by_case(second)["aligned"].status == "skipped"
    assert by_case(second)["aligned"].verdict == first["aligned"].verdict
    assert second.exit_code == 8
    assert "aligned" in (out / "study.html").read_text()
    assert discover(out).cases == ()
    short = run_batch(discover(root), tmp_path / "short", SETTINGS, max_memory_gb=0.5)
    assert by_case(short)["aligned"].code == "E_TOO_LARGE"


def test_shards_do_every_case_once_and_the_last_one_writes_the_whole_summary(
    tmp_path: Path, runner: Any
) -> None:
    study, out = make_study(tmp_path / "in", "a", "b", "c", "refused", "e"), tmp_path / "out"
    parts = [
        run_batch(study, out, SETTINGS, shard=Shard.parse(f"{n}/2"), runner=runner) for n in (1, 2)
    ]
    assert [sorted(by_case(part)) for part in parts] == [["a", "c", "e"], ["b", "refused"]]
    rows = {row["case"]: row["status"] for row in csv.DictReader((out / "summary.csv").open())}
    assert rows == {"a": "done", "b": "done", "c": "done", "e": "done", "refused": "failed"}
    assert sorted(p.name for p in out.glob("batch*")) == [
        "batch.1-of-2.jsonl",
        "batch.2-of-2.jsonl",
    ]
    whole = tmp_path / "whole"
    run_batch(study, whole, SETTINGS, runner=runner)
    assert results_of(out) == results_of(whole)
    assert len(results_of(out)) == 4 * 5


def results_of(out: Path) -> dict[str, bytes]:
    """Every file of every result."""
    files = [path for path in sorted(out.glob("*/*")) if path.parent.name != "logs"]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2"])
def test_a_shard_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="Cannot read --shard"):
        Shard.parse(text)


def test_the_process_that_starts_cases_needs_none_of_the_slow_libraries() -> None:
    code = """
import sys
import medfuse.batch, medfuse.cli.app, medfuse.settings, medfuse.study
print(sorted({"torch", "monai", "SimpleITK", "matplotlib"} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_results_are_the_same_bytes_whatever_the_number_of_workers(
    tmp_path: Path, sample_data: Path
) -> None:
    source = sample_data / "study/sts001-aligned"
    root = tmp_path / "in"
    root.mkdir()
    rows = [
        f"{name},{source / anatomical},{source / functional},identity"
        for name, anatomical, functional in (
            ("ct-mr", "mr-t1.nii.gz", "ct.nii.gz"),
            ("pet-ct", "ct.nii.gz", "pet-suv-dicom"),
        )
    ]
    (root / "cases.csv").write_text("\n".join(["case,anatomical,functional,registration", *rows]))
    for workers in (1, 2):
        out = tmp_path / f"out-{workers}"
        assert run_batch(discover(root), out, CaseSettings(), workers=workers).exit_code == 0
    for path in sorted((tmp_path / "out-1").rglob("*.nii.gz")):
        other = tmp_path / "out-2" / path.relative_to(tmp_path / "out-1")
        assert path.read_bytes() == other.read_bytes(), path.name
