"""A study of hostile folders: each has its finding, the sound ones verify, in bounded memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from medfuse.verification import signing
from tests._helpers.hostile_results import HOSTILE, TERABYTE, write_hostile_results
from tests._helpers.peak import PEAK

resource = pytest.importorskip("resource", reason="address-space limits are of Unix")

_VERIFY = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
from medfuse.cli.app import run
code = run(sys.argv[1:])
"""
_VERIFY += (
    PEAK
    + """\
sys.exit(code if peak < 2.5 else f"{peak:.1f} GB")
"""
)


def verified(study: Path, *options: str | Path) -> dict[str, list[dict[str, object]]]:
    done = subprocess.run(
        [sys.executable, "-c", _VERIFY, "verify", str(study), "--json", *map(str, options)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 8, done.stderr[-1000:]
    assert "Traceback" not in done.stderr
    found: dict[str, list[dict[str, object]]] = json.loads(done.stdout)
    return found


def test_every_hostile_folder_has_its_finding_and_the_others_verify(
    copy: Path,
) -> None:
    write_hostile_results(copy, copy.parent, *HOSTILE)
    wrong = {
        case: {finding["what"] for finding in findings if not finding["ok"]} - {"folder name"}
        for case, findings in verified(copy.parent).items()
    }
    assert wrong.pop("case") == set()
    assert [name for name in HOSTILE if not wrong.pop(name)] == []
    assert wrong == {}


def test_with_the_inputs_too(copy: Path, study: Path) -> None:
    write_hostile_results(copy, copy.parent, "sparse-report", "level-of-a-million")
    found = verified(copy.parent, "--inputs", study)
    assert [case for case, fs in found.items() if all(f["ok"] for f in fs)] == ["case"]


def test_a_signature_that_never_ends_is_none(copy: Path, tmp_path: Path) -> None:
    public, _ = signing.make_key(tmp_path / "lab.key")
    study = copy.parent
    for name in ("manifests.sha256", "manifests.sha256.minisig", "summary.csv"):
        with (study / name).open("wb") as file:
            file.truncate(TERABYTE)
    found = verified(study, "--public-key", public)
    assert [f["what"] for f in found[""] if not f["ok"]] == ["signature"]
    assert all(finding["ok"] for finding in found["case"])
