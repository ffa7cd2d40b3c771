"""Tables as people save them: every habit of a spreadsheet is read, or the line is named."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from medfuse.errors import UsageError
from medfuse.study import Study, discover
from tests._helpers.tiny_nifti import nifti

HEAD = "case,anatomical,functional"
ROW = "a,p/t1.nii,p/pet.nii"


def study_of(folder: Path, content: bytes | str, name: str = "cases.csv") -> Study:
    nifti(folder / "p/t1.nii")
    nifti(folder / "p/pet.nii")
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return discover(folder / name)


@pytest.mark.parametrize(
    "text",
    [
        f"{HEAD}\n{ROW}",
        f"\ufeff{HEAD}\r\n{ROW}\r\n",
        f"{HEAD}\r{ROW}\r",
        f"sep=,\n{HEAD}\n{ROW}",
        f'"sep=;"\r\n{HEAD};window\r\n{ROW};'.replace(",", ";"),
        f"sep=\t\n{HEAD}\n{ROW}".replace(",", "\t"),
        f"\n,,\n# a remark, or two\n{HEAD},,\n{ROW},,\n,,,,\n,,,,\n",
        f"{HEAD},bias,\n{ROW},,\n",
        'Case , "Anatomical", FUNCTIONAL \n a , "p/t1.nii" ,\u00a0p/pet.nii \n',
        'case,anatomical,functional\na,"""p/t1.nii""","p/pet.nii"\n',
        'case,anatomical,functional\n="a",p\\t1.nii,.\\p\\pet.nii\n',
        f"{HEAD}\na,./p//t1.nii,p/../p/pet.nii",
    ],
    ids=range(12),
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le"])
def test_the_habits_of_spreadsheets_are_read(tmp_path: Path, text: str, encoding: str) -> None:
    study = study_of(tmp_path, text.encode(encoding))
    assert [case.name for case in study.cases] == ["a"], study.skipped
    assert study.cases[0].anatomical.resolve() == (tmp_path / "p/t1.nii").resolve()
    assert study.cases[0].overrides == {}


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8", "utf-16"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_umlauts_are_found_in_any_encoding_and_form(
    tmp_path: Path, encoding: str, form: str
) -> None:
    nifti(tmp_path / unicodedata.normalize(form, "Müller") / "t1.nii")
    text = f"{HEAD}\nMüller,Müller/t1.nii,p/pet.nii\n"
    study = study_of(tmp_path, text.encode(encoding))
    assert [case.name for case in study.cases] == ["Müller"]


def test_letters_that_were_read_wrongly_are_told_with_the_missing_file(tmp_path: Path) -> None:
    study = study_of(tmp_path, f"{HEAD}\nb,Пётр/t1.nii,p/pet.nii\n{ROW}\n".encode("cp1251"))
    assert [case.name for case in study.cases] == ["a"]
    assert "save it as UTF-8" in study.skipped[0].reason


@pytest.mark.parametrize(
    ("column", "cell", "value"),
    [
        ("bias", "0,5", 0.5),
        ("bias", "-0.25", -0.25),
        ("bounded", "WAHR", True),
        ("bounded", "falso", False),
        ("png", "TRUE", True),
        ("window", "0 7,5", (0.0, 7.5)),
        ("window", "0;7.5", (0.0, 7.5)),
        ("window", "0,5;7,5", (0.5, 7.5)),
        ("window", "0,10", (0.0, 10.0)),
        ("window", "(0, 10)", (0.0, 10.0)),
        ("frame", "mean", "mean"),
        ("frame", "0", 0),
    ],
)
def test_numbers_and_yes_are_those_of_any_language(
    tmp_path: Path, column: str, cell: str, value: object
) -> None:
    study = study_of(tmp_path, f'{HEAD},{column}\n{ROW},"{cell}"\n')
    assert study.cases[0].overrides == {column: value}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("b,p/t1,v2.nii,p/pet.nii", "quotation marks"),
        ("b,=A2,p/pet.nii", "formula"),
        ("b,C:\\data\\t1.nii,p/pet.nii", "Windows drive"),
        ("b,~nobody/t1.nii,p/pet.nii", "not there"),
        ("b," + "x" * 5000 + ",p/pet.nii", "not there"),
        ("b,p/\0t1.nii,p/pet.nii", "line 2"),
        ('b,"p/t1.nii,p/pet.nii', "line 2"),
        ("b,p/t1.nii", "names no functional image"),
    ],
)
def test_a_line_that_cannot_be_meant_is_named_and_stops_no_other(
    tmp_path: Path, line: str, words: str
) -> None:
    study = study_of(tmp_path, f"{HEAD}\n{line}\n{ROW}\n")
    assert words in study.skipped[0].reason
    assert study.skipped[0].case
    below = '"p/t1.nii,p' in line  # a quotation mark that is never closed takes all that follows
    assert [case.name for case in study.cases] == ([] if below else ["a"])


def test_the_same_name_twice_is_two_cases_whichever_comes_first(tmp_path: Path) -> None:
    nifti(tmp_path / "q/pet.nii")
    lines = [ROW, "a,p/t1.nii,q/pet.nii", ROW]
    first = study_of(tmp_path, "\n".join([HEAD, *lines])).cases
    turned = study_of(tmp_path, "\n".join([HEAD, *reversed(lines)])).cases
    names = {case.name: case.functional for case in first}
    assert len(names) == 3
    assert names == {case.name: case.functional for case in turned}


@pytest.mark.parametrize("content", [b"PK\x03\x04rest", b"\xd0\xcf\x11\xe0rest"])
def test_a_workbook_is_named_as_one(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UsageError, match=r"workbook.*CSV UTF-8"):
        study_of(tmp_path, content)


def test_a_table_with_tabs_is_a_study_too(tmp_path: Path) -> None:
    text = f"{HEAD}\n{ROW}\n".replace(",", "\t")
    assert len(study_of(tmp_path, text, "cases.tsv").cases) == 1
