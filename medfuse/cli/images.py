"""The command ``medfuse fuse-images``. Parse, call, print; heavy imports inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from medfuse.cli import terminal
from medfuse.cli.options import AsJson, Bounded, KernelName, MethodName


def add_commands(app: typer.Typer) -> None:
    """Hang the command into the command line."""
    app.command(
        "fuse-images",
        epilog="Examples:  medfuse fuse-images near.png far.png -o sharp.png   |   medfuse "
        "fuse-images long.jpg short.jpg -o both.png --task exposure --method saliency",
    )(fuse_images)


def fuse_images(
    a: Annotated[Path, typer.Argument(help="First picture: nearer focus, longer exposure.")],
    b: Annotated[Path, typer.Argument(help="Second picture of the same size, registered.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The PNG to write.")],
    task: Annotated[
        Literal["auto", "focus", "exposure", "modality"],
        typer.Option(help="What the pictures differ in; decides how colour is merged."),
    ] = "auto",
    method: MethodName = "swift",
    kernel: KernelName = "binomial",
    bounded: Bounded = False,
    as_json: AsJson = False,
) -> None:
    """Fuse two registered pictures: focus, exposures or modalities, by any method.

    Beside OUT a JSON file of the same name says what was done and what the audit found.
    """
    from medfuse.pictures.fuse import fuse_files

    record = fuse_files(a, b, out, method=method, task=task, kernel=kernel, bounded=bounded)
    if as_json:
        terminal.print_json(record)
        return
    terminal.audit_table(record)
    chosen = " (found from the pictures)" if task == "auto" else ""
    terminal.say(f"Wrote {out}: task {record['task']}{chosen}", style="green")
