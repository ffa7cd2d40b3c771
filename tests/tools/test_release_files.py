"""The files of a release have the hashes that the package asks for, on every machine."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from medfuse.imaging import sample
from medfuse.methods import zoo


def load_script() -> ModuleType:
    """tools/release_files.py as a module."""
    path = Path(__file__).resolve().parents[2] / "tools" / "release_files.py"
    spec = importlib.util.spec_from_file_location("release_files", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", sample.ARCHIVES)
def test_the_archive_of_a_sample_has_the_hash_that_the_package_knows(name, tmp_path) -> None:
    folder, sha256 = sample.ARCHIVES[name]
    archive = load_script().pack(sample._STUDY / folder, tmp_path / "x.zip")
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == sha256


def test_what_the_wheel_leaves_out_is_what_the_release_takes() -> None:
    left_out = {path.stem for path in load_script().left_out()}
    assert left_out < set(zoo.shipped())
    assert zoo.DEFAULT not in left_out
