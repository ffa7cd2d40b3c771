"""The MONAI bundle: its configuration runs on the sample study, its metadata is true."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest
from monai.bundle import ConfigParser, verify_net_in_out

import medfuse
from medfuse.imaging.folder import is_complete

BUNDLE = Path(__file__).resolve().parents[2] / "workflows" / "bundle"
INFERENCE = BUNDLE / "configs" / "inference.json"
METADATA = BUNDLE / "configs" / "metadata.json"


@pytest.fixture(scope="module")
def metadata():
    return json.loads(METADATA.read_text())


def test_the_bundle_has_the_files_of_the_specification():
    for name in ("configs/metadata.json", "docs/README.md", "LICENSE", "models/README.md"):
        assert (BUNDLE / name).stat().st_size > 200


def test_metadata_has_every_mandatory_entry_and_the_version_of_medfuse(metadata):
    mandatory = {
        *("schema", "version", "monai_version", "pytorch_version", "numpy_version"),
        *("required_packages_version", "task", "description", "authors", "copyright"),
        "network_data_format",
    }
    assert mandatory <= metadata.keys()
    assert metadata["version"] == medfuse.__version__
    for plane in ("inputs", "outputs"):
        (tensor,) = metadata["network_data_format"][plane].values()
        needed = {"type", "format", "num_channels", "spatial_shape", "dtype", "value_range"}
        assert needed <= tensor.keys()


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
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(INFERENCE)]
    overrides = {"data": [case], "output_dir": str(tmp_path), "registration": "identity"}
    for name, value in overrides.items():
        command += [f"--{name}", value if isinstance(value, str) else json.dumps(value)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert is_complete(tmp_path / "one", rehash=True)
    assert "one" in done.stdout
