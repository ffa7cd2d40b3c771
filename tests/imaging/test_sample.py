"""The sample that comes with medfuse, from a clone and from a wheel."""

import tomllib
from pathlib import Path

import pytest

from medfuse.cli.app import run
from medfuse.errors import InputError
from medfuse.imaging import sample

ROOT = Path(__file__).resolve().parents[2]


def test_sample_command_writes_the_pair_that_can_be_fused(tmp_path, capsys):
    assert run(["sample", "-o", str(tmp_path / "brain")]) == 0
    assert sorted(p.name for p in (tmp_path / "brain").iterdir()) == sorted(sample.FILES)
    for name in sample.FILES:
        assert (tmp_path / "brain" / name).read_bytes() == (
            sample.sample_folder() / name
        ).read_bytes()
    assert "medfuse fuse" in " ".join("".join(capsys.readouterr()).split())


def test_wheel_takes_the_sample_along():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["data-files"]["share/medfuse/sample"]
    taken = {path.name for pattern in patterns for path in ROOT.glob(pattern)}
    assert set(sample.FILES) <= taken
    assert "ATTRIBUTION.md" in taken


def test_installation_without_the_sample_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(sample, "_CLONE", tmp_path)
    monkeypatch.setattr(sample, "_installed", lambda: iter([tmp_path / "share"]))
    with pytest.raises(InputError, match="no part of this installation"):
        sample.sample_folder()
