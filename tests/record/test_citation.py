"""The methods section says what the record holds, and what it does not."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from medfuse.cli.app import run
from medfuse.record.citation import bibliography, methods_section
from medfuse.record.provenance import SOFTWARE
from tests.record.test_provenance import _record

REGISTER = {
    "method": "rigid",
    "verdict": "look",
    "shift_mm": 12.34,
    "rotation_deg": 5.6,
    "seed": 3,
    "expected_error": {"places": [{"name": "the rim", "within_mm": 7.25}]},
}
FUSE = {"method": "descent-pet", "mode": "volume", "kernel": "paper", "levels": 4, "gamut": "fit"}
WINDOW = {"functional": {"low": 0.0, "high": 7.5, "unit": "SUVbw"}, "anatomical": None}


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    card = {"architecture": "descent", "parameters": 24816}
    guide = {"name": "descent-pet", "kind": "guide", "weights_sha256": "c" * 64, "card": card}
    steps = [
        {"name": "register", "parameters": {"seed": 3}, "result": REGISTER},
        {"name": "window", "parameters": WINDOW},
        {"name": "fuse", "parameters": FUSE},
    ]
    return _record(steps=steps, guide=guide, settings={"preset": "thorough"})


def test_the_parameters_of_this_result_are_in_the_paragraph(record: dict[str, Any]) -> None:
    text = methods_section(record)
    told = ("rigid", "12.3 mm", "5.6 degrees", "thorough", "random seed 3", "7.2 mm at the rim")
    told += ("0 to 7.5 SUVbw", "descent-pet", "24816 parameters", "paper filter", "as look")
    for words in (*told, "calculated from the DICOM header", "did not pass were: gamut"):
        assert words in text
    assert "{" not in text
    numbers = [int(line[1 : line.index("]")]) for line in text.splitlines() if line[:1] == "["]
    assert numbers == list(range(1, len(numbers) + 1))
    assert all(f"[{number}]" in text.split("References")[0] for number in numbers)


def test_what_is_not_recorded_is_named_and_not_made_up(record: dict[str, Any]) -> None:
    bare = copy.deepcopy(record)
    bare["steps"] = [{"name": "fuse", "parameters": {}, "result": {}}]
    bare["inputs"]["functional"]["suv"] = None
    text = methods_section(bare)
    for words in ("how the images were aligned", "how the images were fused", "injected dose"):
        assert words in text
    assert "Mattes" not in text
    assert "rigid" not in text


@pytest.mark.parametrize("place", ["result", "parameters"])
def test_records_of_other_versions_that_lack_a_fact_are_cited_all_the_same(record, place) -> None:
    for number, step in enumerate(record["steps"]):
        for key in step[place]:
            less = copy.deepcopy(record)
            del less["steps"][number][place][key]
            assert methods_section(less).startswith("A PET image")
            assert bibliography(less).startswith("@software{medfuse,")


def test_the_command_reads_a_result_and_refuses_what_is_none(record, tmp_path, capsys) -> None:
    (tmp_path / "provenance.json").write_text(json.dumps(record))
    assert run(["cite", str(tmp_path), "--format", "bibtex"]) == 0
    entries = capsys.readouterr().out
    assert entries.count("@") == entries.count("\n}\n")
    assert "10.1109/TMI.2003.809072" in entries
    odd = copy.deepcopy(record)
    odd["steps"][0]["result"] |= {"shift_mm": "far", "expected_error": [1]}
    for damaged in ("{}", "[]", "no json", json.dumps(record | {"inputs": {}}), json.dumps(odd)):
        (tmp_path / "provenance.json").write_text(damaged)
        assert run(["cite", str(tmp_path)]) == 8
        assert "E_NOT_A_RESULT" in capsys.readouterr().err


def test_software_of_the_record_is_named(record: dict[str, Any]) -> None:
    text = methods_section(record)
    assert all(record["software"][name] in text for name in SOFTWARE if name != "monai")
