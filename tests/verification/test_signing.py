"""A signature holds for what was signed, by whom, and for nothing else; minisign agrees."""

from __future__ import annotations

import base64
import builtins
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medfuse.cli.app import run
from medfuse.errors import InputError, UsageError
from medfuse.results.folder import MANIFEST, ResultFolder, inventory
from medfuse.verification import signing
from medfuse.verification.signing import BadSignature, check_signature, make_key, read_public, sign
from medfuse.verification.verify import _study_signature as study_signature

LIST = "manifests.sha256"
KEYS = Path(__file__).with_name("test_keys")  # its README says who made them
PASSWORD = "invented test password"
VARIABLE = "MEDFUSE_KEY_PASSWORD"


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


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A key that is locked, with less work than usual, so that tests are quick."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(signing, "_SCRYPT", {"opslimit": 1 << 15, "memlimit": 1 << 24})
    make_key(tmp_path / "locked.key", lambda: PASSWORD)
    return tmp_path / "locked.key"


@pytest.fixture
def minisign() -> Callable[..., bool]:
    """The real program; the answer is whether it was content."""
    tool = shutil.which("minisign")
    if tool is None:
        pytest.skip("minisign is not installed")

    def call(*words: str | Path, typed: str = "") -> bool:
        quiet = {"capture_output": True, "env": {**os.environ, "LC_ALL": "C"}, "check": False}
        return subprocess.run([tool, *words], input=typed.encode(), **quiet).returncode == 0

    return call


def public(key: Path) -> Path:
    return key.with_name(f"{key.name}.pub")


def never() -> str:
    raise AssertionError("nobody asks for the password of a key that has none")


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
        (lambda r: (r / LIST).unlink(), f"{LIST} is signed, but cannot be read"),
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


@pytest.mark.parametrize("name", ["open", "medfuse"])
def test_keys_of_minisign_and_of_older_versions_sign(results: Path, name: str) -> None:
    _, who, _ = sign(results, KEYS / f"{name}.key", never)
    assert who == read_public(KEYS / f"{name}.pub")
    assert study_signature(results, who).ok


def test_locked_key_of_minisign_signs(results: Path) -> None:
    _, who, _ = sign(results, KEYS / "locked.key", lambda: PASSWORD)
    assert who == read_public(KEYS / "locked.pub")
    assert who.name in (KEYS / "locked.pub").read_text()
    assert study_signature(results, who).ok


@pytest.mark.parametrize(
    ("name", "key", "comment"),
    [
        ("open", "open", "by minisign, not locked"),
        ("legacy", "open", "by minisign, not hashed"),
        ("locked", "locked", "by minisign, password-locked"),
        ("medfuse", "medfuse", "2026-10-01, 1 result, text"),
    ],
)
def test_signatures_of_minisign_and_of_older_versions_hold(
    tmp_path: Path, name: str, key: str, comment: str
) -> None:
    text, who = tmp_path / "text", read_public(KEYS / f"{key}.pub")
    shutil.copy(KEYS / f"{name}.minisig", tmp_path / "text.minisig")
    text.write_bytes(b"medfuse test vector\n")
    assert check_signature(text, who) == comment
    text.write_bytes(b"medfuse test vector")
    with pytest.raises(BadSignature, match="altered"):
        check_signature(text, who)


def changed(key: Path, place: int) -> Path:
    """A copy of a key in which one bit is wrong."""
    head, text = key.read_text().splitlines()
    blob = bytearray(base64.b64decode(text))
    blob[place] ^= 1
    copy = key.with_name(f"changed-{place}")
    copy.write_text(f"{head}\n{base64.b64encode(blob).decode()}\n")
    return copy


def test_keys_that_are_none_are_refused_in_one_line(results: Path, key: Path, locked: Path) -> None:
    for path, cause in (
        (key.with_name("nowhere"), "no such file"),
        (key.parent, "is a directory"),
        (public(key), "not a minisign secret key"),
        (results / "summary.csv", "not a minisign secret key"),
        (changed(key, 2), "not a minisign secret key"),
        (changed(key, 80), "the file is damaged"),
        (changed(key, 100), "the file is damaged"),
    ):
        with pytest.raises(UsageError, match=rf"{path.name}: .*{cause}.*\[E_KEY\]"):
            sign(results, path)
    for path, word in ((changed(locked, 80), PASSWORD), (locked, "a wrong one")):
        with pytest.raises(UsageError, match=r"password is wrong, or .* damaged.*\[E_PASSWORD\]"):
            sign(results, path, lambda word=word: word)
    with pytest.raises(UsageError, match=r"it has a password.*\[E_PASSWORD\]"):
        sign(results, locked)
    with pytest.raises(UsageError, match="not a minisign public key"):
        read_public(key)
    assert not list(results.rglob("*.minisig"))


