"""Does gradient transfer help unfolding? The same steps with it, without it, and without stages.

    python workflows/benchmarks/transfer.py --data DATA --out FOLDER [--seed 0] [--recipe unfolding]

Every variant is trained on ``msrs/train`` and judged on pairs held out from it and, zero-shot, on
evenly spread pairs of each Harvard *train* split. Test splits are never read. FOLDER keeps the
weights: a killed run continues with the same command.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from oracle import FOLDERS

from medfuse.evaluation.metrics import compute
from medfuse.methods import zoo
from medfuse.methods.registry import fuse_by
from medfuse.training.data import Pairs, load_pairs, split_validation
from medfuse.training.losses import gradient_loss
from medfuse.training.recipes import get_recipe
from medfuse.training.train import run_training

METRICS = ("VIF", "Qabf", "uptake_correlation")
PAIRS = 12


def main() -> None:
    """Train what is not there yet, then judge all."""
    options = _options()
    torch.set_num_threads(1)
    train = options.data / "msrs" / "train"
    rows = {}
    sets = _held_out(options.data)
    for name, weights in _train(options, train).items():
        rows[name] = {domain: _judge(weights, pairs) for domain, pairs in sets.items()}
        print(name, json.dumps(rows[name]), flush=True)
    text = json.dumps({"seed": options.seed, "variants": rows}, indent=1) + "\n"
    (options.out / f"transfer-{options.seed}.json").write_text(text, encoding="utf-8")


def _train(options: argparse.Namespace, train: Path) -> dict[str, Path]:
    """Weights of each variant; all share the first stage."""
    name = options.recipe
    found: dict[str, Path] = {}

    def stage(label: str, recipe: str, **changes: Any) -> Path:
        out = options.out / f"{label}-{options.seed}.safetensors"
        chosen = get_recipe(recipe).model_copy(
            update={"first": None, "seed": options.seed, **changes}
        )
        if not out.is_file():
            run_training(a=train / "vi", b=train / "ir", out=out, recipe=chosen)
        return out

    focus = stage("focus", f"{name}-focus")
    for label, changes in (("transfer on", {}), ("transfer off", {"transfer": 0.0})):
        exposure = stage(f"{label} exposure", f"{name}-exposure", init=str(focus), **changes)
        found[label] = stage(label, name, init=str(exposure), **changes)
    found["last stage alone"] = stage("alone", name, transfer=0.0)
    return found


def _held_out(data: Path) -> dict[str, Pairs]:
    """Luminance pairs that no variant has seen."""
    found = {}
    for domain, folders in FOLDERS.items():
        pairs = load_pairs(*(data / folder.format("train") for folder in folders))
        if domain == "MSRS":
            pairs = split_validation(pairs, fraction=get_recipe("unfolding").validation)[1]
        count = min(PAIRS, len(pairs))
        chosen = torch.linspace(0, len(pairs) - 1, count).round().int().tolist()
        found[domain] = pairs.select(chosen)
    return found


@torch.inference_mode()
def _judge(weights: Path, pairs: Pairs) -> dict[str, float]:
    """Mean gradient error (Sobel, images in [0, 1]) and metrics of the paper profile."""
    method = zoo.load_guide(weights)
    found: dict[str, list[float]] = {}
    for images in zip(pairs.a, pairs.b, strict=True):
        a, b = (x[None, None].float() / 255 for x in images)
        fused = fuse_by(method, a, b).clamp(0, 1)
        found.setdefault("gradient_error", []).append(float(gradient_loss(a, b, fused)))
        for name, value in compute(a, b, fused, profile="paper", only=METRICS).items():
            found.setdefault(name, []).append(float(value))
    return {n: round(torch.tensor(v).nanmean().item(), 4) for n, v in found.items()}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipe", default="unfolding")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
