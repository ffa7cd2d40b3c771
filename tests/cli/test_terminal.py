"""What a batch says once, however many cases it holds for."""

from __future__ import annotations

import re
from pathlib import Path
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


def test_every_stage_of_a_case_has_words_for_the_user() -> None:
    rooms = Path(terminal.__file__).resolve().parents[1]
    files = [p for room in ("case", "fusion", "registration") for p in (rooms / room).glob("*.py")]
    code = "".join(path.read_text(encoding="utf-8") for path in files)
    told = re.findall(r'(?:notify\(|stage\()[^"\n]*"([^"]+)"', code)
    assert len(told) > 15
    assert set(told) <= set(terminal.STAGES)
    assert all(len(words.split()) >= 2 or words == "finished" for words in terminal.STAGES.values())


def test_a_stage_is_a_line_where_no_terminal_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "mode", terminal.Mode(verbose=True))
    with terminal.progress_bar("medfuse fuse") as progress:
        for fraction, text in ((0.0, "loading"), (0.1, "loading"), (0.2, "guide"), (0.3, "own")):
            progress(fraction, text)
    lines = capsys.readouterr().err.splitlines()
    assert [re.sub(r"^.*? s  ", "", line) for line in lines] == [
        terminal.STAGES["loading"], terminal.STAGES["guide"], "own",
    ]  # fmt: skip
