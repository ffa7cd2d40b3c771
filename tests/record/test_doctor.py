"""What is pasted into a bug report: enough to find the fault, and nothing about the person."""

from __future__ import annotations

import getpass
import json
import socket
from pathlib import Path

import pytest

from medfuse.cli.app import run
from medfuse.imaging import downloads
from medfuse.record import doctor


def test_the_doctor_names_versions_and_devices_and_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    home = tmp_path / "zzphi-user"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv(downloads.FOLDER, str(tmp_path / "project-of-zzphi"))
    assert run(["doctor", "--json"]) == 0
    text = capsys.readouterr().out
    found = json.loads(text)
    assert found["packages"]["torch"]
    assert found["devices"]["cpu"]
    assert found["codecs"]["RLE Lossless"] == ["pydicom"]
    assert found["sample"] is True
    assert "zzphi" not in text
    for word in (socket.gethostname(), getpass.getuser(), str(Path.cwd())):
        assert len(word) < 5 or word not in text


def test_what_will_not_work_is_said_with_a_remedy(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    found = doctor.examine()
    found["packages"]["pooch"] = None
    found["codecs"]["JPEG 2000"] = []
    found["folders"]["temporary"] |= {"free_gb": 0.1, "writable": False}
    found["display"]["qt"], found["extras"]["napari"] = [], {"napari": "0.6"}
    told = " ".join(doctor._problems(found))
    for words in ("pip install medfuse", "medfuse[codecs]", "TMPDIR", "napari[pyqt6]"):
        assert words in told
    monkeypatch.setattr(doctor, "examine", lambda: found | {"problems": ["A thing is missing."]})
    assert run(["doctor"]) == 0
    assert "A thing is missing." in capsys.readouterr().err
