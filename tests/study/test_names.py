"""Names of cases: each tells its person, and no other subject of the study changes it."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfuse.study import discover
from medfuse.study.names import MAX_BYTES, MAX_NAME, TAKEN, case_name
from tests._helpers.tiny_nifti import nifti


@given(
    st.lists(st.text(max_size=120), max_size=8, unique_by=lambda t: unicodedata.normalize("NFC", t))
)
def test_names_are_fit_for_folders_and_texts_that_differ_never_share_one(texts: list[str]) -> None:
    names = [case_name(text) for text in texts if "/" not in text]
    assert len(set(names)) == len(names)
    for name in names:
        assert not re.search(r'[\s<>:"/\\|?*\0-\x1f]', name)
        assert not name.startswith((".", "-"))
        assert not name.endswith((".", " "))
        assert len(name) <= MAX_NAME + 10
        assert len(name.encode()) <= MAX_BYTES + 10
        assert name.lower() not in TAKEN


@pytest.mark.parametrize(
    "text",
    ["sub-01", "李四", "Müller", "Пётр_2", "דוד", "हिन्दी", "山田.太郎", "STS_001", "site1/s2"],
)
def test_letters_of_every_script_stay(text: str) -> None:
    assert case_name(text) == unicodedata.normalize("NFC", text).replace("/", "_")
    assert case_name(unicodedata.normalize("NFD", text)) == case_name(text)


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("CON", "case_CON"),
        ("nul.txt", "case_nul.txt"),
        ("logs", "case_logs"),
        ("Summary.csv", "case_Summary.csv"),
        ("../../x", "x"),
        ("\u202eabc", "abc"),
        ("Anna Müller", "Anna_Müller"),
        ("M\udcfcller", "M_ller"),
        ("(?)", "case"),
        ("日" * 200, "日" * 30),
        ("x" * 300, "x" * MAX_NAME),
    ],
)
def test_where_something_is_lost_a_hash_of_the_text_follows(text: str, start: str) -> None:
    assert re.fullmatch(re.escape(start) + r".*-[0-9a-f]{6}", case_name(text))
    assert case_name(text) == case_name(text)
    assert case_name(text) != case_name(text + "'")


SUBJECTS = (
    *("李四", "丁一", "Müller", "Mu\u0308ller", "M ller", "M_ller", "Anna", "anna", "p1", "P 1"),
    *(
        "a",
        "a_b",
        "a-b",
        "日" * 60,
        "日" * 60 + "本",
        "con",
        "sub.1",
        "sub.1.",
        "case",
        "(?)",
        "(!)",
    ),
)


def test_a_subject_more_or_less_changes_no_name(tmp_path: Path) -> None:
    """But for those that differ in upper and lower case alone, where both are told apart."""
    for name in SUBJECTS:
        for image in ("t1", "pet"):
            nifti(tmp_path / name / f"{image}.nii")
    whole = {c.functional: c.name for c in discover(tmp_path).cases}
    assert len({name.casefold() for name in whole.values()}) == len(SUBJECTS)
    nifti(tmp_path / "0 first/t1.nii")
    nifti(tmp_path / "0 first/pet.nii")
    more = {c.functional: c.name for c in discover(tmp_path).cases}
    assert {path: more[path] for path in whole} == whole
    for name in ("anna", "李四", "0 first"):
        (tmp_path / name).rename(tmp_path / f".{name}")
    fewer = {c.functional: c.name for c in discover(tmp_path).cases}
    changed = {p.parent.name for p, name in fewer.items() if more[p] != name}
    assert changed == {"Anna"}


def test_what_would_share_a_name_shares_no_folder_with_what_had_it(tmp_path: Path) -> None:
    for image in ("t1", "pet"):
        nifti(tmp_path / "a_b" / f"{image}.nii")
    (alone,) = discover(tmp_path).cases
    assert alone.name == "a_b"
    for image in ("t1", "pet"):
        nifti(tmp_path / "a/b" / f"{image}.nii")
    names = [case.name for case in discover(tmp_path).cases]
    assert len(set(names)) == 2
    assert "a_b" not in names
