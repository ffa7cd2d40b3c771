"""The MONAI bundle: its configuration runs on the sample study, its metadata is true."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import pytest
from monai.bundle import ConfigParser, verify_metadata, verify_net_in_out

import medfuse
from medfuse.methods.registry import get_method
from medfuse.results.folder import is_complete

BUNDLE = Path(__file__).resolve().parents[2] / "workflows" / "bundle"
INFERENCE = BUNDLE / "configs" / "inference.json"
TRAIN = BUNDLE / "configs" / "train.json"
METADATA = BUNDLE / "configs" / "metadata.json"


@pytest.fixture
def metadata():
    return json.loads(METADATA.read_text())


def test_the_bundle_has_the_files_of_the_specification():
    for name in (
        "configs/metadata.json",
        "configs/train.json",
        "docs/README.md",
        "LICENSE",
        "models/README.md",
    ):
        assert (BUNDLE / name).stat().st_size > 200


def test_monai_verifies_the_metadata(metadata, tmp_path):
    """The published schema is on the network; this one says what MONAI's specification says."""
    schema = {
        "type": "object",
        "required": [
            *("schema", "version", "changelog", "monai_version", "pytorch_version"),
            *("numpy_version", "required_packages_version", "task", "description", "authors"),
            *("copyright", "network_data_format"),
        ],
        "properties": {
            "version": {"const": medfuse.__version__},
            "required_packages_version": {"additionalProperties": {"type": "string"}},
            "network_data_format": {
                "required": ["inputs", "outputs"],
                "additionalProperties": {"additionalProperties": {"$ref": "#/$defs/tensor"}},
            },
        },
        "$defs": {
            "tensor": {
                "required": [
                    *("type", "format", "num_channels", "spatial_shape", "dtype"),
                    *("value_range", "is_patch_data", "channel_def"),
                ],
                "properties": {"num_channels": {"type": "integer"}},
            }
        },
    }
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(schema))
    verify_metadata(meta_file=str(METADATA), filepath=str(path))
    del metadata["network_data_format"]["outputs"]["pred"]["value_range"]
    broken = tmp_path / "metadata.json"
    broken.write_text(json.dumps(metadata))
    with pytest.raises(ValueError, match="Failed validating"):
        verify_metadata(meta_file=str(broken), filepath=str(path))


def test_every_package_that_the_bundle_asks_for_exists(metadata):
    for name in metadata["required_packages_version"]:
        assert importlib.metadata.version(name)


def test_the_network_takes_and_gives_what_the_metadata_says():
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(METADATA),
        config_file=str(INFERENCE),
        device="cpu",
        n=2,
        bundle_root=str(BUNDLE),
    )


def test_the_network_is_the_one_that_fuses():
    parser = ConfigParser()
    parser.read_config(str(INFERENCE))
    network, guide = parser.get_parsed_content("network_def"), parser.get_parsed_content("guide")
    assert network is guide.net
    assert len(guide.info.weights_sha256) == 64


def test_monai_bundle_run_fuses_a_case_of_the_sample_study(sample_data, tmp_path):
    folder = sample_data / "study" / "sts001-aligned"
    case = {
        "case": "one",
        "anatomical": str(folder / "ct.nii.gz"),
        "functional": str(folder / "pet-suv-dicom"),
    }
    said = run_bundle(
        INFERENCE, tmp_path, data=[case], output_dir=str(tmp_path), registration="identity"
    )
    assert is_complete(tmp_path / "one", rehash=True)
    assert "one" in said


@pytest.mark.slow
def test_monai_bundle_run_trains_a_guide_that_fuses(sample_data, tmp_path):
    for name in ("ct", "mr-t1"):
        whole = nib.load(sample_data / f"study/sts001-aligned/{name}.nii.gz")
        nib.save(whole.slicer[40:104, 40:104, 18:22], tmp_path / f"{name}.nii.gz")
    study = tmp_path / "cases.csv"
    rows = [f"{case},mr-t1.nii.gz,ct.nii.gz,identity" for case in ("one", "two")]
    study.write_text("\n".join(["case,anatomical,functional,registration", *rows]))
    paths = {
        "study": study,
        "slices_dir": tmp_path / "slices",
        "output": tmp_path / "g.safetensors",
    }
    said = run_bundle(TRAIN, tmp_path, steps=1, **{k: str(v) for k, v in paths.items()})
    assert "1 steps" in said
    assert not (tmp_path / "slices").exists()
    assert get_method(tmp_path / "g.safetensors").info.card["recipe"]["name"] == "in-domain"


def run_bundle(config: Path, cwd: Path, **overrides: object) -> str:
    """What ``python -m monai.bundle run`` prints."""
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(config)]
    for name, value in overrides.items():
        command += [f"--{name}", value if isinstance(value, str) else json.dumps(value)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=cwd)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
