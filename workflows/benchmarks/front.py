"""Where a default lies between both sources, Qabf and reading back: table and picture of docs.

    python workflows/benchmarks/front.py --data DATA [--every 2] [--picture f.png] [--json f.json]

Judged are persons of the atlas' *train* splits that no guide was trained on (``held-out``). The
luminance of A stands for the uptake, so that all color maps can paint it; every figure is of the
picture after rounding to 8 bits a channel. Detail kept and Qabf are of its luminance. Read-back is
the 95th percentile of the error, % of the window, for the worse of both images: of a two-way map
and of ``ember`` as they are read; of other pictures the brightness stands for both images.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from both_sources import Picture, read_set
from torch import Tensor

from medfuse.evaluation.metrics import compute
from medfuse.evaluation.sources import judge_sources
from medfuse.fusion.paint import lay_over
from medfuse.kernel.color import fit_gamut, luma, rgb_to_ycbcr
from medfuse.kernel.colormaps import READABLE, apply_colormap, read_back
from medfuse.kernel.two_way import paint_two_way
from medfuse.kernel.two_way_maps import MAPS
from medfuse.kernel.two_way_reading import take_apart
from medfuse.kernel.two_way_rounding import round_two_way
from medfuse.methods.registry import fuse_by, get_method

TENTH = 0.1  # of the window; read-back of uptake is counted above it, where it is no CT
PET = ("glow", "ember", "gray")
STYLES = {
    "PET": {"anatomical-luma": ("glow", "ember"), "both-pet": PET, "swift": PET,
            "local-energy": PET, "mean": ("gray",), "max": ("gray",)},
    "SPECT": {"anatomical-luma": ("glow", "ember"), "both-spect": PET, "swift": PET,
              "local-energy": PET, "mean": ("gray",), "max": ("gray",)},
    "CT": {"ct-mri": ("bone", "gray"), "local-energy": ("bone", "gray"),
           "both-ct": ("bone", "gray"), "swift": ("bone", "gray"), "fitted": ("bone", "gray"),
           "mean": ("gray",), "max": ("gray",)},
}  # fmt: skip
DEFAULTS = {"PET": ("anatomical-luma, glow",), "SPECT": ("anatomical-luma, glow",),
            "CT": ("ct-mri, bone", "local-energy, gray")}  # fmt: skip
OVERLAY = "hot, 50 % overlay"
COLORS = {"glow": "#c2185b", "bone": "#c2185b", "ember": "#e08214", "gray": "#666666"}


@dataclass(frozen=True)
class Point:
    """Means over the pairs: ``weaker``: the smaller part of detail; ``error``: % of the window."""

    kept_a: float
    kept_b: float
    qabf: float
    uptake: float
    anatomy: float

    @property
    def weaker(self) -> float:
        return min(self.kept_a, self.kept_b)

    @property
    def error(self) -> float:
        return max(self.uptake, self.anatomy)


def paint(uptake: Tensor, luminance: Tensor, name: str) -> Tensor:
    """8-bit picture (N, 3, H, W) of a fused luminance, as the product paints it."""
    if name == "gray":
        rgb = luminance.clamp(0, 1).expand(-1, 3, -1, -1)
    elif name in MAPS:
        exact = paint_two_way(uptake, luminance, name)[0]
        return round_two_way(exact, uptake, luminance, name).float() / 255
    else:
        rgb = fit_gamut(luminance, rgb_to_ycbcr(apply_colormap(uptake, name))[:, 1:])[0]
    return (rgb * 255).round() / 255


def read(picture: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Uptake and anatomy as they can be read from a picture."""
    if name in MAPS:
        apart = take_apart(picture, name, most_foreign=1.0)
        return apart.uptake, apart.anatomy
    grey = luma(picture)
    return (read_back(picture, name)[0] if name in READABLE else grey), grey


