"""The command line: parse, call, print. Heavy imports stay inside the commands."""

from __future__ import annotations

import shlex
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from medfuse.cli import audit as audit_command
from medfuse.cli import enhance as enhance_command
from medfuse.cli import images, terminal, trust
from medfuse.cli.options import (
    AcceptSuspect,
    AnatomicalWindow,
    AsJson,
    AssumeIdentity,
    Bias,
    Bounded,
    Colormap,
    Dicom,
    DryRun,
    Frame,
    FunctionalUnit,
    GamutPolicy,
    Initial,
    InitialKind,
    KeepNames,
    KeepPatient,
    KeepUids,
    KernelName,
    Landmarks,
    MaxMemory,
    MethodName,
    Modality,
    Mode,
    Out,
    PatientMismatch,
    Png,
    Preset,
    RegistrationMode,
    ResultLayout,
    Seed,
    Series,
    TiltCorrection,
    UidSalt,
    Unit,
    Window,
)
from medfuse.errors import MedfuseError, UsageError
from medfuse.kernel.cores import wait_asleep

INTERRUPTED = "interrupted; nothing half-written was left"
EXIT_INTERNAL, EXIT_USAGE, EXIT_NO_CASE, EXIT_OUTPUT, EXIT_FAILED, EXIT_INTERRUPTED = (
    1, 2, 3, 4, 8, 130,
)  # fmt: skip

