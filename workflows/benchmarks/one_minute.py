"""How good is a guide after one minute of training on this machine, and the published recipe?

Trains ``swift`` from scratch for 60 s of wall clock and judges it on held-out pairs; then trains
the published recipe (full images, paper kernel) and says when, if ever, it is as good.

    python workflows/benchmarks/one_minute.py --data MSRS/train --test MSRS/test
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from medfuse.evaluation.evaluate import evaluate
from medfuse.methods import zoo
from medfuse.methods.base import Method, MethodInfo
from medfuse.training.data import find_pair_folders
from medfuse.training.loop import TrainingProgress
from medfuse.training.recipes import Recipe, get_recipe
from medfuse.training.train import run_training

METRICS = ("VIF", "VIF_A", "VIF_B", "Qabf", "SSIM", "uptake_correlation")


def main() -> None:
    """Run the benchmark and print its table."""
    options = _options()
    torch.set_num_threads(options.threads)
    data, test = find_pair_folders(options.data), find_pair_folders(options.test)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "swift.safetensors"
        recipe = get_recipe("swift-minute").override(seed=options.seed)
        result = run_training(
            a=data[0], b=data[1], out=out, recipe=recipe, minutes=options.seconds / 60
        )
        report = {
            "threads": options.threads,
            "test_pairs": 0,
            "swift": {"seconds": result.seconds, "steps": result.steps},
        }
        judged, report["test_pairs"] = _judge(zoo.load_guide(out), recipe, test)
        report["swift"] |= judged
        _print("swift", report["swift"])
        if options.published_minutes:
            report["published"] = _published(options, data, test, report["swift"], Path(scratch))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _published(
    options: argparse.Namespace,
    data: tuple[Path, Path],
    test: tuple[Path, Path],
    goal: dict[str, Any],
    scratch: Path,
) -> dict[str, Any]:
    """Train the published recipe, judging it as it goes; training time alone is counted."""
    recipe = get_recipe("unet").override(
        options={"base": options.base},
        minutes=options.published_minutes,
        validation_pairs=1,
        validations=max(2, round(2 * options.published_minutes)),
        patience=10**6,
        seed=options.seed,
    )
    course: list[dict[str, Any]] = []

    def follow(progress: TrainingProgress) -> None:
        if progress.weights is None:
            return
        net = zoo.build_network(recipe.architecture, recipe.options)
        net.load_state_dict({n: t.cpu().clone() for n, t in progress.weights.items()})
        guide = zoo.wrap_network(net, MethodInfo(f"unet-{options.base}", "", "guide"))
        judged, _ = _judge(guide, recipe, test)
        course.append({"seconds": progress.seconds, "steps": progress.step, **judged})
        _print(f"published, base {options.base}", course[-1])

    run_training(
        a=data[0], b=data[1], out=scratch / "unet.safetensors", recipe=recipe, on_progress=follow
    )
    equal = [c["seconds"] for c in course if all(c[m] >= goal[m] for m in ("VIF", "Qabf"))]
    text = f"after {equal[0]:.0f} s" if equal else f"not in {options.published_minutes:g} min"
    print(f"published recipe, base {options.base}, as good as swift in VIF and Qabf: {text}")
    return {"base": options.base, "course": course, "seconds_to_equal": equal[0] if equal else None}


def _judge(guide: Method, recipe: Recipe, test: tuple[Path, Path]) -> tuple[dict[str, float], int]:
    table = evaluate(*test, [guide], profile="paper", kernel=recipe.kernel, gamut="clip")
    row = table[guide.info.name]
    return {name: round(row.mean(name), 4) for name in METRICS}, len(table.pairs)


def _print(name: str, found: dict[str, Any]) -> None:
    numbers = "  ".join(f"{metric} {found[metric]:.3f}" for metric in METRICS)
    print(f"{name}: {found['seconds']:.0f} s, {found['steps']} steps: {numbers}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="training folder (vi/, ir/)")
    parser.add_argument("--test", type=Path, required=True, help="held-out folder (vi/, ir/)")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--base", type=int, default=16, help="width of the published U-Net")
    parser.add_argument("--published-minutes", type=float, default=5, help="0: do not train it")
    parser.add_argument("--json", type=Path, help="write the figures here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
