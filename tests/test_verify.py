"""Whatever is changed in a result folder, or in its inputs, is found."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medfuse.cli import run
from medfuse.errors import InputError
from medfuse.imaging.export import write_nifti
from medfuse.imaging.folder import MANIFEST, inventory
from medfuse.pipeline import CaseSettings, run_case
from medfuse.verify import verify


@pytest.fixture(scope="module")
def study(sample_data: Path) -> Path:
    return sample_data / "study" / "sts001-aligned"


@pytest.fixture(scope="module")
def result(study, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("verify") / "case"
    settings = CaseSettings(registration="identity", mode="volume", bias=0.1)
    run_case(study / "mr-t1.nii.gz", study / "pet-suv-dicom", out, settings, case="case")
    return out


@pytest.fixture
def copy(result, tmp_path) -> Path:
    return Path(shutil.copytree(result, tmp_path / "case"))


def wrong(findings) -> set[str]:
    return {finding.what for finding in findings if not finding.ok}


def reseal(folder: Path) -> None:
    """What a careful forger would do: make manifest and provenance agree with the files again."""
    provenance = json.loads((folder / "provenance.json").read_text())
    found = inventory(folder)
    provenance["outputs"] = {name: found[name]["sha256"] for name in provenance["outputs"]}
    (folder / "provenance.json").write_text(json.dumps(provenance))
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"] = inventory(folder)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_an_untouched_result_is_reproduced_to_the_bit(result, study):
    findings = verify(result, inputs=study)
    assert wrong(findings) == set()
    assert {f.what for f in findings} >= {
        "altered files", "anatomical input", "functional input", "resampled functional",
        "fused luminance", "fused picture", "weights of the guide", "audit numbers", "registration",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["fused_rgb.nii.gz", "report.html", "transform.tfm"])
def test_one_flipped_bit_in_any_output_is_found(copy, name):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    altered = next(f for f in verify(copy) if f.what == "altered files")
    assert not altered.ok
    assert name in altered.text


def test_missing_and_added_files_are_found(copy):
    (copy / "luminance.nii.gz").unlink()
    (copy / "extra.txt").write_text("x")
    assert {"missing files", "unknown files"} <= wrong(verify(copy))


def test_an_edited_audit_is_found_even_when_the_hashes_were_made_to_fit(copy, study):
    audit = json.loads((copy / "audit.json").read_text())
    audit["checks"][0]["value"] = 0.0
    (copy / "audit.json").write_text(json.dumps(audit))
    assert "altered files" in wrong(verify(copy))
    reseal(copy)
    assert wrong(verify(copy)) == set()
    assert wrong(verify(copy, inputs=study)) == {"audit numbers"}


def test_painted_luminance_is_found_even_when_the_hashes_were_made_to_fit(copy, study):
    image = nib.load(copy / "luminance.nii.gz")
    painted = np.asarray(image.dataobj).copy()
    painted[40:60, 40:60, 30] = 1.0
    write_nifti(copy / "luminance.nii.gz", painted, image.affine)
    reseal(copy)
    findings = verify(copy, inputs=study)
    assert wrong(findings) == {"fused luminance"}
    text = next(f.text for f in findings if f.what == "fused luminance")
    assert "voxels differ" in text


def test_a_swapped_input_is_found(result, study, tmp_path):
    inputs = tmp_path / "inputs"
    shutil.copytree(study, inputs)
    image = nib.load(inputs / "mr-t1.nii.gz")
    values = np.asarray(image.dataobj).copy()
    values[80, 80, 30] += 1
    nib.save(nib.Nifti1Image(values, image.affine, image.header), inputs / "mr-t1.nii.gz")
    assert wrong(verify(result, inputs=inputs)) == {"anatomical input"}


def test_a_folder_that_is_no_result_or_lacks_the_inputs_is_refused(result, tmp_path):
    with pytest.raises(InputError, match="E_NOT_A_RESULT"):
        verify(tmp_path)
    with pytest.raises(InputError, match="E_NO_INPUT"):
        verify(result, inputs=tmp_path)


def test_the_command_prints_a_table_and_exits_8_when_something_is_wrong(copy, capsys):
    assert run(["verify", str(copy), "--json"]) == 0
    assert all(f["ok"] for f in json.loads(capsys.readouterr().out))
    (copy / "audit.json").write_text("{}")
    assert run(["verify", str(copy)]) == 8
    assert "audit.json" in capsys.readouterr().out
