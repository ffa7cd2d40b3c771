"""Train variants of the default guide and judge each on validation pairs of four domains.

    python workflows/benchmarks/ablation.py --data DATA --json OUT [--plot PNG] [--only NAME ...]
    python workflows/benchmarks/ablation.py --data DATA --json OUT --first WEIGHTS [--plot PNG]
    python workflows/benchmarks/ablation.py --data DATA --json OUT --of minute --steps 340
    python workflows/benchmarks/ablation.py --data DATA --json OUT --of {pet,ct}
    python workflows/benchmarks/ablation.py --data DATA --json OUT --trained

The second form varies the second stage, from the weights of a first one (``swift-msrs.first`` that
``train_weights.py`` leaves). The last trains nothing: it uses the shipped weights otherwise.
Variants train on ``msrs/train`` alone and are judged on pairs held out from it and, zero-shot, on
evenly spread pairs of each Harvard *train* split; those of ``pet`` and ``ct`` train on that split
and are judged on patients held out from it. Test splits are never read.
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

from medfuse.evaluation.metrics import Judge
from medfuse.kernel.color import rgb_to_ycbcr
from medfuse.methods import zoo
from medfuse.methods.network import network_input
from medfuse.methods.registry import get_method
from medfuse.training.recipes import Recipe, get_recipe
from medfuse.training.train import run_training

METRICS = ("VIF_A", "VIF_B", "Qabf", "SSIM", "uptake_correlation")
METHODS = ("anatomical-luma", "max", "swift-msrs")  # the same pairs, nothing trained
SECOND_METHODS = ("anatomical-luma", "max", "swift-spect")  # the last has seen slices of SPECT
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
    "full images, one a step": {"full_fraction": 1.0, "full_batch": 1},
    "no emission-like images": {"emission": 0.0},
    "no uptake": {"loss": {"uptake": 0}},
    "uptake 20": {"loss": {"uptake": 20}},
    "no edges": {"loss": {"edges": 0}},
    "no fidelity": {"loss": {"fidelity_a": 0, "fidelity_b": 0}},
    "fidelity of A 10": {"loss": {"fidelity_a": 10}},
}

# Of the second stage, which decides where on the front between the sources a guide ends.
SECOND = get_recipe("swift-msrs")
SECOND_VARIANTS: dict[str, dict[str, Any]] = {
    "swift-msrs": {},
    "uptake 10, fidelity of A 5": {"loss": {"uptake": 10, "fidelity_a": 5}},
    "fidelity of A 5": {"loss": {"fidelity_a": 5}},
    "fidelity of A 15": {"loss": {"fidelity_a": 15}},
    "edges 30": {"loss": {"edges": 30}},
    "hold 0.3": {"loss": {"hold_a": 30, "hold": 0.3}},
    "emission-like images 0.5": {"emission": 0.5},
    "crops of 160": {"crop": 160},
    "240 steps": {"steps": 240},
}

# Of one minute from scratch. Where a step costs less, there are more of them (``--steps`` is what
# 60 s of a machine give the first row).
MINUTE = get_recipe("swift-minute").override(
    crop=192, validation=0.1, validation_pairs=30, validations=1, loss={"edges": 10}
)
_SMALL = {"crop": 128, "steps": 757}
MINUTE_VARIANTS: dict[str, dict[str, Any]] = {
    "crops of 192": {},
    "crops of 160": {"crop": 160, "steps": 535},
    "crops of 128": _SMALL,
    "four crops of 192": {"batch": 4, "steps": 650},
    "crops of 160, edges 30": {"crop": 160, "steps": 535, "loss": {"edges": 30}},
    "four crops of 160, edges 30": {"crop": 160, "batch": 4, "steps": 960, "loss": {"edges": 30}},
    "crops of 128, edges 30": {**_SMALL, "loss": {"edges": 30}},
    "crops of 128, edges 30, rate 4e-3": {
        **_SMALL,
        "loss": {"edges": 30},
        "learning_rate": 4e-3,
    },
    "crops of 128, edges 30, no fidelity": {
        "crop": 128,
        "steps": 900,
        "loss": {"edges": 30, "fidelity_a": 0, "fidelity_b": 0},
    },
    "crops of 128, edges 30, full images last": {
        "crop": 128,
        "steps": 700,
        "loss": {"edges": 30},
        "full_fraction": 0.15,
        "full_batch": 1,
    },
}

# Of further training on slices of one pair of modalities.
IN_DOMAIN = {
    name: get_recipe(f"swift-{name}").override(validation=0.3, validation_pairs=48, validations=1)
    for name in ("pet", "ct")
}
IN_DOMAIN_VARIANTS: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "edges 40": {"loss": {"edges": 40}},
    "edges 40, no fidelity": {"loss": {"edges": 40, "fidelity_a": 0, "fidelity_b": 0}},
    "gradient 80": {"loss": {"gradient": 80}},
    "240 steps": {"steps": 240},
}

# Of the use of trained weights: (levels of the kernel, factor of the logit, mean over flips).
USES = {
    "as shipped": (4, 1.0, False),
    **{f"{levels} levels": (levels, 1.0, False) for levels in (1, 2, 3, 6)},
    "logit x 0.5": (4, 0.5, False),
    "logit x 4": (4, 4.0, False),
    "mean of four flips": (4, 1.0, True),
}

STAGES = {
    "scratch": (BASE, VARIANTS),
    "second": (SECOND, SECOND_VARIANTS),
    "minute": (MINUTE, MINUTE_VARIANTS),
    **{name: (recipe, IN_DOMAIN_VARIANTS) for name, recipe in IN_DOMAIN.items()},
}

Guide = Callable[[Tensor, Tensor], Tensor]


def main() -> None:
    """Run the chosen variants one after the other."""
    options = _options()
    torch.set_num_threads(options.threads)
    rows: list[dict[str, Any]] = []
    if options.trained:
        return _write(_uses(options.data, options.pairs), options.json)
    domain = options.of.upper() if options.of in IN_DOMAIN else "MSRS"
    zero_shot = DOMAINS if domain == "MSRS" else []
    pairs = {d: load(options.data, d, "train", options.pairs) for d in zero_shot}
    for name, recipe in _recipes(options).items():
        row = {"variant": name, "seed": options.seed, "pairs": options.pairs}
        rows.append(row | _run(recipe, options.data, domain, pairs))
        print(json.dumps(rows[-1]), flush=True)
        _write(rows, options.json)
    for name, method in _methods(options).items() if pairs else ():
        alike = BASE.override(levels=method.info.levels)
        found = {d: _judge(method.weights, alike, *ab) for d, ab in pairs.items()}
        rows.append({"variant": name, "pairs": options.pairs, **found})
        print(json.dumps(rows[-1]), flush=True)
    _write(rows, options.json)
    if options.plot:
        plot_front(rows, options.plot)


def _write(rows: list[dict[str, Any]], path: Path | None) -> None:
    if path:
        path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


@torch.inference_mode()
def _uses(data: Path, count: int) -> list[dict[str, Any]]:
    """The shipped default on train pairs of all domains, used in several ways."""
    rows: list[dict[str, Any]] = [{"variant": name, "pairs": count} for name in USES]
    for domain in FOLDERS:
        a, b = load(data, domain, "train", count)
        ycbcr = rgb_to_ycbcr(a)
        weights = get_method(METHODS[-1]).weights  # type: ignore[union-attr]
        views = [
            weights(ycbcr[:, :1].flip(axes), b.flip(axes)).flip(axes)
            for axes in ((), (2,), (3,), (2, 3))
        ]
        judge = Judge(a, b, profile="paper", only=JUDGED)
        for row, (levels, factor, flips) in zip(rows, USES.values(), strict=True):
            w = torch.stack(views).mean(0) if flips else views[0]
            w = (w.clamp(1e-4, 1 - 1e-4).logit() * factor).sigmoid() if factor != 1 else w
            found = judge(fuse(ycbcr, b, w, "binomial", levels=levels))
            row[domain] = {name: round(found[name].nanmean().item(), 4) for name in METRICS}
            print(domain, json.dumps(row), flush=True)
    return rows


def _recipes(options: argparse.Namespace) -> dict[str, Recipe]:
    base, variants = STAGES[options.of]
    same: dict[str, Any] = {"seed": options.seed, "steps": options.steps}
    if options.first:
        same["init"] = str(options.first)
    return {
        name: base.override(**same).override(**change)
        for name, change in variants.items()
        if name in (options.only or variants)
    }


def _methods(options: argparse.Namespace) -> dict[str, Any]:
    """Guides of which nothing is trained here, judged on the same pairs."""
    first = {"first stage": zoo.load_guide(options.first)} if options.first else {}
    names = SECOND_METHODS if options.first else METHODS
    return first | {name: get_method(name) for name in names}


def plot_front(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw VIF + Qabf against uptake correlation for PET and SPECT, one point a variant."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    colours = colormaps["tab20"].colors  # type: ignore[attr-defined]
    for axes, domain in zip(figure.subplots(1, 2), ("PET", "SPECT"), strict=True):
        axes.set_prop_cycle(color=colours)
        for number, row in enumerate(rows, start=1):
            found = row[domain]
            at = found["uptake_correlation"], found["VIF_A"] + found["VIF_B"] + found["Qabf"]
            axes.plot(*at, "o", markersize=14, alpha=0.6, label=f"{number} {row['variant']}")
            axes.annotate(str(number), at, ha="center", va="center", fontsize=8)
        axes.set(title=f"{domain}-MRI", xlabel="uptake correlation", ylabel="VIF + Qabf")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", fontsize=8)
    figure.savefig(path, dpi=120)


def _run(
    recipe: Recipe, data: Path, domain: str, pairs: dict[str, tuple[Tensor, Tensor]]
) -> dict[str, Any]:
    a, b = (data / side.format("train") for side in FOLDERS[domain])
    started = time.process_time()
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "variant.safetensors"
        result = run_training(a=a, b=b, out=out, recipe=recipe)
        header, tensors = zoo.parse_weights(zoo.read_weights(out), out)
    cpu = time.process_time() - started
    net = zoo.load_network(header, tensors, out).eval()
    found: dict[str, Any] = {"steps": result.steps, "cpu_seconds": round(cpu)}
    found[domain] = {name: result.validation[name] for name in METRICS}

    def weights(a: Tensor, b: Tensor) -> Tensor:
        return net(network_input(a, b))  # type: ignore[no-any-return]

    return found | {domain: _judge(weights, recipe, *ab) for domain, ab in pairs.items()}


@torch.inference_mode()
def _judge(weights: Guide, recipe: Recipe, a: Tensor, b: Tensor) -> dict[str, float]:
    ycbcr = rgb_to_ycbcr(a)
    rgb = fuse(ycbcr, b, weights(ycbcr[:, :1], b), recipe.kernel, levels=recipe.levels)
    found = Judge(a, b, profile="paper", only=JUDGED)(rgb)
    return {name: round(found[name].nanmean().item(), 4) for name in METRICS}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--of", choices=STAGES, default="scratch", help="what is varied")
    names = sorted({name for _, variants in STAGES.values() for name in variants})
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help="variants")
    parser.add_argument("--first", type=Path, help="weights of a first stage; vary the second")
    parser.add_argument("--trained", action="store_true", help="vary the use of the default")
    parser.add_argument("--steps", type=int, help="default: as the recipe has it")
    parser.add_argument("--pairs", type=int, default=16, help="validation pairs a domain")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help="draw the front (PNG)")
    options = parser.parse_args()
    if options.first:
        options.of = "second"
    elif options.of == "second":
        parser.error("--of second needs --first WEIGHTS")
    return options


if __name__ == "__main__":
    main()
