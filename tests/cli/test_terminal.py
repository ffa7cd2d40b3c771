"""What a batch says once, however many cases it holds for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from medfuse.cli import terminal
from medfuse.imaging.pet.header import NO_UNIT_STATED
from medfuse.settings import CaseResult


def test_pet_without_unit_is_noted_once_in_a_batch(capsys: pytest.CaptureFixture[str]) -> None:
    notes = (NO_UNIT_STATED, "something of this case alone")
    results = [CaseResult(f"case{n}", "done", notes=notes) for n in range(3)]
    for result in results:
        terminal.show_event({"status": "done", "case": result.case, "notes": list(notes)})
    summary = SimpleNamespace(
        results=results, notes=(), seconds=1.0, out="out", count=lambda status: 0
    )
    terminal.show_summary(summary)
    printed = "".join(capsys.readouterr())
    assert printed.count("the file states no unit") == 1
    assert "3 case(s)" in printed
    assert "--functional-unit" in printed
    assert printed.count("something of this case alone") == 3
