"""Reading says how far it is, to whoever listens, and to nobody else."""

from __future__ import annotations

from pathlib import Path

import pytest

from medfuse.imaging import progress
from medfuse.imaging.reader import describe, read_volume
from tests._helpers import make


@pytest.fixture(autouse=True)
def _every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_PER_SECOND", float("inf"))


def test_reading_a_series_reports_headers_and_pixels(tmp_path: Path) -> None:
    make.write_series(tmp_path)
    told: list[tuple[float, str]] = []
    with progress.listening(lambda fraction, text: told.append((fraction, text))):
        read_volume(tmp_path)
    assert (1.0, "headers 6 of 6") in told
    assert (1.0, "reading 6 of 6") in told
    assert all(0 < fraction <= 1 for fraction, _ in told)
    told.clear()
    describe(tmp_path)
    assert not told


def test_reports_are_no_more_than_eyes_can_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_PER_SECOND", 1e-6)
    told: list[str] = []
    with progress.listening(lambda _, text: told.append(text)):
        assert list(progress.steps(range(1000), "reading")) == list(range(1000))
    assert told == []
