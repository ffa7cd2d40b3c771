"""The commands ``demo`` and ``sample``. Parse, call, print; heavy imports inside."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from medfuse.cli import terminal
from medfuse.cli.options import add_command
from medfuse.settings import CaseSettings


def add_commands(app: typer.Typer) -> None:
    """Hang the commands into the command line."""
    add_command(app, demo, examples=("medfuse demo", "medfuse demo -o brain/ --no-open"))
    add_command(
        app, sample, examples=("medfuse sample -o brain/", "medfuse sample sarcoma -o thigh/")
    )


def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", "--output", help="Result folder, whole or absent.")
    ] = Path("medfuse-demo"),
    open_report: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the report in a web browser.")
    ] = True,
) -> None:
    """Fuse the sample brain that comes with medfuse and open the report."""
    from medfuse.imaging.sample import PAIRS, sample_folder

    folder = sample_folder()
    anatomical, functional = (folder / name for name in PAIRS["brain"])
    with terminal.progress_bar("medfuse demo") as progress:
        from medfuse.case.early import read_early

        early = read_early(anatomical, functional, CaseSettings(), progress)
        from medfuse.case.pipeline import run_case

        result = run_case(
            anatomical,
            functional,
            out,
            CaseSettings(),
            case=out.resolve().name,
            command="medfuse demo",
            replace_other=False,
            early=early,
            progress=progress,
        )
    terminal.answer_result(result)
    if open_report and terminal.mode.shows and _has_a_screen():
        import webbrowser

        webbrowser.open((out / "report.html").resolve().as_uri())


def _has_a_screen() -> bool:
    """Whether a person sits at a desktop: elsewhere a browser would take over the terminal."""
    if not sys.stdout.isatty():
        return False
    on_desktop = os.name == "nt" or sys.platform == "darwin"
    return on_desktop or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def sample(
    name: Annotated[
        Literal["brain", "sarcoma", "ct-mri"],
        typer.Argument(
            help="brain: MRI and simulated PET. sarcoma: DICOM MRI and PET of a thigh. ct-mri: the "
            "same thigh. medfuse downloads the last two unless it runs from a clone."
        ),
    ] = "brain",
    *,
    out: Annotated[Path, typer.Option("--out", "-o", "--output", help="Folder to write.")],
) -> None:
    """Write a sample pair to try medfuse with, by default an MRI of a brain and a simulated PET."""
    from medfuse.imaging.sample import PAIRS, sample_files
    from medfuse.results.folder import write_through, writing

    written = {out / place: source for place, source in sample_files(name).items()}
    for target, source in written.items():
        with writing(target.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
        write_through(target, source.read_bytes())
    first, second = (out / part for part in PAIRS[name])

    def show() -> None:
        terminal.say(f"Wrote {first.name} and {second.name}. Fuse them:", style="green")
        terminal.say(f"  medfuse fuse {first} {second} -o fused/")

    terminal.answer({"files": [str(path) for path in written]}, show)
