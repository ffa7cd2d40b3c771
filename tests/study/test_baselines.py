"""Who is compared with whom."""

from __future__ import annotations

from pathlib import Path

import pytest

from medfuse.errors import UsageError
from medfuse.study import discover
from medfuse.study.baselines import baselines
from medfuse.study.model import Case


def of_bids(subject: str, session: str, more: str = "") -> Case:
    folder = Path(f"{subject}/ses-{session}")
    pet = folder / "pet" / f"{subject}_ses-{session}{more}_pet.nii.gz"
    return Case(f"{subject}_ses-{session}{more}", folder / "anat" / "t1.nii.gz", pet, "")


def test_each_session_is_compared_with_the_first_of_its_person_and_tracer():
    cases = [
        *(of_bids("sub-01", session) for session in ("10", "2", "9")),
        *(of_bids("sub-02", "1", f"_trc-{tracer}") for tracer in ("FDG", "PIB")),
        of_bids("sub-02", "2", "_trc-PIB"),
        of_bids("sub-03", "1"),
    ]
    assert baselines(cases, first_sessions=True) == {
        "sub-01_ses-10": "sub-01_ses-2",
        "sub-01_ses-9": "sub-01_ses-2",
        "sub-02_ses-2_trc-PIB": "sub-02_ses-1_trc-PIB",
    }
    assert baselines(cases, first_sessions=False) == {}


def test_a_manifest_names_the_baseline_of_a_case(tmp_path: Path):
    for name in ("t1.nii.gz", "a.nii.gz", "b.nii.gz"):
        (tmp_path / name).write_bytes(b"")
    manifest = tmp_path / "cases.csv"
    lines = ["case,anatomical,functional,baseline", "one,t1.nii.gz,a.nii.gz,"]
    manifest.write_text("\n".join([*lines, "two,t1.nii.gz,b.nii.gz,one"]))
    assert baselines(discover(tmp_path).cases, first_sessions=False) == {"two": "one"}
    manifest.write_text("\n".join(["case,anatomical,functional,base", *lines[1:]]))
    with pytest.raises(UsageError, match="baseline"):
        discover(tmp_path)
