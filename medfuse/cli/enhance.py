"""The command ``medfuse enhance``. Parse, call, print; heavy imports inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from medfuse.cli import terminal
from medfuse.cli.options import add_command


def add_commands(app: typer.Typer) -> None:
    """Hang the command into the command line."""
    add_command(
        app,
        enhance,
        examples=(
            "medfuse enhance slice.png -o sharper.png",
            "medfuse enhance t1.nii.gz -o sharper.nii.gz --method gifnet+bf16",
            "medfuse enhance mr_dicom/ -o sharper.nii.gz --json",
        ),
    )


def enhance(
    image: Annotated[
        Path, typer.Argument(help="A 2-D image (PNG, JPEG, ...), a NIfTI file or a DICOM folder.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            "--output",
            help="File to write: .png for a 2-D image, .nii.gz for a scan.",
        ),
    ],
    method: Annotated[
        str, typer.Option("--method", "-m", help="gifnet, gifnet+bf16, or GIFNet .safetensors.")
    ] = "gifnet",
    window: Annotated[
        tuple[float, float] | None,
        typer.Option("--window", metavar="LOW HIGH", help="Window of a scan, in its unit."),
    ] = None,
    modality: Annotated[
        Literal["MRI", "PET", "SPECT", "CT"] | None,
        typer.Option(help="Modality of a NIfTI file."),
    ] = None,
) -> None:
    """Sharpen one image with GIFNet, for viewing only; reports what was changed.

    Beside OUT, files of the same name hold the measures (.json) and a page to look at (.html):
    before, after, difference. A scan is windowed to 0..1; the result is not in its unit. Research
    only: never for diagnosis or measurement.
    """
    from medfuse.pictures.enhance_files import enhance_file

    with terminal.progress_bar("medfuse enhance") as progress:
        record = enhance_file(
            image, out, method=method, window=window, modality=modality, progress=progress
        )
    terminal.say(f"warning: {record['warning']}", style="yellow")
    terminal.answer(record, lambda: _show(record, out))


def _show(record: dict[str, Any], out: Path) -> None:
    psnr = record["psnr_db"]
    rows = [
        ("PSNR to the input", "no change" if psnr is None else f"{psnr:.2f} dB"),
        ("gradient gain", f"{100 * record['gradient_gain']:+.1f} %"),
        ("invented structure", f"{100 * record['invented']:.2f} %"),
        ("verdict on it", record["invented_verdict"]),
    ]
    terminal.table("Enhancement", ("what", "value"), rows)
    for note in record["notes"]:
        terminal.say(f"note: {note}", style="yellow")
    terminal.say(f"Wrote {out}, and .json and .html beside it", style="green")
