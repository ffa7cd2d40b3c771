"""Train variants of the default guide and judge each on validation pairs of four domains.

    python workflows/benchmarks/ablation.py --data DATA --json OUT [--plot PNG] [--only NAME ...]

Every variant trains on ``msrs/train`` alone (a twentieth held out). It is judged on those held-out
pairs and, zero-shot, on evenly spread pairs of each Harvard *train* split. Test splits are never
read.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from oracle import FOLDERS, fuse, load
from torch import Tensor

from medfuse.kernel.color import rgb_to_ycbcr
from medfuse.kernel.metrics import Judge
from medfuse.methods import zoo
from medfuse.methods.base import get_method
from medfuse.methods.network import network_input
from medfuse.training.loop import run_training
from medfuse.training.recipes import Recipe, get_recipe

METRICS = ("VIF_A", "VIF_B", "Qabf", "SSIM", "uptake_correlation")
METHODS = ("anatomical-luma", "max", "swift-msrs")  # the same pairs, nothing trained
JUDGED = ("VIF", "Qabf", "SSIM", "uptake_correlation")
DOMAINS = [domain for domain in FOLDERS if domain != "MSRS"]
BASE = get_recipe("swift-street").override(ema=0.0, full_fraction=0.0, validations=1)
_OPTIONS = BASE.options
VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "paper kernel": {"kernel": "paper"},
    "five maps": {"options": _OPTIONS | {"maps": 5}},
    "no skip": {"options": _OPTIONS | {"skip": False}},
    "no skip, quarter resolution": {"options": {}},
    "ema": {"ema": 0.98},
    "tone": {"tone": 0.5},
    "role swap": {"role_swap": 0.5},
    "full images": {"crop": None, "batch": 1},
    "no emission-like images": {"emission": 0.0},
    "no uptake": {"loss": {"uptake": 0}},
    "uptake 20": {"loss": {"uptake": 20}},
    "no edges": {"loss": {"edges": 0}},
    "no fidelity": {"loss": {"fidelity_a": 0, "fidelity_b": 0}},
    "fidelity of A 10": {"loss": {"fidelity_a": 10}},
}


Guide = Callable[[Tensor, Tensor], Tensor]


def main() -> None:
    """Run the chosen variants one after the other."""
    options = _options()
    torch.set_num_threads(options.threads)
    rows: list[dict[str, Any]] = []
    pairs = {d: load(options.data, d, "train", options.pairs) for d in DOMAINS}
    for name in options.only or VARIANTS:
        recipe = BASE.override(seed=options.seed, steps=options.steps, **VARIANTS[name])
        row = {"variant": name, "seed": options.seed, "pairs": options.pairs}
        rows.append(row | _run(recipe, options.data / "msrs" / "train", pairs))
        print(json.dumps(rows[-1]), flush=True)
        if options.json:
            options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    for name in METHODS:
        method = get_method(name)
        found = {d: _judge(method.weights, BASE, *ab) for d, ab in pairs.items()}
        rows.append({"variant": name, "pairs": options.pairs, **found})
        print(json.dumps(rows[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if options.plot:
        plot_front(rows, options.plot)


def plot_front(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw VIF + Qabf against uptake correlation for PET and SPECT, one point a variant."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    for axes, domain in zip(figure.subplots(1, 2), ("PET", "SPECT"), strict=True):
        for number, row in enumerate(rows, start=1):
            found = row[domain]
            at = found["uptake_correlation"], found["VIF_A"] + found["VIF_B"] + found["Qabf"]
            axes.plot(*at, "o", markersize=14, alpha=0.6, label=f"{number} {row['variant']}")
            axes.annotate(str(number), at, ha="center", va="center", fontsize=8)
        axes.set(title=f"{domain}-MRI", xlabel="uptake correlation", ylabel="VIF + Qabf")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", fontsize=8)
    figure.savefig(path, dpi=120)


def _run(recipe: Recipe, data: Path, pairs: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Any]:
    started = time.process_time()
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "variant.safetensors"
        result = run_training(a=data / "vi", b=data / "ir", out=out, recipe=recipe)
        header, tensors = zoo.parse_weights(zoo.read_weights(out), out)
    cpu = time.process_time() - started
    net = zoo.load_network(header, tensors, out).eval()
    found: dict[str, Any] = {"steps": result.steps, "cpu_seconds": round(cpu)}
    found["MSRS"] = {name: result.validation[name] for name in METRICS}

    def weights(a: Tensor, b: Tensor) -> Tensor:
        return net(network_input(a, b))  # type: ignore[no-any-return]

    return found | {domain: _judge(weights, recipe, *ab) for domain, ab in pairs.items()}


@torch.inference_mode()
def _judge(weights: Guide, recipe: Recipe, a: Tensor, b: Tensor) -> dict[str, float]:
    ycbcr = rgb_to_ycbcr(a)
    rgb = fuse(ycbcr, b, weights(ycbcr[:, :1], b), recipe.kernel)
    found = Judge(a, b, profile="paper", only=JUDGED)(rgb)
    return {name: round(found[name].nanmean().item(), 4) for name in METRICS}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=VARIANTS)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=16, help="validation pairs a domain")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help="draw the front (PNG)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
