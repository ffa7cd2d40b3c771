"""Train on two folders or on pairs in memory: which kind of run, its stages, what it leaves."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from medfuse.errors import InputError, WeightsError
from medfuse.methods import zoo
from medfuse.training.both_sources import BandRun
from medfuse.training.cards import (
    CardFacts,
    merit,
    rule_metrics,
    start_metrics,
    validation_metrics,
    write_weights,
)
from medfuse.training.checkpoint import save_state
from medfuse.training.data import Pairs, load_pairs, split_validation
from medfuse.training.gifnet import GifnetRun
from medfuse.training.loop import OnProgress, PaintingRun, Run, checkpoint_path
from medfuse.training.losses import least_side
from medfuse.training.recipes import Recipe, get_recipe
from medfuse.training.start import like_init
from medfuse.training.unfolding import UnfoldingRun

BESIDE = ("mean", "max", "local-energy")  # rules that a trained guide has to beat


@dataclass(frozen=True)
class TrainingResult:
    """What training left behind."""

    weights: Path
    card: Path
    steps: int
    seconds: float
    stopped: Literal["finished", "early", "interrupted"]
    first_loss: float
    last_loss: float
    validation: dict[str, float] = field(default_factory=dict)
    before: dict[str, float] = field(default_factory=dict)  # the same pairs, by ``init`` as given
    beside: dict[str, dict[str, float]] = field(default_factory=dict)  # and by rules
    kept: Path | None = None  # an earlier file of that name which is better, and was not replaced
    resumed_at: int = 0


def run_training(
    *,
    a: Path,
    b: Path,
    out: Path,
    method: str = "swift",
    recipe: Recipe | str | None = None,
    init: str | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    seed: int | None = None,
    data_name: str = "",
    command: str = "",
    keep_names: bool = False,
    on_progress: OnProgress | None = None,
    **overrides: Any,
) -> TrainingResult:
    """Train on two folders and write weights, card and validation pictures.

    Parameters
    ----------
    a, b : Path
        Folders of functional and anatomical images; see :func:`medfuse.training.data.load_pairs`.
    out : Path
        The ``.safetensors`` file to write. The card goes beside it as ``.json``, pictures into a
        folder ``<name>.validation``; while training runs there is also a checkpoint, and the same
        call continues from it.
    method : {"swift", "unet"}
        Which recipe to use where ``recipe`` is not given.
    recipe : Recipe or str, optional
    init : str, optional
        Name of shipped weights or a path to start from.
    minutes, steps : optional
        Length; one replaces the other.
    seed : int, optional
    data_name : str, optional
        What the card calls the data.
    command : str, optional
        The command line, for the card.
    keep_names : bool
        Write into the card how folders and held out pictures are called; they may name patients.
    on_progress : callable, optional
        Called after every step.
    **overrides
        Fields of :class:`~medfuse.training.recipes.Recipe`.

    Raises
    ------
    InputError
        If the data are missing, unpaired, constant, unreadable or too small.
    UsageError, WeightsError, OutputError
    """
    chosen = recipe if isinstance(recipe, Recipe) else get_recipe(recipe or method)
    chosen = chosen.override(init=init, minutes=minutes, steps=steps, seed=seed, **overrides)
    if chosen.first and chosen.init is None:
        start = out.with_name(f"{out.stem}.first.safetensors")
        if not start.is_file() or checkpoint_path(start).is_file():
            stage = run_training(
                a=a, b=b, out=start, recipe=chosen.first, seed=chosen.seed, data_name=data_name,
                command=command, keep_names=keep_names, on_progress=on_progress,
            )  # fmt: skip
            if stage.stopped == "interrupted":
                return stage
        chosen = chosen.override(init=str(start))
    chosen = like_init(chosen)
    pairs = load_pairs(a, b)
    training, validation = split_validation(
        pairs, fraction=chosen.validation, group_digits=chosen.group_digits
    )
    return train(
        chosen,
        training,
        validation,
        out=out,
        data_name=data_name or (f"{a.name} and {b.name}" if keep_names else "paired images"),
        command=command,
        keep_names=keep_names,
        on_progress=on_progress,
    )


def _require_size(recipe: Recipe, training: Pairs, validation: Pairs) -> None:
    """Refuse pictures that the loss cannot be computed on."""
    least = least_side(recipe.loss)
    sides = [min(image.shape) for image in (*training.a, *validation.a)]
    small = [side for side in sides if side < least]
    if small:
        raise InputError(
            "E_TOO_SMALL",
            what="Cannot train on these pictures",
            cause=f"{len(small)} of {len(sides)} pictures (or slices) have a side of less than "
            f"{least} pixels, the smallest one {min(small)}",
            remedy=f"Give pictures with sides of at least {least} pixels",
        )


def train(
    recipe: Recipe,
    training: Pairs,
    validation: Pairs,
    *,
    out: Path,
    data_name: str = "",
    command: str = "",
    keep_names: bool = False,
    on_progress: OnProgress | None = None,
) -> TrainingResult:
    """Train on pairs in memory; see :func:`run_training`."""
    _require_size(recipe, training, validation)
    run = _kind_of_run(recipe)(recipe, training, validation, out, on_progress)
    resumed_at = run.resume()
    with _interruptible() as interrupted:
        stopped = run.loop(interrupted)
    state = run.state
    if stopped == "interrupted":
        save_state(run.checkpoint, state, run.key)
    weights = state.best or state.weights()
    metrics = validation_metrics(recipe, weights, run.validation)
    if state.best:
        metrics["loss"] = round(state.best_loss, 4)
    facts = CardFacts(
        data_name=data_name,
        training=run.training,
        validation=run.validation,
        steps=state.step,
        seconds=state.seconds,
        device=run.device.type,
        command=command,
        metrics=metrics,
        keep_names=keep_names,
    )
    kept = None if resumed_at else _better_before(out, recipe, run.validation, metrics)
    if kept:
        out = out.with_name(f"{out.stem}-new{out.suffix}")
    write_weights(out, recipe, weights, facts)
    if stopped != "interrupted":
        run.checkpoint.unlink(missing_ok=True)
    return TrainingResult(
        weights=out,
        card=out.with_suffix(".json"),
        steps=state.step,
        seconds=state.seconds,
        stopped=stopped,
        first_loss=state.first_loss or math.nan,
        last_loss=state.last_loss or math.nan,
        validation=metrics,
        before=start_metrics(recipe, run.validation),
        beside={name: rule_metrics(name, recipe, run.validation) for name in BESIDE},
        kept=kept,
        resumed_at=resumed_at,
    )


def _better_before(
    out: Path, recipe: Recipe, pairs: Pairs, metrics: dict[str, float]
) -> Path | None:
    """The file that would be replaced, if what it holds is better on the same pairs."""
    if not out.is_file():
        return None
    try:
        before = rule_metrics(str(out), recipe, pairs)
    except WeightsError:
        return None
    return out if merit(before) > merit(metrics) else None


def _kind_of_run(recipe: Recipe) -> type[Run]:
    kinds: dict[str, type[Run]] = {"gifnet": GifnetRun, "bands": BandRun, "descent": BandRun}
    if recipe.architecture.startswith("unfolding"):
        return UnfoldingRun
    paints = zoo.paints(recipe.architecture, recipe.options)
    return kinds.get(recipe.architecture, PaintingRun if paints else Run)


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Turn Ctrl-C into a flag that the loop reads between two steps; a second one breaks off."""
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def note(number: int, frame: object) -> None:
        flag.set()
        signal.signal(signal.SIGINT, previous)

    previous = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, note)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, previous)
