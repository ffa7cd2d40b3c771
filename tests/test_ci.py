"""Hosted CI, pre-commit and the quick set call what the Makefile calls, and leave no room out."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from tests._helpers.quick import QUICK, TOO_LONG

ROOT = Path(__file__).resolve().parents[1]
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def commands(job: str) -> list[str]:
    return [step["run"] for step in WORKFLOW["jobs"][job]["steps"] if "run" in step]


def recipe(target: str) -> str:
    """What the Makefile does for a target, with the names of its variables filled in."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    values = {"BIN": ".venv/bin", "VENV": ".venv"}
    found = re.search(rf"^{re.escape(target)}:.*\n((?:\t.*\n)+)", text, re.M)
    assert found, f"no target {target}"
    return re.sub(r"\$\((\w+)\)", lambda m: values.get(m[1], m[0]), found[1])


def test_hosted_ci_runs_all_tests_on_linux_and_the_quick_ones_elsewhere() -> None:
    assert "bash .ci/run" in commands("linux")
    assert "make quick" in commands("macos")
    quick = re.search(r"-m pytest -m quick", recipe("quick"))
    assert quick
    assert commands("windows")[-1].endswith(quick[0])


@pytest.mark.parametrize("job", ["linux", "macos", "windows"])
def test_hosted_ci_tries_every_python_that_the_project_allows(job: str) -> None:
    versions = WORKFLOW["jobs"][job]["strategy"]["matrix"]["python"]
    assert versions == ["3.11", "3.12", "3.13", "3.14"]
    assert PROJECT["requires-python"] == f">={versions[0]}.1"  # the newest 3.11 is tried


def test_the_set_up_refuses_what_the_project_does() -> None:
    floor = PROJECT["requires-python"].removeprefix(">=")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"sys.version_info < ({floor.replace('.', ', ')})" in makefile
    assert f"Python {floor} or newer" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_pre_commit_runs_what_make_lint_runs() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repository["repo"] for repository in config["repos"]] == ["local"]
    hooks = {hook["id"]: hook["entry"] for hook in config["repos"][0]["hooks"]}
    assert {tool.split()[0] for tool in hooks.values()} == {
        *re.findall(r"\.venv/bin/[\w-]+", recipe("lint")),
        ".ci/large-files",
    }


@pytest.mark.skipif(os.name == "nt", reason="the guard is a script of a Unix shell")
def test_large_files_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "small file").write_bytes(b"0" * 4_000_000)
    (tmp_path / "large file").write_bytes(b"0" * 4_000_001)
    answer = subprocess.run(
        [ROOT / ".ci" / "large-files", "small file", "gone", "large file"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 1
    assert answer.stdout == "large file is larger than 4 MB\n"


def test_the_quick_set_names_files_that_exist_and_covers_every_room() -> None:
    missing = [name for name in QUICK if not (ROOT / "tests" / name).is_file()]
    assert missing == []
    text = "".join((ROOT / "tests" / name).read_text(encoding="utf-8") for name in QUICK)
    assert [name for name in TOO_LONG if f"def {name}(" not in text] == []
    rooms = {p.name for p in (ROOT / "medfuse").iterdir() if (p / "__init__.py").is_file()}
    covered = {name.split("/")[0] for name in QUICK}
    assert rooms | {"napari_plugin", "tools", "workflows"} <= covered
