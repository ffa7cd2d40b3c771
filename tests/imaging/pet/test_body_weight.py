"""Body weight from participants.tsv and sessions.tsv, in the unit that they state."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medfuse.imaging.pet.body_weight import Weight, find_weight, table_files


def _look(
    root: Path,
    participants: str | bytes | None = None,
    sessions: str | None = None,
    described: dict[str, object] | None = None,
    *,
    session: str = "ses-b",
) -> Weight:
    folder = root / "sub-01" / session / "pet"
    folder.mkdir(parents=True)
    if isinstance(participants, bytes):
        (root / "participants.tsv").write_bytes(participants)
    elif participants is not None:
        (root / "participants.tsv").write_text(participants, encoding="utf-8")
    if sessions is not None:
        (root / "sub-01/sub-01_sessions.tsv").write_text(sessions)
    if described is not None:
        where = "participants.json" if sessions is None else "sub-01/sub-01_sessions.json"
        (root / where).write_text(json.dumps(described))
    name = "_".join(["sub-01", *([session] if session else []), "pet.nii.gz"])
    return find_weight(folder / name)


def _table(weight: str, column: str = "weight") -> str:
    return f"participant_id\tage\t{column}\nsub-02\t4\t9\nsub-01\t50\t{weight}\n"


@pytest.mark.parametrize(
    ("column", "value", "described", "kg"),
    [
        ("weight", "70", {}, 70.0),
        ("weight", "70.5", {"weight": {"Units": "kg"}}, 70.5),
        ("weight", "70,5", {"weight": {"Units": "kilograms"}}, 70.5),
        ("weight", "70 kg", {}, 70.0),
        ("weight", "154.3", {"weight": {"Units": "lb"}}, 69.99),
        ("weight", "154.3", {"weight": {"Description": "body weight in pounds"}}, 69.99),
        ("weight", "70000", {"weight": {"Units": "g"}}, 70.0),
        ("weight", "70000", {"weight": {"LongName": "Weight (g)"}}, 70.0),
        ("weight_kg", "70", {}, 70.0),
        ("Weight (lbs)", "154.3", {}, 69.99),
        ("body_weight", "70", {"body_weight": {"Units": "kg"}}, 70.0),
        ("weight", "70", {"weight": {"Units": "kg", "Description": "was asked in kg"}}, 70.0),
    ],
)
def test_the_weight_is_read_in_the_unit_of_its_column(
    tmp_path: Path, column: str, value: str, described: dict[str, object], kg: float
) -> None:
    weight = _look(tmp_path, _table(value, column), described=described)
    assert weight.problem is None
    assert weight.kg == pytest.approx(kg, rel=1e-4)


@pytest.mark.parametrize(
    ("column", "value", "described", "words"),
    [
        ("weight", "70", {"weight": {"Units": "stone-ish"}}, "unit that is not known"),
        ("weight", "70", {"weight": {"Units": "kg", "Description": "in pounds"}}, "disagree"),
        ("weight_kg", "70 lb", {}, "disagree"),
        ("weight", "70", {"weight": {"Description": "kg or lb"}}, "disagree"),
        ("weight", "70,500", {}, "no number"),
        ("weight", "about 70", {}, "no number"),
        ("weight", "70\nsub-01\t50\t90", {}, "given twice"),
        ("weight\tweight_kg", "70\t90", {}, "given twice"),
    ],
)
def test_a_weight_with_two_readings_is_a_problem(
    tmp_path: Path, column: str, value: str, described: dict[str, object], words: str
) -> None:
    weight = _look(tmp_path, _table(value, column), described=described)
    assert weight.kg is None
    assert words in (weight.problem or "")


def test_a_column_beside_it_may_hold_the_unit(tmp_path: Path) -> None:
    table = "participant_id\tweight\tweight_units\nsub-01\t154.3\tlb\n"
    assert _look(tmp_path, table).kg == pytest.approx(69.99, rel=1e-4)


def test_kilograms_are_assumed_loudly(tmp_path: Path) -> None:
    assert "kg is assumed" in " ".join(_look(tmp_path, _table("70")).remarks)


@pytest.mark.parametrize("value", ["n/a", "N/A", "", "nan"])
def test_no_value_is_no_weight(tmp_path: Path, value: str) -> None:
    assert _look(tmp_path, _table(value)) == Weight()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("participant_id,weight\nsub-01,70\n", "no column participant_id"),
        ("participant_id\tweight\nsub-01\t70\u00e9".encode("latin-1"), "no tab-separated UTF-8"),
        ("participant_id\tweight\nsub-01\t70\n".encode("utf-16"), "no tab-separated UTF-8"),
        ("", "no column participant_id"),
    ],
)
def test_a_table_that_is_none_says_so(tmp_path: Path, content: str | bytes, words: str) -> None:
    assert words in (_look(tmp_path, content).problem or "")


@pytest.mark.parametrize(
    "content",
    [b"\xef\xbb\xbfparticipant_id\tweight\r\nsub-01\t70\r\n", b"participant_id\tweight\n01\t70\n"],
)
def test_byte_order_marks_line_ends_and_bare_labels_are_read(
    tmp_path: Path, content: bytes
) -> None:
    assert _look(tmp_path, content).kg == 70.0


SESSIONS = "session_id\tweight\nses-a\t95\nses-b\t{}\n"


def test_the_weight_of_the_session_goes_before_that_of_the_subject(tmp_path: Path) -> None:
    weight = _look(tmp_path, _table("95"), SESSIONS.format("70"))
    assert (weight.kg, weight.source) == (70.0, "weight of sessions.tsv")


def test_another_visit_never_stands_in_for_a_missing_weight(tmp_path: Path) -> None:
    assert _look(tmp_path, _table("95"), SESSIONS.format("n/a")).kg is None


def test_a_session_table_without_weights_leaves_the_one_of_the_subject(tmp_path: Path) -> None:
    weight = _look(tmp_path, _table("70"), "session_id\tacq_time\nses-b\tn/a\n")
    assert (weight.kg, weight.source) == (70.0, "weight of participants.tsv")


def test_a_scan_without_session_asks_the_subject(tmp_path: Path) -> None:
    assert _look(tmp_path, _table("70"), SESSIONS.format("60"), session="").kg == 70.0


def test_units_of_sessions_are_those_of_their_own_file(tmp_path: Path) -> None:
    described = {"weight": {"Units": "lb"}}
    weight = _look(tmp_path, _table("95"), SESSIONS.format("154.3"), described)
    assert weight.kg == pytest.approx(69.99, rel=1e-4)
    found = [p.name for p in table_files(tmp_path / "sub-01/ses-b/pet/sub-01_ses-b_pet.nii.gz")]
    assert found == ["sub-01_sessions.tsv", "sub-01_sessions.json", "participants.tsv"]


def test_a_file_of_no_subject_has_no_weight(tmp_path: Path) -> None:
    (tmp_path / "participants.tsv").write_text(_table("70"))
    assert find_weight(tmp_path / "pet.nii.gz") == Weight()
    assert find_weight(tmp_path / "sub-01_pet.nii.gz").kg == 70.0  # no folder of the subject


@pytest.mark.parametrize("content", ["{", "[]"])
def test_units_that_cannot_be_read_are_not_assumed(tmp_path: Path, content: str) -> None:
    (tmp_path / "participants.json").write_text(content)
    weight = _look(tmp_path, _table("154"))
    assert weight.kg is None
    assert "the JSON file of participants.tsv cannot be read" in (weight.problem or "")


def test_a_session_table_that_is_not_there_yet_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "sub-01").mkdir()
    (tmp_path / "sub-01/sub-01_sessions.tsv").symlink_to("../.git/annex/objects/x")
    weight = _look(tmp_path, _table("95"))
    assert weight.kg is None
    assert "sessions.tsv is a link to nowhere" in (weight.problem or "")
