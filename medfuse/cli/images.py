"""The command ``medfuse fuse-images``. Parse, call, print; heavy imports inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from medfuse.cli import terminal
from medfuse.cli.options import add_command, takes_settings
from medfuse.settings import CaseSettings


def add_commands(app: typer.Typer) -> None:
    """Hang the command into the command line."""
    add_command(
        app,
        fuse_images,
        name="fuse-images",
        examples=(
            "medfuse fuse-images near.png far.png -o sharp.png",
            "medfuse fuse-images long.jpg short.jpg -o both.png --task exposure --method saliency",
        ),
    )
    add_command(
        app,
        unfuse,
        examples=(
            "medfuse unfuse result/fused_rgb.nii.gz -o apart/",
            "medfuse unfuse slice.png -o apart/ --colormap glow",
        ),
    )


@takes_settings(only=("method", "kernel", "bounded", "keep_names"))
def fuse_images(
    a: Annotated[Path, typer.Argument(help="First image: nearer focus, longer exposure.")],
    b: Annotated[Path, typer.Argument(help="Second image of the same size, registered.")],
    out: Annotated[Path, typer.Option("--out", "-o", "--output", help="The PNG to write.")],
    task: Annotated[
        Literal["auto", "focus", "exposure", "modality"],
        typer.Option(help="What the images differ in; decides how color is merged."),
    ] = "auto",
    bits: Annotated[
        int | None,
        typer.Option(
            min=1, max=16, help="Depth of 16-bit gray images. [default: by the largest value]"
        ),
    ] = None,
    *,
    settings: CaseSettings,
) -> None:
    """Fuse two registered 2-D images: focus, exposures or modalities, by any method.

    Beside OUT a JSON file of the same name says what was done and what the audit found.
    """
    from medfuse.pictures.fuse import fuse_files

    record = fuse_files(
        a, b, out, **settings.model_dump(include={"method", "kernel", "bounded", "keep_names"}),
        task=task, bits=bits,
    )  # fmt: skip

    def show() -> None:
        terminal.audit_table(record)
        for note in record["notes"]:
            terminal.say(f"note: {note}", style="yellow")
        chosen = " (found from the images)" if task == "auto" else ""
        terminal.say(f"Wrote {out}: task {record['task']}{chosen}", style="green")

    terminal.answer(record, show)


def unfuse(
    picture: Annotated[
        Path, typer.Argument(help="Fused PNG, RGB NIfTI, or derived DICOM file or folder.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", "--output", help="Folder for both images.")],
    colormap: Annotated[
        str | None, typer.Option(help="Two-way map; default as recorded, or by its colors.")
    ] = None,
    provenance: Annotated[
        Path | None, typer.Option(help="provenance.json of the result; default beside the image.")
    ] = None,
) -> None:
    """Read the functional and the anatomical image back from a fused image.

    Only images in two-way color maps hold both images. The error of every value is written too.
    """
    from medfuse.pictures.unfuse import LIKELY
    from medfuse.pictures.unfuse import unfuse as take_apart

    record = take_apart(picture, out, colormap=colormap, provenance=provenance)

    def show() -> None:
        rows = []
        for role, facts in record["images"].items():
            window = facts["window"] or {}
            unit = window.get("unit", "part of the window")
            error = facts[f"error_{LIKELY:.0%}_of_window"]
            rows.append((role, unit, f"{100 * error:.2f} % of the window"))
        terminal.table(f"Color map {record['colormap']}", ("image", "in", "error (95 %)"), rows)
        terminal.say(f"Wrote {out}; the brightness was the {record['brightness']}", style="green")

    terminal.answer(record, show)
