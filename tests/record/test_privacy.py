"""Nothing that names a person or a machine comes out, wherever in the input it stood.

Two markers: ZZPHI stands inside files (every text tag, private and nested ones, headers, sidecars)
and in the environment and may come out nowhere; ZZNAME stands in names of files and folders, which
people choose, and may come out nowhere in a result, but does in what medfuse tells its user.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import io
import json
import os
import re
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.datadict import DicomDictionary, dictionary_keyword
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from medfuse.cli.app import run
from medfuse.errors import UsageError
from medfuse.record.privacy import MIN_SALT_BYTES, pseudonym, salt_beside, study_salt
from tests._helpers.make import MARKER, SeriesPlan, save, slice_dataset

NAME, HOST, USER = "ZZNAME", "zzphi-host", "zzphi-user"
SHAPE, SPACING = (40, 36, 12), (2.0, 2.0, 4.0)
UIDS = ("1.2.826.0.1.3680043.8.498.4", "1.2.826.0.1.3680043.8.498.2", "1.2.826.0.1.3680043.8.498.7")
DATES = ("19460507", "1946-05-07", "20240305", "2024-03-05")
# Tags with a meaning that decides how an image is read, or whether.
DECISIVE = re.compile(r"Timezone|PhotometricInterp|Modality|Units|Presentation|Rescale|LUT|Pixel")
TEXT = {"LO": 64, "SH": 16, "PN": 64, "LT": 80, "ST": 80, "UT": 80, "UC": 80, "AE": 16, "CS": 16}


def mark_everything(dataset: Dataset) -> None:
    """Every text element of the dictionary that is not there yet; private and nested ones too."""
    for tag, (vr, _, name, retired, keyword) in DicomDictionary.items():
        is_plain = (
            keyword and not retired and tag >> 16 not in (0x0000, 0x0002, 0x0004, 0x5000, 0x6000)
        )
        decisive = vr == "CS" or DECISIVE.search(f"{name} {keyword}")
        if is_plain and vr in TEXT and tag not in dataset and not decisive:
            dataset.add_new(tag, vr, MARKER)
    dataset.BodyPartExamined = MARKER
    inner, outer = Dataset(), Dataset()
    inner.PatientName = inner.CodeMeaning = MARKER
    inner.private_block(0x0013, MARKER, create=True).add_new(1, "UN", MARKER.encode())
    outer.ReferencedPatientSequence = DicomSequence([inner])
    dataset.RequestAttributesSequence = DicomSequence([outer])
    block = dataset.private_block(0x0029, f"{MARKER} CSA", create=True)
    block.add_new(0x10, "OB", b"\0" + MARKER.encode() * 3 + b"\0\0")
    block.add_new(0x20, "SQ", [inner])
    dataset.PatientBirthDate, dataset.StudyDate = DATES[0], DATES[2]
    dataset.add_new(0xFFFCFFFC, "OB", MARKER.encode() + b"\0")
    dataset.file_meta.SourceApplicationEntityTitle = MARKER
    dataset.file_meta.PrivateInformationCreatorUID = "1.2.3"
    dataset.file_meta.PrivateInformation = MARKER.encode() + b"\0"
    dataset.preamble = (MARKER.encode() * 26)[:128]


def ball(scale: int) -> np.ndarray:
    index = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    middle = (np.array(SHAPE) - 1) / 2
    distance = np.linalg.norm((index - middle) * SPACING, axis=-1)
    return (np.clip(1.3 - distance / 28, 0, 1) * scale + index[..., 0]).astype(np.int16)


def write_marked(folder: Path, modality: str, *, leave_out: int = -1) -> None:
    folder.mkdir(parents=True)
    series = UIDS[0] if modality == "MR" else UIDS[2]
    scale = 900 if modality == "MR" else 20000
    plan = SeriesPlan(ball(scale), modality, spacing=SPACING, series_uid=series)
    for k in range(SHAPE[2]):
        if k != leave_out:
            dataset = slice_dataset(plan, k)
            mark_everything(dataset)
            save(dataset, folder / f"{NAME}_{k:03d}.dcm")


def write_marked_nifti(path: Path, values: np.ndarray) -> None:
    affine = np.diag([*SPACING, 1.0])
    image = nib.Nifti1Image(values.astype(np.float32), affine)
    header = image.header
    header.set_xyzt_units("mm")
    for name in ("descrip", "aux_file", "intent_name", "db_name"):
        header[name] = MARKER.encode()
    for code in (2, 6, 4):  # DICOM, comment, AFNI
        header.extensions.append(nib.nifti1.Nifti1Extension(code, MARKER.encode() * 4))
    nib.save(image, path)
    sidecar = {
        "PatientName": MARKER, "PatientID": f"{MARKER}-1", "InstitutionName": MARKER,
        "SeriesDescription": MARKER, "Modality": "PT", "Units": "SUV",
        "AcquisitionDateTime": f"{DATES[3]}T10:00:00", "Nested": {"OperatorsName": MARKER},
    }  # fmt: skip
    if "pet" in path.name:
        path.with_name(path.name.replace(".nii.gz", ".json")).write_text(json.dumps(sidecar))


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


def own_environment(home: Path) -> dict[str, str]:
    home.mkdir(parents=True, exist_ok=True)
    return {"HOME": str(home), "USER": USER, "LOGNAME": USER, "HOSTNAME": HOST, "COLUMNS": "400"}


def medfuse(*arguments: str | Path, cwd: Path) -> tuple[int, str]:
    """Run a command in this process, at a marked place in a marked environment."""
    words, printed = [str(argument) for argument in arguments], io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in own_environment(cwd.parent / USER).items():
            patch.setenv(name, value)
        patch.setattr(socket, "gethostname", lambda: HOST)
        patch.setattr(sys, "argv", ["medfuse", *words])
        patch.chdir(cwd)
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            code = run(words)
    return code, printed.getvalue()


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


def contents(root: Path) -> Iterator[tuple[str, bytes]]:
    """Every file and whatever is packed in it."""
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        name, data = path.relative_to(root).as_posix(), path.read_bytes()
        yield f"name of {name}", name.encode()
        yield name, data
        if name.endswith(".gz"):
            yield f"{name} unpacked", gzip.decompress(data)
        if name.endswith(".png"):
            with Image.open(path) as picture:
                yield f"{name} chunks", repr(picture.info).encode()
        if name.endswith(".html"):
            for packed in re.findall(rb"base64,([A-Za-z0-9+/=]+)", data):
                yield f"{name} picture", base64.b64decode(packed)
        if name.endswith(".json"):
            yield f"{name} unescaped", json.dumps(json.loads(data), ensure_ascii=False).encode()


def traces(root: Path, *words: str) -> list[str]:
    """Where a word is found, in any case and as UTF-16."""
    wanted = [word.lower() for word in words]
    codes = [w.encode(code) for w in wanted for code in ("utf-8", "utf-16-le", "utf-16-be")]
    return [name for name, data in contents(root) if any(w in data.lower() for w in codes)]


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
