"""Rows of the audit: worst first, one direction, value and limit in words."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from medfuse.audit import Audit, Check
from medfuse.report.words import _WORDS
from napari_plugin.audit_rows import row_of, rows_of
from napari_plugin.jobs import Done
from napari_plugin.model import FusionModel


@pytest.fixture(scope="module")
def audit(make):
    from napari.components import ViewerModel

    viewer = ViewerModel()
    viewer.add_layer(make.layer(make.head(), "T1"))
    viewer.add_layer(make.layer(make.uptake(), "PET"))
    model = FusionModel(viewer)
    model.choose(registration="identity", method="mean", accept_suspect=True)
    outcome = model.fusion_job().run()
    assert isinstance(outcome, Done)
    return outcome.value.audit


def test_every_check_has_its_row_in_words(audit):
    rows = rows_of(audit)
    assert {row.check.id for row in rows} == {check.id for check in audit.checks}
    assert {check.id for check in audit.checks} - {"unit"} <= set(_WORDS)
    for row in rows:
        assert re.search(r"[a-z]{4}", row.measured)
        assert "-0 " not in row.sentence
        if row.check.threshold is not None:
            assert row.limit.startswith(("limit ", "no limit"))


def test_the_worst_is_first(audit):
    last = audit.checks[-1]
    worse = Audit((*audit.checks[:-1], replace(last, verdict="fail")))
    assert rows_of(worse)[0].check.id == last.id


def test_less_is_better_in_every_row(audit):
    """What passes lies under its limit, what does not lies above, as far as one number decides."""
    for check in audit.checks:
        row = row_of(check)
        if check.verdict == "pass" and row.limit.startswith("limit"):
            value, limit = (float(text.split(": ")[-1].split()[0]) for text in
                            (row.measured, row.limit.replace("limit", ":")))  # fmt: skip
            assert value <= limit, row.sentence


def test_kept_is_said_as_lost_and_a_new_check_in_its_own_words():
    kept = Check("share", "t", 0.992, "fraction of the luminance", 0.8, "pass", "")
    assert row_of(kept).sentence == "functional brightness lost there: 0.8 %, limit 20 %"
    new = Check("new", "A new check", 3.0, "mm", 5.0, "pass", "")
    assert row_of(new).sentence == "mm: 3, limit 5"
    unknown = Check("registration", "Registration", float("nan"), "overlap", None, "look", "")
    assert row_of(unknown).measured.endswith("not measured")
