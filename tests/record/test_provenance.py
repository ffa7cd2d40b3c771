"""The record of a case: complete, checkable, and nobody's name in it."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import platform
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data.meta_tensor import MetaTensor
from pydantic import ValidationError

import medfuse
from medfuse.batch.ledger import write_description
from medfuse.kernel.colormaps import COLORMAPS
from medfuse.methods.base import MethodInfo
from medfuse.record.privacy import sanitize, sanitize_command, sanitize_text
from medfuse.record.prov_json import to_prov_json
from medfuse.record.provenance import (
    SCHEMA_FILE,
    Provenance,
    bids_fields,
    build_provenance,
    colour_table,
    json_schema,
    write_provenance,
)

AUDIT = {
    "verdict": "look",
    "checks": [
        {"id": "share", "verdict": "pass"},
        {"id": "gamut", "verdict": "look"},
        {"id": "unit", "verdict": "pass"},
    ],
}


def _volume(modality: str = "PET", unit: str = "SUVbw", **more: Any) -> MetaTensor:
    meta = {
        "modality": modality,
        "unit": unit,
        "source": {
            "kind": "dicom",
            "name": "series",
            "files": 3,
            "sha256": "0" * 64,
            "frame_of_reference": "a" * 16,
            "series": "b" * 16,
            "patient": "ZZPHI-patient-hash",
            "uids": {"frame_of_reference": "1.2.3.4", "series": "1.2.3.5"},
            "secret": "ZZPHI-secret",
        },
        "suv": {"available": True, "weight_kg": 71.0, "factor": float("nan")},
        "notes": ["read from /home/zzphi/scans/pet"],
        **more,
    }
    affine = torch.diag(torch.tensor([-2.0, 2.0, 3.0, 1.0], dtype=torch.float64))
    return MetaTensor(torch.zeros(1, 4, 5, 6), affine=affine, meta=meta)


def _record(**more: Any) -> dict[str, Any]:
    content: dict[str, Any] = {
        "case": "sub-01",
        "inputs": {"anatomical": _volume("MRI", "a.u."), "functional": _volume()},
        "steps": [
            {"name": "register", "result": {"matrix": np.eye(4), "path": Path("/srv/x/t.tfm")}},
            {"name": "fuse", "parameters": {"method": "swift"}},
        ],
        "settings": {"method": "/opt/models/own.safetensors", "window": (0.0, 6.0)},
        "key": "key",
        "guide": MethodInfo("swift", "a network", "guide", weights_sha256="c" * 64),
        "audit": AUDIT,
        "colormap": "ember",
        "command": "medfuse fuse /home/zzphi/t1.nii.gz pet -o out",
        "notes": ("one remark",),
        "timing": {"load": 1.23456},
    }
    return build_provenance(**(content | more))


def test_record_fits_its_schema_and_is_plain_json() -> None:
    record = _record()
    text = json.dumps(record, allow_nan=False)
    assert Provenance.model_validate_json(text).case == "sub-01"
    assert record["schema"] == "medfuse-provenance/1"
    assert record["inputs"]["functional"]["spacing_mm"] == [2.0, 2.0, 3.0]
    assert record["inputs"]["functional"]["shape"] == [4, 5, 6]
    assert record["inputs"]["functional"]["suv"] == {
        "available": True,
        "weight_kg": 71.0,
        "factor": None,
    }
    assert record["steps"][0]["result"]["matrix"] == np.eye(4).tolist()
    assert record["guide"] == {
        "name": "swift",
        "kind": "guide",
        "weights_sha256": "c" * 64,
        "card": {},
    }
    assert record["timing"] == {"load": 1.235}
    assert "Research use only" in record["notice"]
    assert record["audit"] == {
        "verdict": "look",
        "counts": {"pass": 2, "look": 1, "fail": 0},
        "not_passed": {"gamut": "look"},
    }


def test_schema_file_of_the_package_is_that_of_the_model(tmp_path: Path) -> None:
    shipped = json.loads(SCHEMA_FILE.read_text("utf-8"))
    assert shipped == json_schema(), "python -m medfuse.record.provenance > " + SCHEMA_FILE.name
    jsonschema.Draft202012Validator.check_schema(shipped)
    jsonschema.validate(write_provenance(tmp_path, _record()), shipped)
    with pytest.raises(jsonschema.ValidationError, match="patient"):
        jsonschema.validate(_record() | {"patient": "x"}, shipped)


def test_colour_map_is_in_the_record_as_the_table_that_was_used() -> None:
    record = _record()["colormap"]
    rows = np.array([[float(v) for v in row.split()] for row in record["table"]], dtype="<f4")
    assert np.array_equal(rows, COLORMAPS["ember"].numpy())
    assert hashlib.sha256(rows.tobytes()).hexdigest() == record["sha256"]
    assert colour_table("hot").sha256 != record["sha256"]
    assert _record(colormap=None)["colormap"] is None


def test_uids_are_hashed_with_the_salt_that_is_given_or_with_a_secret_of_the_case() -> None:
    own, again = _record(), _record()
    study, other = _record(uid_salt=b"s" * 32), _record(uid_salt=b"t" * 32)
    series = [r["inputs"]["functional"]["series"] for r in (own, again, study, other)]
    assert series[0] == series[1]
    assert len({*series, hashlib.sha256(b"1.2.3.5").hexdigest()[:16]}) == 4
    assert "1.2.3" not in json.dumps([own, study])
    kept = _record(settings={"keep_uids": True}, uid_salt=b"s" * 32)
    assert kept["inputs"]["functional"]["series"] == "1.2.3.5"
    assert [r["identifiers"] for r in (own, study, kept)] == [
        "hashed with a secret of the case", "hashed with a study salt", "kept",
    ]  # fmt: skip


def test_names_of_inputs_are_written_only_when_asked_for() -> None:
    assert _record()["inputs"]["functional"]["name"] is None
    kept = _record(settings={"keep_names": True, "initial": "/home/zzphi/start.txt"})
    assert kept["inputs"]["functional"]["name"] == "series"
    assert kept["settings"]["initial"] == "start.txt"
    settings = {"initial": "zzphi.txt", "functional_series": "1.2.3.5", "anatomical_series": "4"}
    hidden = _record(settings=settings)["settings"]
    assert hidden == {
        "initial": "given", "functional_series": "given by UID", "anatomical_series": "4",
    }  # fmt: skip


def test_results_inside_a_data_set_link_to_it_and_others_name_no_folder(tmp_path: Path) -> None:
    inside, outside = tmp_path / "ds" / "derivatives" / "medfuse", tmp_path / "out"
    for folder in (inside, outside):
        folder.mkdir(parents=True)
    (tmp_path / "ds" / "dataset_description.json").write_text("{}")
    for folder, links in ((inside, {"raw": "../.."}), (outside, None)):
        write_description(folder)
        content = json.loads((folder / "dataset_description.json").read_text())
        assert content["DatasetType"] == "derivative"
        assert content.get("DatasetLinks") == links


def test_card_of_an_own_guide_keeps_its_numbers_and_loses_names() -> None:
    card = {
        "command": "train ZZPHI",
        "data": {"name": "ZZPHI", "pairs": 3, "validation": ["ZZPHI"]},
    }
    guide = {"name": "own", "weights_sha256": "c" * 64, "card": card}
    assert _record(guide=guide)["guide"]["card"] == {"data": {"pairs": 3}}
    shipped = _record(guide=guide, settings={"method": "swift"})
    assert shipped["guide"]["card"] == card


def test_bids_terms_are_said_where_both_inputs_lie_in_one_data_set(tmp_path: Path) -> None:
    anat = tmp_path / "ds" / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    pet = tmp_path / "ds" / "sub-01" / "pet" / "sub-01_pet.nii.gz"
    assert bids_fields(anat, pet) is None
    (tmp_path / "ds").mkdir()
    (tmp_path / "ds" / "dataset_description.json").write_text("{}")
    fields = bids_fields(anat, pet)
    assert fields is not None
    assert fields["Sources"] == [
        "bids:raw:sub-01/anat/sub-01_T1w.nii.gz", "bids:raw:sub-01/pet/sub-01_pet.nii.gz",
    ]  # fmt: skip
    assert fields["SpatialReference"] == fields["Sources"][0]
    assert fields["GeneratedBy"] == [{"Name": "medfuse", "Version": medfuse.__version__}]
    assert _record(bids=fields)["bids"] == fields
    assert bids_fields(anat, tmp_path / "elsewhere.nii.gz") is None
    assert bids_fields(tmp_path / "ds" / "sourcedata" / "x", pet) is None


def test_schema_names_every_field_and_allows_no_other() -> None:
    schema = json_schema()
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == set(_record())
    assert set(schema["required"]) >= {"inputs", "steps", "settings", "key", "guide", "software"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patient": "x"}, "Extra inputs"),
        ({"schema": "medfuse-provenance/2"}, "medfuse-provenance/1"),
        ({"audit": {"verdict": "fine"}}, "verdict"),
        ({"identifiers": "shown"}, "kept"),
        ({"inputs": {"other": {}}}, "anatomical"),
    ],
)
def test_record_that_was_changed_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Provenance.model_validate(_record() | change)


def test_nobody_and_no_place_is_named() -> None:
    record = _record()
    text = json.dumps([record, to_prov_json(record)])
    assert "ZZPHI" not in text.upper().replace("'", "")
    for private in (getpass.getuser(), platform.node()):
        assert f'"{private}"' not in text
        assert f"/{private}/" not in text
    assert str(Path.home()) not in text
    assert record["command"] == "medfuse fuse t1.nii.gz pet -o out"
    assert record["settings"]["method"] == "own.safetensors"
    assert record["inputs"]["functional"]["notes"] == ["read from pet"]


def test_software_says_versions_and_class_of_machine_alone() -> None:
    record = _record()
    assert record["software"]["medfuse"] == medfuse.__version__
    assert record["software"]["torch"] == version("torch")
    assert set(record["software"]) == {
        *("medfuse", "python", "torch", "monai", "SimpleITK", "numpy", "nibabel", "pydicom"),
    }
    assert record["hardware"] == {
        "system": platform.system(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "vector_unit": torch.backends.cpu.get_cpu_capability(),
        "device": "cpu",
    }


def test_equal_cases_differ_in_time_alone(tmp_path: Path) -> None:
    first = write_provenance(tmp_path, _record(created="2026-01-01T00:00:00+00:00"))
    prov = (tmp_path / "provenance.prov.json").read_bytes()
    (tmp_path / "provenance.json").unlink()
    (tmp_path / "provenance.prov.json").unlink()
    later = _record(created="2026-02-02T00:00:00+00:00", timing={"load": 9.0})
    second = write_provenance(tmp_path, later)
    assert {k for k in first if first[k] != second[k]} == {"created", "timing"}
    assert prov == (tmp_path / "provenance.prov.json").read_bytes()


def test_outputs_are_the_hashes_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "a.png").write_bytes(b"picture")
    (tmp_path / "audit.json").write_bytes(b"{}")
    write_provenance(tmp_path, _record())
    written = json.loads((tmp_path / "provenance.json").read_text())
    assert written["outputs"] == {
        "audit.json": hashlib.sha256(b"{}").hexdigest(),
        "figures/a.png": hashlib.sha256(b"picture").hexdigest(),
    }


def test_prov_json_links_outputs_to_inputs_through_known_nodes() -> None:
    record = {**_record(), "outputs": {"fused_rgb.nii.gz": "d" * 64, "audit.json": "e" * 64}}
    prov = to_prov_json(record)
    nodes = {*prov["entity"], *prov["activity"], *prov["agent"]}
    relations = ("used", "wasGeneratedBy", "wasDerivedFrom", "wasInformedBy", "wasAssociatedWith")
    for relation in relations:
        for ends in prov[relation].values():
            assert set(ends.values()) <= nodes, relation
    assert len(prov["wasDerivedFrom"]) == 4
    hashes = {e.get("medfuse:sha256") for e in prov["entity"].values()}
    assert {"d" * 64, "e" * 64, "0" * 64} <= hashes
    values = [v for node in prov["entity"].values() for v in node.values()]
    assert all(isinstance(v, str | int | float | bool) for v in values)


def test_the_prov_package_reads_the_same_graph() -> None:
    prov = pytest.importorskip("prov.model", reason="the package prov is not installed")
    record = {**_record(), "outputs": {"fused_rgb.nii.gz": "d" * 64}}
    text = json.dumps(to_prov_json(record))
    document = prov.ProvDocument.deserialize(content=text, format="json")
    counts = Counter(type(found).__name__ for found in document.get_records())
    assert (counts["ProvEntity"], counts["ProvActivity"], counts["ProvAgent"]) == (4, 3, 1)
    assert counts["ProvDerivation"] == 2
    again = prov.ProvDocument.deserialize(content=document.serialize(format="json"), format="json")
    assert again == document


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("unit Bq/ml and g/ml, 1/2, and/or", "unit Bq/ml and g/ml, 1/2, and/or"),
        ("see https://example.org/a/b", "see https://example.org/a/b"),
        ("cannot read /data/jane/x.nii.gz: empty", "cannot read x.nii.gz: empty"),
        (r"cannot read C:\Users\jane\x.nii", "cannot read x.nii"),
        ("tag (0018,1075) ~/scans/pet", "tag (0018,1075) pet"),
        ("a\x1b[31mred\x00", "a[31mred"),
    ],
)
def test_text_keeps_units_and_loses_places(text: str, expected: str) -> None:
    assert sanitize_text(text) == expected


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (
            "medfuse fuse '/home/Jane Doe/t1 x.nii' b -o ../jane/out",
            "medfuse fuse 't1 x.nii' b -o out",
        ),
        (["medfuse", "batch", "--study=/data/jane"], "medfuse batch --study=jane"),
        (["medfuse", "fuse", r"C:\jane\a.nii", "sub-01/pet"], "medfuse fuse a.nii sub-01/pet"),
        ("medfuse fuse 'unbalanced", "medfuse fuse ''\"'\"'unbalanced'"),
        ("", ""),
    ],
)
def test_command_keeps_names_and_loses_places(command: str | list[str], expected: str) -> None:
    assert sanitize_command(command) == expected


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_whatever_is_cleaned_is_valid_json_and_clean_already(value: Any) -> None:
    once = sanitize(value)
    json.dumps(once, allow_nan=False)
    assert sanitize(once) == once


def test_patient_hash_is_dropped_at_any_depth() -> None:
    assert sanitize({"a": [{"patient": "x", "b": 1}]}) == {"a": [{"b": 1}]}
