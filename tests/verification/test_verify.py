"""Whatever is changed in a result, or in its inputs, is found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medfuse.case.pipeline import CaseSettings, run_case
from medfuse.cli.app import run
from medfuse.errors import InputError
from medfuse.record.provenance import PROV_FILE, SCHEMA_FILE
from medfuse.results.export import write_nifti
from medfuse.results.folder import MANIFEST, inventory
from medfuse.verification import signing
from medfuse.verification.verify import verify, verify_study
from tests._helpers.forger import CHOSEN, edit_json, reseal, text_of, wrong


def test_an_untouched_result_is_reproduced_to_the_bit_from_inputs_under_any_name(
    result: Path, study: Path, tmp_path: Path
) -> None:
    (tmp_path / "deep" / "x").mkdir(parents=True)
    shutil.copy(study / "mr-t1.nii.gz", tmp_path / "deep" / "renamed.nii.gz")
    for number, path in enumerate(sorted((study / "pet-suv-dicom").iterdir(), reverse=True)):
        shutil.copy(path, tmp_path / "deep" / "x" / f"{number}.ima")
    findings = verify(result, inputs=tmp_path)
    assert wrong(findings) == set()
    assert {f.what for f in findings} >= {
        "altered files", "records restated", "share and luminance", "anatomical input",
        "functional input", "resampled functional", "fused luminance", "fused image",
        "weights of the guide", "audit numbers", "registration", "files made again",
        "provenance made again",
    }  # fmt: skip


@pytest.mark.parametrize("method", ["gifnet", "unfolding", "unfolding-features"])
def test_methods_that_paint_or_iterate_are_reproduced_too(method, study, tmp_path) -> None:
    out = tmp_path / "results" / "case"
    chosen = CaseSettings(registration="identity", accept_suspect=True, method=method)
    run_case(study / "mr-t1.nii.gz", study / "pet-suv-dicom", out, chosen, case="case")
    assert wrong(verify(out, inputs=study)) == set()
    checks = json.loads((out / "audit.json").read_text())["checks"]
    linear = next(check for check in checks if check["id"] == "linearity")
    assert linear["verdict"] == ("pass" if method == "unfolding" else "fail")
    assert (out / "painted.nii.gz").is_file() == (method != "unfolding")
    steps = json.loads((out / "provenance.json").read_text())["steps"]
    solved = next(step["result"] for step in steps if step["name"] == "fuse")
    assert solved.get("converged", method == "gifnet") is True


def test_the_record_of_a_real_case_fits_the_schema_of_the_package(result: Path) -> None:
    record = json.loads((result / "provenance.json").read_text())
    jsonschema.validate(record, json.loads(SCHEMA_FILE.read_text()))
    assert record["colormap"]["name"] == record["steps"][3]["parameters"]["colormap"]
    assert record["audit"]["counts"]["pass"] > 5


def test_one_flipped_bit_in_any_file_is_found_and_the_file_named(copy: Path) -> None:
    paths = sorted(p for p in copy.rglob("*") if p.is_file() and p.name != MANIFEST)
    assert len(paths) > 20
    for path in paths:
        content = path.read_bytes()
        flipped = bytearray(content)
        flipped[len(flipped) // 2] ^= 1
        path.write_bytes(flipped)
        name = path.relative_to(copy).as_posix()
        assert text_of(verify(copy), "altered files") == name
        path.write_bytes(content)
    assert wrong(verify(copy)) == set()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_of_the_manifest_is_found(
    manifest_only: Path, place: float, bit: int
) -> None:
    path = manifest_only / MANIFEST
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[int(place * len(flipped))] ^= 1 << bit
    path.write_bytes(flipped)
    try:
        assert run(["verify", str(manifest_only), "--json"]) == 8
    finally:
        path.write_bytes(content)


@pytest.fixture
def manifest_only(tmp_path: Path, result: Path) -> Path:
    """The records alone, so that one verification takes milliseconds."""
    folder = tmp_path / "case"
    folder.mkdir()
    for name in ("provenance.json", "audit.json"):
        shutil.copy(result / name, folder / name)
    found = {"schema": "medfuse-manifest/1", "case": "case", "key": "k", "files": inventory(folder)}
    (folder / MANIFEST).write_text(json.dumps(found, indent=1) + "\n")
    return folder


def test_missing_and_added_files_are_found(copy: Path) -> None:
    (copy / "luminance.nii.gz").unlink()
    (copy / "figures" / MANIFEST).write_text("{}")
    findings = verify(copy)
    assert {"missing files", "unknown files", "picture"} <= wrong(findings)
    assert text_of(findings, "picture") == "luminance.nii.gz cannot be read"


def test_an_edited_audit_is_found_even_when_all_records_were_made_to_fit(copy, study) -> None:
    edit_json(copy / "audit.json", lambda audit: audit["checks"][0].update(value=0.0))
    assert "altered files" in wrong(verify(copy))
    reseal(copy)
    assert wrong(verify(copy)) == set(), "nobody can tell without the inputs or a signature"
    assert wrong(verify(copy, inputs=study)) == {"audit numbers", "files made again"}


def test_a_verdict_that_its_checks_do_not_give_is_found_without_the_inputs(copy: Path) -> None:
    edit_json(copy / "audit.json", lambda audit: audit.update(verdict="pass"))
    reseal(copy)
    assert wrong(verify(copy)) == {"audit verdict"}


def paint(folder: Path, name: str) -> None:
    image = nib.load(folder / f"{name}.nii.gz")
    values = np.asarray(image.dataobj).copy()
    if values.dtype.names:
        values = np.stack([values[c] for c in "RGB"]).astype(np.float32) / 255
        values[:, 20:40, 20:40, 8] = 1.0
    else:
        values[20:40, 20:40, 8] = 1.0
    write_nifti(folder / f"{name}.nii.gz", values, image.affine)
    reseal(folder)


@pytest.mark.parametrize(
    ("name", "alone", "with_inputs"),
    [
        ("fused_rgb", "fused image", "fused image"),
        ("luminance", "fused image", "fused luminance"),
        ("anatomical_share", "share and luminance", "anatomical share"),
        ("weight_map", "share and luminance", "weights of the guide"),
        ("functional_on_anatomical", "fused image", "resampled functional"),
    ],
)
def test_painted_volumes_are_found_even_when_all_records_were_made_to_fit(
    copy: Path, study: Path, name: str, alone: str, with_inputs: str
) -> None:
    paint(copy, name)
    findings = verify(copy)
    assert alone in wrong(findings)
    assert not {"altered files", "records restated"} & wrong(findings)
    assert "differ" in text_of(findings, alone) or "off by" in text_of(findings, alone)
    if name == "luminance":
        findings = verify(copy, inputs=study)
        assert with_inputs in wrong(findings)
        assert "voxels differ" in text_of(findings, with_inputs)


@pytest.mark.parametrize(
    ("functional", "name", "alone"),
    [
        ("pet", "fused_rgb", "fused image"),
        ("pet", "luminance", "fused image"),
        ("ct", "fused_rgb", "fused image"),
        ("ct", "weights_level0", "share and luminance"),
        ("ct", "anatomical_share", "share and luminance"),
    ],
)
def test_painted_volumes_of_default_pictures_are_found_too(
    sample_data: Path, study: Path, tmp_path: Path, functional: str, name: str, alone: str
) -> None:
    ct = sample_data / "study" / "sts001-aligned" / "ct.nii.gz"
    images = {"pet": study / "pet-suv-dicom", "ct": ct}
    settings = CaseSettings(
        registration="identity",
        accept_suspect=True,  # a small piece
        functional_modality="CT" if functional == "ct" else None,
    )
    out = tmp_path / "case"
    run_case(study / "mr-t1.nii.gz", images[functional], out, settings, case="case")
    assert wrong(verify(out)) == set()
    paint(out, name)
    assert alone in wrong(verify(out))


@pytest.mark.parametrize(
    ("edit", "found"),
    [
        (lambda r: r["colormap"]["table"].reverse(), "color map"),
        (lambda r: r["colormap"]["table"].reverse(), "fused image"),
        (lambda r: r["steps"][0]["result"].update(verdict="good"), "transform"),
        (lambda r: r.update(patient="x"), "records"),
        (lambda r: r["inputs"].pop("functional"), "records"),
        (lambda r: r["audit"]["counts"].update(look=0), "audit verdict"),
    ],
)
def test_an_edited_provenance_is_found_without_the_inputs(
    copy: Path, edit: Callable[[dict[str, Any]], Any], found: str
) -> None:
    edit_json(copy / "audit.json", lambda a: (a.update(verdict="look"), look_at(a)))
    if found in ("transform", "color map", "fused image"):
        edit_json(copy / "provenance.json", edit)
        reseal(copy)
    else:
        reseal(copy)
        edit_json(copy / "provenance.json", edit)
    assert found in wrong(verify(copy))


def look_at(audit: dict[str, Any]) -> None:
    audit["checks"][0]["verdict"] = "look"


def test_an_edited_provenance_is_found_even_when_all_records_were_made_to_fit(
    copy: Path, study: Path
) -> None:
    def edit(record: dict[str, Any]) -> None:
        record["settings"]["bias"] = 0.2
        record["guide"]["weights_sha256"] = "0" * 64
        record["inputs"]["functional"]["unit"] = "Bq/ml"

    edit_json(copy / "provenance.json", edit)
    reseal(copy)
    findings = verify(copy, inputs=study)
    assert {"guide", "weights of the guide", "provenance made again"} <= wrong(findings)
    text = text_of(findings, "provenance made again")
    assert "guide" in text
    assert "inputs.functional.unit" in text


@pytest.mark.parametrize("name", ["report.html", "transform.tfm", PROV_FILE])
def test_files_that_follow_from_others_cannot_be_rewritten(copy: Path, name: str) -> None:
    content = (copy / name).read_text()
    changed = re_digit(content)
    assert changed != content
    (copy / name).write_text(changed)
    manifest = json.loads((copy / MANIFEST).read_text()) | {"files": inventory(copy)}
    (copy / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    what = "report" if name == "report.html" else "records restated"
    assert what in wrong(verify(copy))
    assert name in text_of(verify(copy), what)


def re_digit(text: str) -> str:
    """Another last digit somewhere in the middle."""
    place = next(i for i in range(len(text) // 2, len(text)) if text[i] in "12345678")
    return text[:place] + str(int(text[place]) + 1) + text[place + 1 :]


def test_a_swapped_input_is_found(result: Path, study: Path, tmp_path: Path) -> None:
    inputs = tmp_path / "inputs"
    shutil.copytree(study, inputs)
    image = nib.load(inputs / "mr-t1.nii.gz")
    values = np.asarray(image.dataobj).copy()
    values[30, 30, 8] += 1
    nib.save(nib.Nifti1Image(values, image.affine, image.header), inputs / "mr-t1.nii.gz")
    findings = verify(result, inputs=inputs)
    assert wrong(findings) == {"anatomical input"}
    assert text_of(findings, "anatomical input") == "no image with this content was found"


def test_a_start_of_the_registration_is_recorded_and_replayed(study: Path, tmp_path: Path) -> None:
    matrix = np.eye(4)
    matrix[:3, 3] = 1.25, -2.5, 1 / 3
    np.savetxt(tmp_path / "start.txt", matrix, fmt="%.17g")
    chosen = CHOSEN.model_copy(update={"initial": str(tmp_path / "start.txt"), "method": "mean"})
    pair = study / "mr-t1.nii.gz", study / "pet-suv-dicom"
    run_case(*pair, tmp_path / "case", chosen, case="case")
    record = json.loads((tmp_path / "case" / "provenance.json").read_text())
    assert record["settings"]["initial"] == "given"
    assert np.array_equal(record["steps"][0]["parameters"]["initial"], matrix)
    findings = verify(tmp_path / "case", inputs=study)
    assert wrong(findings) == set()
    assert text_of(findings, "registration") == "same transform"


def test_a_folder_that_is_no_result_or_lacks_the_inputs_is_refused(result, tmp_path) -> None:
    with pytest.raises(InputError, match="E_NOT_A_RESULT"):
        verify(tmp_path)
    with pytest.raises(InputError, match="E_NOT_A_RESULT"):
        verify_study(tmp_path / "nowhere")
    with pytest.raises(InputError, match="E_NO_INPUT"):
        verify(result, inputs=tmp_path / "nowhere")


def test_the_command_prints_a_table_and_exits_8_when_something_is_wrong(copy, capsys) -> None:
    assert run(["verify", str(copy), "--json"]) == 0
    assert all(f["ok"] for f in json.loads(capsys.readouterr().out))
    (copy / "audit.json").write_text("{}")
    assert run(["verify", str(copy)]) == 8
    assert "audit.json" in capsys.readouterr().out


def test_a_whole_batch_is_verified_with_a_line_a_case(copy: Path, capsys) -> None:
    assert run(["verify", str(copy.parent)]) == 0
    other = shutil.copytree(copy, copy.parent / "other")
    assert wrong(verify(other)) == {"folder name"}
    (other / "audit.json").write_text("{}")
    assert run(["verify", str(copy.parent)]) == 8
    shown = capsys.readouterr().out.splitlines()
    assert next(line for line in reversed(shown) if "altered files" in line).count("other") == 1
    assert run(["verify", str(copy.parent), "--json"]) == 8
    found = json.loads(capsys.readouterr().out)
    assert {case: all(f["ok"] for f in fs) for case, fs in found.items()} == {
        "case": True, "other": False,
    }  # fmt: skip


def test_a_forger_who_made_everything_fit_is_found_by_the_signature(copy: Path) -> None:
    public, _ = signing.make_key(copy.parent.parent / "lab.key")
    signing.sign(copy.parent, copy.parent.parent / "lab.key")
    assert wrong(verify(copy, public_key=public)) == set()
    edit_json(copy / "audit.json", lambda audit: audit["checks"][0].update(value=0.0))
    reseal(copy)
    findings = verify(copy, public_key=public)
    assert wrong(findings) == {"signature"}
    assert text_of(findings, "signature") == f"altered: case/{MANIFEST}"
    assert wrong(verify_study(copy.parent, public_key=public)[""]) == {"signature"}


def test_a_result_of_a_version_with_fewer_settings_still_verifies(copy: Path, study: Path) -> None:
    def older(record: dict[str, Any]) -> None:
        record["settings"].pop("style")
        record["software"]["medfuse"] = record["medfuse"] = "0.0.9"

    edit_json(copy / "provenance.json", older)
    reseal(copy)
    findings = verify(copy, inputs=study)
    assert wrong(findings) == set()
    assert "not in it: settings.style" in text_of(findings, "provenance made again")
    assert "medfuse 0.0.9" in text_of(findings, "versions")
