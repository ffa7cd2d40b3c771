"""Nothing that names a person or a machine comes out, wherever in the input it stood.

Two markers: ZZPHI stands inside files (every text tag, private and nested ones, headers, sidecars)
and in the environment and may come out nowhere; ZZNAME stands in names of files and folders, which
people choose, and may come out nowhere in a result, but does in what medfuse tells its user.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest
from pydicom.datadict import dictionary_keyword

from medfuse.errors import UsageError
from medfuse.record.privacy import MIN_SALT_BYTES, pseudonym, salt_beside, study_salt
from tests._helpers.make import MARKER, save
from tests._helpers.marked import (
    DATES,
    HOST,
    NAME,
    UIDS,
    USER,
    ball,
    medfuse,
    own_environment,
    traces,
    write_marked,
    write_marked_nifti,
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose every string is marked; cases.csv names the cases neutrally."""
    study = tmp_path_factory.mktemp(MARKER) / f"{NAME}^Jane study"
    write_marked(study / f"{NAME}_1" / "mr", "MR")
    write_marked(study / f"{NAME}_1" / f"{NAME} pet", "PT")
    write_marked_nifti(study / f"{NAME}_t1.nii.gz", ball(900))
    write_marked_nifti(study / f"{NAME}_pet.nii.gz", ball(9))
    write_marked(study / f"{NAME}_gap", "PT", leave_out=5)
    write_marked(study / f"{NAME}_slope", "PT")
    for path in (study / f"{NAME}_slope").iterdir():
        dataset = pydicom.dcmread(path)
        dataset["RescaleSlope"]._value = pydicom.valuerep.DSfloat(1)
        dataset.add_new(0x00281053, "LO", MARKER)
        save(dataset, path)
    (study / f"{NAME}_cut.nii.gz").write_bytes((study / f"{NAME}_t1.nii.gz").read_bytes()[:3000])
    mr, t1 = f"{NAME}_1/mr", f"{NAME}_t1.nii.gz"
    rows = {
        "dicom": (mr, f"{NAME}_1/{NAME} pet"),
        "nifti": (t1, f"{NAME}_pet.nii.gz"),
        "gap": (mr, f"{NAME}_gap"),
    }
    lines = [f"{case},{a},{f}" for case, (a, f) in rows.items()]
    (study / "cases.csv").write_text("case,anatomical,functional\n" + "\n".join(lines) + "\n")
    return study


