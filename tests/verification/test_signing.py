"""A signature holds for what was signed, by whom, and for nothing else; minisign agrees."""

from __future__ import annotations

import base64
import builtins
import json
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from medfuse.cli.app import run
from medfuse.errors import InputError, UsageError
from medfuse.results.folder import MANIFEST, ResultFolder, inventory
from medfuse.verification.signing import BadSignature, check_signature, make_key, read_public, sign
from medfuse.verification.verify import _study_signature as study_signature

LIST = "manifests.sha256"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A study of two small results and its table."""
    for case in ("one", "two"):
        with ResultFolder(tmp_path / "results" / case, key="k") as folder:
            (folder.path / "audit.json").write_text(json.dumps({"case": case}))
    (tmp_path / "results" / "summary.csv").write_text("case,status\none,done\ntwo,done\n")
    return tmp_path / "results"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    make_key(tmp_path / "lab.key")
    return tmp_path / "lab.key"


def public(key: Path) -> Path:
    return key.with_name(f"{key.name}.pub")


def test_secret_key_is_for_its_owner_alone_and_never_overwritten(key: Path) -> None:
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = key.read_bytes(), public(key).read_bytes()
    with pytest.raises(UsageError, match=r"lab.key: it exists.*never overwritten.*\[E_KEY\]"):
        make_key(key)
    key.rename(key.with_name("moved"))
    with pytest.raises(UsageError, match=r"lab\.key\.pub: it exists"):
        make_key(key)
    assert (key.with_name("moved").read_bytes(), public(key).read_bytes()) == before


def test_signed_study_is_whole(results: Path, key: Path) -> None:
    path, who, count = sign(results, key)
    assert (path.name, count) == (f"{LIST}.minisig", 2)
    lines = (results / LIST).read_text().splitlines()
    assert [line.split("  ")[1] for line in lines] == [
        f"one/{MANIFEST}", "summary.csv", f"two/{MANIFEST}",
    ]  # fmt: skip
    finding = study_signature(results, read_public(public(key)))
    assert finding.ok
    assert who.name in finding.text
    assert "2 results" in finding.text


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda r: (r / "one" / MANIFEST).write_text("{}"), "missing: one/manifest.json"),
        (lambda r: shutil.rmtree(r / "two"), "missing: two/manifest.json"),
        (lambda r: shutil.copytree(r / "one", r / "new"), "not signed: new/manifest.json"),
        (lambda r: (r / "summary.csv").write_text("case\n"), "altered: summary.csv"),
        (lambda r: (r / LIST).write_text(""), f"{LIST} was altered after it was signed"),
        (lambda r: (r / f"{LIST}.minisig").unlink(), f"{LIST} is not signed"),
        (lambda r: (r / f"{LIST}.minisig").write_text("x\n"), "is not a minisign signature"),
    ],
)
def test_whatever_is_changed_after_signing_is_named(
    results: Path, key: Path, change: Any, found: str
) -> None:
    sign(results, key)
    change(results)
    finding = study_signature(results, read_public(public(key)))
    assert not finding.ok
    assert found in finding.text


def test_one_result_is_signed_by_its_manifest_and_stays_whole(results: Path, key: Path) -> None:
    path, _, count = sign(results / "one", key)
    assert (path.name, count) == (f"{MANIFEST}.minisig", 1)
    assert inventory(results / "one").keys() == {"audit.json"}
    check_signature(results / "one" / MANIFEST, read_public(public(key)))
    with ResultFolder(results / "one", key="k2") as folder:  # a new run may replace it
        (folder.path / "audit.json").write_text("{}")
    with pytest.raises(BadSignature, match="is not signed"):
        check_signature(results / "one" / MANIFEST, read_public(public(key)))


def test_signature_of_another_key_and_edited_comment_are_found(results: Path, key: Path) -> None:
    path, _, _ = sign(results / "one", key)
    other, _ = make_key(key.with_name("other"))
    with pytest.raises(BadSignature, match=r"signed by key \w{16}, the public key is \w{16}"):
        check_signature(results / "one" / MANIFEST, read_public(other))
    path.write_text(path.read_text().replace("1 result", "9 results"))
    with pytest.raises(BadSignature, match="altered"):
        check_signature(results / "one" / MANIFEST, read_public(public(key)))


def test_a_result_that_was_altered_before_is_not_signed(results: Path, key: Path) -> None:
    (results / "two" / "audit.json").write_text("{ }")
    for folder in (results, results / "two"):
        with pytest.raises(InputError, match=r"two: a file is not what.*\[E_ALTERED\]"):
            sign(folder, key)
    assert not list(results.rglob("*.minisig"))


def test_keys_that_are_none_are_refused_in_one_line(results: Path, key: Path) -> None:
    damaged = key.with_name("damaged")
    head, text = key.read_text().splitlines()
    blob = bytearray(base64.b64decode(text))
    blob[80] ^= 1
    damaged.write_text(f"{head}\n{base64.b64encode(blob).decode()}\n")
    for path, cause in (
        (key.with_name("nowhere"), "no such file"),
        (public(key), "not a minisign secret key"),
        (results / "summary.csv", "not a key file"),
        (damaged, "checksum"),
    ):
        with pytest.raises(UsageError, match=rf"{cause}.*\[E_KEY\]"):
            sign(results, path)
    with pytest.raises(UsageError, match="not a minisign public key"):
        read_public(key)


def test_without_the_package_the_extra_is_named(
    results: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name.startswith("cryptography"):
            raise ImportError(name)
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"pip install 'medfuse\[sign\]'. \[E_EXTRA\]"):
        sign(results, key)


def test_commands_make_keys_and_sign_and_say_what_is_wrong(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "k"
    assert run(["keygen", str(key)]) == 0
    assert run(["sign", str(results), "--key", str(key)]) == 0
    assert "Signed 2 result(s)" in capsys.readouterr().err
    assert run(["keygen", str(key)]) == 2
    assert run(["sign", str(tmp_path), "--key", str(key)]) == 8
    shown = capsys.readouterr().err
    assert "never overwritten" in shown
    assert "E_NOT_A_RESULT" in shown


def test_minisign_itself_agrees_in_both_directions(results: Path, key: Path) -> None:
    tool = shutil.which("minisign")
    if tool is None:
        pytest.skip("minisign is not installed")
    sign(results, key)

    def minisign(*words: str | Path) -> int:
        quiet = {"capture_output": True, "env": {**os.environ, "LC_ALL": "C"}, "check": False}
        return subprocess.run([tool, *words], **quiet).returncode

    assert minisign("-Vm", results / LIST, "-p", public(key)) == 0
    assert minisign("-Sm", results / LIST, "-s", key, "-t", "by minisign") == 0
    assert "by minisign" in check_signature(results / LIST, read_public(public(key)))
    (results / LIST).write_text("")
    assert minisign("-Vm", results / LIST, "-p", public(key)) != 0
