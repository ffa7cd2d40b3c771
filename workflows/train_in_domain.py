"""Train a guide on a study of your own and judge it on the cases it has not seen.

    python workflows/train_in_domain.py study/ -o ours.safetensors --minutes 10

What ``medfuse train --study`` does, from Python: copy it where the recipe shall be another. Every
case is registered, its slices become pictures, and the default guide is trained further on them;
a fifth of the cases is held out and judged before and after. Research use only.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from medfuse.cli.terminal import progress_bar
from medfuse.errors import MedfuseError
from medfuse.training.from_study import DIGITS, write_study_slices
from medfuse.training.loop import TrainingProgress
from medfuse.training.recipes import get_recipe
from medfuse.training.train import TrainingResult, run_training

SHOWN = ("VIF_A", "VIF_B", "Qabf", "SSIM", "uptake_correlation")


def train(study: Path, out: Path, *, minutes: float | None, steps: int | None) -> TrainingResult:
    """Write weights and their card; the pictures of the study live as long as the training."""
    recipe = get_recipe("in-domain").override(group_digits=DIGITS)
    with tempfile.TemporaryDirectory() as scratch, progress_bar("training") as progress:

        def report(state: TrainingProgress) -> None:
            progress(state.fraction, f"step {state.step}, loss {state.loss:.4f}")

        a, b, notes = write_study_slices(study, Path(scratch), progress=progress)
        print(*notes, sep="\n", flush=True)
        return run_training(
            a=a, b=b, out=out, recipe=recipe, minutes=minutes, steps=steps,
            data_name=study.name, on_progress=report,
        )  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Train and tell what it changed; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("study", type=Path, help="folder, BIDS data set or cases.csv")
    parser.add_argument("-o", "--out", type=Path, default=Path("ours.safetensors"))
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float)
    length.add_argument("--steps", type=int)
    options = parser.parse_args(arguments)
    try:
        result = train(options.study, options.out, minutes=options.minutes, steps=options.steps)
    except MedfuseError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{result.steps} steps, {result.stopped}; held-out slices, before and after:")
    for name in SHOWN:
        if name in result.validation:
            print(f"  {name:18} {result.before[name]:.3f} -> {result.validation[name]:.3f}")
    print(f"Data, recipe and all figures: {result.card}")
    print(f"Use it: medfuse batch STUDY -o OUT --method {result.weights}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
