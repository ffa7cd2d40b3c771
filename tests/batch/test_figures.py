"""The summary holds numbers, and one odd result folder costs its own line's numbers alone."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from medfuse.batch.ledger import COLUMNS, Ledger, write_summary
from medfuse.report.study import write_study_report


def test_the_summary_names_inputs_and_holds_numbers(tmp_path: Path) -> None:
    record = {
        "inputs": {"anatomical": {}, "functional": {"modality": "PET", "unit": "SUVbw"}},
        "steps": [{"name": "window", "parameters": {"functional": {"low": 0, "high": 7.5}}}],
        "bids": {"Sources": ["bids:raw:sub-1/anat/a.nii", "bids:raw:sub-1/pet/p.nii"]},
    }
    places = [{"within_mm": 3.25}, {"within_mm": 5.5}]
    transform = {"verdict": "good", "shift_mm": 1.5, "rotation_deg": -0.25, "overlap": 1}
    transform["expected_error"] = {"places": places}
    for name, text in (("a", json.dumps(record)), ("odd", "[" * 99_999)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "provenance.json").write_text(text)
    (tmp_path / "a/transform.json").write_text(json.dumps(transform))
    checks = [{"id": "share", "value": 0.5}, {"id": "none", "value": None}]
    (tmp_path / "a/audit.json").write_text(json.dumps({"checks": checks}))
    with Ledger(tmp_path) as ledger:
        for name in ("a", "odd"):
            ledger.write({"event": "case-end", "case": name, "status": "skipped"})
    write_summary(tmp_path)
    a, odd = csv.DictReader((tmp_path / "summary.csv").open())
    assert tuple(a)[: len(COLUMNS)] == COLUMNS
    expected = {
        "anatomical": "sub-1/anat/a.nii",
        "functional": "sub-1/pet/p.nii",
        "shift_mm": "1.5",
        "rotation_deg": "-0.25",
        "expected_error_mm": "5.5",
        "window_high": "7.5",
        "unit": "SUVbw",
        "audit_share": "0.5",
    }
    assert {key: a[key] for key in expected} == expected
    assert odd["status"] == "skipped"
    assert odd["unit"] == odd["audit_share"] == ""


def test_subjects_without_a_case_stand_in_summary_and_page(tmp_path: Path) -> None:
    left = [{"case": "sub-7", "code": "", "message": "no PET"}]
    with Ledger(tmp_path) as ledger:
        ledger.write({"event": "batch-start", "not_paired": [{**left[0], "case": "sub-old"}]})
        ledger.write({"event": "batch-start", "not_paired": left})
    write_summary(tmp_path)
    (row,) = csv.DictReader((tmp_path / "summary.csv").open())
    assert (row["case"], row["status"], row["message"]) == ("sub-7", "not paired", "no PET")
    assert "sub-7" in write_study_report(tmp_path).read_text("utf-8")
