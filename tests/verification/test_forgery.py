"""Any single change to a result is found although its maker made all records agree again.

What cannot be found is the list of docs/provenance.md, which is `UNFOUND` here.
"""

from __future__ import annotations

import copy as copies
import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medfuse.audit import audit_fusion
from medfuse.audit.verdicts import contradicted, has_rule
from medfuse.fusion.restate import TOLD
from medfuse.record.provenance import PROV_FILE, audit_summary
from medfuse.results.folder import MANIFEST, inventory, read_manifest
from medfuse.verification.again import _entries
from medfuse.verification.files import check_files
from medfuse.verification.records import STATED, check_entries
from medfuse.verification.verify import verify, verify_study
from medfuse.verification.volumes import check_headers, stored
from tests._helpers.forger import change, edit_json, leaves, reseal, text_of, wrong

#: Without the inputs: entries of the record that nothing else in the folder tells.
UNFOUND = (
    *((name,) for name in STATED),
    ("case",),  # the name of the folder tells
    ("key",),
    ("settings",),
    ("guide",),
    ("bids",),
    ("notice",),
    ("identifiers",),
    *(("inputs", role) for role in ("anatomical", "functional")),
    ("steps", 0, "result"),
    ("steps", 1),
    ("steps", 2, "parameters", "anatomical"),
    ("steps", 2, "parameters", "functional", "unit"),
    ("steps", 2, "parameters", "functional", "rule"),
    ("steps", 4, "parameters", "chosen"),
    ("steps", 4, "result"),
)
FIELDS: Any = nib.Nifti1Header().template_dtype.fields
VOLUMES = ("fused_rgb", "luminance", "weight_map", "functional_on_anatomical")


def manifest_of(folder: Path) -> dict[str, Any]:
    found = read_manifest(folder)
    assert found is not None
    return found


def reseal_files(folder: Path) -> None:
    """The hashes alone: what a forger must do at least."""
    edit_json(
        folder / "provenance.json",
        lambda r: r.update(
            outputs={n: inventory(folder).get(n, {}).get("sha256", "") for n in r["outputs"]}
        ),
    )
    reseal(folder)


def contradicts(records: dict[str, Any]) -> bool:
    """What the records say of each other, without any computing."""
    try:
        return not all(finding.ok for finding in check_entries(**records))
    except Exception:  # verify makes a finding of it
        return True


def records_of(folder: Path) -> dict[str, Any]:
    names = {"provenance": "provenance.json", "audit": "audit.json", "transform": "transform.json"}
    read = {key: json.loads((folder / name).read_text()) for key, name in names.items()}
    return {"manifest": manifest_of(folder), **read}


@pytest.mark.parametrize("which", ["provenance", "transform", "manifest"])
def test_every_entry_of_the_records_is_vouched_for_or_on_the_list(result: Path, which: str) -> None:
    records, missed = records_of(result), []
    for way in leaves(records[which]):
        forged = {**records, which: copies.deepcopy(records[which])}
        change(forged[which], way)
        if which == "provenance" and way[0] == "outputs":
            continue  # a file that is not there
        if not contradicts(forged) and not any(way[: len(x)] == x for x in UNFOUND):
            missed.append(way)
    # These are found in the files themselves.
    computed = {("steps", 2, "parameters", "functional", n) for n in ("low", "high")}
    computed |= {("schema",), *((("files", n, "bytes")) for n in records["manifest"]["files"])}
    computed |= {("files", n, "sha256") for n in ("provenance.json", PROV_FILE, "report.html")}
    computed |= {("steps", 4, "parameters", n) for n in ("levels", "mode", "kernel", "gamut")}
    assert set(missed) <= computed


