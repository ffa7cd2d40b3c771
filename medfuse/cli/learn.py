"""The commands ``train``, ``evaluate`` and ``methods``. Parse, call, print; heavy imports "
"inside."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from medfuse.cli import terminal
from medfuse.cli.cases import command_line
from medfuse.cli.options import add_command, takes_settings
from medfuse.errors import UsageError
from medfuse.settings import CaseSettings

EXIT_INTERRUPTED = 130


def add_commands(app: typer.Typer) -> None:
    """Hang the commands into the command line."""
    add_command(
        app,
        train,
        examples=(
            "medfuse train --data MSRS/train -o my.safetensors --minutes 2",
            "medfuse train --study STUDY/ -o ours.safetensors --minutes 30",
        ),
    )
    add_command(
        app,
        evaluate,
        examples=(
            "medfuse evaluate --a PET/ --b MRI/ --method swift --method unet --profile paper",
            "medfuse evaluate --a PET/ --b MRI/ --fused other=results/other --json-file table.json",
        ),
    )
    add_command(app, methods, examples=("medfuse methods --json",))


@takes_settings(only=("keep_names",))
def train(
    context: typer.Context,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", "--output", help="Weights (.safetensors) to write."),
    ],
    data: Annotated[
        Path | None, typer.Option(help="Folder with vi/ and ir/ (official MSRS layout or ours).")
    ] = None,
    a: Annotated[Path | None, typer.Option("--a", help="Folder of functional images.")] = None,
    b: Annotated[Path | None, typer.Option("--b", help="Folder of anatomical images.")] = None,
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
    seed: Annotated[
        int | None, typer.Option(help="Random seed for data order and initial weights.")
    ] = None,
    validation: Annotated[
        float | None, typer.Option(help="Share of pairs or cases to hold out; 0: none.")
    ] = None,
    *,
    settings: CaseSettings,
) -> None:
    """Train a fusion method on paired images; write weights and their card.

    A run that was stopped or killed continues from its checkpoint with the same command.
    """
    from medfuse.training.data import find_pair_folders
    from medfuse.training.from_study import DIGITS, write_study_slices
    from medfuse.training.loop import TrainingProgress
    from medfuse.training.train import run_training

    chosen: dict[str, Any] = {"method": method, "recipe": recipe, "init": init}
    chosen |= {"minutes": minutes, "steps": steps, "seed": seed, "validation": validation}
    with (
        terminal.progress_bar("medfuse train") as progress,
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
            a=a, b=b, out=out, command=command_line(context, names=settings.keep_names),
            data_name=(study or data or a).name if settings.keep_names else "",
            keep_names=settings.keep_names, on_progress=report, **chosen,
        )  # fmt: skip
    terminal.answer(json.loads(result.card.read_text()), lambda: terminal.show_training(result))
    if result.stopped == "interrupted":
        raise typer.Exit(EXIT_INTERRUPTED)


@takes_settings(only=("kernel", "gamut", "device", "keep_names"))
def evaluate(
    a: Annotated[Path, typer.Option("--a", help="Folder of A images (color or functional).")],
    b: Annotated[Path, typer.Option("--b", help="Folder of B images (MRI or infrared).")],
    method: Annotated[
        list[str] | None,
        typer.Option("--method", "-m", help="Repeat for several. [default: swift]"),
    ] = None,
    fused: Annotated[
        list[str] | None, typer.Option(help="NAME=DIR: also evaluate finished images of a folder.")
    ] = None,
    profile: Annotated[
        Literal["paper", "reference"], typer.Option(help="Definitions of the metrics.")
    ] = "reference",
    save: Annotated[Path | None, typer.Option(help="Write the fused images here.")] = None,
    *,
    settings: CaseSettings,
) -> None:
    """Evaluate methods on paired images, always beside the trivial rules."""
    from medfuse.evaluation import evaluate as evaluation

    folders = dict(_name_and_folder(item) for item in fused or [])
    with terminal.progress_bar("medfuse evaluate") as progress:
        table = evaluation.evaluate(
            a, b, method or ["swift"], profile=profile, kernel=settings.kernel,
            gamut="clip" if settings.gamut == "clip" else "desaturate", fused=folders, save=save,
            device=settings.device, keep_names=settings.keep_names, on_progress=progress,
        )  # fmt: skip
    terminal.answer(table.to_dict(), lambda: terminal.console().print(evaluation.render(table)))


def methods() -> None:
    """List the fusion methods that can be chosen."""
    from medfuse.methods.registry import get_method, list_methods

    infos = [(name, get_method(name).info, summary) for name, summary in list_methods()]
    rows = [
        {"name": name, "kind": info.kind, "parameters": info.parameters,
         "weights_sha256": info.weights_sha256, "summary": summary}
        for name, info, summary in infos
    ]  # fmt: skip
    lines = [(name, info.kind, f"{info.parameters:,}", text) for name, info, text in infos]
    columns = ("name", "kind", "parameters", "summary")
    terminal.answer(rows, lambda: terminal.table("Methods", columns, lines))


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
