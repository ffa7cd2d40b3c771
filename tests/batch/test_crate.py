"""What an archive reads of a study: RO-Crate, complete and without a name of a person."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from medfuse.batch.crate import write_crate
from medfuse.results.ledger_files import CRATE, SUMMARY
from medfuse.verification.files import check_beside
from medfuse.verification.signing import STUDY_FILES
from tests._helpers.report_cases import make_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = make_study(tmp_path_factory.mktemp("study") / "out")
    (out / SUMMARY).write_text("case\n")
    first = min(path for path in out.iterdir() if path.is_dir())
    first.rename(out / "a case, 100 % [odd] é")
    return out


def entities(out: Path) -> dict[str, dict[str, Any]]:
    content = json.loads(write_crate(out).read_text())
    assert content["@context"] == "https://w3id.org/ro/crate/1.1/context"
    found = {entity["@id"]: entity for entity in content["@graph"]}
    assert len(found) == len(content["@graph"])
    return found


def test_the_crate_names_every_case_and_paper_and_all_it_names_is_there(study: Path) -> None:
    found = entities(study)
    about = found[CRATE]
    assert about["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    root = found[about["about"]["@id"]]
    assert {"name", "description", "datePublished", "license", "hasPart"} <= root.keys()
    assert root["license"]["@id"] in found
    parts = [part["@id"] for part in root["hasPart"]]
    assert set(parts) <= set(found)
    for part in parts:
        assert (study / unquote(part)).exists()
        assert found[part]["@type"] == ("Dataset" if part.endswith("/") else "File")
    cases = {path.name for path in study.iterdir() if (path / "manifest.json").is_file()}
    assert {unquote(part)[:-1] for part in parts if part.endswith("/")} == cases
    assert len(cases) > 1
    assert {SUMMARY, "study.html"} <= set(parts)


def test_names_of_folders_that_are_no_utf8_are_written_and_the_crate_is_known(study: Path) -> None:
    case = next(path for path in study.iterdir() if (path / "manifest.json").is_file())
    odd = study / os.fsdecode(b"M\xfcller")
    case.rename(odd)
    try:
        assert "M%25FCller/" in entities(study)
    finally:
        odd.rename(case)
    results = [path for path in study.iterdir() if (path / "manifest.json").is_file()]
    assert CRATE not in " ".join(f.text for f in check_beside(study, results) if not f.ok)
    assert CRATE in STUDY_FILES