def test_with_the_inputs_every_entry_of_the_record_is_compared(result: Path) -> None:
    record = json.loads((result / "provenance.json").read_text())
    left = []
    for way in leaves(record):
        found = copies.deepcopy(record)
        change(found, way)
        if all(finding.ok for finding in _entries(copies.deepcopy(record), found, None)):
            left.append(way[0] if way[0] != "settings" else way[:2])
    typed = {("settings", f"{role}_series") for role in ("anatomical", "functional")}
    files = ("initial", "initial_kind", "region", "regions")
    typed |= {("settings", name) for name in files}
    elsewhere = {"case", "key", "medfuse", "outputs", "audit", *STATED}
    names = {"inputs", "bids"}  # of the files, which only keep_names writes, and their data set
    assert set(left) <= elsewhere | typed | names
    assert [way for way in left if way == "inputs"].count("inputs") <= 2


@pytest.mark.parametrize("entry", ["verdict", "threshold", "value", "id"])
def test_every_check_of_the_audit_is_vouched_for(result: Path, entry: str) -> None:
    records, missed = records_of(result), []
    for number, check in enumerate(records["audit"]["checks"]):
        forged = copies.deepcopy(records)
        change_check(forged["audit"]["checks"][number], entry)
        forged["audit"]["verdict"] = worst(forged["audit"])
        forged["provenance"]["audit"] = audit_summary(forged["audit"]).model_dump()
        if not contradicts(forged):
            missed.append(check["id"])
    on_the_anatomy = {"linearity", "invented", "contradiction"}
    assert set(missed) <= {*TOLD, *(on_the_anatomy if entry == "value" else ())}


def test_what_is_stored_is_measured_again(copy: Path) -> None:
    untouched = (copy / "audit.json").read_text()
    for name in ("hot_spots", "window"):
        for entry in ("verdict", "value", "text"):
            edit_json(copy / "audit.json", lambda a, n=name, e=entry: forge(a, n, e))
            reseal(copy)
            assert "audit of what is stored" in wrong(verify(copy)), (name, entry)
            (copy / "audit.json").write_text(untouched)


def forge(audit: dict[str, Any], name: str, entry: str) -> None:
    check = next(check for check in audit["checks"] if check["id"] == name)
    if entry == "text":
        check["text"] = "All is well."
    else:
        change_check(check, entry)
    audit["verdict"] = worst(audit)


def worst(audit: dict[str, Any]) -> str:
    verdicts = {check["verdict"] for check in audit["checks"]}
    return next((v for v in ("fail", "look") if v in verdicts), "pass")


def change_check(check: dict[str, Any], entry: str) -> None:
    if entry == "verdict":
        check["verdict"] = "look" if check["verdict"] == "pass" else "pass"
    elif entry == "id":
        check["id"] += "x"
    else:
        check[entry] = (check[entry] or 0.0) * 0.9 + 1e-9


def test_a_check_cannot_be_taken_out(result: Path) -> None:
    records = records_of(result)
    for check in records["audit"]["checks"]:
        forged = copies.deepcopy(records)
        forged["audit"]["checks"] = [c for c in forged["audit"]["checks"] if c["id"] != check["id"]]
        forged["provenance"]["audit"] = audit_summary(forged["audit"]).model_dump()
        assert contradicts(forged) or check["id"] in (*TOLD, "detail"), check["id"]


def test_verdicts_are_told_again_as_the_audit_told_them(
    evidence: Callable[..., Any],
) -> None:
    for audit in (audit_fusion(evidence(seed)) for seed in range(4)):
        checks = {check["id"]: check for check in audit.to_dict()["checks"]}
        by_colour = checks.get("read_back", {}).get("verdict") == "pass"
        for name, check in checks.items():
            if has_rule(name):
                assert contradicted(check, by_colour=by_colour) == ""


@pytest.fixture
def evidence() -> Callable[..., Any]:
    """Noise as sources and picture: every verdict occurs."""
    import torch

    from medfuse.audit import Evidence

    def make(seed: int) -> Evidence:
        generator = torch.Generator().manual_seed(seed)
        a, b = torch.rand(2, 4, 1, 48, 48, generator=generator)
        blend = (seed / 3) * a + (1 - seed / 3) * b
        shown = blend if seed else torch.rand(a.shape, generator=generator)
        return Evidence(
            a=a, b=b, luminance=shown, rgb=shown.expand(-1, 3, -1, -1), from_a=(seed / 3) * a,
            from_b=(1 - seed / 3) * b, overshoot=shown - blend, share=a,
        )  # fmt: skip

    return make