@pytest.fixture(scope="module")
def batch(corpus: Path) -> tuple[Path, str]:
    """Study folder and everything that was printed."""
    out = corpus.parent / "out" / "results"
    chosen = ("--method", "mean", "--registration", "identity", "--png", "--workers", "2")
    done = subprocess.run(
        [sys.executable, "-m", "medfuse.cli", "batch", "--study", corpus, "--out", out, *chosen],
        cwd=corpus, env={**os.environ, **own_environment(corpus.parent / USER)},
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 8, done.stderr
    return out, done.stdout + done.stderr


def test_the_markers_are_where_they_shall_be_searched(corpus: Path) -> None:
    dataset = pydicom.dcmread(next((corpus / f"{NAME}_1" / "mr").iterdir()))
    marked = [e for e in dataset.iterall() if MARKER in str(e.value)]
    assert len(marked) > 600
    assert {"PatientName", "SeriesDescription", "ProtocolName", "ImageComments"} <= {
        dictionary_keyword(e.tag) for e in marked if not e.tag.is_private
    }
    assert any(e.tag.is_private for e in marked)
    assert MARKER.encode() in dataset.preamble
    nifti = gzip.decompress((corpus / f"{NAME}_pet.nii.gz").read_bytes())
    assert nifti.count(MARKER.encode()) > 12


def test_both_sound_cases_are_done_and_all_others_fail_with_their_cause(batch) -> None:
    out, _ = batch
    events = [json.loads(line) for line in (out / "batch.jsonl").read_text().splitlines()]
    ends = {e["case"]: e for e in events if e["event"] == "case-end"}
    assert {case for case, e in ends.items() if e["status"] == "done"} == {"dicom", "nifti"}
    codes = {case: e["code"] for case, e in ends.items() if e["status"] == "failed"}
    assert codes == {"gap": "E_MISSING_SLICE"}


def test_nothing_of_a_person_or_machine_is_in_any_file_or_word(batch) -> None:
    out, printed = batch
    assert traces(out, MARKER, USER, HOST, *DATES, *UIDS) == []
    for word in (MARKER, USER, HOST, *DATES, *UIDS):
        # Paths that the user gave are repeated to the user alone.
        assert word.lower() not in printed.replace(str(out.parent.parent), "").lower()


def test_results_hold_no_name_of_an_input_and_no_place(batch) -> None:
    out, _ = batch
    for case in ("dicom", "nifti"):
        assert traces(out / case, NAME, str(out.parent.parent)) == []
    assert traces(out / "dicom", *(hashlib.sha256(u.encode()).hexdigest()[:16] for u in UIDS)) == []


def test_failures_name_the_file_to_their_user_but_no_folder_above_the_study(batch) -> None:
    out, printed = batch
    assert re.search(rf"failed: gap: .*{NAME}_\d+\.dcm", printed)
    assert set(traces(out, NAME)) <= {"batch.jsonl", "summary.csv", "study.html", "logs/gap.log"}
    assert traces(out, str(out.parent.parent)) == []


def test_study_salt_lies_beside_the_results_and_is_for_its_owner_alone(batch) -> None:
    out, _ = batch
    salt = salt_beside(out)
    assert salt.parent == out.parent
    assert stat.S_IMODE(salt.stat().st_mode) == 0o600
    assert traces(out, salt.read_text().strip()) == []
    record = json.loads((out / "dicom" / "provenance.json").read_text())
    assert record["identifiers"] == "hashed with a study salt"
    assert record["inputs"]["anatomical"]["series"] == pseudonym(UIDS[0], study_salt(salt))
    frames = {image["frame_of_reference"] for image in record["inputs"].values()}
    assert frames == {pseudonym(UIDS[1], study_salt(salt))}, "sharing a frame is still seen"


@pytest.fixture(scope="module")
def single(corpus: Path) -> Path:
    """The same case alone, twice as it is and once with everything kept."""
    root = corpus.parent / "single"
    pair = (f"{NAME}_1/mr", f"{NAME}_1/{NAME} pet")
    usual = ("--method", "mean", "--registration", "identity", "--anatomical-series", UIDS[0])
    for name, options in (("a", ()), ("b", ()), ("kept", ("--keep-uids", "--keep-names"))):
        code, printed = medfuse(
            "fuse", *pair, "-o", root / name / "case", *usual, *options, cwd=corpus
        )
        assert code == 0, printed
    return root


def test_one_case_needs_no_salt_file_and_is_the_same_again(single: Path, corpus: Path) -> None:
    assert not list(single.rglob("*.uid-salt"))
    assert traces(single / "a", MARKER, NAME, USER, HOST, *DATES, *UIDS) == []
    a, b = (json.loads((single / n / "case/provenance.json").read_text()) for n in "ab")
    assert {k for k in a if a[k] != b[k]} <= {"created", "timing"}
    assert a["identifiers"] == "hashed with a secret of the case"
    assert a["settings"]["anatomical_series"] == "given by UID"
    assert a["command"].startswith("medfuse fuse ANATOMICAL FUNCTIONAL --out OUT --method mean")
    assert a["command"].endswith("--anatomical-series ANATOMICAL_SERIES")


def test_what_is_asked_for_is_kept_and_nothing_more(single: Path) -> None:
    record = json.loads((single / "kept/case/provenance.json").read_text())
    assert record["identifiers"] == "kept"
    assert record["inputs"]["anatomical"]["series"] == UIDS[0]
    assert record["inputs"]["functional"]["name"] == f"{NAME} pet"
    assert NAME in record["command"]
    assert traces(single / "kept", MARKER, USER, HOST, *DATES) == []


def test_derived_dicom_names_source_images_by_uid_and_nothing_else(corpus: Path) -> None:
    root, pair = corpus.parent / "dicom", (f"{NAME}_1/mr", f"{NAME}_1/{NAME} pet")
    usual = ("--method", "mean", "--registration", "identity", "--dicom")
    for name, options in (("plain", ("slices",)), ("kept", ("multiframe", "--keep-patient"))):
        code, printed = medfuse("fuse", *pair, "-o", root / name, *usual, *options, cwd=corpus)
        assert code == 0, printed
    assert traces(root / "plain", MARKER, NAME, USER, HOST, *DATES) == []
    notes = json.loads((root / "plain/provenance.json").read_text())["notes"]
    [note] = [n for n in notes if "true UIDs" in n]
    assert "of the anatomical image and the functional image," in note
    assert note in (root / "plain/report.html").read_text()
    assert all(name.startswith("dicom/") for name in traces(root / "plain", *UIDS))
    named = traces(root / "kept", MARKER, USER, HOST)
    assert set(named) == {
        f"dicom/{n}.dcm" for n in ("fused", "weight_map", "registration", "blending")
    }
    assert traces(root / "kept", NAME) == []


def test_info_and_errors_on_the_terminal_show_no_header_text(corpus: Path, tmp_path: Path) -> None:
    slope, mr = f"{NAME}_slope", f"{NAME}_1/mr"
    for expected, *arguments in (
        (0, "info", f"{NAME}_1/{NAME} pet"),
        (0, "info", slope, "--json"),
        (8, "fuse", mr, slope, "-o", tmp_path / "x", "--debug"),
        (8, "fuse", f"{NAME}_cut.nii.gz", slope, "-o", tmp_path / "x"),
    ):
        code, printed = medfuse(*arguments, cwd=corpus)
        assert (code, bool(printed)) == (expected, True)
        for word in (MARKER, USER, HOST, *DATES, *UIDS):
            assert word.lower() not in printed.replace(str(tmp_path), "").lower(), arguments


def test_salt_is_made_once_and_never_changed(tmp_path: Path) -> None:
    first = study_salt(tmp_path / "s")
    assert study_salt(tmp_path / "s") == first
    assert study_salt(tmp_path / "t") != first
    assert len(first) >= 2 * MIN_SALT_BYTES


@pytest.mark.parametrize("content", [b"", b"short\n"])
def test_a_file_that_is_no_secret_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s").write_bytes(content)
    with pytest.raises(UsageError, match=r"expected at least 16.*uid_salt=FILE.*\[E_SALT\]"):
        study_salt(tmp_path / "s")
    assert (tmp_path / "s").read_bytes() == content


def test_pseudonyms_tell_uids_apart_and_studies_too() -> None:
    names = {pseudonym(uid, salt) for uid in UIDS for salt in (b"a" * 32, b"b" * 32)}
    assert len(names) == 2 * len(UIDS)
    assert all(re.fullmatch(r"[0-9a-f]{16}", str(name)) for name in names)
    assert pseudonym(None, b"a" * 32) is None
