"""The commands ``info`` and ``colormaps``. Parse, call, print; heavy imports inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medfuse.cli import terminal
from medfuse.cli.options import add_command


def add_commands(app: typer.Typer) -> None:
    """Hang the commands into the command line."""
    add_command(app, info, examples=("medfuse info pet_dicom/",))
    add_command(app, colormaps, examples=("medfuse colormaps --json",))


def info(path: Annotated[Path, typer.Argument(help="A file or a folder.")]) -> None:
    """Describe a file or series: modality, unit, geometry, SUV arithmetic, problems."""
    from medfuse.imaging.progress import listening
    from medfuse.imaging.reader import describe

    with terminal.progress_bar("medfuse info", after=2.0) as progress, listening(progress):
        found = describe(path)

    def show() -> None:
        for number, item in enumerate(found, start=1):
            terminal.table(f"{number} of {len(found)}", ("what", "value"), terminal.rows_of(item))

    terminal.answer(found, show)


def colormaps() -> None:
    """List the color maps, with the measured error of reading values back from an image."""
    from medfuse.kernel.colormaps import COLORMAPS, READABLE, measure_readability

    found = [(n, measure_readability(n), measure_readability(n, gamut="clip")) for n in COLORMAPS]
    rows = [
        (name, "yes" if name in READABLE else "no",
         *(f"{100 * x:.2f}" for x in (*vars(fit).values(), clip.p95)))
        for name, fit, clip in found
    ]  # fmt: skip
    columns = ("name", "readable", "median %", "95th %", "worst %", "free %", "95th %, clip")

    def show() -> None:
        terminal.table("Color maps: error of reading back, any luminance", columns, rows)
        terminal.say(
            "free: luminance left to the anatomy where the color needs most; docs/colour.md"
        )

    terminal.answer(
        [{"name": name, "readable": name in READABLE, "fit": vars(fit), "clip": vars(clip)}
         for name, fit, clip in found],
        show,
    )  # fmt: skip
