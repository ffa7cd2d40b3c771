"""A study of small text files, for tests of what a batch does with its cases."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medfuse.batch import BatchSummary
from medfuse.batch.lock import LOCK_NAME
from medfuse.results.folder import PREFIX
from medfuse.settings import CaseResult
from medfuse.study import Case, Study

HERE = Path(__file__).resolve().parent


def small_work(patch: pytest.MonkeyPatch) -> Any:
    """Small real work; its module must be importable in all processes."""
    paths = [str(HERE), os.environ.get("PYTHONPATH", "")]
    patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    patch.syspath_prepend(HERE)
    return importlib.import_module("batch_runners").SmallWork()


def make_study(root: Path, *names: str, seconds: float = 0.0) -> Study:
    root.mkdir(exist_ok=True)
    cases = []
    for name in names:
        anatomical, functional = root / f"{name}-mr.txt", root / f"{name}-pet.txt"
        anatomical.write_text(str(seconds))
        functional.write_text(f"uptake of {name}")
        cases.append(Case(name, anatomical, functional, "test"))
    return Study(root, "folders", tuple(cases))


def write_manifest(root: Path, *names: str, seconds: float = 0.0) -> None:
    study = make_study(root, *names, seconds=seconds)
    lines = [f"{c.name},{c.anatomical.name},{c.functional.name}" for c in study.cases]
    (root / "cases.csv").write_text("\n".join(["case,anatomical,functional", *lines]))


def by_case(summary: BatchSummary) -> dict[str, CaseResult]:
    return {result.case: result for result in summary.results}


def leftovers(out: Path) -> list[str]:
    return [p.name for p in out.iterdir() if p.name.startswith(PREFIX) or p.name == LOCK_NAME]


def half_built(out: Path) -> list[Path]:
    return list(out.glob(f"{PREFIX}*.tmp/copy.txt"))


def start_batch(study: Path, out: Path, *, before: Any = None) -> subprocess.Popen[str]:
    command = [sys.executable, str(HERE / "batch_main.py"), str(study), str(out)]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, start_new_session=True, preexec_fn=before
    )


def wait_for(condition: Any, batch: subprocess.Popen[str], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        ended = batch.poll() not in (None, -signal.SIGKILL)
        assert not ended, f"the batch ended early: {batch.communicate()}"
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def when(condition: Callable[[], Any], act: Callable[[], Any]) -> threading.Thread:
    """Do something as soon as a condition holds, while the batch runs."""

    def wait() -> None:
        deadline = time.monotonic() + 120
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.05)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread
