"""A study that grows while it is watched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medfuse.batch import BatchSummary, run_batch
from medfuse.batch.watch import watch
from medfuse.errors import MedfuseError
from medfuse.results.folder import is_complete
from medfuse.settings import CaseSettings
from medfuse.study import Case, Study, discover
from tests._helpers.batch_study import small_work, write_manifest


class Growing:
    """A study folder, what happens to it between looks, and what is done about it."""

    def __init__(self, root: Path, *events: Any) -> None:
        self.root, self.events, self.runs = root, list(events), []

    def find(self) -> Study:
        names = sorted(p.name for p in self.root.iterdir())
        cases = tuple(Case(n, self.root / n, self.root / n, "test") for n in names)
        return Study(self.root, "folders", cases)

    def run(self, study: Study) -> BatchSummary:
        self.runs.append([case.name for case in study.cases])
        code = 8 if "bad" in self.runs[-1] else 0
        return BatchSummary(self.root, (), code)

    def wait(self, seconds: float) -> None:
        if not self.events:
            raise KeyboardInterrupt
        self.events.pop(0)()

    def watch(self) -> int:
        return watch(self.find, self.run, every_s=5, wait=self.wait)


def nothing() -> None:
    """Nobody touches the study between two looks."""


def write(path: Path, text: str) -> Any:
    def event() -> None:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    return event


def test_a_case_is_done_once_when_it_has_come_to_rest(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("there from the start")
    growing = Growing(
        tmp_path,
        write(second / "1.dcm", "a slice"),
        write(second / "2.dcm", "another slice"),
        nothing,
        nothing,
    )
    assert growing.watch() == 0
    assert growing.runs == [["first"], ["second"]]


def test_a_case_that_changes_later_is_done_again(tmp_path: Path) -> None:
    write(tmp_path / "a", "old")()
    growing = Growing(tmp_path, nothing, write(tmp_path / "a", "newer"), nothing, nothing)
    assert growing.watch() == 0
    assert growing.runs == [["a"], ["a"]]


def test_the_exit_code_tells_of_a_failure_on_the_way(tmp_path: Path) -> None:
    write(tmp_path / "bad", "x")()
    growing = Growing(tmp_path, nothing, write(tmp_path / "good", "y"), nothing, nothing)
    assert growing.watch() == 8
    assert growing.runs == [["bad"], ["good"]]


def test_a_table_that_is_edited_and_images_that_vanish_stop_no_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out, runner = tmp_path / "in", tmp_path / "out", small_work(monkeypatch)
    write_manifest(root, "a", "b")
    table, told, runs = root / "cases.csv", list[MedfuseError](), list[dict[str, str]]()

    def run(study: Study) -> BatchSummary:
        summary = run_batch(study, out, CaseSettings(method="mean"), workers=1, runner=runner)
        runs.append({result.case: result.status for result in summary.results})
        return summary

    def more_rows() -> None:
        write_manifest(root, "a", "b", "c")
        (root / "b-pet.txt").unlink()  # and is copied again

    def another_setting() -> None:
        lines = table.read_text().splitlines()
        table.write_text("\n".join([f"{lines[0]},bias", f"{lines[1]},0.5", *lines[2:]]))

    events = [
        nothing,  # a and b are done
        lambda: table.write_text("case,anat"),  # half saved
        more_rows,
        lambda: write_manifest(root, "b"),  # a and c are away for a moment
        lambda: write_manifest(root, "a", "b", "c"),
        nothing,
        another_setting,
        nothing,
    ]

    def wait(seconds: float) -> None:
        if not events:
            raise KeyboardInterrupt
        events.pop(0)()

    code = watch(lambda: discover(root), run, every_s=5, wait=wait, tell=told.append)
    assert [error.code for error in told] == ["E_MANIFEST"]
    assert runs[0] == {"a": "done", "b": "done"}
    assert runs[-1] == {"a": "done"}, "its settings changed"
    assert {name for some in runs for name in some} == {"a", "b", "c"}
    assert all(is_complete(out / name, rehash=True) for name in "abc")
    assert code in (0, 8)
