"""The page of a study: what needs eyes comes first, and every failure has its reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from medfuse.report.case import write_study_report
from tests._helpers.report_cases import EVIL, make_case, make_study, read_page


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("study") / "out")


def test_study_shows_the_odd_ones_first_and_failures_with_reasons(study: Path) -> None:
    page = read_page(study / "study.html")
    names = [a.removesuffix("/report.html") for a in page.addresses if a.endswith(".html")]
    assert list(dict.fromkeys(names))[:2] == ["sub-look", "sub-odd"]
    assert len(set(names)) == 7
    assert re.search(r"Shift\s+\(\d", page.text), "says what is odd"
    assert "gap of 6.00 mm" in page.text
    assert EVIL in page.text
    assert EVIL not in (study / "study.html").read_text()
    assert "old" not in page.text.split(), "only the last word on a case counts"


def test_study_page_is_one_file_with_links_to_the_cases(study: Path) -> None:
    addresses = read_page(study / "study.html").addresses
    pictures = [a for a in addresses if a.startswith("data:image/jpeg")]
    links = [a for a in addresses if not a.startswith("data:")]
    assert len(pictures) == 7
    assert all((study / link).is_file() for link in links)


def test_study_without_ledger_reads_the_summary(tmp_path: Path) -> None:
    (tmp_path / "summary.csv").write_text(
        "case,status,code,message\nsub-1,failed,E_TRUNCATED,ends after 3 of 9 bytes\n"
    )
    text = read_page(write_study_report(tmp_path)).text
    assert "E_TRUNCATED" in text
    assert "ends after 3 of 9 bytes" in text


def test_empty_study_says_so(tmp_path: Path) -> None:
    assert "No finished case" in read_page(write_study_report(tmp_path)).text


@pytest.mark.parametrize("damage", ["", "[]", '{"verdict": "fine", "checks": []}'])
def test_folder_that_was_taken_apart_does_not_cost_the_page(tmp_path: Path, damage: str) -> None:
    make_case(tmp_path / "whole")
    make_case(tmp_path / "broken")
    (tmp_path / "broken" / "audit.json").write_text(damage)
    addresses = read_page(write_study_report(tmp_path)).addresses
    assert {a for a in addresses if a.endswith(".html")} == {"whole/report.html"}
