"""Every fault of the table ends in its own one-line error or note; the next case is done."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from medfuse.batch.worker import Job, PipelineRunner, attempt
from medfuse.case.pipeline import load_image
from medfuse.results.folder import MANIFEST
from medfuse.settings import CaseSettings
from tests._helpers import make
from tests._helpers.fault_cases import ELSEWHERE, FAULTS, Fault, pet

REFUSED = [fault for fault in FAULTS if fault.code]
LOADED = [fault for fault in FAULTS if not fault.code]
TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def mr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("anatomical") / "mr"
    make.write_series(folder, make.SeriesPlan(series_uid="1.2.826.0.1.3680043.8.498.9"))
    return folder


def run(mr: Path, functional: Path, out: Path, **settings: object) -> dict[str, object]:
    """What the process of a batch does with a case."""
    chosen = {"method": "mean", "registration": "identity", **settings}
    job = Job(out.name, mr, functional, out, CaseSettings(**chosen).model_dump())
    return attempt(PipelineRunner(), job, lambda fraction, text: None)


@pytest.mark.parametrize("fault", REFUSED, ids=[fault.name for fault in REFUSED])
def test_a_fault_is_one_line_with_its_code_and_writes_nothing(
    tmp_path: Path, mr: Path, fault: Fault
) -> None:
    if fault.number == 71 and os.geteuid() == 0:
        pytest.skip("root may read every file")
    fault.make(tmp_path)
    before = sorted(p for p in tmp_path.rglob("*"))
    result = run(mr, tmp_path / fault.image, tmp_path / "out", **fault.settings)
    assert (result["status"], result["code"]) == ("failed", fault.code), result["message"]
    message = str(result["message"])
    assert "\n" not in message
    assert message.endswith(f". [{fault.code}]")
    for word in fault.words:
        assert word.lower() in message.lower()
    for secret in (make.MARKER, str(tmp_path)):
        assert secret not in message
    assert sorted(p for p in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("fault", LOADED, ids=[fault.name for fault in LOADED])
def test_a_fault_that_can_be_borne_is_told(tmp_path: Path, fault: Fault) -> None:
    fault.make(tmp_path)
    settings = CaseSettings(**fault.settings)
    volume = load_image(tmp_path / fault.image, "functional", settings)
    notes = " | ".join(volume.meta["notes"])
    assert fault.note.lower() in notes.lower(), notes
    assert np.isfinite(np.asarray(volume)).all()
    assert make.MARKER not in notes


def test_the_neighbour_of_all_these_cases_is_done(tmp_path: Path, mr: Path) -> None:
    pet(tmp_path)
    result = run(mr, tmp_path / "pet", tmp_path / "out")
    assert result["status"] == "done", result
    assert (tmp_path / "out" / MANIFEST).is_file()


def test_fusion_goes_on_without_suv_and_the_audit_says_so(tmp_path: Path, mr: Path) -> None:
    next(f for f in FAULTS if f.what == "no weight").make(tmp_path)
    result = run(mr, tmp_path / "pet", tmp_path / "out")
    assert result["status"] == "done"
    assert '"Bq/ml"' in (tmp_path / "out" / "audit.json").read_text()


def test_the_table_is_complete() -> None:
    covered = {fault.number for fault in FAULTS} | set(ELSEWHERE)
    assert set(range(1, 61)) <= covered
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    for place in ELSEWHERE.values():
        path, _, name = place.partition("::")
        assert f"def {name}(" in (TESTS / path).read_text()