@torch.inference_mode()
def judge(
    pictures: Sequence[Picture], make: Callable[[Tensor, Tensor], Tensor], name: str
) -> Point:
    """One way to fuse and colour, over all pairs."""
    rows = []
    for pair in pictures:
        a, b = luma(pair.a), pair.b
        picture = make(a, b)
        found = judge_sources(a, b, picture)
        qabf = compute(a, b, picture, profile="reference", only=["Qabf"])["Qabf"]
        uptake, anatomy = read(picture, name)
        seen = a > (0 if name == "bone" else TENTH)
        errors = (_p95((uptake - a).abs()[seen]), _p95((anatomy - b).abs().flatten()))
        rows.append([float(x) for x in (found["kept_A"], found["kept_B"], qabf, *errors)])
    return Point(*torch.tensor(rows, dtype=torch.float64).nanmean(0).tolist())


def _p95(error: Tensor) -> Tensor:
    if not error.numel():
        return torch.tensor(torch.nan)
    return 100 * error.kthvalue(max(1, round(0.95 * len(error)))).values


def front(pictures: Sequence[Picture], styles: dict[str, tuple[str, ...]]) -> dict[str, Point]:
    """Every method in every map, and the overlay."""
    points = {}
    for method, maps in styles.items():
        guide = get_method(method)
        for name in maps:

            def make(a: Tensor, b: Tensor, guide: object = guide, name: str = name) -> Tensor:
                return paint(a, fuse_by(guide, a, b), name)  # type: ignore[arg-type]

            points[f"{method}, {name}"] = judge(pictures, make, name)
    over = lambda a, b: (lay_over(b, a, "hot") * 255).round() / 255  # noqa: E731
    points[OVERLAY] = judge(pictures, over, "hot")
    return points


def draw(path: Path, found: dict[str, dict[str, Point]]) -> None:
    """Two panels a set: the weaker source against Qabf, and against read-back."""
    figure, axes = plt.subplots(2, len(found), figsize=(4.6 * len(found), 8), squeeze=False)
    for (domain, points), (above, below) in zip(found.items(), axes.T, strict=True):
        _panel(above, domain, points, lambda point: point.qabf)
        _panel(below, domain, points, lambda point: -point.error)
        above.set(title=f"{domain}-MRI", xlabel="Qabf (right is better)", xlim=(0.35, 0.9))
        below.set(xlabel="read-back error, % of the window (left is better)", xlim=(0.1, 400))
        below.set_xscale("log")
    figure.tight_layout()
    figure.savefig(path, dpi=72)


def _panel(
    axis: plt.Axes, domain: str, points: dict[str, Point], good: Callable[[Point], float]
) -> None:
    """Points of a set; named are the default, the overlay, and what none beats in both figures."""
    for name, point in points.items():
        color = "black" if name == OVERLAY else COLORS[name.split(", ")[1]]
        star = name in DEFAULTS[domain]
        axis.plot(abs(good(point)), point.weaker, "*" if star else "o", color=color,
                  ms=15 if star else 6)  # fmt: skip
        beaten = any(
            good(other) > good(point) and other.weaker > point.weaker for other in points.values()
        )
        if star or name == OVERLAY or not beaten:
            place, weight = (abs(good(point)), point.weaker), "bold" if star else "normal"
            axis.annotate(name, place, (6, 5), "data", "offset points", size=8, weight=weight)
    axis.set(ylabel="detail kept of the weaker source", ylim=(-0.1, 0.95))
    axis.grid(alpha=0.3)


def show(domain: str, pairs: int, points: dict[str, Point]) -> None:
    """Print one Markdown table."""
    print(f"\n| {domain} ({pairs} pairs) | detail A / B | Qabf | uptake p95 % | anatomy p95 % |")
    print("|---|---|---|---|---|")
    for name, p in sorted(points.items(), key=lambda item: item[1].error):
        label = f"**{name}**" if name in DEFAULTS[domain] else name
        errors = f"{p.uptake:.2g} | {p.anatomy:.2g}"
        print(f"| {label} | {p.kept_a:.2f} / {p.kept_b:.2f} | {p.qabf:.3f} | {errors} |")


def main() -> None:
    """Print tables, draw the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of harvard/")
    parser.add_argument("--every", type=int, default=2, help="every n-th pair")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = {}
    for domain, styles in STYLES.items():
        pictures = read_set(options.data, domain, split="held-out", every=options.every)
        found[domain] = front(pictures, styles)
        show(domain, len(pictures), found[domain])
    if options.picture:
        draw(options.picture, found)
    if options.json:
        rows = {d: {n: vars(p) for n, p in points.items()} for d, points in found.items()}
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
