"""A study in which one folder holds each hostile thing: its finding, and the others are done."""

from __future__ import annotations

from pathlib import Path

import pytest

from medfuse.batch import run_batch
from medfuse.settings import CaseSettings
from medfuse.study import Case, Study
from tests._helpers import make
from tests._helpers.batch_study import by_case
from tests._helpers.fault_cases import pet
from tests._helpers.hostile import ENDINGS, write_hostile

SETTINGS = CaseSettings(method="mean", registration="identity")


@pytest.mark.slow
def test_hostile_images_fail_alone_each_with_its_code(tmp_path: Path) -> None:
    root = tmp_path / "in"
    root.mkdir()
    write_hostile(root)
    pet(root)
    make.write_series(root / "mr", make.SeriesPlan(series_uid="1.2.826.0.1.3680043.8.498.9"))
    codes = {n: code for n, (code, _) in ENDINGS.items() if not n.startswith("picture")}
    cases = [Case(n.replace(".", "-"), root / "mr", root / n, "test") for n in (*codes, "pet")]
    study = Study(root, "manifest", tuple(cases))
    found = by_case(run_batch(study, tmp_path / "out", SETTINGS, workers=1))
    assert found.pop("pet").status == "done"
    expected = {name.replace(".", "-"): code for name, code in codes.items()}
    assert {name: result.code for name, result in found.items()} == expected
