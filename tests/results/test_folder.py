"""A result folder is whole or absent, whatever happens on the way."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medfuse.errors import OutputError
from medfuse.results import folder as module
from medfuse.results.folder import ResultFolder, is_complete, read_manifest, remove_stale


def _make(target: Path, content: str = "one", key: str = "k") -> None:
    with ResultFolder(target, key=key) as result:
        (result.path / "figures").mkdir()
        (result.path / "figures" / "a.png").write_text(content)
        (result.path / "audit.json").write_text("{}")


def test_whole_folder_appears_with_a_manifest_of_every_file(tmp_path: Path) -> None:
    _make(tmp_path / "out" / "case")
    manifest = read_manifest(tmp_path / "out" / "case")
    assert manifest is not None
    assert manifest["key"] == "k"
    assert manifest["case"] == "case"
    assert sorted(manifest["files"]) == ["audit.json", "figures/a.png"]
    assert manifest["files"]["audit.json"]["bytes"] == 2
    assert os.listdir(tmp_path / "out") == ["case"]
    assert is_complete(tmp_path / "out" / "case", "k", rehash=True)


def test_nothing_is_seen_before_the_end(tmp_path: Path) -> None:
    with ResultFolder(tmp_path / "case") as result:
        assert result.path.parent == tmp_path, "same file system, so that a rename is enough"
        assert result.path.name == f".medfuse-case-{os.getpid()}.tmp"
        assert not (tmp_path / "case").exists()


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(1)])
def test_any_exception_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    def fail() -> None:
        with ResultFolder(tmp_path / "case") as result:
            (result.path / "half.nii.gz").write_text("half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert os.listdir(tmp_path) == []


def test_failure_leaves_the_earlier_result(tmp_path: Path) -> None:
    _make(tmp_path / "case", "old")
    with pytest.raises(ValueError, match="no"), ResultFolder(tmp_path / "case"):
        raise ValueError("no")
    assert (tmp_path / "case/figures/a.png").read_text() == "old"
    assert is_complete(tmp_path / "case", "k", rehash=True)


def test_earlier_result_is_replaced_as_a_whole(tmp_path: Path) -> None:
    _make(tmp_path / "case", "old", "1")
    with ResultFolder(tmp_path / "case", key="2") as result:
        (result.path / "new.json").write_text("{}")
    assert sorted(os.listdir(tmp_path / "case")) == ["manifest.json", "new.json"]
    assert os.listdir(tmp_path) == ["case"]
    assert is_complete(tmp_path / "case", "2")
    assert not is_complete(tmp_path / "case", "1")


def test_foreign_files_are_never_deleted(tmp_path: Path) -> None:
    _make(tmp_path / "case")
    (tmp_path / "case" / "my-segmentation.nii.gz").write_text("hours of work")
    with (
        pytest.raises(OutputError, match=r"1 file\(s\).*my-segmentation.*\[E_WRITE\]"),
        ResultFolder(tmp_path / "case"),
    ):
        raise AssertionError("must not begin")
    assert (tmp_path / "case" / "my-segmentation.nii.gz").read_text() == "hours of work"


def test_foreign_file_that_comes_while_the_case_runs_is_kept(tmp_path: Path) -> None:
    _make(tmp_path / "case")
    with pytest.raises(OutputError, match="E_WRITE"), ResultFolder(tmp_path / "case"):
        (tmp_path / "case" / "note.txt").write_text("mine")
    assert (tmp_path / "case" / "note.txt").read_text() == "mine"
    assert os.listdir(tmp_path) == ["case"]


def test_file_in_the_way_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "case").write_text("a file")
    with (
        pytest.raises(OutputError, match=r"a file of this name is in the way"),
        ResultFolder(tmp_path / "case"),
    ):
        raise AssertionError("must not begin")
    assert (tmp_path / "case").read_text() == "a file"


def test_empty_folder_is_filled_and_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "case").symlink_to(tmp_path / "disk")
    _make(tmp_path / "case")
    assert is_complete(tmp_path / "disk", "k")
    assert (tmp_path / "case").is_symlink()


def test_parent_that_is_a_file_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with (
        pytest.raises(OutputError, match=r"Cannot write results.*\[E_WRITE\]"),
        ResultFolder(tmp_path / "out" / "case"),
    ):
        raise AssertionError("must not begin")


def test_full_disk_is_one_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(OutputError, match=r"No space left.*Free disk space.*\[E_WRITE\]"):
        _make(tmp_path / "case")
    assert os.listdir(tmp_path) == []


def test_damage_is_found(tmp_path: Path) -> None:
    target = tmp_path / "case"
    _make(target)
    picture = target / "figures" / "a.png"
    picture.write_text("two")
    assert is_complete(target), "same size: only hashing finds it"
    assert not is_complete(target, rehash=True)
    picture.unlink()
    assert not is_complete(target)


@pytest.mark.parametrize(
    "manifest", ["", "[]", "{}", '{"schema": "medfuse-manifest/1"}', '{"schema": "other"}']
)
def test_unreadable_manifest_is_not_a_result(tmp_path: Path, manifest: str) -> None:
    (tmp_path / "manifest.json").write_text(manifest)
    assert not is_complete(tmp_path)


def test_same_content_gives_the_same_manifest(tmp_path: Path) -> None:
    _make(tmp_path / "a" / "case")
    _make(tmp_path / "b" / "case")
    first, second = ((tmp_path / d / "case/manifest.json").read_bytes() for d in "ab")
    assert first == second


CHILD = """
import sys, time
from pathlib import Path
from medfuse.results.folder import ResultFolder
with ResultFolder(Path(sys.argv[1]), key="k") as result:
    (result.path / "half.nii.gz").write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""


def _start(target: Path) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(target)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def test_killed_run_leaves_no_complete_folder_and_is_cleared(tmp_path: Path) -> None:
    child = _start(tmp_path / "case")
    assert remove_stale(tmp_path) == [], "a living run keeps its folder"
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (tmp_path / "case").exists()
    left = list(tmp_path.iterdir())
    assert len(left) == 1
    assert not is_complete(left[0])
    assert remove_stale(tmp_path) == [left[0].name]
    assert os.listdir(tmp_path) == []


def test_interrupted_run_clears_up_itself(tmp_path: Path) -> None:
    child = _start(tmp_path / "case")
    child.send_signal(signal.SIGINT)
    child.wait()
    assert os.listdir(tmp_path) == []


def test_result_set_aside_returns_when_its_replacement_never_came(tmp_path: Path) -> None:
    _make(tmp_path / "sub-01")
    old = tmp_path / ".medfuse-sub-01-123.old"
    (tmp_path / "sub-01").rename(old)
    an_hour_ago = time.time() - 3600
    os.utime(old, (an_hour_ago, an_hour_ago))
    assert remove_stale(tmp_path) == [old.name]
    assert os.listdir(tmp_path) == ["sub-01"]
    assert is_complete(tmp_path / "sub-01", "k", rehash=True)


def test_clearing_leaves_everything_else(tmp_path: Path) -> None:
    _make(tmp_path / "case")
    (tmp_path / ".medfuse-notes").mkdir()
    (tmp_path / "batch.jsonl").write_text(json.dumps({"case": "case"}))
    before = sorted(os.listdir(tmp_path))
    assert remove_stale(tmp_path) == []
    assert sorted(os.listdir(tmp_path)) == before
