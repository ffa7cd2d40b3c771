"""The command ``medfuse audit``. Parse, call, print; heavy imports inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medfuse.cli import terminal
from medfuse.cli.options import add_command, takes_settings
from medfuse.settings import CaseSettings

EXIT_FAILED, EXIT_LOOK = 8, 9
EXIT_CODES = "0 every check passed, 9 something needs a look, 8 a check failed, 2 wrong use"


def add_commands(app: typer.Typer) -> None:
    """Hang the command into the command line."""
    add_command(
        app,
        audit,
        examples=(
            "medfuse audit --anatomical t1.nii.gz --functional pet.nii.gz --fused other.nii.gz",
            "medfuse audit --anatomical mri.png --functional pet.png --fused fused.png -o audit/",
        ),
        codes=EXIT_CODES,
    )


@takes_settings("Reading", only=("colormap", "window", "anatomical_window", "keep_names"))
def audit(
    anatomical: Annotated[Path, typer.Option(help="MRI (or CT): NIfTI, DICOM, or a 2-D image.")],
    functional: Annotated[
        Path, typer.Option(help="PET, SPECT or CT on the anatomical grid, or a 2-D image.")
    ],
    fused: Annotated[
        Path, typer.Option(help="The fused image: NIfTI (RGB or gray), or a 2-D image.")
    ],
    weights: Annotated[
        Path | None,
        typer.Option(help="Its weight map: then it is recomputed, else the share is estimated."),
    ] = None,
    transform: Annotated[
        Path | None,
        typer.Option(help="transform.json (or 4x4 text, RAS mm), if not on the anatomical grid."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", "--output", help="Folder for audit.json and maps as PNG."),
    ] = None,
    *,
    settings: CaseSettings,
) -> None:
    """Check a fused image that any tool made against its two sources.

    Nothing has to be known about the tool. Say how the image was made (weights, color map,
    windows) and more can be checked.
    """
    from medfuse.verification.foreign import Options, audit_picture
    from medfuse.verification.foreign_maps import audit_record, write_audit

    inputs = {"anatomical": anatomical, "functional": functional, "fused": fused}
    found = audit_picture(anatomical, functional, fused, Options(weights, transform, settings))
    record = audit_record(found, inputs=inputs, keep_names=settings.keep_names)
    if out is not None:
        write_audit(out, found, inputs=inputs, keep_names=settings.keep_names)

    def show() -> None:
        terminal.audit_table(record)
        for note in found.notes:
            terminal.say(f"note: {note}", style="yellow")
        if out is not None:
            terminal.say(f"Wrote {out}", style="green")

    terminal.answer(record, show)
    if found.audit.verdict != "pass":
        raise typer.Exit(EXIT_FAILED if found.audit.verdict == "fail" else EXIT_LOOK)
