"""The command ``medfuse followup``. Parse, call, print; heavy imports inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from medfuse.cli import terminal
from medfuse.cli.measure import DrawnOn, KeepNames, LabelNames, MtvThreshold, Reference
from medfuse.cli.options import add_command
from medfuse.errors import UsageError
from medfuse.settings import as_flag

EXIT_FAILED = 8
_SHOWN = ("max", "mean", "peak", "mtv_ml", "tlg")


def add_commands(app: typer.Typer) -> None:
    """Hang the command into the command line."""
    add_command(
        app,
        followup,
        examples=(
            "medfuse followup before/ after/ --inputs study/ --regions GTV=gtv.nii.gz -o change/",
        ),
        codes="0 all compared, 8 some regions could not be read or the registration is suspect",
    )


def followup(
    first: Annotated[Path, typer.Argument(help="Result folder of the first time (baseline).")],
    second: Annotated[Path, typer.Argument(help="Result folder of the second time.")],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", "--output", help="Folder to write; it must not be there."),
    ],
    inputs: Annotated[
        Path, typer.Option(help="Folder with the images of both results, under any names.")
    ],
    regions: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE|NAME=FILE",
            help="Regions drawn on an image of the first time; can be repeated.",
        ),
    ] = None,
    sphere: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=X,Y,Z,R",
            help="Sphere in the anatomical image of the first time (RAS mm).",
        ),
    ] = None,
    isocontour: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]LOWEST[@X,Y,Z]",
            help="Voxels from a threshold on, drawn anew at each time: 41% of the maximum, or a "
            "value, around the hottest voxel, or around the one uphill of a point (RAS mm of the "
            "functional image of the first time).",
        ),
    ] = None,
    reference: Reference = None,
    mtv_threshold: MtvThreshold = "41%",
    drawn_on: DrawnOn = None,
    label_names: LabelNames = None,
    preset: Annotated[
        Literal["fast", "default", "thorough"], typer.Option(help="Effort of the registration.")
    ] = "default",
    accept_suspect: Annotated[
        bool, typer.Option("--accept-suspect", help="Go on with a suspect registration.")
    ] = False,
    keep_names: KeepNames = False,
    allow_patient_mismatch: Annotated[
        bool, typer.Option("--allow-patient-mismatch", help="Compare two persons.")
    ] = False,
) -> None:
    """Compare two times of one person: the same regions, their changes, the difference image.

    The anatomical image of the second time is registered to that of the first, with a verdict.
    Regions are measured at both times on the functional images as they were acquired.
    """
    if not regions and not sphere and not isocontour:
        raise UsageError(
            "E_USAGE",
            what="Cannot compare two times",
            cause="no region was given",
            remedy="Give --regions, --sphere or --isocontour",
        )
    from medfuse.case.followup import WHAT, follow_up
    from medfuse.case.followup_files import record_of, write_follow_up
    from medfuse.measurement.asked import Asked
    from medfuse.measurement.files import Named
    from medfuse.measurement.region import Isocontour, Sphere, Threshold
    from medfuse.results.new_folder import require_new
    from medfuse.verification.followup import time_point
    from medfuse.verification.inputs import Inputs

    require_new(out, WHAT)
    shapes: list[Any] = [Sphere.parse(text) for text in sphere or ()]
    shapes += [Isocontour.parse(text) for text in isocontour or ()]
    asked = Asked(
        files=[Named.parse(text) for text in regions or ()],
        shapes=shapes,
        reference=reference,
        mtv_threshold=Threshold.parse(mtv_threshold),
        drawn_on=drawn_on,
        names=label_names,
        keep_names=keep_names,
        allow_patient_mismatch=allow_patient_mismatch,
    )
    with terminal.progress_bar("medfuse followup") as progress:
        progress(0.0, "loading")
        known = Inputs(inputs)
        times = time_point(first, known), time_point(second, known)
        chosen: dict[str, Any] = {"preset": preset, "accept_suspect": accept_suspect}
        found = follow_up(*times, asked, progress=progress, **chosen)
    write_follow_up(out, found, record_of(*times, asked, found, **chosen))
    failures = [error.told(as_flag) for error in found.failures]
    verdict = found.registration.verdict
    content = {"registration": verdict, "changes": found.rows, "failures": failures}
    terminal.answer(content, lambda: show_changes(found, out))
    for failure in failures:
        terminal.complain(failure)
    if failures or verdict == "suspect":
        raise typer.Exit(EXIT_FAILED)


def show_changes(found: Any, out: Path) -> None:
    """The changes of two times as a table, the verdict, and where all of it lies."""
    rows = [[row["region"], *(_change(row, name) for name in _SHOWN)] for row in found.rows]
    if rows:
        terminal.table("Changes", ("region", *_SHOWN), rows)
    terminal.say(f"Registration of the two times: {found.registration.verdict}")
    terminal.say(f"Wrote {out}; open {out}/followup.html", style="green")


def _change(row: dict[str, Any], name: str) -> str:
    before, after = row[f"{name}_first"], row[f"{name}_second"]
    if before is None or after is None:
        return ""
    percent = row[f"{name}_change_percent"]
    return f"{before:.3g} -> {after:.3g}" + (f" ({percent:+.0f} %)" if percent is not None else "")