app = typer.Typer(
    name="medfuse",
    help="Fuse MRI with PET, SPECT or CT of the same person into one trustworthy picture.\n\n"
    "Research use only, not a medical device.",
    epilog="Exit codes:  0 all done   |   1 internal failure (--debug shows the trace)   |   "
    "2 wrong use   |   3 no case found   |   4 output cannot be written   |   8 some cases failed, "
    "or something differs   |   130 interrupted",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from medfuse import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.command(
    epilog="Examples:  medfuse fuse t1.nii.gz pet_dicom/ -o result/   |   "
    "medfuse fuse mr/ pet/ -o result/ --window 0 10 --png"
)
def fuse(
    context: typer.Context,
    anatomical: Annotated[Path, typer.Argument(help="MRI (or CT): NIfTI or DICOM folder.")],
    functional: Annotated[Path, typer.Argument(help="PET, SPECT or CT: NIfTI or DICOM folder.")],
    out: Out,
    method: MethodName = "swift",
    mode: Mode = "auto",
    kernel: KernelName = "binomial",
    colormap: Colormap = None,
    gamut: GamutPolicy = "fit",
    bias: Bias = 0.0,
    bounded: Bounded = False,
    registration: RegistrationMode = "auto",
    preset: Preset = "default",
    initial: Initial = None,
    initial_kind: InitialKind = "auto",
    landmarks: Landmarks = None,
    accept_suspect: AcceptSuspect = False,
    allow_patient_mismatch: PatientMismatch = False,
    unit: Unit = "auto",
    window: Window = None,
    anatomical_window: AnatomicalWindow = None,
    anatomical_modality: Modality = None,
    functional_modality: Modality = None,
    functional_unit: FunctionalUnit = None,
    anatomical_series: Series = None,
    functional_series: Series = None,
    frame: Frame = None,
    tilt_correction: TiltCorrection = True,
    assume_identity: AssumeIdentity = False,
    seed: Seed = 0,
    png: Png = False,
    dicom: Dicom = None,
    keep_patient: KeepPatient = False,
    keep_uids: KeepUids = False,
    keep_names: KeepNames = False,
    uid_salt: UidSalt = None,
    layout: ResultLayout = "cases",
    max_memory: MaxMemory = None,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Register, fuse and audit one pair; write a result folder."""
    values = {k: v for k, v in locals().items() if k not in _NOT_SETTINGS}
    settings = _settings(values)
    if dry_run:
        _describe_pair(anatomical, functional, out, as_json=as_json)
        return
    from medfuse.case.pipeline import run_case

    derivative = _derivative(out, anatomical, functional, settings) if layout == "bids" else None
    folder = derivative.folder_of(functional) if derivative else out
    with terminal.progress_bar("medfuse fuse", enabled=not as_json) as progress:
        result = run_case(
            anatomical,
            functional,
            folder,
            settings,
            case=folder.name,
            command=_command(context, names=keep_names),
            uid_salt=uid_salt,
            max_memory_gb=max_memory,
            progress=progress,
        )
    if derivative:
        derivative.place(folder.name)
    terminal.show_result(result, as_json=as_json)


_NOT_SETTINGS = {
    "anatomical", "functional", "out", "as_json", "dry_run", "study", "manifest", "workers",
    "timeout", "force", "uid_salt", "max_memory", "context", "shard", "watch", "scheduler",
    "cluster", "ship", "layout",
}  # fmt: skip


@app.command(
    epilog="Examples:  medfuse batch --study study/ -o results/   |   "
    "medfuse batch --study study/ -o results/ --dry-run   |   "
    "medfuse batch --study study/ -o results/ --shard $SLURM_ARRAY_TASK_ID/16"
)
def batch(
    context: typer.Context,
    study: Annotated[Path, typer.Option(help="BIDS, one folder a subject, or with cases.csv.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Study result folder.")],
    manifest: Annotated[
        Path | None, typer.Option(help="CSV with case,anatomical,functional columns.")
    ] = None,
    method: MethodName = "swift",
    mode: Mode = "auto",
    kernel: KernelName = "binomial",
    colormap: Colormap = None,
    gamut: GamutPolicy = "fit",
    bias: Bias = 0.0,
    bounded: Bounded = False,
    registration: RegistrationMode = "auto",
    preset: Preset = "default",
    accept_suspect: AcceptSuspect = False,
    unit: Unit = "auto",
    window: Window = None,
    anatomical_window: AnatomicalWindow = None,
    tilt_correction: TiltCorrection = True,
    assume_identity: AssumeIdentity = False,
    seed: Seed = 0,
    png: Png = False,
    dicom: Dicom = None,
    keep_patient: KeepPatient = False,
    keep_uids: KeepUids = False,
    keep_names: KeepNames = False,
    uid_salt: UidSalt = None,
    layout: ResultLayout = "cases",
    max_memory: MaxMemory = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Cases at a time, if memory allows. [default: one a core]"),
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds a case may take.")] = None,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Do part I of N; other machines do the rest.")
    ] = None,
    watch: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Look again so often for new cases, until Ctrl-C."),
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Run on the workers of this Dask scheduler (tcp://...).")
    ] = None,
    cluster: Annotated[
        Literal["local", "slurm"] | None,
        typer.Option(help="Start Dask workers (--workers) here, or as SLURM jobs."),
    ] = None,
    ship: Annotated[
        bool, typer.Option("--ship", help="Workers share no disk: send inputs, fetch results.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Redo finished cases too.")] = False,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Fuse every pair of a study; one failing case never stops the others."""
    settings = _settings({k: v for k, v in locals().items() if k not in _NOT_SETTINGS})
    from medfuse.batch.shard import Shard
    from medfuse.study import discover

    plan = discover(study, manifest=manifest)
    if not as_json:
        terminal.show_plan(plan)
    if dry_run:
        if as_json:
            terminal.print_plan(plan)
        raise typer.Exit(0 if plan.cases else EXIT_NO_CASE)

    def run(some: Any) -> Any:
        return _run_batch(
            some, out, settings, layout, as_json=as_json, force=force, timeout_s=timeout,
            uid_salt=uid_salt, command=_command(context, names=keep_names),
            max_memory_gb=max_memory, workers=workers, shard=Shard.parse(shard or "1/1"),
            cluster=_cluster(scheduler, cluster, workers, ship=ship),
        )  # fmt: skip

    if watch is None:
        raise typer.Exit(run(plan).exit_code)
    from medfuse.batch.watch import watch as keep_watch

    terminal.say(f"Watching {study} every {watch:g} s; Ctrl-C ends it.")
    found = keep_watch(lambda: discover(study, manifest=manifest), run, every_s=watch)
    raise typer.Exit(found)


@app.command(
    epilog="Example:  medfuse register t1.nii.gz pet/ -o pet_to_t1.tfm --resampled r.nii.gz"
)
def register(
    fixed: Annotated[Path, typer.Argument(help="Anatomical volume; its grid stays.")],
    moving: Annotated[Path, typer.Argument(help="Functional volume.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="ITK transform (.tfm) to write.")],
    resampled: Annotated[
        Path | None, typer.Option(help="Also write the moving volume on the fixed grid (.nii.gz).")
    ] = None,
    registration: RegistrationMode = "auto",
    preset: Preset = "default",
    initial: Initial = None,
    initial_kind: InitialKind = "auto",
    landmarks: Landmarks = None,
    frame: Frame = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Align two volumes; print quality, write the transform."""
    import numpy as np

    from medfuse.case.pipeline import align, load_pair
    from medfuse.results.export import write_nifti

    settings = _settings(
        {"registration": registration, "preset": preset, "initial": initial,
         "initial_kind": initial_kind, "landmarks": landmarks, "frame": frame,
         "seed": seed, "accept_suspect": True}
    )  # fmt: skip
    anat, func = load_pair(fixed, moving, settings)
    with terminal.progress_bar("medfuse register", enabled=not as_json) as progress:
        found = align(anat, func, settings, progress=progress)
    found.write_tfm(out)
    if resampled:
        volume = found.resample(func)
        write_nifti(resampled, np.asarray(volume)[0], np.asarray(volume.affine))
    if as_json:
        terminal.print_json(found.to_dict())
    else:
        terminal.show_registration(found, out)
    if found.verdict == "suspect":
        raise typer.Exit(EXIT_FAILED)


@app.command(
    epilog="Examples:  medfuse train --data MSRS/train -o my.safetensors --minutes 2   |   "
    "medfuse train --study STUDY/ -o ours.safetensors --minutes 30"
)
def train(
    context: typer.Context,
    out: Annotated[Path, typer.Option("--out", "-o", help="Weights (.safetensors) to write.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder with vi/ and ir/ (official MSRS layout or ours).")
    ] = None,
    a: Annotated[Path | None, typer.Option("--a", help="Folder of A images.")] = None,
    b: Annotated[Path | None, typer.Option("--b", help="Folder of B images.")] = None,
    study: Annotated[
        Path | None, typer.Option(help="Study folder or CSV: its cases are registered first.")
    ] = None,
    method: Annotated[Literal["swift", "unet"], typer.Option(help="Architecture.")] = "swift",
    recipe: Annotated[
        str | None, typer.Option(help="A named recipe, e.g. swift-pet (docs/guides.md).")
    ] = None,
    init: Annotated[str | None, typer.Option(help="Start from these weights.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Wall-clock budget.")] = None,
    steps: Annotated[int | None, typer.Option(help="Number of steps.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of data order and initial weights.")] = None,
    validation: Annotated[
        float | None, typer.Option(help="Share of pairs or cases to hold out; 0: none.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a guide on paired images; write weights and their card.

    A run that was stopped or killed continues from its checkpoint with the same command.
    """
    from medfuse.training.data import find_pair_folders
    from medfuse.training.from_study import DIGITS, write_study_slices
    from medfuse.training.loop import TrainingProgress
    from medfuse.training.train import run_training

    chosen: dict[str, Any] = {"method": method, "recipe": recipe, "init": init}
    chosen |= {"minutes": minutes, "steps": steps, "seed": seed, "validation": validation}
    with (
        terminal.progress_bar("medfuse train", enabled=not as_json) as progress,
        tempfile.TemporaryDirectory() as scratch,
    ):
        if study is not None:
            a, b, notes = write_study_slices(study, Path(scratch), progress=progress)
            chosen |= {"recipe": recipe or "in-domain", "group_digits": DIGITS}
            for note in notes:
                terminal.say(note)
        elif data is not None and a is None and b is None:
            a, b = find_pair_folders(data)
        if a is None or b is None:
            raise _no_pairs()

        def report(state: TrainingProgress) -> None:
            progress(state.fraction, f"step {state.step}, loss {state.loss:.4f}")

        progress(0.0, "reading pairs")
        result = run_training(
            a=a, b=b, out=out, command=_command(context, names=True),
            data_name=(study or data or a).name, on_progress=report, **chosen,
        )  # fmt: skip
    if as_json:
        typer.echo(result.card.read_text())
    else:
        terminal.show_training(result)
    if result.stopped == "interrupted":
        raise typer.Exit(EXIT_INTERRUPTED)


@app.command(
    epilog="Example:  medfuse evaluate --a PET/ --b MRI/ --method swift --method unet "
    "--profile paper --json table.json"
)
def evaluate(
    a: Annotated[Path, typer.Option("--a", help="Folder of A pictures (colour or functional).")],
    b: Annotated[Path, typer.Option("--b", help="Folder of B pictures (MRI or infrared).")],
    method: Annotated[
        list[str] | None,
        typer.Option("--method", "-m", help="Repeat for several. [default: swift]"),
    ] = None,
    fused: Annotated[
        list[str] | None, typer.Option(help="NAME=DIR: also judge finished pictures of a folder.")
    ] = None,
    profile: Annotated[
        Literal["paper", "reference"], typer.Option(help="Definitions of the metrics.")
    ] = "reference",
    kernel: KernelName = "binomial",
    save: Annotated[Path | None, typer.Option(help="Write the fused pictures here.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the table here.")] = None,
) -> None:
    """Judge methods on paired pictures, always beside the trivial rules."""
    from medfuse.evaluation import evaluate as evaluation

    folders = dict(_name_and_folder(item) for item in fused or [])
    with terminal.progress_bar("medfuse evaluate") as progress:
        table = evaluation.evaluate(
            a, b, method or ["swift"], profile=profile, kernel=kernel, fused=folders, save=save,
            on_progress=progress,
        )  # fmt: skip
    terminal.out.print(evaluation.render(table))
    if json_file:
        evaluation.write_json(table, json_file)


@app.command(epilog="Example:  medfuse methods --json")
def methods(as_json: AsJson = False) -> None:
    """List the guides that can be chosen."""
    from medfuse.methods.registry import get_method, list_methods

    infos = [(name, get_method(name).info, summary) for name, summary in list_methods()]
    if as_json:
        rows = [
            {"name": name, "kind": info.kind, "parameters": info.parameters,
             "weights_sha256": info.weights_sha256, "summary": summary}
            for name, info, summary in infos
        ]  # fmt: skip
        terminal.print_json(rows)
        return
    lines = [(name, info.kind, f"{info.parameters:,}", text) for name, info, text in infos]
    terminal.table("Methods", ("name", "kind", "parameters", "summary"), lines)


@app.command()
def colormaps(as_json: AsJson = False) -> None:
    """List the colour maps, with the measured error of reading values back from a picture."""
    from medfuse.kernel.colormaps import COLORMAPS, READABLE, measure_readability

    found = [(n, measure_readability(n), measure_readability(n, gamut="clip")) for n in COLORMAPS]
    if as_json:
        terminal.print_json(
            [{"name": name, "readable": name in READABLE, "fit": vars(fit), "clip": vars(clip)}
             for name, fit, clip in found]
        )  # fmt: skip
        return
    rows = [
        (name, "yes" if name in READABLE else "no",
         *(f"{100 * x:.2f}" for x in (*vars(fit).values(), clip.p95)))
        for name, fit, clip in found
    ]  # fmt: skip
    columns = ("name", "readable", "median %", "95th %", "worst %", "free %", "95th %, clip")
    terminal.table("Colour maps: error of reading back, any luminance", columns, rows)
    terminal.say("free: luminance left to the anatomy where the colour needs most; docs/colour.md")


@app.command(epilog="Example:  medfuse info pet_dicom/")
def info(
    path: Annotated[Path, typer.Argument(help="A file or a folder.")], as_json: AsJson = False
) -> None:
    """Say what a file or series is: modality, unit, geometry, SUV arithmetic, problems."""
    from medfuse.imaging.reader import describe

    found = describe(path)
    if as_json:
        terminal.print_json(found)
        return
    for number, item in enumerate(found, start=1):
        terminal.table(f"{number} of {len(found)}", ("what", "value"), terminal.rows_of(item))


audit_command.add_commands(app)
enhance_command.add_commands(app)
images.add_commands(app)
trust.add_commands(app)


def main() -> None:
    """Entry point: errors become one line and an exit code."""
    wait_asleep()
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    return guarded(app, arguments)


def guarded(command: typer.Typer, arguments: list[str]) -> int:
    """Run a command line; whatever goes wrong becomes one line and an exit code."""
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        code = int(command(args=arguments, standalone_mode=False) or 0)
        if code == EXIT_INTERRUPTED:  # typer turns Ctrl-C into this code and says nothing
            terminal.say(INTERRUPTED, style="yellow")
        return code
    except MedfuseError as error:
        terminal.say(f"error: {error}", style="red")
        return _exit_code(error)
    except (KeyboardInterrupt, typer.Abort):
        terminal.say(INTERRUPTED, style="yellow")
        return EXIT_INTERRUPTED
    except typer.Exit as stop:
        return int(stop.exit_code)
    except Exception as error:
        return _unexpected(error, debug=debug)


def _unexpected(error: Exception, *, debug: bool) -> int:
    if hasattr(error, "exit_code") and hasattr(error, "show"):  # a usage error of click
        error.show()
        return int(error.exit_code)
    if debug:
        traceback.print_exc()
    text = " ".join(str(error).split())[:300]
    terminal.say(
        f"error: Internal failure: {type(error).__name__}: {text}. Run again with --debug and "
        "report it. [E_INTERNAL]",
        style="red",
    )
    return EXIT_INTERNAL


def _exit_code(error: MedfuseError) -> int:
    if error.code == "E_NO_IMAGES":
        return EXIT_NO_CASE
    return {"usage": EXIT_USAGE, "output": EXIT_OUTPUT}.get(error.group, EXIT_FAILED)


def _settings(values: dict[str, Any]) -> Any:
    from medfuse.settings import CaseSettings

    frame = values.get("frame")
    if frame is not None and frame != "mean":
        if not frame.isdecimal():
            raise UsageError(
                "E_USAGE",
                what="Cannot read --frame",
                cause=f"expected a number from 0 or 'mean', got {frame!r}",
                remedy="List the frames with medfuse info",
            )
        values["frame"] = int(frame)
    if landmarks := values.pop("landmarks", None):
        if values["initial"] is not None:
            raise UsageError(
                "E_USAGE",
                what="Cannot start the registration",
                cause="both --initial and --landmarks were given",
                remedy="Give one of them",
            )
        values |= {"initial": landmarks, "initial_kind": "landmarks"}
    if values.get("initial") is not None:
        values["initial"] = str(values["initial"])
    return CaseSettings(**values)


def _command(context: typer.Context, *, names: bool = False) -> str:
    """What was typed; without names, what stands for a path or a series is named by its role."""
    if names:
        return shlex.join(["medfuse", *sys.argv[1:]])
    words = ["medfuse", str(context.info_name)]
    for parameter in context.command.params:
        name, value = str(parameter.name), context.params.get(str(parameter.name))
        source = context.get_parameter_source(name)
        if source is None or source.name != "COMMANDLINE":
            continue
        hidden = isinstance(value, Path) or name.endswith("_series")
        shown = [name.upper()] if hidden else [str(part) for part in _parts(value)]
        words += [*(parameter.opts[:1] if parameter.param_type_name == "option" else []), *shown]
    return shlex.join(words)


def _parts(value: Any) -> tuple[Any, ...]:
    if isinstance(value, bool):
        return ()
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def _no_pairs() -> UsageError:
    return UsageError(
        "E_USAGE",
        what="Cannot train",
        cause="no training pairs were named",
        remedy="Give --data DIR (with vi/ and ir/ inside), --a DIR and --b DIR, or --study DIR",
    )


def _name_and_folder(item: str) -> tuple[str, Path]:
    name, found, folder = item.partition("=")
    if not found or not name:
        raise UsageError(
            "E_USAGE",
            what="Cannot read --fused",
            cause=f"expected NAME=DIR, got {item!r}",
            remedy="Write for example --fused other=results/other",
        )
    return name, Path(folder)


def _describe_pair(anatomical: Path, functional: Path, out: Path, *, as_json: bool) -> None:
    from medfuse.imaging.reader import describe

    found = {"anatomical": describe(anatomical), "functional": describe(functional)}
    if as_json:
        terminal.print_json({**found, "out": str(out)})
        return
    for role, items in found.items():
        for item in items:
            terminal.table(role, ("what", "value"), terminal.rows_of(item))
    terminal.say(f"Would write {out}; nothing was done (--dry-run).")


def _derivative(out: Path, anatomical: Path, functional: Path, settings: Any) -> Any:
    """The BIDS derivative data set that a single case goes into."""
    from medfuse.batch.bids_layout import Derivative, require_bids

    raw = require_bids(anatomical, functional)
    return Derivative.begin(out, raw, keep_names=settings.keep_names)


def _run_batch(
    plan: Any, out: Path, settings: Any, layout: str, *, as_json: bool, **options: Any
) -> Any:
    from medfuse.batch import run_batch
    from medfuse.batch.bids_layout import run_bids_batch

    run = run_bids_batch if layout == "bids" else run_batch
    with terminal.batch_progress(enabled=not as_json) as on_event:
        summary = run(plan, out, settings, on_event=on_event, **options)
    if as_json:
        terminal.print_json(summary.to_dict())
    else:
        terminal.show_summary(summary)
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
            remedy="Give either --scheduler tcp://HOST:8786 or --cluster local|slurm",
        )
    from medfuse.batch.cluster import Cluster

    return Cluster(scheduler, kind, workers or 2, ship)


if __name__ == "__main__":
    main()
