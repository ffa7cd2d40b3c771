"""The command ``medfuse audit``. Parse, call, print; heavy imports inside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from medfuse.cli import terminal
from medfuse.cli.options import AnatomicalWindow, FunctionalUnit, Modality, Window

EXIT_FAILED, EXIT_LOOK = 8, 9
EXIT_CODES = (
    "Exit codes:  0 every check passed   |   9 something needs a look   |   8 a check failed   |   "
    "2 wrong use"
)


def add_commands(app: typer.Typer) -> None:
    """Hang the command into the command line."""
    app.command(
        epilog="Examples:  medfuse audit --anatomical t1.nii.gz --functional pet_on_t1.nii.gz "
        "--fused other_tool.nii.gz   |   medfuse audit --anatomical mri.png --functional pet.png "
        f"--fused fused.png -o audit/\n\n{EXIT_CODES}"
    )(audit)


def audit(
    anatomical: Annotated[Path, typer.Option(help="MRI (or CT): NIfTI, DICOM, or a picture.")],
    functional: Annotated[
        Path, typer.Option(help="PET, SPECT or CT on the anatomical grid, or a picture.")
    ],
    fused: Annotated[
        Path, typer.Option(help="The fused image: NIfTI (RGB or grey), or a picture.")
    ],
    weights: Annotated[
        Path | None,
        typer.Option(help="Its weight map: then it is recomputed, else the share is estimated."),
    ] = None,
    colormap: Annotated[
        str | None, typer.Option(help="Colour map of the functional image in the picture.")
    ] = None,
    window: Window = None,
    anatomical_window: AnatomicalWindow = None,
    functional_modality: Modality = None,
    functional_unit: FunctionalUnit = None,
    transform: Annotated[
        Path | None,
        typer.Option(help="transform.json (or 4x4 text, RAS mm), if not on the anatomical grid."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the audit here; - is standard output.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for audit.json and maps as PNG.")
    ] = None,
) -> None:
    """Check a fused image that any tool made against its two sources.

    Nothing has to be known about the tool. Say how the picture was made (weights, colour map,
    windows) and more can be checked.
    """
    from medfuse.verification.foreign import Options, audit_picture
    from medfuse.verification.foreign_maps import audit_record, write_audit

    inputs = {"anatomical": anatomical, "functional": functional, "fused": fused}
    chosen = Options(
        weights, colormap, window, anatomical_window, transform, functional_modality,
        functional_unit,
    )  # fmt: skip
    found = audit_picture(anatomical, functional, fused, chosen)
    record = audit_record(found, inputs=inputs)
    if out is not None:
        write_audit(out, found, inputs=inputs)
    on_stdout = json_file is not None and str(json_file) == "-"
    if on_stdout:
        terminal.print_json(record)
    else:
        terminal.audit_table(record)
        for note in found.notes:
            terminal.say(f"note: {note}", style="yellow")
    if json_file is not None and not on_stdout:
        from medfuse.results.folder import write_through

        write_through(json_file, (json.dumps(record, indent=2) + "\n").encode())
    if out is not None and not on_stdout:
        terminal.say(f"Wrote {out}", style="green")
    if found.audit.verdict != "pass":
        raise typer.Exit(EXIT_FAILED if found.audit.verdict == "fail" else EXIT_LOOK)
