"""Train a guide on a study of your own and judge it on the cases it has not seen.

    python workflows/train_in_domain.py study/ -o ours.safetensors --minutes 10

What ``medfuse train --study`` does, from Python: copy it where the recipe shall be another. Every
case is registered, its slices become pictures, and the default guide is trained further on them;
a fifth of the cases is held out and judged before and after. Research use only.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from medfuse.study_slices import DIGITS, write_study_slices
from medfuse.training.loop import TrainingResult, run_training
from medfuse.training.recipes import get_recipe


def train(study: Path, out: Path, *, minutes: float | None, steps: int | None) -> TrainingResult:
    """Write weights and their card; the pictures of the study live as long as the training."""
    recipe = get_recipe("in-domain").model_copy(update={"group_digits": DIGITS})
    with tempfile.TemporaryDirectory() as scratch:
        a, b, notes = write_study_slices(study, Path(scratch))
        print(*notes, sep="\n")
        return run_training(
            a=a, b=b, out=out, recipe=recipe, minutes=minutes, steps=steps, data_name=study.name
        )


def main(arguments: list[str] | None = None) -> None:
    """Train and tell where the card is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("study", type=Path, help="folder, BIDS data set or cases.csv")
    parser.add_argument("-o", "--out", type=Path, default=Path("ours.safetensors"))
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float)
    length.add_argument("--steps", type=int)
    options = parser.parse_args(arguments)
    result = train(options.study, options.out, minutes=options.minutes, steps=options.steps)
    print(
        f"{result.steps} steps ({result.stopped}); data, recipe and validation: {result.card.name}"
    )
    print(f"Use it: medfuse batch --study STUDY -o OUT --method {options.out.name}")


if __name__ == "__main__":
    main()
