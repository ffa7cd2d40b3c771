"""Which colours show both images, and which can be read back? The tables of docs/colour.md.

    python workflows/benchmarks/colours.py [--json f.json] [--picture f.png] [--atlas DATA]

PET: the simulated brain and both sarcoma cases of the sample study, the anatomical image as
luminance. Salience is measured in the slice with the most uptake, read-back and separability in
every third slice. CT over MRI: the luminance is fused by several methods, then coloured by the CT.
``--atlas`` adds what the gamut policies cost pictures that come in customary colours (VIF, Qabf).
Every figure is of the picture after rounding to 8 bits a channel.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import colours_cases as cases
import matplotlib.pyplot as plt
import torch
from colours_cases import Case
from oracle import load
from torch import Tensor

from medfuse.evaluation.metrics import Judge
from medfuse.evaluation.salience import linear_light, measure_salience
from medfuse.evaluation.separability import measure_separability
from medfuse.evaluation.uptake import Uptake
from medfuse.kernel.color import clip_gamut, desaturate, fit_gamut, luma, rgb_to_ycbcr, ycbcr_to_rgb
from medfuse.kernel.colormaps import apply_colormap, read_back
from medfuse.kernel.two_way import paint_two_way
from medfuse.kernel.two_way_reading import take_apart
from medfuse.kernel.two_way_rounding import round_two_way
from medfuse.methods.registry import fuse_by, get_method

Style = Callable[[Tensor, Tensor], Tensor]
TENTH = 0.1  # of the window; read-back of uptake is counted above it
FAINT = 0.02  # and, in a column of its own, above this
CT_METHODS = ("mean", "swift", "local-energy", "both-ct", "ct-mri")
SOFT_TISSUE = (0.375, 0.675)  # -10 to 110 HU in the window -160 to 240
# Machado, Oliveira & Fernandes 2009, severity 1, linear RGB.
BLINDNESS = {
    "protan": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deutan": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
}  # fmt: skip


def overlay(name: str) -> Style:
    """Half of a customary colour, half of the anatomical image."""
    return lambda uptake, anatomy: 0.5 * apply_colormap(uptake, name) + 0.5 * anatomy


def overlay_by_uptake(name: str) -> Style:
    """A customary colour as opaque as the uptake is high."""
    return lambda uptake, anatomy: torch.lerp(
        anatomy.expand(-1, 3, -1, -1), apply_colormap(uptake, name), uptake
    )


def fitted(name: str) -> Style:
    """The default before the two-way maps: luminance clamped to the band of its chroma."""
    return lambda p, b: fit_gamut(b, rgb_to_ycbcr(apply_colormap(p, name))[:, 1:])[0]


def two_way(name: str) -> Style:
    """A two-way map."""
    return lambda uptake, anatomy: paint_two_way(uptake, anatomy, name)[0]


def rounded_to_read(name: str) -> Style:
    """The same, rounded so that both images read back best."""

    def paint(uptake: Tensor, anatomy: Tensor) -> Tensor:
        rgb = paint_two_way(uptake, anatomy, name)[0]
        return round_two_way(rgb, uptake, anatomy, name) / 255

    return paint


STYLES: dict[str, Style] = {
    "hot, 50 % overlay": overlay("hot"),
    "hot-iron, 50 % overlay": overlay("hot-iron"),
    "hot, alpha by uptake": overlay_by_uptake("hot"),
    "ember, fit": fitted("ember"),
    "glow": two_way("glow"),
    "glow, rounded to read": rounded_to_read("glow"),
    "glow-safe": two_way("glow-safe"),
}


def rounded(rgb: Tensor) -> Tensor:
    """As an 8-bit picture holds it."""
    return (rgb * 255).round() / 255


def seen_by(rgb: Tensor, blindness: str) -> Tensor:
    """(N, 3, ...) sRGB as a colour-blind reader sees it."""
    matrix = torch.tensor(BLINDNESS[blindness], dtype=rgb.dtype)
    light = torch.einsum("ij,nj...->ni...", matrix, linear_light(rgb)).clamp(0, 1)
    return torch.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def measure(case: Case, name: str) -> dict[str, float]:
    """One row: salience in the hottest slice, read-back and separability in all slices."""
    paint, k = STYLES[name], case.hottest
    picture = rounded(paint(case.uptake, case.anatomy))
    one = slice(k, k + 1)
    facts = (case.uptake[one], case.anatomy[one], case.body[one])
    row: dict[str, float] = asdict(measure_salience(picture[one], *facts))
    for blindness in BLINDNESS:
        seen = measure_salience(seen_by(picture[one], blindness), *facts)
        row[f"{blindness} difference"] = seen.difference
    row |= _read(case, name, picture)
    if case.classes:
        found = measure_separability(picture, case.uptake, case.anatomy, case.classes)
        row |= {"separability": found.mean, "worst pair": found.worst}
    return row


def _read(case: Case, name: str, picture: Tensor) -> dict[str, float]:
    """95th percentiles of the errors, % of the window."""
    if name.startswith("glow"):
        apart = take_apart(picture, name.split(",")[0])
        value, anatomy = apart.uptake, apart.anatomy
    elif name.endswith(", fit"):
        value, anatomy = read_back(picture, name.split(",")[0])[0], luma(picture)
    else:
        return {}
    error = 100 * (value - case.uptake.clamp(0, 1)).abs()
    return {
        "uptake % (over .1)": float(_p95(error[case.uptake > TENTH])),
        "uptake % (over .02)": float(_p95(error[case.uptake > FAINT])),
        "anatomy %": float(_p95(100 * (anatomy - case.anatomy).abs().flatten())),
    }


def _p95(x: Tensor) -> Tensor:
    return x.kthvalue(max(1, round(0.95 * len(x)))).values


def measure_ct(case: Case) -> Iterator[tuple[str, dict[str, float]]]:
    """CT over MRI: separability, bone and soft-tissue detail of every way to colour it."""
    pictures = {"CT alone": case.uptake, "MRI alone": case.anatomy}
    for rule in CT_METHODS:
        fused = fuse_by(get_method(rule), case.uptake, case.anatomy)
        pictures[rule] = fused.clamp(0, 1).expand(-1, 3, -1, -1)
        pictures[f"{rule}, bone"] = paint_two_way(case.uptake, fused, "bone")[0]
    pictures["MRI, bone"] = paint_two_way(case.uptake, case.anatomy, "bone")[0]
    pictures["hot, 50 % overlay"] = overlay("hot")(case.uptake, case.anatomy)
    for name, picture in pictures.items():
        shown = rounded(picture)
        grey = luma(shown) if shown.shape[1] == 3 else shown
        found = measure_separability(shown, case.uptake, case.anatomy, case.classes)
        bone = Uptake(case.uptake[:, 0], case.anatomy[:, 0])(grey[:, 0])["hot_spot_share"]
        kept = cases.detail_kept(grey, case.uptake, case.anatomy, SOFT_TISSUE)
        yield name, {
            "separability": found.mean, "worst pair": found.worst,
            "bone share": float(bone.nanmean()), "CT detail": kept[0], "MRI detail": kept[1],
        }  # fmt: skip


def measure_atlas(root: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """VIF and Qabf of the gamut policies on pictures that came in customary colours."""
    for domain in ("PET", "SPECT"):
        a, b = load(root, domain, "test", None)
        ycbcr, judge = rgb_to_ycbcr(a), Judge(a, b, profile="paper", only=("VIF", "Qabf"))
        for method in ("swift", "anatomical-luma"):
            fused = fuse_by(get_method(method), ycbcr[:, :1], b)
            for policy, paint in POLICIES.items():
                found = judge(rounded(paint(fused, ycbcr[:, 1:])))
                row = {name: float(found[name].nanmean()) for name in ("VIF", "Qabf")}
                yield f"{domain}, {method}, {policy}", row


POLICIES: dict[str, Style] = {
    "clip": lambda y, c: clip_gamut(ycbcr_to_rgb(torch.cat([y, c], dim=1)))[0],
    "fit": lambda y, c: fit_gamut(y, c)[0],
    "desaturate": lambda y, c: desaturate(y, c)[0],
}


def draw(path: Path, pets: list[Case], ct: Case) -> None:
    """A sheet: one row a case, its anatomical image and every style."""
    styles = {name: paint for name, paint in STYLES.items() if "rounded" not in name}
    names = ["anatomy", *styles]
    figure, axes = plt.subplots(
        len(pets) + 1, len(names), figsize=(2.1 * len(names), 9), facecolor="black"
    )
    for row, case in zip(axes, pets, strict=False):
        k = slice(case.hottest, case.hottest + 1)
        p, b = case.uptake[k], case.anatomy[k]
        shown = [b.expand(-1, 3, -1, -1), *(paint(p, b) for paint in styles.values())]
        _row(row, names, shown)
    k = slice(ct.hottest, ct.hottest + 1)
    a, b = ct.uptake[k], ct.anatomy[k]
    fused, aware = (fuse_by(get_method(name), a, b) for name in ("local-energy", "ct-mri"))
    sheet = {"MRI": b, "CT": a, "local energy": fused}
    shown = [x.clamp(0, 1).expand(-1, 3, -1, -1) for x in sheet.values()]
    shown += [paint_two_way(a, x, "bone")[0] for x in (fused, aware)]
    _row(axes[-1], [*sheet, "local energy, bone", "ct-mri, bone"], shown)
    for axis in axes.flat:
        axis.set_axis_off()
    figure.tight_layout(pad=0.3)
    figure.savefig(path, dpi=52)


def _row(axes: list[plt.Axes], names: list[str], pictures: list[Tensor]) -> None:
    for axis, name, rgb in zip(axes, names, pictures, strict=False):
        axis.imshow(rgb[0].permute(1, 2, 0).numpy())
        axis.set_title(name, color="white", fontsize=9)


def show(title: str, rows: dict[str, dict[str, float]]) -> None:
    """Print one Markdown table."""
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    print(f"\n**{title}**\n\n| style | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name, row in rows.items():
        cells = (f"{row[c]:.2f}" if c in row else "-" for c in columns)
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--picture", type=Path, help="write a sheet of all styles here")
    parser.add_argument("--atlas", type=Path, help="folder that holds harvard")
    options = parser.parse_args()
    pets, ct = [cases.brain(), cases.sarcoma_t2(), cases.sarcoma_ct()], cases.ct_over_mri()
    found = {case.name: {name: measure(case, name) for name in STYLES} for case in pets}
    found[ct.name] = dict(measure_ct(ct))
    if options.atlas:
        found["gamut policies, atlas pairs"] = dict(measure_atlas(options.atlas))
    for title, rows in found.items():
        show(title, rows)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    if options.picture:
        draw(options.picture, pets, ct)


if __name__ == "__main__":
    main()
