"""What the documentation and docstrings show runs, and names only options that exist.

A block of code that needs files of the reader's own has ``<!-- no-run: reason -->`` above it.
"""

from __future__ import annotations

import doctest
import re
import shlex
import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer.main

from medfuse.settings import CaseSettings

ROOT = Path(__file__).resolve().parents[1]
TOP = ("README.md", "CONTRIBUTING.md", "SECURITY.md")
PAGES = [*(ROOT / name for name in TOP), *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"(?:^<!-- no-run: (?P<reason>.+) -->\n)?^```(?P<kind>\w*)\n(?P<code>.*?)^```$", re.M | re.S
)
QUOTED = re.compile(r"`(medfuse(?:-bids)? [^`]+)`")


class Block(NamedTuple):
    """One fenced block of a page, at the line where its code starts."""

    page: str
    line: int
    kind: str
    code: str
    reason: str | None


class Call(NamedTuple):
    """One call of the command line that a page shows; whole, or only quoted in the text."""

    where: str
    words: tuple[str, ...]
    whole: bool


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        line = text.count("\n", 0, found.start("code")) + 1
        name = page.relative_to(ROOT).as_posix()
        yield Block(name, line, found["kind"], found["code"], found["reason"])


def calls(page: Path) -> Iterator[Call]:
    """Those in blocks of a shell, and those quoted in the text that have options."""
    name = page.relative_to(ROOT).as_posix()
    for block in blocks(page):
        if block.kind != "python":
            for line in block.code.replace("\\\n", " ").splitlines():
                yield from _calls(f"{name}:{block.line}", line, whole=True)
    for quoted in QUOTED.finditer(FENCE.sub("", page.read_text(encoding="utf-8"))):
        yield from _calls(name, quoted[1], whole=False)


def _calls(where: str, line: str, *, whole: bool) -> Iterator[Call]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
    lexer.whitespace_split, lexer.commenters = True, "#"
    words: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set(";&|"):
            if words and words[0] in ("medfuse", "medfuse-bids"):
                yield Call(where, tuple(words), whole)
            words = []
        else:
            words.append(word)


BLOCKS = [block for page in PAGES for block in blocks(page)]
CALLS = sorted({call for page in PAGES for call in calls(page)})
RUN = [b for b in BLOCKS if b.kind == "python" and b.reason is None]


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted({block.page for block in RUN}))
def test_python_of_a_page_runs_from_top_to_bottom(
    page: str, sample_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(sample_data, tmp_path / "sample_data")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for block in RUN:
        if block.page == page:
            code = "\n" * (block.line - 1) + block.code  # so that a traceback names the line
            exec(compile(code, page, "exec"), names)


def command_of(words: tuple[str, ...]) -> Any:
    """The command that is called; the program itself where a word stands for any command."""
    from medfuse.cli import app, bids_app

    if words[0] == "medfuse-bids":
        return typer.main.get_command(bids_app.app)
    program = typer.main.get_command(app.app)
    if len(words) == 1 or words[1].isupper() or words[1].startswith("-"):
        return program
    assert words[1] in program.commands, f"there is no command {words[1]}"
    return program.commands[words[1]]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: " ".join(call.words)[:60])
def test_a_command_of_a_page_has_the_options_that_are_shown(call: Call) -> None:
    command = command_of(call.words)
    known = {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
    shown = {word.partition("=")[0] for word in call.words[1:] if re.match(r"--?[a-zA-Z]", word)}
    assert shown - known - {"--help", "-h"} == set(), f"{call.where}: {shlex.join(call.words)}"
    if call.whole and call.words[0] == "medfuse" and call.words[1:]:
        command.make_context(call.words[1], list(call.words[2:]))  # raises what a user would see


def modules_with_examples() -> Iterator[str]:
    for path in sorted((ROOT / "medfuse").rglob("*.py")):
        if ">>> " in path.read_text(encoding="utf-8"):
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("name", list(modules_with_examples()))
def test_examples_in_docstrings_hold(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = doctest.testmod(import_module(name))
    assert found.failed == 0


def test_pages_have_code_to_check() -> None:
    """A changed fence or a moved page would otherwise empty these tests."""
    assert len(RUN) >= 3
    assert len(CALLS) >= 40
    assert {"README.md", "docs/monai.md"} <= {block.page for block in RUN}


LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_and_pictures_of_a_page_are_there(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    missing = [link for link in LINK.findall(text) if not (page.parent / link).exists()]
    assert missing == []


@pytest.fixture(scope="module")
def site() -> Any:
    return import_module("tools.docs_site")


def test_the_site_has_every_error_with_its_remedy_and_every_command(site: Any) -> None:
    from medfuse.cli.app import app

    found = site.errors()
    assert len(found) > 90
    raised = {code: [p for p in places if p.remedy.strip("… /")] for code, places in found.items()}
    assert sum(bool(places) for places in raised.values()) > 0.9 * len(found)
    tilt = next(iter(found["E_TILT"]))
    assert "gantry" in tilt.cause
    assert "tilt_correction" in " ".join(p.remedy for p in found["E_TILT"])
    commands = site.commands_page()
    for name in typer.main.get_command(app).commands:
        assert f"## medfuse {name}\n" in commands
    assert "--accept-suspect" in commands
    settings = site.settings_page()
    assert all(f"| `{name}` |" in settings for name in CaseSettings.model_fields)


def test_every_page_stands_in_the_navigation(site: Any) -> None:
    listed = set(re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M))
    written = {p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")}
    assert listed == written | {f"reference/{name}.md" for name in site.PAGES}
