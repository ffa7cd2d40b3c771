"""What could the best guide possibly reach with this kernel? Weights fitted to each pair.

    python workflows/benchmarks/oracle.py --data DATA --json OUT [--only Qabf ...] [--split test]

No network: the weights of every single pair are optimised for the measures themselves, colour
included. A guide, which must find its weights without the measures, cannot be expected to do
better, though the search may miss the very best. Nothing is trained or chosen by the result.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from medfuse.evaluation.metrics import Judge
from medfuse.evaluation.pairs import find_pairs
from medfuse.imaging.pictures import read_picture
from medfuse.kernel.blend import blend
from medfuse.kernel.color import clip_gamut, luma, rgb_to_ycbcr, ycbcr_to_rgb
from medfuse.kernel.pyramid import Kernel
from medfuse.methods.network import level_maps
from medfuse.methods.registry import get_method
from medfuse.training.losses import LossWeights, fusion_loss

METRICS = ("VIF", "VIF_A", "VIF_B", "Qabf", "SSIM", "uptake_correlation")
_JUDGED = ("VIF", "Qabf", "SSIM", "uptake_correlation")
FOLDERS = {
    "MSRS": ("msrs/{}/vi", "msrs/{}/ir"),
    "PET": ("harvard/PET-MRI/{}/PET", "harvard/PET-MRI/{}/MRI"),
    "SPECT": ("harvard/SPECT-MRI/{}/SPECT", "harvard/SPECT-MRI/{}/MRI"),
    "CT": ("harvard/CT-MRI/{}/CT", "harvard/CT-MRI/{}/MRI"),
}
STARTS = ("mean", "swift")  # the search is not convex: the better end counts, pair by pair
METHODS = ("anatomical-luma", "swift")  # what they reach on the same pairs
SCALES = 7
_NOTHING = {"maximum": 0, "consistency": 0, "gradient": 0, "ssim_a": 0, "ssim_b": 0}
_VIF = {"fidelity_a": 1, "fidelity_b": 1}
AIMS = {
    "Qabf": LossWeights(**_NOTHING, edges=1),
    "VIF + 4 Qabf": LossWeights(**_NOTHING, **_VIF, edges=4),
    "VIF + Qabf": LossWeights(**_NOTHING, **_VIF, edges=1),
    "VIF": LossWeights(**_NOTHING, **_VIF),
}


def main() -> None:
    """Fit every domain for every aim and print a line each."""
    options = _options()
    torch.set_num_threads(options.threads)
    rows: list[dict[str, Any]] = []
    for domain in options.domains:
        a, b = load(options.data, domain, options.split, options.pairs)
        judge = Judge(a, b, profile="paper", only=_JUDGED)
        same = {"domain": domain, "split": options.split, "pairs": len(a), "kernel": options.kernel}
        same |= {"maps": options.maps, "steps": options.steps}
        for aim in [*METHODS, *options.only]:
            started = time.process_time()
            if aim in METHODS:
                ycbcr = rgb_to_ycbcr(a)
                rgb = fuse(ycbcr, b, get_method(aim).weights(ycbcr[:, :1], b), options.kernel)
            else:
                rgb = fit(a, b, AIMS[aim], options.maps, options.kernel, options.steps)
            found = judge(rgb)
            rows.append({"aim": aim, **same})
            rows[-1] |= {name: round(found[name].nanmean().item(), 4) for name in METRICS}
            rows[-1]["cpu_seconds"] = round(time.process_time() - started)
            print(json.dumps(rows[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def load(data: Path, domain: str, split: str, count: int | None) -> tuple[Tensor, Tensor]:
    """Evenly spread pairs, or all: A (N, 3, H, W) and B (N, 1, H, W) in [0, 1]."""
    pairs = find_pairs(*(data / side.format(split) for side in FOLDERS[domain]), {})
    count = min(count or len(pairs), len(pairs))
    chosen = [pairs[round((k + 0.5) * len(pairs) / count - 0.5)] for k in range(count)]
    return (
        torch.cat([read_picture(pair.a, "RGB") for pair in chosen]),
        torch.cat([read_picture(pair.b, "L") for pair in chosen]),
    )


def fit(a: Tensor, b: Tensor, aim: LossWeights, maps: int, kernel: Kernel, steps: int) -> Tensor:
    """The fused pictures (N, 3, H, W) of weights that were fitted to each pair."""
    ycbcr = rgb_to_ycbcr(a)
    best, least = torch.empty(0), torch.empty(0)
    for start in STARTS:
        guess = get_method(start).weights(ycbcr[:, :1], b).clamp(0.05, 0.95).logit()
        rgb = _search(ycbcr, b, guess.repeat(1, maps, 1, 1), aim, kernel, steps)
        losses = torch.stack([_loss(*pair, aim) for pair in zip(ycbcr, b, rgb, strict=True)])
        if start == STARTS[0]:
            best, least = rgb, losses
        best = torch.where((losses < least)[:, None, None, None], rgb, best)
        least = torch.minimum(losses, least)
    return best


def _search(
    ycbcr: Tensor, b: Tensor, start: Tensor, aim: LossWeights, kernel: Kernel, steps: int
) -> Tensor:
    """Adam on the change of the logit at several scales at once, with a falling step."""
    size = list(start.shape[2:])
    shapes = [[-(-side // 2**k) for side in size] for k in range(SCALES)]
    changes = [torch.zeros(*start.shape[:2], *shape, requires_grad=True) for shape in shapes]
    optimiser = torch.optim.Adam(changes)

    def fused() -> Tensor:
        wide = [interpolate(x, size=size, mode="bilinear") for x in changes]
        return fuse(ycbcr, b, (start + torch.stack(wide).sum(0)).sigmoid(), kernel)

    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 0.4 * (1 - step / steps) + 0.02
        optimiser.zero_grad(set_to_none=True)
        (1e4 * _loss(ycbcr, b, fused(), aim)).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    with torch.no_grad():
        return fused()


def _loss(ycbcr: Tensor, b: Tensor, rgb: Tensor, aim: LossWeights) -> Tensor:
    """Of a stack of pairs or, without the first axis, of one."""
    if ycbcr.ndim == 3:
        ycbcr, b, rgb = ycbcr[None], b[None], rgb[None]
    return fusion_loss(ycbcr[:, :1] * 2 - 1, b * 2 - 1, luma(rgb) * 2 - 1, aim).total


def fuse(ycbcr: Tensor, b: Tensor, weights: Tensor, kernel: Kernel, *, levels: int = 4) -> Tensor:
    """As ``medfuse evaluate`` does it; several maps are those of the pyramid's levels."""
    luminance = blend(ycbcr[:, :1], b, level_maps(weights), levels=levels, kernel=kernel)
    return clip_gamut(ycbcr_to_rgb(torch.cat([luminance, ycbcr[:, 1:]], dim=1)))[0]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", choices=["train", "test"], default="train")
    parser.add_argument("--domains", nargs="+", choices=FOLDERS, default=list(FOLDERS))
    parser.add_argument("--only", nargs="+", choices=AIMS, default=list(AIMS), help="aims")
    parser.add_argument("--maps", type=int, choices=[1, 5], default=1, help="5: one a level")
    parser.add_argument("--kernel", choices=["binomial", "paper"], default="binomial")
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
