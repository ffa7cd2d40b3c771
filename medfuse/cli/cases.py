"""The commands ``fuse``, ``batch`` and ``register``. Parse, call, print; heavy imports inside."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from medfuse.cli import terminal
from medfuse.cli.baseline import compare_with, require_baseline
from medfuse.cli.options import (
    COMMON,
    DryRun,
    Force,
    Landmarks,
    MaxMemory,
    Out,
    ResultLayout,
    UidSalt,
    add_command,
    takes_settings,
)
from medfuse.errors import MedfuseError, UsageError
from medfuse.kernel.cores import importing
from medfuse.settings import CaseSettings, as_flag, as_flag_or_column

EXIT_NO_CASE, EXIT_FAILED = 3, 8
MANY = "Many cases"


def add_commands(app: typer.Typer) -> None:
    """Hang the commands into the command line."""
    add_command(
        app,
        fuse,
        examples=(
            "medfuse fuse t1.nii.gz pet_dicom/ -o result/",
            "medfuse fuse --mri mr/ --pet pet/ -o result/ --window 0 10 --png",
        ),
    )
    add_command(
        app,
        batch,
        examples=(
            "medfuse batch study/ -o results/ --dry-run",
            "medfuse batch study/ -o results/ --workers 4",
            "medfuse batch study/ -o results/ --shard $SLURM_ARRAY_TASK_ID/16",
        ),
    )
    add_command(
        app,
        register,
        examples=("medfuse register t1.nii.gz pet/ -o pet_to_t1.tfm --resampled pet_on_t1.nii.gz",),
    )


def _named(kind: str) -> Any:
    return typer.Option(
        f"--{kind.lower()}", help=f"The {kind}, instead of its position.", rich_help_panel="Reading"
    )


@takes_settings("Fusion", "Registration", "Reading", "Output")
def fuse(
    context: typer.Context,
    anatomical: Annotated[
        Path | None, typer.Argument(help="MRI (or CT): NIfTI file or DICOM folder.")
    ] = None,
    functional: Annotated[
        Path | None, typer.Argument(help="PET, SPECT or CT: NIfTI file or DICOM folder.")
    ] = None,
    *,
    out: Out,
    mri: Annotated[Path | None, _named("MRI")] = None,
    pet: Annotated[Path | None, _named("PET")] = None,
    spect: Annotated[Path | None, _named("SPECT")] = None,
    ct: Annotated[Path | None, _named("CT")] = None,
    landmarks: Landmarks = None,
    uid_salt: UidSalt = None,
    layout: ResultLayout = "cases",
    max_memory: MaxMemory = None,
    baseline: Annotated[
        Path | None,
        typer.Option(
            metavar="RESULT",
            help="Earlier result of this person: compare with it.",
            rich_help_panel="Output",
        ),
    ] = None,
    baseline_inputs: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Its images.", rich_help_panel="Output"),
    ] = None,
    force: Force = False,
    dry_run: DryRun = False,
    settings: CaseSettings,
) -> None:
    """Register, fuse and audit one pair; write a result folder."""
    named = {"MRI": mri, "PET": pet, "SPECT": spect, "CT": ct}
    anatomical, functional, stated = _pair(anatomical, functional, named)
    settings = _with_modalities(settings, stated)
    _require_folder(out)
    earlier = require_baseline(baseline, baseline_inputs, anatomical)
    if dry_run:
        _describe_pair(anatomical, functional, out, settings, max_memory)
        return
    _require_there(anatomical, functional)
    derivative = _derivative(out, anatomical, functional, settings) if layout == "bids" else None
    folder = derivative.folder_of(functional) if derivative else out
    with terminal.progress_bar("medfuse fuse") as progress:
        with importing():
            from medfuse.case.early import read_early

        early = read_early(anatomical, functional, settings, progress, max_memory_gb=max_memory)
        from medfuse.case.pipeline import run_case

        result = run_case(
            anatomical,
            functional,
            folder,
            settings,
            case=folder.name,
            command=command_line(context, names=settings.keep_names),
            uid_salt=uid_salt,
            max_memory_gb=max_memory,
            replace_other=force,
            early=early,
            progress=progress,
        )
    if derivative:
        derivative.place(folder.name)
    if earlier is None:
        terminal.answer_result(result)
        return
    compared = compare_with(earlier, result, anatomical, functional, settings)
    terminal.answer_result(result, followup=compared.to_dict())
    compared.show()
    if not compared.is_whole:
        raise typer.Exit(EXIT_FAILED)


def _pair(
    anatomical: Path | None, functional: Path | None, named: dict[str, Path | None]
) -> tuple[Path, Path, dict[str, str]]:
    """Both images, by position or by name, and the modalities that their names state."""
    given = {kind: path for kind, path in named.items() if path is not None}
    if not given and anatomical is not None and functional is not None:
        return anatomical, functional, {}
    first = "MRI" if "MRI" in given else "CT"
    roles = [first, *(kind for kind in given if kind != first)]
    if anatomical is not None or len(given) != 2 or first not in given:
        raise UsageError(
            "E_USAGE",
            what="Cannot tell which two images to fuse",
            cause=_what_was_given([anatomical, functional], list(given)),
            remedy="Give the anatomical and then the functional image, or name both, for example "
            "--mri t1.nii.gz --pet pet/",
        )
    stated = {"anatomical_modality": roles[0], "functional_modality": roles[1]}
    return given[roles[0]], given[roles[1]], stated


def _what_was_given(positions: list[Path | None], names: list[str]) -> str:
    count = len([path for path in positions if path is not None])
    words = [("no path", "one path", "two paths")[count]] if count or not names else []
    return f"the command line has {' and '.join([*words, *(f'--{n.lower()}' for n in names)])}"


def _with_modalities(settings: CaseSettings, stated: dict[str, str]) -> CaseSettings:
    for name, modality in stated.items():
        given = getattr(settings, name)
        if given not in (None, modality):
            raise UsageError(
                "E_USAGE",
                what="Cannot tell what the images are",
                cause=f"--{modality.lower()} and {as_flag(name, given)} contradict each other",
                remedy="Leave one of them out",
            )
    return CaseSettings(**{**settings.model_dump(), **stated})


def _require_folder(out: Path) -> None:
    if out.name.lower().endswith((".nii", ".nii.gz", ".dcm", ".png")):
        raise UsageError(
            "E_USAGE",
            what="Cannot write the result",
            where=out.name,
            cause="a result is a folder (fused image, weight map, audit, report), not one file",
            remedy="Give a folder, for example -o result/; the fused image is fused_rgb.nii.gz in "
            "it",
        )


def _require_there(*images: Path) -> None:
    """Answer a mistyped path before anything heavy is imported."""
    odd = [path for path in images if not (path.is_file() or path.is_dir())]
    if not odd:
        return
    from medfuse.imaging.reader import describe

    for path in odd:
        describe(path)  # raises what reading would


@takes_settings("Fusion", "Registration", "Reading", "Output", single=False)
def batch(
    context: typer.Context,
    study_folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="STUDY", help="BIDS data set, one folder per subject, or with cases.csv."
        ),
    ] = None,
    *,
    out: Out,
    study: Annotated[
        Path | None, typer.Option(help="The study, instead of its position.", rich_help_panel=MANY)
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            help="CSV with the columns case,anatomical,functional and any settings.",
            rich_help_panel=MANY,
        ),
    ] = None,
    uid_salt: UidSalt = None,
    layout: ResultLayout = "cases",
    max_memory: MaxMemory = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Cases at a time. [default: one per core]", rich_help_panel=COMMON
        ),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds a case may take.", rich_help_panel=MANY)
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N", help="Do part I of N; other machines do the rest.", rich_help_panel=MANY
        ),
    ] = None,
    watch: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Check for new cases every SECONDS until interrupted.",
            rich_help_panel=MANY,
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="Run on the workers of this Dask scheduler (tls://...).", rich_help_panel=MANY
        ),
    ] = None,
    cluster: Annotated[
        Literal["local", "slurm"] | None,
        typer.Option(
            help="Start Dask workers (--workers) here, or as SLURM jobs.", rich_help_panel=MANY
        ),
    ] = None,
    ship: Annotated[
        bool,
        typer.Option(
            "--ship",
            help="Workers share no disk: send inputs, fetch results.",
            rich_help_panel=MANY,
        ),
    ] = False,
    baseline: Annotated[
        Literal["first"] | None,
        typer.Option(
            help="Compare each session of a person with the first (BIDS). In a manifest the column "
            "baseline names the earlier case.",
            rich_help_panel=MANY,
        ),
    ] = None,
    force: Force = False,
    dry_run: DryRun = False,
    settings: CaseSettings,
) -> None:
    """Fuse every pair of a study; one failing case never stops the others."""
    root = _one_study(study_folder, study)
    if watch is not None:
        _require_no_baseline(baseline)
    from medfuse.batch.shard import Shard
    from medfuse.study import discover

    plan = discover(root, manifest=manifest)
    if terminal.mode.shows:
        terminal.show_plan(plan)
    if dry_run:
        if terminal.mode.as_json:
            terminal.print_plan(plan)
        raise typer.Exit(0 if plan.cases else EXIT_NO_CASE)

    def run(some: Any) -> Any:
        return _run_batch(
            some, out, settings, layout, force=force, timeout_s=timeout, uid_salt=uid_salt,
            command=command_line(context, names=settings.keep_names), max_memory_gb=max_memory,
            workers=workers, shard=Shard.parse(shard or "1/1"),
            cluster=_cluster(scheduler, cluster, workers, ship=ship),
            first_sessions=baseline == "first",
        )  # fmt: skip

    if watch is None:
        raise typer.Exit(run(plan).exit_code)
    from medfuse.batch.watch import watch as keep_watch

    terminal.say(f"Watching {root} every {watch:g} s; Ctrl-C ends it.")
    find = lambda: discover(root, manifest=manifest)  # noqa: E731
    tell = lambda error: terminal.complain(error.told(as_flag_or_column))  # noqa: E731
    found = keep_watch(find, run, every_s=watch, tell=tell)
    raise typer.Exit(found)


def _require_no_baseline(baseline: str | None) -> None:
    """A watched folder gives a few cases at a time, without those they are compared with."""
    if baseline is not None:
        raise UsageError(
            "E_USAGE",
            what="Cannot compare two times",
            cause="--watch runs new cases alone, without the earlier ones",
            remedy="Leave --baseline out, and run the batch with it when the study is complete",
        )


def _one_study(position: Path | None, named: Path | None) -> Path:
    given = [path for path in (position, named) if path is not None]
    if len(given) != 1:
        raise UsageError(
            "E_USAGE",
            what="Cannot tell which study to run",
            cause="it was given twice" if given else "no study was given",
            remedy="Give it once, for example: medfuse batch STUDY -o RESULTS",
        )
    return given[0]


@takes_settings("Registration", "Reading", without=("accept_suspect",))
def register(
    fixed: Annotated[Path, typer.Argument(help="Anatomical volume; its grid stays.")],
    moving: Annotated[Path, typer.Argument(help="Functional volume.")],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", "--output", help="Transform to write: .tfm, .h5 (ITK) or .json.",
            rich_help_panel=COMMON,
        ),
    ],
    resampled: Annotated[
        Path | None,
        typer.Option(
            help="Also write the moving volume on the fixed grid (.nii.gz).",
            rich_help_panel=COMMON,
        ),
    ] = None,
    landmarks: Landmarks = None,
    *,
    settings: CaseSettings,
) -> None:  # fmt: skip
    """Align two volumes; print quality, write the transform."""
    _require_there(fixed, moving)
    if out.suffix.lower() not in (".tfm", ".txt", ".h5", ".json"):
        raise UsageError(
            "E_FORMAT",
            what="Cannot write the transform",
            where=out.name,
            cause=f"the format {out.suffix or '(no suffix)'} is not known",
            remedy="Give a name that ends in .tfm, .txt or .h5 (ITK) or .json (as in results)",
        )
    with importing():
        import numpy as np

        from medfuse.case.pipeline import align, load_pair
        from medfuse.imaging.progress import listening
        from medfuse.results.export import write_nifti

    settings = settings.model_copy(update={"accept_suspect": True})
    with terminal.progress_bar("medfuse register") as progress:
        with listening(progress):
            anat, func = load_pair(fixed, moving, settings)
        found = align(anat, func, settings, progress=progress)
    _write_transform(found, out)
    if resampled:
        volume = found.resample(func)
        write_nifti(resampled, np.asarray(volume)[0], np.asarray(volume.affine))
    terminal.answer(found.to_dict(), lambda: terminal.show_registration(found, out))
    if found.verdict == "suspect":
        raise typer.Exit(EXIT_FAILED)


def _write_transform(found: Any, out: Path) -> None:
    from medfuse.registration.tfm import itk_bytes, tfm_text
    from medfuse.results.folder import write_through
    from medfuse.results.vectors import write_vectors

    is_json = out.suffix.lower() == ".json"
    if is_json:
        content = f"{json.dumps(found.to_dict(), indent=2)}\n".encode()
    elif not found.bends and out.suffix.lower() != ".h5":
        content = tfm_text(found.matrix).encode()
    else:
        content = itk_bytes(found.itk(), out.suffix.lower())
    write_through(out, content)
    if is_json and found.deformation is not None:
        field = found.deformation
        write_vectors(
            out.with_name(field.to_dict()["file"]), field.displacement, field.lattice.affine
        )


def command_line(context: typer.Context, *, names: bool = False) -> str:
    """What was typed; without names, what stands for a path or a series is named by its role."""
    if names:
        return shlex.join(["medfuse", *sys.argv[1:]])
    words = ["medfuse", str(context.info_name)]
    for parameter in context.command.params:
        name, value = str(parameter.name), context.params.get(str(parameter.name))
        source = context.get_parameter_source(name)
        if source is None or source.name != "COMMANDLINE":
            continue
        hidden = isinstance(value, Path) or name == "regions" or name.endswith("_series")
        shown = [name.upper()] if hidden else [str(part) for part in _parts(value)]
        words += [*(parameter.opts[:1] if parameter.param_type_name == "option" else []), *shown]
    return shlex.join(words)


def _parts(value: Any) -> Sequence[Any]:
    if isinstance(value, bool):
        return ()
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def _describe_pair(
    anatomical: Path, functional: Path, out: Path, settings: CaseSettings, max_memory: float | None
) -> None:
    """Say what the images are; refuse them as the run would, after they were shown."""
    from medfuse.imaging.reader import describe

    found = {"anatomical": describe(anatomical), "functional": describe(functional)}

    def show() -> None:
        for role, items in found.items():
            for item in items:
                terminal.table(role, ("what", "value"), terminal.rows_of(item))

    def show_all() -> None:
        show()
        terminal.say(f"Would write {out}; nothing was done (--dry-run).")

    from medfuse.case.pipeline import load_pair
    from medfuse.imaging.memory import memory_limit

    try:
        with memory_limit(max_memory):
            load_pair(anatomical, functional, settings)
    except MedfuseError:
        if terminal.mode.shows and not terminal.mode.as_json:
            show()
        raise
    terminal.answer({**found, "out": out.name}, show_all)


def _derivative(out: Path, anatomical: Path, functional: Path, settings: CaseSettings) -> Any:
    """The BIDS derivative data set that a single case goes into."""
    from medfuse.batch.bids_layout import Derivative, require_bids

    raw = require_bids(anatomical, functional)
    return Derivative.begin(out, raw, keep_names=settings.keep_names)


def _run_batch(plan: Any, out: Path, settings: CaseSettings, layout: str, **options: Any) -> Any:
    from medfuse.batch import run_batch
    from medfuse.batch.bids_layout import run_bids_batch

    run = run_bids_batch if layout == "bids" else run_batch
    with terminal.batch_progress() as on_event:
        summary = run(plan, out, settings, on_event=on_event, **options)
    terminal.answer(summary.to_dict(), lambda: terminal.show_summary(summary))
    return summary


def _cluster(
    scheduler: str | None,
    kind: Literal["local", "slurm"] | None,
    workers: int | None,
    *,
    ship: bool,
) -> Any:
    if scheduler is None and kind is None and not ship:
        return None
    if (scheduler is None) == (kind is None):
        raise UsageError(
            "E_USAGE",
            what="Cannot choose the workers",
            cause="--scheduler and --cluster exclude each other, and --ship needs one of them",
            remedy="Give either --scheduler tls://HOST:8786 or --cluster local|slurm",
        )
    from medfuse.batch.cluster import Cluster

    return Cluster(scheduler, kind, workers or 2, ship)
