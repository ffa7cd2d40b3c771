"""The record of a case: complete, checkable, and nobody's name in it."""

from __future__ import annotations

import getpass
import hashlib
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data.meta_tensor import MetaTensor
from pydantic import ValidationError

import medfuse
from medfuse.methods.base import MethodInfo
from medfuse.provenance import (
    Provenance,
    build_provenance,
    json_schema,
    sanitize,
    sanitize_command,
    sanitize_text,
    to_prov_json,
    write_provenance,
)


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
        "audit_verdict": "pass",
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
    assert record["guide"] == {"name": "swift", "weights_sha256": "c" * 64, "card": {}}
    assert record["timing"] == {"load": 1.235}
    assert "Research use only" in record["notice"]


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
    software = _record()["software"]
    assert software["medfuse"] == medfuse.__version__
    assert software["torch"] == torch.__version__
    assert software["platform"] == f"{platform.system()}-{platform.machine()}"
    assert set(software) == {
        *("medfuse", "python", "torch", "monai", "SimpleITK", "numpy", "nibabel", "pydicom"),
        *("platform", "cpus"),
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
