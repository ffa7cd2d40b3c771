"""Whether both sources are in the picture: the tables of docs/guides.md, method by method.

    python workflows/benchmarks/both_sources.py swift local-energy both-pet --data DATA --sets PET
    python workflows/benchmarks/both_sources.py both-pet --data DATA --sets PET --split held-out

``held-out`` judges the persons of the *train* split that the ``both-*`` guides were not trained on;
guides are chosen there. The official test pairs are for guides that are final. Colour is clipped,
and the figures are those of 8-bit pictures.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from medfuse.evaluation.metrics import compute
from medfuse.evaluation.sources import judge_sources
from medfuse.imaging.pictures import read_picture
from medfuse.kernel.color import clip_gamut, rgb_to_ycbcr, ycbcr_to_rgb
from medfuse.kernel.sources import FLAGGED
from medfuse.methods.registry import fuse_by, get_method
from medfuse.training.data import held_out
from medfuse.training.recipes import get_recipe

FOLDERS = {
    "PET": ("harvard/PET-MRI", "PET", "MRI"),
    "CT": ("harvard/CT-MRI", "CT", "MRI"),
    "SPECT": ("harvard/SPECT-MRI", "SPECT", "MRI"),
    "MSRS": ("msrs", "vi", "ir"),
}
METRICS = ("Qabf", "VIF")
COLUMNS = ("kept_A", "kept_B", "Qabf", "VIF", "beyond", "rank")


@dataclass(frozen=True)
class Picture:
    """One pair: A as RGB, B as gray, both (1, C, H, W) in [0, 1]."""

    name: str
    a: Tensor
    b: Tensor


def read_set(data: Path, name: str, *, split: str, every: int = 1) -> list[Picture]:
    """The pairs of one set that are to be judged, every n-th of them."""
    folder, a, b = FOLDERS[name]
    root = data / folder / ("test" if split == "test" else "train")
    files = sorted((root / a).iterdir())
    if split == "held-out":
        recipe = get_recipe(f"both-{name.lower()}")
        names = [path.stem for path in files]
        held = held_out(names, fraction=recipe.validation, group_digits=recipe.group_digits)
        files = [path for path in files if path.stem in held]
    return [
        Picture(path.stem, read_picture(path, "RGB"), read_picture(root / b / path.name, "L"))
        for path in files[::every]
    ]


@torch.inference_mode()
def judge(method: str, pictures: Sequence[Picture], *, profile: str) -> list[dict[str, float]]:
    """Every figure of every pair for one method."""
    guide = get_method(method)
    rows = []
    for picture in pictures:
        ycbcr = rgb_to_ycbcr(picture.a)
        luminance = fuse_by(guide, ycbcr[:, :1], picture.b)
        rgb, _ = clip_gamut(ycbcr_to_rgb(torch.cat([luminance, ycbcr[:, 1:]], dim=1)))
        found = judge_sources(picture.a, picture.b, rgb)
        found |= compute(picture.a, picture.b, rgb, profile=profile, only=METRICS)  # type: ignore[arg-type]
        rows.append({name: float(value) for name, value in found.items()})
    return rows


def summary(rows: Sequence[dict[str, float]], names: Sequence[str]) -> dict[str, object]:
    """Means over the pairs where a figure is defined, and the flagged pairs by name."""
    means = {c: torch.tensor([row[c] for row in rows]).nanmean().item() for c in COLUMNS}
    pairs = zip(names, rows, strict=True)
    return means | {"flagged": [n for n, row in pairs if row["contradicting"] >= FLAGGED]}


def main() -> None:
    """Print one line a set and method, in Markdown."""
    options = _options()
    torch.set_num_threads(options.threads)
    print("| set (pairs) | method | detail A / B | Qabf | VIF | beyond | rank | flagged |")
    print("|---|---|---|---|---|---|---|---|")
    results: dict[str, dict[str, object]] = {}
    for name in options.sets:
        pictures = read_set(options.data, name, split=options.split, every=options.every)
        for method in options.methods:
            rows = judge(method, pictures, profile=options.profile)
            found = summary(rows, [picture.name for picture in pictures])
            results[f"{name} {method}"] = found
            print(_line(f"{name} ({len(pictures)})", Path(method).stem, found), flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def _line(pairs: str, method: str, found: dict[str, object]) -> str:
    flagged = found["flagged"]
    assert isinstance(flagged, list)
    listed = f"{len(flagged)} ({', '.join(flagged[:4])})" if flagged else "0"
    return (
        "| {0} | `{1}` | {kept_A:.3f} / {kept_B:.3f} | {Qabf:.3f} | {VIF:.3f} | {beyond:.1%} | "
        "{rank:.3f} | {2} |"
    ).format(pairs, method, listed, **found)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("methods", nargs="+", help="names or weights files")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=FOLDERS, default=["PET", "CT", "SPECT"])
    parser.add_argument("--split", choices=("test", "held-out"), default="test")
    parser.add_argument("--profile", choices=("reference", "paper"), default="reference")
    parser.add_argument("--every", type=int, default=1, help="every n-th pair")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
