"""The command ``medfuse measure``. Parse, call, print; heavy imports inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from medfuse.cli import terminal
from medfuse.cli.options import Force, add_command
from medfuse.errors import UsageError
from medfuse.settings import as_flag

if TYPE_CHECKING:
    from medfuse.verification.measured import Measured, StudySummary, Wanted

EXIT_FAILED = 8
#: Of a row, what a person is shown; the file has all of it.
_SHOWN = ("region", "volume_ml", "max", "mean", "peak", "unit", "remark")

#: Options that `measure` and `followup` share.
Reference = Annotated[
    str | None,
    typer.Option(metavar="REGION", help="Also divide each mean by that of this region (SUVR)."),
]
MtvThreshold = Annotated[
    str, typer.Option(metavar="LOWEST", help="Threshold of MTV and TLG within a region.")
]
DrawnOn = Annotated[
    Literal["anatomical", "functional"] | None,
    typer.Option(help="Image on which the regions were drawn, where a file does not say."),
]
LabelNames = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|freesurfer", help="Names of the labels: table (.tsv), JSON or color table."
    ),
]
KeepNames = Annotated[bool, typer.Option("--keep-names", help="Call a mask after its file.")]


def add_commands(app: typer.Typer) -> None:
    """Hang the command into the command line."""
    add_command(
        app,
        measure,
        examples=(
            "medfuse measure result/ --regions GTV=gtv.nii.gz --inputs study/ -o table.tsv",
            "medfuse measure result/ --regions rtstruct.dcm --inputs study/ -o table.tsv",
            "medfuse measure results/ --regions 'masks/{case}.nii.gz' --inputs study/ -o all.tsv",
            "medfuse measure result/ --isocontour 41% --sphere liver=60,20,-15,15 -o table.tsv",
            "medfuse measure result/ --isocontour 41% --inputs study/ -o t.tsv --dicom objects/",
        ),
        codes="0 all measured, 8 some regions or cases could not be read, 2 wrong use",
    )


def measure(
    result: Annotated[Path, typer.Argument(help="Result folder of a case, or of a whole batch.")],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", "--output", help="Table to write (.tsv), with a .json beside."),
    ],
    regions: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE|NAME=FILE",
            help="NIfTI mask or label map, DICOM SEG or RTSTRUCT; can be repeated. For a batch, "
            "{case} stands for the name of a case.",
        ),
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option(
            help="Folder with the images (any names): they are measured as acquired. Without it, "
            "the resampled functional image of the result is measured, and the table says so."
        ),
    ] = None,
    sphere: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=X,Y,Z,R",
            help="Sphere: center in the anatomical image (RAS mm) and radius (mm).",
        ),
    ] = None,
    isocontour: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]LOWEST[@X,Y,Z]",
            help="Voxels from a threshold on (41% of the maximum, or a value) around the hottest "
            "one, or around the one uphill of a point (RAS mm of the functional image).",
        ),
    ] = None,
    reference: Reference = None,
    mtv_threshold: MtvThreshold = "41%",
    drawn_on: DrawnOn = None,
    label_names: LabelNames = None,
    keep_names: KeepNames = False,
    allow_patient_mismatch: Annotated[
        bool, typer.Option("--allow-patient-mismatch", help="Use the regions of another person.")
    ] = False,
    dicom: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Also write regions and numbers as DICOM (SEG and structured report) into this "
            "new folder, of a batch a folder for each case; only where the functional image is a "
            "DICOM series.",
        ),
    ] = None,
    keep_patient: Annotated[
        bool, typer.Option("--keep-patient", help="DICOM output keeps patient and study.")
    ] = False,
    force: Force = False,
) -> None:
    """Measure regions: SUV, volume, MTV and TLG, both images, and what registration may change.

    The functional image is measured as it was acquired, never interpolated: regions are brought to
    its voxels, which count by the part inside.
    """
    _require_table(out, force=force)
    from medfuse.measurement.files import Named
    from medfuse.measurement.region import Isocontour, Sphere, Threshold
    from medfuse.results.folder import read_manifest
    from medfuse.verification.measured import Wanted

    shapes: list[Any] = [Sphere.parse(text) for text in sphere or ()]
    shapes += [Isocontour.parse(text) for text in isocontour or ()]
    if not regions and not shapes:
        raise _usage("nothing was given to measure", "Give --regions, --sphere or --isocontour")
    wanted = Wanted(
        files=[Named.parse(text) for text in regions or ()],
        shapes=shapes,
        reference=reference,
        mtv_threshold=Threshold.parse(mtv_threshold),
        drawn_on=drawn_on,
        names=label_names,
        keep_names=keep_names,
        allow_patient_mismatch=allow_patient_mismatch,
        dicom=dicom is not None,
        keep_patient=keep_patient,
    )
    many = read_manifest(result) is None
    _require_dicom(dicom, inputs, keep_patient=keep_patient)
    if _measured(result, out, wanted, inputs, many=many, dicom=dicom):
        raise typer.Exit(EXIT_FAILED)


def _measured(
    result: Path,
    out: Path,
    wanted: Wanted,
    inputs: Path | None,
    *,
    many: bool,
    dicom: Path | None,
) -> bool:
    """Measure one result or all of a batch; tell whether something failed."""
    from medfuse.verification.inputs import Inputs
    from medfuse.verification.measured import measure_result, measure_study

    known = Inputs(inputs) if inputs is not None else None
    if many:
        with terminal.progress_bar("medfuse measure") as progress:
            summary = measure_study(
                result, out, wanted, inputs=known, dicom=dicom, progress=progress
            )
        failures = [f"{case}: {error.told(as_flag)}" for case, error in summary.failures]
        content = {"cases": summary.cases, "rows": summary.rows, "failures": failures}
        if dicom is not None:
            content |= {"dicom": list(summary.notes), "cases_as_dicom": summary.objects}
        terminal.answer(content, lambda: _show_study(summary, out, dicom, resampled=known is None))
    else:
        with terminal.progress_bar("medfuse measure", after=1.0):
            found = measure_result(result, wanted, inputs=known)
        found.write(out, dicom)
        failures = [error.told(as_flag) for error in found.failures]
        content = {"rows": found.table.to_dict(), "failures": failures}
        if found.objects is not None:
            content["dicom"] = list(found.objects.notes)
        terminal.answer(content, lambda: _show(found, out, dicom, resampled=known is None))
    for failure in failures:
        terminal.complain(failure)
    return bool(failures)


def _show_study(summary: StudySummary, out: Path, dicom: Path | None, *, resampled: bool) -> None:
    _say_written(out, summary.rows, resampled=resampled)
    for note in summary.notes:
        terminal.say(note, style="yellow")
    if dicom is not None:
        terminal.say(f"Wrote the regions of {summary.objects} case(s) to {dicom}", style="green")


def _show(found: Measured, out: Path, dicom: Path | None, *, resampled: bool) -> None:
    rows = [[_number(row[name]) for name in _SHOWN] for row in found.table.to_dict()]
    terminal.table("Regions", _SHOWN, rows)
    _say_written(out, len(found.table), resampled=resampled)
    if found.objects is not None:
        for note in found.objects.notes:
            terminal.say(note, style="yellow")
        terminal.say(f"Wrote regions.dcm and measurements.dcm to {dicom}", style="green")


def _say_written(out: Path, rows: int, *, resampled: bool) -> None:
    if resampled:
        terminal.say(
            "The resampled functional image was measured, whose maxima are lower; --inputs DIR "
            "measures the image as acquired.",
            style="yellow",
        )
    terminal.say(f"Wrote {rows} row(s) to {out}", style="green")


def _number(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _require_table(out: Path, *, force: bool) -> None:
    if out.suffix.lower() != ".tsv":
        raise _usage(
            f"the table is to be written as {out.suffix or 'a file without suffix'}",
            "Give a name that ends in .tsv",
        )
    if out.exists() and not force:
        raise _usage(f"{out.name} is there already", f"Replace it with {as_flag('force', 'True')}")


def _require_dicom(dicom: Path | None, inputs: Path | None, *, keep_patient: bool) -> None:
    if dicom is None:
        if keep_patient:
            raise _usage("--keep-patient is about DICOM output alone", "Add --dicom DIR")
        return
    if inputs is None:
        raise _usage(
            "--dicom puts regions on the image as acquired, which is not in a result",
            "Give the folder that holds it with --inputs DIR",
        )
    from medfuse.dicom_out import require_highdicom
    from medfuse.results.new_folder import require_new

    require_highdicom()
    require_new(dicom, "Cannot write the regions as DICOM")


def _usage(cause: str, remedy: str) -> UsageError:
    return UsageError("E_USAGE", what="Cannot measure", cause=cause, remedy=remedy)
