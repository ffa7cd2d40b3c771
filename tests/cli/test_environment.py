"""Names, places and terminals that are not as expected: it works, or one line says why not."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medfuse.cli.app import run

QUICK = ("--registration", "identity", "--method", "mean", "--accept-suspect")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ball with a hot spot; in a folder whose name is no UTF-8."""
    root = os.fsencode(tmp_path_factory.mktemp("images")) + b"/M\xfcller"
    os.mkdir(root)
    x, y, z = np.mgrid[:24, :26, :20].astype("f4")
    body = ((x - 12) ** 2 + (y - 13) ** 2 + (z - 10) ** 2 < 64).astype("f4")
    spot = ((x - 15) ** 2 + (y - 10) ** 2 + (z - 11) ** 2 < 9).astype("f4")
    folder = Path(os.fsdecode(root))
    for name, values in (("t1", body * (300 + 40 * np.sin(x))), ("pet", body + 5 * spot)):
        nib.save(nib.Nifti1Image(values, np.diag([2.0, 2, 2, 1])), folder / f"{name}.nii.gz")
    return folder


def command(name: str, *arguments: object) -> int:
    return run([name, *map(str, arguments)])


def test_paths_that_are_no_utf8_are_read_and_written(images: Path, capsys) -> None:
    t1, pet = images / "t1.nii.gz", images / "pet.nii.gz"
    assert command("register", t1, pet, "-o", images / "x.tfm", "--registration", "identity") == 0
    assert command("register", t1, pet, "-o", images / "x.json", "--registration", "identity") == 0
    assert json.loads((images / "x.json").read_text())["verdict"]
    start = ("--initial", images / "x.tfm", "--keep-names")
    assert command("fuse", t1, pet, "-o", images / "M", *QUICK, *start) == 0
    assert command("verify", images / "M", "--inputs", images) == 0
    assert "M%FCller" in capsys.readouterr().err
    assert not [*images.rglob("*.tmp"), *images.rglob(".medfuse*")]


def test_an_output_folder_that_is_no_utf8_is_a_result(images: Path) -> None:
    out = Path(os.fsdecode(os.fsencode(images) + b"/\xe9t\xe9"))
    assert command("fuse", images / "t1.nii.gz", images / "pet.nii.gz", "-o", out, *QUICK) == 0
    assert json.loads((out / "manifest.json").read_text())["case"] == "%E9t%E9"
    assert command("verify", out) == 0


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_terminals_without_letters_for_a_name_are_written_to(
    images: Path, tmp_path: Path, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("t1", "pet"):
        path = tmp_path / f"李四/{name}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes((images / f"{name}.nii.gz").read_bytes())
    streams = [io.TextIOWrapper(io.BytesIO(), encoding) for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    assert command("batch", tmp_path, "-o", tmp_path / "out", "--dry-run") == 0
    streams[0].flush()
    assert b"\\u674e\\u56db" in streams[0].buffer.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("option", "code"),
    [("anatomical", "E_NOT_AN_IMAGE"), ("--initial", "E_BAD_TRANSFORM"), ("picture", "E_UNREAD")],
)
def test_a_pipe_is_refused_and_not_waited_for(
    images: Path, tmp_path: Path, capsys, option: str, code: str
) -> None:
    pipe, pet = tmp_path / "pipe.nii.gz", images / "pet.nii.gz"
    os.mkfifo(pipe)
    given = {
        "anatomical": ("fuse", pipe, pet, "-o", tmp_path / "out"),
        "--initial": ("fuse", pet, pet, "-o", tmp_path / "out", "--initial", pipe),
        "picture": ("fuse-images", pipe, pipe, "-o", tmp_path / "out.png"),
    }[option]
    assert command(*given) != 0
    assert code in capsys.readouterr().err


@pytest.mark.parametrize("name", ["x" * 300, "x" * 5000, "a/" * 3000 + "b"])
def test_names_that_are_too_long_are_one_line(
    images: Path, tmp_path: Path, capsys, name: str
) -> None:
    t1, pet = images / "t1.nii.gz", images / "pet.nii.gz"
    for arguments in (("info", name), ("fuse", name, pet, "-o", tmp_path / "o")):
        assert command(*arguments) in (2, 8)
        told = capsys.readouterr().err
        assert "file name too long" in told
        assert "E_INTERNAL" not in told
    assert command("fuse", t1, pet, "-o", tmp_path / name, *QUICK) in (4, 8)
    assert "ile name too long" in capsys.readouterr().err


def test_the_folder_of_the_user_is_known(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(images))
    target = tmp_path / "x.json"
    pair = ("~/t1.nii.gz", "~/pet.nii.gz", "--registration", "identity")
    assert command("register", *pair, f"--out={target}") == 0
    assert command("register", *pair, "--out=~/here.json") == 0
    assert (images / "here.json").read_bytes() == target.read_bytes()


def test_a_result_within_an_input_folder_is_refused(
    sample_data: Path, tmp_path: Path, capsys
) -> None:
    for name in ("mr-t2", "pet-fdg"):
        (tmp_path / name).symlink_to(sample_data / "study/sts001" / name)
    out = tmp_path / "pet-fdg/result"
    assert command("fuse", tmp_path / "mr-t2", tmp_path / "pet-fdg", "-o", out, *QUICK) == 2
    assert "E_OUTPUT_IN_INPUT" in capsys.readouterr().err
    assert not out.exists()


def test_a_transform_that_cannot_be_written_leaves_nothing(
    images: Path, tmp_path: Path, capsys
) -> None:
    (tmp_path / "file").write_text("")
    for place in ("none/x.json", "none/x.tfm", "file/x.tfm"):
        pair = (images / "t1.nii.gz", images / "pet.nii.gz", "--registration", "identity")
        assert command("register", *pair, "-o", tmp_path / place) == 4
        assert "E_WRITE" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
