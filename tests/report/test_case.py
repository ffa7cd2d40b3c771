"""The report of one case: complete, self-contained, and safe from what its files hold."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medfuse.errors import InputError
from medfuse.report.case import render_report
from medfuse.report.page import PICTURE_BUDGET, inline_pictures, number
from tests._helpers.report_cases import EVIL, make_audit, make_case, make_registration, read_page


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_case(tmp_path_factory.mktemp("report") / "sub-01")


def test_report_names_every_check_with_its_meaning(report: Path) -> None:
    text = read_page(report).text
    for check in make_audit()["checks"]:
        assert check["title"] in text
        assert check["text"] in text
    assert "brightness from neither source: 2.4e-07" in text
    assert "limit 1e-05" in text


def test_report_tells_the_whole_story(report: Path) -> None:
    text = " ".join(read_page(report).text.split())
    for part in (
        "sub-01",
        "Research use only",
        "0.21 before, 0.37 after",
        "3.2 mm, 1.5°",
        "SUVbw = activity * weight / dose",
        "388,777,472 Bq",
        "0.000242902977",
        "body weight is assumed",
        "SUVbw (g/ml)",
        "percentiles",
        "L 9 mm, A 12 mm, S 9 mm",
        "t1.nii.gz pet -o out",
        "2" * 64,
    ):
        assert part in text, part


def test_text_from_files_is_never_code(report: Path) -> None:
    page = read_page(report)
    assert page.scripts == 1
    assert EVIL in page.text, "shown as text"
    assert EVIL not in report.read_text("utf-8")


def test_page_needs_nothing_else(report: Path) -> None:
    addresses = read_page(report).addresses
    assert len(addresses) > 15
    assert all(address.startswith("data:") for address in addresses)
    page = report.read_text("utf-8")
    assert "default-src 'none'" in page
    assert not re.search(r"url\(|@import|https?://", page)
    assert report.stat().st_size < 6_000_000


def test_nobody_and_no_place_is_named(report: Path) -> None:
    for path in report.parent.rglob("*"):
        if path.is_file():
            content = path.read_bytes().lower()
            assert b"zzphi" not in content, path.name
            assert str(report.parent.parent).encode() not in content, path.name


def test_same_result_gives_the_same_page(report: Path, tmp_path: Path) -> None:
    again = make_case(tmp_path / "sub-01", created="2026-07-07T00:00:00+00:00")
    assert again.read_bytes() == report.read_bytes()
    for picture in sorted((report.parent / "figures").iterdir()):
        assert (again.parent / "figures" / picture.name).read_bytes() == picture.read_bytes()


def test_suspect_registration_is_loud(tmp_path: Path) -> None:
    page = make_case(tmp_path / "case", registration=make_registration("suspect"))
    text = read_page(page).text
    first = text.index("Registration is suspect")
    assert first < text.index("Three planes")
    assert text.count("overlap 12 % is below 25 %") == 2
    assert 'role="alert"' in page.read_text("utf-8")


def test_failed_audit_is_said_first(tmp_path: Path) -> None:
    text = read_page(make_case(tmp_path / "case", audit=make_audit("fail"))).text
    assert text.index("do not rely on this image") < text.index("Three planes")


def test_refused_suv_is_said_with_the_tag(tmp_path: Path) -> None:
    page = make_case(tmp_path / "case")
    record = json.loads((page.parent / "provenance.json").read_text())
    record["inputs"]["functional"]["suv"] |= {"refusal": "PatientWeight (0010,1030) is missing"}
    (page.parent / "provenance.json").write_text(json.dumps(record))
    assert (
        "No SUV: PatientWeight (0010,1030) is missing" in read_page(render_report(page.parent)).text
    )


@pytest.mark.parametrize("missing", ["audit.json", "transform.json", "figures/figures.json"])
def test_folder_that_is_no_result_is_one_error(tmp_path: Path, missing: str) -> None:
    page = make_case(tmp_path / "case")
    (page.parent / missing).unlink()
    with pytest.raises(InputError, match=rf"{missing}: No such file.*\[E_NOT_A_RESULT\]"):
        render_report(page.parent)


def test_too_many_bytes_of_pictures_are_made_fewer(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1100, 1100, 3), dtype=np.uint8)
    for n in range(2):
        Image.fromarray(noise).save(tmp_path / f"{n}.png")
    inlined = inline_pictures(sorted(tmp_path.glob("*.png")))
    assert sum(map(len, inlined.values())) < 1.1 * PICTURE_BUDGET * 4 / 3


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (True, "yes"),
        (0.0, "0"),
        (2.4e-7, "2.40e-07"),
        (0.12346, "0.1235"),
        (-12.5, "-12.5"),
        (388777.0, "388,777"),
        (3.9e8, "3.90e+08"),
        ([1.0, 2], "1, 2"),
        ("text", "text"),
    ],
)
def test_numbers_are_readable(value: Any, shown: str) -> None:
    assert number(value) == shown