def test_too_little_memory_for_a_password_is_said(
    key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minisign.SecretKey.encrypt", lambda *_, **__: bytearray(1 << 62))
    with pytest.raises(UsageError, match=r"1 GiB of memory.*\[E_PASSWORD\]"):
        make_key(key.with_name("other"), lambda: PASSWORD)


def test_without_the_package_the_extra_is_named(
    results: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name == "minisign":
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


def test_commands_about_keys_answer_as_json(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, file = tmp_path / "k", tmp_path / "answer.json"
    assert run(["keygen", str(key), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["secret_key"], made["public_key"], made["locked"]) == ("k", "k.pub", False)
    assert run(["sign", str(results), "--key", str(key), "--json-file", str(file)]) == 0
    signed = json.loads(file.read_text())
    assert signed == {
        "signature": "manifests.sha256.minisig",
        "key": made["key"],
        "results": 2,
    }


def test_command_takes_the_password_from_a_file_the_environment_or_the_terminal(
    results: Path,
    locked: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["sign", str(results), "--key", str(locked)]
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    assert run(command) == 2
    assert capsys.readouterr().err == (
        "error: Cannot use the key: locked.key: there is no terminal to ask for its password. "
        "Give --password-file FILE or set MEDFUSE_KEY_PASSWORD. [E_PASSWORD]\n"
    )
    file = tmp_path / "password"
    for content, code in ((f"{PASSWORD}\r\nmore\n".encode(), 0), (b"\xff", 2), (b"", 2)):
        file.write_bytes(content)
        assert run([*command, "--password-file", str(file)]) == code
    assert run([*command, "--password-file", str(tmp_path / "nowhere")]) == 2
    shown = capsys.readouterr().err
    assert "the password file password is not UTF-8 text" in shown
    assert "the password file nowhere cannot be read: No such file" in shown

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda _: PASSWORD)
    assert run(command) == 0
    monkeypatch.setenv(VARIABLE, "a wrong one")
    assert run(command) == 2
    monkeypatch.setattr("getpass.getpass", never)
    monkeypatch.setenv(VARIABLE, PASSWORD)
    assert run(command) == 0
    assert PASSWORD not in capsys.readouterr().err


def test_keygen_locks_a_key_only_when_it_is_asked_to(
    results: Path,
    locked: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    typed = iter([PASSWORD, "a slip", PASSWORD, PASSWORD])
    monkeypatch.setattr("getpass.getpass", lambda _: next(typed))
    assert run(["keygen", str(tmp_path / "typed"), "--password"]) == 0
    assert "locked with the password" in capsys.readouterr().err
    assert list(typed) == []
    sign(results, tmp_path / "typed", lambda: PASSWORD)

    (tmp_path / "password").write_text(PASSWORD)
    words = ["--password-file", str(tmp_path / "password")]
    assert run(["keygen", str(tmp_path / "filed"), *words]) == 0
    sign(results, tmp_path / "filed", lambda: PASSWORD)

    monkeypatch.setenv(VARIABLE, "")
    capsys.readouterr()
    assert run(["keygen", str(tmp_path / "empty"), "--password"]) == 2
    assert "the password is empty" in capsys.readouterr().err
    assert not (tmp_path / "empty").exists()

    assert run(["keygen", str(tmp_path / "open")]) == 0
    assert "not encrypted" in capsys.readouterr().err
    sign(results, tmp_path / "open", never)


def test_minisign_itself_agrees_in_both_directions(
    results: Path, key: Path, minisign: Callable[..., bool]
) -> None:
    sign(results, key)
    assert minisign("-Vm", results / LIST, "-p", public(key))
    assert minisign("-Sm", results / LIST, "-s", key, "-t", "by minisign")
    assert "by minisign" in check_signature(results / LIST, read_public(public(key)))
    (results / LIST).write_text("")
    assert not minisign("-Vm", results / LIST, "-p", public(key))


def test_new_keys_of_minisign_sign_and_it_unlocks_ours(
    results: Path, locked: Path, tmp_path: Path, minisign: Callable[..., bool]
) -> None:
    theirs = tmp_path / "theirs"
    assert minisign("-G", "-W", "-s", theirs, "-p", public(theirs))
    sign(results, theirs, never)
    assert minisign("-Vm", results / LIST, "-p", public(theirs))
    assert minisign("-Sm", results / LIST, "-s", locked, typed=f"{PASSWORD}\n")
    assert check_signature(results / LIST, read_public(public(locked)))
