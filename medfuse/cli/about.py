"""The commands ``cite`` and ``doctor``. Parse, call, print; heavy imports inside."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from medfuse.cli import terminal
from medfuse.cli.options import add_command


def add_commands(app: typer.Typer) -> None:
    """Hang the commands into the command line."""
    add_command(
        app,
        cite,
        examples=("medfuse cite result/", "medfuse cite result/ --format bibtex > medfuse.bib"),
    )
    add_command(app, doctor, examples=("medfuse doctor", "medfuse doctor --json"))


def cite(
    result: Annotated[Path, typer.Argument(help="A result folder, or its provenance.json.")],
    style: Annotated[
        Literal["text", "bibtex"],
        typer.Option("--format", help="text: a methods section. bibtex: the references alone."),
    ] = "text",
) -> None:
    """Write the methods section of a result: its parameters in sentences, and what to cite."""
    from medfuse.record.citation import cite as cite_result

    text = cite_result(result, style)

    def show() -> None:
        sys.stdout.write(text)

    terminal.answer({"format": style, "text": text}, show)


def doctor() -> None:
    """Describe this installation for a bug report: versions, devices, codecs, display, memory."""
    from medfuse.record.doctor import examine

    found = examine()

    def show() -> None:
        rows = [(name, _words(value)) for name, value in found.items() if name != "problems"]
        terminal.table("medfuse doctor", ("what", "value"), rows)
        for problem in found["problems"]:
            terminal.say(f"problem: {problem}", style="yellow")
        if not found["problems"]:
            terminal.say("No problems found.", style="green")

    terminal.answer(found, show)


def _words(value: Any) -> str:
    """A value of any depth in words; the first level a line each."""
    if isinstance(value, dict):
        return "\n".join(f"{name}: {_inline(part)}" for name, part in value.items())
    return _inline(value)


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_inline(part)}" for name, part in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if value is None:
        return "not installed"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
