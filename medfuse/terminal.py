"""What a person sees in the terminal: tables, progress, errors. No logic, no heavy imports."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

COLOURS = {"pass": "green", "look": "yellow", "fail": "red", "good": "green", "suspect": "red"}


def print_json(content: Any) -> None:
    """Machine-readable answer on standard output."""
    sys.stdout.write(json.dumps(content, indent=2, default=str) + "\n")


def say(text: str, *, style: str = "") -> None:
    """One line for the user, on standard error so that pipes stay clean; no markup is read."""
    err.print(printable(text), style=style, markup=False)


def printable(text: str) -> str:
    """Drop control characters: file contents must not steer a terminal."""
    return "".join(c for c in text if c.isprintable() or c in "\n\t")


@contextmanager
def progress_bar(title: str, *, enabled: bool = True) -> Iterator[Callable[[float, str], None]]:
    """Show ``(fraction, text)`` reports as a bar; plain silence where nobody looks."""
    if not enabled or not err.is_terminal:
        yield lambda fraction, text: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[stage]}"),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(title, total=1.0, stage="")

        def update(fraction: float, text: str) -> None:
            bar.update(task, completed=fraction, stage=text)

        yield update


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table; verdict words are coloured."""
    grid = Table(title=title, title_justify="left", title_style="bold", expand=False)
    for name in columns:
        grid.add_column(name, overflow="fold")
    for row in rows:
        grid.add_row(*(_cell(cell) for cell in row))
    out.print(grid)


def audit_table(audit: dict[str, Any]) -> None:
    """Print ``audit.json``."""
    rows = [
        (c["title"], f"{c['value']:.4g}", c["unit"], c["verdict"], c["text"])
        for c in audit["checks"]
    ]
    table(f"Audit: {audit['verdict']}", ("check", "value", "unit", "verdict", "meaning"), rows)


def _cell(cell: Any) -> str:
    from rich.markup import escape

    text = escape(printable(str(cell)))
    return f"[{COLOURS[text]}]{text}[/]" if text in COLOURS else text