def test_every_field_of_every_header_is_that_of_the_record(copy: Path) -> None:
    record = json.loads((copy / "provenance.json").read_text())
    assert all(finding.ok for finding in check_headers(copy, record))
    for path in sorted(copy.glob("*.nii.gz")):
        packed = path.read_bytes()
        content = gzip.decompress(packed)
        for field in [*FIELDS, "extension"]:
            changed = bytearray(content)
            place = (
                348 if field == "extension" else nib.Nifti1Header().template_dtype.fields[field][1]
            )
            changed[place] ^= 1
            path.write_bytes(same_head(packed, gzip.compress(bytes(changed), 1)))
            assert not all(f.ok for f in check_headers(copy, record)), (path.name, field)
        path.write_bytes(packed)


def same_head(packed: bytes, new: bytes) -> bytes:
    return packed[:10] + new[10:]


@pytest.mark.parametrize("byte", range(10))
def test_every_byte_of_a_gzip_header_is_ours(copy: Path, byte: int) -> None:
    record = json.loads((copy / "provenance.json").read_text())
    path = copy / "luminance.nii.gz"
    content = bytearray(path.read_bytes())
    content[byte] ^= 1
    path.write_bytes(content)
    assert not all(finding.ok for finding in check_headers(copy, record))


@pytest.mark.parametrize(
    "change_bytes",
    [
        lambda packed: packed + b"payload",
        lambda packed: packed + gzip.compress(b"payload"),
        lambda packed: packed[:-9],
        lambda packed: packed[:-8] + bytes(8),
        lambda packed: same_head(packed, gzip.compress(gzip.decompress(packed) + b"x")),
        lambda packed: same_head(packed, gzip.compress(gzip.decompress(packed)[:-1])),
        lambda packed: b"",
    ],
    ids=["appended", "second member", "truncated", "checksum", "longer", "shorter", "empty"],
)
def test_a_volume_holds_its_voxels_and_nothing_else(
    copy: Path, change_bytes: Callable[[bytes], bytes]
) -> None:
    for name in VOLUMES:
        path = copy / f"{name}.nii.gz"
        packed = path.read_bytes()
        path.write_bytes(change_bytes(packed))
        with pytest.raises(Exception, match="E_NOT_A_RESULT"):
            stored(copy, name)
        path.write_bytes(packed)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("luminance.nii.gz", "anatomical_share.nii.gz"),
        ("weight_map.nii.gz", "gamut_change.nii.gz"),
        ("audit.json", "transform.json"),
        ("provenance.json", "provenance.prov.json"),
    ],
)
def test_files_that_change_places_are_found(copy: Path, one: str, other: str) -> None:
    swap(copy / one, copy / other)
    try:
        reseal_files(copy)
    except Exception:  # they are no records any more
        manifest = manifest_of(copy) | {"files": inventory(copy)}
        (copy / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    assert wrong(verify(copy)) != set()


def swap(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


@pytest.mark.parametrize("key", ["medfuse", "SimpleITK", "python", "torch"])
def test_a_version_string_excuses_nothing(copy: Path, key: str) -> None:
    def older(record: dict[str, Any]) -> None:
        record["software"][key] = "0.0.9"
        record["medfuse"] = record["software"]["medfuse"]

    edit_json(copy / "provenance.json", older)
    reseal(copy)
    assert "0.0.9" in text_of(verify(copy), "versions")
    (copy / "report.html").write_text("<h1>PASS, no lesion</h1>")
    manifest = manifest_of(copy) | {"files": inventory(copy)}
    (copy / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    assert wrong(verify(copy)) == {"report"}
    vouched = verify(copy, made_by="0.0.9")
    assert wrong(vouched) == (set() if key == "medfuse" else {"report"})
    assert key != "medfuse" or "not checked" in text_of(vouched, "report")


def test_notes_are_those_of_the_inputs_and_the_registration(copy: Path) -> None:
    edit_json(copy / "provenance.json", lambda r: r.update(notes=["SUV calibrated"]))
    reseal(copy)
    assert wrong(verify(copy)) == {"settings, steps and inputs"}


@pytest.mark.parametrize("kind", ["link", "link to a folder", "empty folder", "payload", "pipe"])
@pytest.mark.parametrize("inside", ["", "figures/"])
def test_links_empty_folders_and_payloads_are_found(copy: Path, kind: str, inside: str) -> None:
    path = copy / f"{inside}odd"
    if kind == "link":
        path.symlink_to(copy / "audit.json")
    elif kind == "link to a folder":
        path.symlink_to(copy.parent, target_is_directory=True)
    elif kind == "empty folder":
        path.mkdir()
    elif kind == "payload":
        path.write_bytes(b"payload")
    else:
        os.mkfifo(path)
    findings = tuple(check_files(copy, manifest_of(copy)))
    assert wrong(findings) == {"unknown files"}
    assert f"{inside}odd" in text_of(findings, "unknown files")


@pytest.mark.parametrize("name", ["audit.json", "luminance.nii.gz", MANIFEST])
def test_a_file_that_became_a_link_is_found(copy: Path, name: str, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    (copy / name).rename(moved)
    (copy / name).symlink_to(moved)
    assert "unknown files" in wrong(tuple(check_files(copy, manifest_of(copy))))


@pytest.mark.parametrize("name", [".lock", "manifest.json.minisig"])
def test_names_that_are_not_hashed_hide_nothing(copy: Path, name: str) -> None:
    (copy / name).write_text("payload")
    assert "unknown files" in wrong(tuple(check_files(copy, manifest_of(copy))))


@pytest.mark.parametrize("beside", ["payload.exe", "folder/payload", "logs/x.exe", "b/batch.jsonl"])
def test_what_lies_beside_the_results_is_found(copy: Path, beside: str) -> None:
    path = copy.parent / beside
    path.parent.mkdir(exist_ok=True)
    path.write_text("x")
    (copy.parent / "batch.jsonl").write_text("")
    findings = verify_study(copy.parent)[""]
    assert wrong(findings) == {"unknown files beside the results"}
    assert "batch.jsonl" in text_of(findings, "papers of the study")


def two_cases(study: Path, folder: Path) -> None:
    """A study in which two cases have other images."""
    for case in ("a", "b"):
        shutil.copytree(study, folder / case)
    image = nib.load(folder / "b" / "mr-t1.nii.gz")
    values = np.asarray(image.dataobj)[::-1].copy()
    nib.save(nib.Nifti1Image(values, image.affine, image.header), folder / "b" / "mr-t1.nii.gz")


@pytest.mark.parametrize("resealed", [False, True])
def test_two_cases_that_were_exchanged_are_found(
    copy: Path, study: Path, tmp_path: Path, resealed: bool
) -> None:
    two_cases(study, tmp_path / "inputs")
    renamed = copy.rename(copy.with_name("a"))
    for name in ("provenance.json", "audit.json", MANIFEST):
        edit_json(renamed / name, lambda r: r.update(case="a"))
    reseal(renamed)
    right = verify(renamed, inputs=tmp_path / "inputs")
    assert wrong(right) == set()
    assert text_of(right, "place of the inputs") == "those of a"
    exchanged = renamed.rename(renamed.with_name("b"))
    if not resealed:
        assert wrong(verify(exchanged)) == {"folder name"}
        return
    for name in ("provenance.json", "audit.json", MANIFEST):
        edit_json(exchanged / name, lambda r: r.update(case="b"))
    reseal(exchanged)
    assert wrong(verify(exchanged)) == set(), "only the inputs tell"
    assert wrong(verify(exchanged, inputs=tmp_path / "inputs")) == {"place of the inputs"}
