"""Train variants of the default guide and judge each on validation pairs of four domains.

    python workflows/benchmarks/ablation.py --data DATA --json OUT [--plot PNG] [--only plain ...]

Every variant trains on ``msrs/train`` alone (a tenth held out). It is judged on those held-out
pairs and, zero-shot, on 16 pairs of each Harvard *train* split. Test splits are never read.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from medfuse.evaluation import evaluate
from medfuse.methods import zoo
from medfuse.training.loop import run_training
from medfuse.training.recipes import Recipe

METRICS = ("VIF_A", "VIF_B", "Qabf", "SSIM", "uptake_correlation")
DOMAINS = {
    "PET": ("harvard/PET-MRI/train/PET", "harvard/PET-MRI/train/MRI"),
    "SPECT": ("harvard/SPECT-MRI/train/SPECT", "harvard/SPECT-MRI/train/MRI"),
    "CT": ("harvard/CT-MRI/train/CT", "harvard/CT-MRI/train/MRI"),
}
BASE = Recipe(name="ablation", steps=300, validation=0.1)
_FIDELITY = {"fidelity_a": 5, "fidelity_b": 5}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "paper-kernel": {"kernel": "paper"},
    "uptake": {"loss": {"uptake": 5}},
    "fidelity": {"loss": _FIDELITY},
    "fidelity, gradient 90": {"loss": {**_FIDELITY, "gradient": 90}},
    "fidelity, edges": {"loss": {**_FIDELITY, "edges": 10}},
    "fidelity, emission": {"loss": _FIDELITY, "emission": 0.4},
    "role swap": {"role_swap": 0.5},
    "tone": {"tone": 0.5},
    "ema": {"ema": 0.98},
    "full images": {"crop": None, "batch": 2},
    "crops of 192": {"crop": 192},
}


def main() -> None:
    """Run the chosen variants one after the other."""
    options = _options()
    torch.set_num_threads(options.threads)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        folders = _validation_folders(options.data, Path(scratch))
        for name in options.only or VARIANTS:
            recipe = BASE.override(seed=options.seed, steps=options.steps, **VARIANTS[name])
            rows.append({"variant": name, "seed": options.seed})
            rows[-1] |= _run(recipe, options.data / "msrs" / "train", folders, Path(scratch))
            print(json.dumps(rows[-1]), flush=True)
            if options.json:
                options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if options.plot:
        plot_front(rows, options.plot)


def plot_front(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw VIF + Qabf against uptake correlation for PET and SPECT, one point a variant."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.5), layout="constrained")
    for axes, domain in zip(figure.subplots(1, 2), ("PET", "SPECT"), strict=True):
        for row in rows:
            found = row[domain]
            height = found["VIF_A"] + found["VIF_B"] + found["Qabf"]
            axes.plot(found["uptake_correlation"], height, "o")
            axes.annotate(
                row["variant"],
                (found["uptake_correlation"], height),
                textcoords="offset points",
                xytext=(4, 4),
                fontsize=7,
            )
        axes.set(title=f"{domain}-MRI", xlabel="uptake correlation", ylabel="VIF + Qabf")
        axes.margins(x=0.2)
    figure.savefig(path, dpi=120)


def _run(
    recipe: Recipe, data: Path, folders: dict[str, tuple[Path, Path]], scratch: Path
) -> dict[str, Any]:
    out = scratch / "variant.safetensors"
    result = run_training(a=data / "vi", b=data / "ir", out=out, recipe=recipe)
    found: dict[str, Any] = {"steps": result.steps, "seconds": round(result.seconds)}
    found["MSRS"] = {name: result.validation[name] for name in METRICS}
    guide = zoo.load_guide(out)
    for domain, (a, b) in folders.items():
        row = evaluate(a, b, [guide], profile="paper", kernel=recipe.kernel)[guide.info.name]
        found[domain] = {name: round(row.mean(name), 4) for name in METRICS}
    return found


def _validation_folders(data: Path, scratch: Path) -> dict[str, tuple[Path, Path]]:
    """Links to 16 evenly spread training pairs of each medical domain."""
    out = {}
    for domain, sides in DOMAINS.items():
        names = sorted(path.name for path in (data / sides[0]).iterdir())
        chosen = [names[round(k * (len(names) - 1) / 15)] for k in range(16)]
        folders = [scratch / f"{domain}-{side}" for side in "ab"]
        for folder, side in zip(folders, sides, strict=True):
            folder.mkdir()
            for name in chosen:
                (folder / name).symlink_to((data / side / name).resolve())
        out[domain] = (folders[0], folders[1])
    return out


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=VARIANTS)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help="draw the front (PNG)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
