"""Judge guides on pictures of your own, and look at the pair on which each is worst.

    python workflows/evaluate_methods.py --a PET/ --b MRI/ --method swift --method my.safetensors

What ``medfuse evaluate`` prints, from Python: copy it and ask the table what you want to know.
Pictures are paired by name. ``--save`` keeps every fused picture and, for each method, its worst
pair as ``METHOD.worst.png``: A, B and fused side by side. Research use only.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import torch
from PIL import Image

from medfuse.cli.terminal import console
from medfuse.errors import MedfuseError
from medfuse.evaluation.evaluate import EvaluationTable, Row, evaluate, render
from medfuse.evaluation.metrics import METRICS, PROFILES
from medfuse.evaluation.pairs import find_pairs
from medfuse.imaging.pictures import read_picture


def worst_pair(row: Row, metric: str) -> int | None:
    """Number of the pair with the worst value, or None where the metric is nowhere defined."""
    sign = -1 if METRICS[metric].better == "lower" else 1
    defined = [k for k, value in enumerate(row.values[metric]) if not math.isnan(value)]
    return min(defined, key=lambda k: sign * row.values[metric][k], default=None)


def save_worst(found: EvaluationTable, metric: str, options: argparse.Namespace) -> None:
    """Write A, B and fused of each method's worst pair side by side."""
    pairs = find_pairs(options.a, options.b, {})
    for row in found.rows:
        k = worst_pair(row, metric)
        if k is not None:
            fused = options.save / row.name / f"{found.pairs[k]}.png"
            shown = torch.cat([read_picture(x, "RGB") for x in (pairs[k].a, pairs[k].b, fused)], 3)
            picture = (shown[0].permute(1, 2, 0) * 255).round().byte().numpy()
            Image.fromarray(picture).save(options.save / f"{row.name}.worst.png")


def main(arguments: list[str] | None = None) -> int:
    """Print the table and every method's worst pair; returns the exit code."""
    options = _parse(arguments)
    try:
        found = evaluate(
            options.a, options.b, options.method or ["swift"],
            profile=options.profile, save=options.save,
        )  # fmt: skip
    except MedfuseError as error:
        print(error, file=sys.stderr)
        return 1
    console().print(render(found))
    for row in found.rows:
        k = worst_pair(row, options.metric)
        text = "nowhere defined" if k is None else f"{row.values[options.metric][k]:.3f}"
        where = "" if k is None else f" on {found.pairs[k]}"
        print(f"{row.name}: worst {options.metric} {text}{where}")
    if options.save:
        save_worst(found, options.metric, options)
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--a", type=Path, required=True, help="folder of functional pictures")
    parser.add_argument("--b", type=Path, required=True, help="folder of anatomical pictures")
    parser.add_argument("--method", action="append", help="repeat for several [swift]")
    parser.add_argument("--profile", choices=PROFILES, default="reference")
    judging = [name for name, metric in METRICS.items() if metric.better]
    parser.add_argument("--metric", choices=judging, default="Qabf", help="that says what is worst")
    parser.add_argument("--save", type=Path, help="folder for pictures")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
