"""How well uptake can be read from the 8-bit picture, and what it costs the anatomy.

    python workflows/benchmarks/read_back.py [--json f.json] [--picture f.png] [--maps m.png]

On the simulated brain (true alignment known) and both sarcoma cases every colour map is fused slice
by slice with the same guide. Error is a share of the window, over voxels above 2 % of it; VIF is
that of the MRI in the picture's luminance, pooled over every third slice with uptake, and ``VIF
hot`` counts the places with more than 25 % of the window alone (docs/colour.md). The last rows are
other ideas for bringing luminance into the gamut, and paler or stronger colours.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from monai.data import MetaTensor
from scipy.stats import spearmanr
from torch import Tensor

import medfuse
from medfuse.evaluation.structure import Fidelity
from medfuse.imaging.grid import DisplayOrder, Grid
from medfuse.imaging.windows import apply_window
from medfuse.kernel.color import (
    clip_gamut,
    fit_gamut,
    luma,
    luminance_band,
    rgb_to_ycbcr,
    ycbcr_to_rgb,
)
from medfuse.kernel.colormaps import COLORMAPS, READABLE, apply_colormap, read_back
from medfuse.kernel.pyramid import expand, gaussian_pyramid

ROOT = Path(__file__).resolve().parents[2] / "sample_data"
STUDY = ROOT / "study"
HOT = 0.25  # of the window
SAMPLES = 100_000
# Viénot, Brettel & Mollon 1999, linear RGB: what a deuteranope sees.
DEUTERANOPE = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])

Policy = Callable[[Tensor, Tensor], Tensor]


def clip(luminance: Tensor, cbcr: Tensor) -> Tensor:
    """Cut the channels, as published."""
    return clip_gamut(ycbcr_to_rgb(torch.cat([luminance, cbcr], dim=1)))[0]


def fit(luminance: Tensor, cbcr: Tensor) -> Tensor:
    """Clamp luminance to the band of its chroma, the default of medfuse."""
    return fit_gamut(luminance, cbcr)[0]


def squeeze(luminance: Tensor, cbcr: Tensor) -> Tensor:
    """Map all luminances linearly into the band: nothing is clamped, contrast shrinks."""
    low, high = luminance_band(cbcr)
    return fit(low + luminance.clamp(0, 1) * (high - low), cbcr)


def knee(luminance: Tensor, cbcr: Tensor, *, part: float = 0.25) -> Tensor:
    """Leave the middle of the band alone and press what lies outside into its two ends."""
    low, high = luminance_band(cbcr)
    y, soft = luminance.clamp(0, 1), part * (high - low)
    start, stop = low + soft, high - soft
    dark = low + soft * y / start.clamp_min(1e-6)
    bright = stop + soft * (y - stop) / (1 - stop).clamp_min(1e-6)
    return fit(torch.where(y < start, dark, torch.where(y > stop, bright, y)), cbcr)


def detail(luminance: Tensor, cbcr: Tensor, *, levels: int = 2) -> Tensor:
    """Move the smooth part into the band, with room for the local detail, which stays whole."""
    low, high = luminance_band(cbcr)
    base = blur(luminance, levels)
    fine = luminance - base
    room = torch.minimum(2 * blur(fine.abs(), levels), (high - low) / 2)
    return fit(torch.minimum(torch.maximum(base, low + room), high - room) + fine, cbcr)


def smooth_move(luminance: Tensor, cbcr: Tensor) -> Tensor:
    """Clamp, but blur the change, so that no detail is cut off at the edge of the band."""
    moved = luma(fit(luminance, cbcr)) - luminance
    return fit(luminance + blur(moved, 2), cbcr)


def blur(x: Tensor, levels: int) -> Tensor:
    pyramid = gaussian_pyramid(x, levels)
    out = pyramid[-1]
    for finer in reversed(pyramid[:-1]):
        out = expand(out, finer.shape[2:])
    return out


CUSTOMARY = ("hot", "hot-iron", "hot-metal", "rainbow", "viridis", "inferno")
SCALES = (0.4, 0.6, 0.8, 1.2)  # of the chroma of ember
POLICIES: dict[str, Policy] = {"clip": clip, "fit": fit}
IDEAS: dict[str, Policy] = {
    "squeeze": squeeze, "knee": knee, "detail": detail, "smooth move": smooth_move,
}  # fmt: skip


def cases() -> dict[str, tuple[MetaTensor, MetaTensor]]:
    """Anatomical image and functional image on its grid, by name."""

    def pair(folder: str, mri: str, pet: str, truth: str | None, **facts: str) -> tuple:
        fixed = medfuse.load(STUDY / folder / mri, modality="MRI")
        moving = medfuse.load(STUDY / folder / pet, modality="PET", **facts)
        matrix = None
        if truth:
            matrix = np.array(json.loads((ROOT / "truth" / truth).read_text())[KEY])
        found = medfuse.register(fixed=fixed, moving=moving, method="identity", initial=matrix)
        return fixed, found.resample(moving)

    return {
        "simulated brain": pair(
            "simulated-brain", "t1.nii.gz", "simulated-pet.nii.gz", "simulated-brain.json",
            values_in="SUVbw",
        ),
        "sarcoma, T1": pair("sts001-aligned", "mr-t1.nii.gz", "pet-suv-dicom", None),
        "sarcoma, T2": pair("sts001", "mr-t2", "pet-fdg", "sts001-pet-mr.json"),
    }  # fmt: skip


KEY = "moving_from_fixed_ras_mm"


def planes(
    mri: MetaTensor, pet: MetaTensor, method: str, name: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Fused luminance, chroma, uptake in [0, 1] and MRI of every third slice with uptake."""
    res = medfuse.fuse(functional=pet, anatomical=mri, method=method, colormap=name, mode="slices")
    order = DisplayOrder.from_grid(Grid.from_volume(mri))

    def slices(volume: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(order.apply(volume).swapaxes(0, 1)))

    inside = slices(np.asarray(res.coverage))
    values = slices(apply_window(np.asarray(pet), res.window)) * inside
    cbcr = rgb_to_ycbcr(apply_colormap(values, name))[:, 1:]
    cbcr = torch.where(inside, cbcr, torch.full_like(cbcr, 0.5))
    kept = [k for k in range(0, len(values), 3) if (values[k] > 0.02).float().mean() > 0.02]
    found = slices(np.asarray(res.luminance)), cbcr, values, slices(np.asarray(res.anatomical))
    return tuple(x[kept] for x in found)


def measure(
    rgb: Tensor, values: Tensor, mri: Tensor, name: str, *, scale: float = 1.0
) -> dict[str, float]:
    """One row of the table from a painted picture whose chroma was multiplied by ``scale``."""
    shown = (rgb * 255).round() / 255
    chosen = (values.flatten() > 0.02).nonzero()[:, 0]
    chosen = chosen[:: max(1, len(chosen) // SAMPLES)]
    ycbcr = rgb_to_ycbcr(shown.transpose(0, 1).reshape(3, -1)[:, chosen][None])
    ycbcr[:, 1:] = 0.5 + (ycbcr[:, 1:] - 0.5) / scale
    found, truth = read_back(ycbcr_to_rgb(ycbcr), name)[0].flatten(), values.flatten()[chosen]
    error = 100 * (found - truth).abs()
    source, picture = 255 * mri.transpose(0, 1), 255 * luma(shown)[:, 0]
    return {
        "median %": float(error.median()),
        "95th %": float(error.quantile(0.95)),
        "Spearman": float(spearmanr(found, truth).statistic),
        "VIF": pooled_vif(source, picture, None),
        "VIF hot": pooled_vif(source, picture, values[:, 0] > HOT),
    }


def pooled_vif(source: Tensor, picture: Tensor, where: Tensor | None) -> float:
    """VIF of all slices together: information kept by information there."""
    fidelity = Fidelity(source, where=where)
    kept = fidelity(picture).nan_to_num() * fidelity.information
    return float(kept.sum() / fidelity.information.sum())


def table(mri: MetaTensor, pet: MetaTensor, method: str) -> dict[str, dict[str, float]]:
    """All rows of one case."""
    rows = {}
    for name in (*CUSTOMARY, *READABLE):
        luminance, cbcr, values, anatomy = planes(mri, pet, method, name)
        ideas = IDEAS if name == "ember" else {}
        for policy, paint in {**POLICIES, **ideas}.items():
            rows[f"{name} {policy}"] = measure(paint(luminance, cbcr), values, anatomy, name)
        for scale in SCALES if name == "ember" else ():
            rgb = fit(luminance, 0.5 + (cbcr - 0.5) * scale)
            rows[f"{name} chroma x {scale}"] = measure(rgb, values, anatomy, name, scale=scale)
    return rows


def picture(path: Path, method: str) -> None:
    """The MRI and both policies of several maps, a row a case."""
    shown = [("hot", clip), ("hot-metal", clip), ("rainbow", clip), ("viridis", clip)]
    shown += [(name, fit) for name in READABLE]
    figure, axes = plt.subplots(3, len(shown) + 1, figsize=(13, 5.2), facecolor="black")
    for row, pair in zip(axes, cases().values(), strict=True):
        for axis, (name, paint) in zip(row[1:], shown, strict=True):
            luminance, cbcr, values, anatomy = planes(*pair, method, name)
            k = int(values.flatten(1).mean(1).argmax())
            axis.imshow(paint(luminance, cbcr)[k].permute(1, 2, 0).numpy())
            axis.set_title(f"{name}, {paint.__name__}", color="white", fontsize=8)
        row[0].imshow(anatomy[k, 0], cmap="gray", vmin=0, vmax=1)
        row[0].set_title("MRI", color="white", fontsize=8)
    _save(figure, path)


def maps_picture(path: Path) -> None:
    """Every map as made, at the luminance of an anatomy, and as a deuteranope sees that."""
    figure, axes = plt.subplots(len(COLORMAPS), 3, figsize=(10, 5.5))
    values = torch.linspace(0, 1, 256).view(1, 1, 1, 256)
    anatomy = 0.45 + 0.25 * torch.sin(torch.linspace(0, 40, 256)).view(1, 1, 1, 256)
    for row, name in zip(axes, COLORMAPS, strict=True):
        made = apply_colormap(values, name)
        fused = fit(anatomy, rgb_to_ycbcr(made)[:, 1:])
        for axis, rgb in zip(row, (made, fused, deuteranope(fused)), strict=True):
            axis.imshow(rgb[0].permute(1, 2, 0).numpy(), aspect="auto")
        row[0].set_ylabel(name, rotation=0, ha="right", va="center")
    titles = ("the map", "on an anatomy of light and dark (fit)", "the same, deuteranope")
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=9)
    _save(figure, path)


def deuteranope(rgb: Tensor) -> Tensor:
    """(N, 3, ...) sRGB as a deuteranope sees it."""
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = torch.einsum("ij,nj...->ni...", torch.from_numpy(DEUTERANOPE).float(), linear).clamp(
        0, 1
    )
    return torch.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)


def _save(figure: Figure, path: Path) -> None:
    for axis in figure.axes:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    figure.tight_layout(pad=0.4)
    figure.savefig(path, dpi=75)


def show(case: str, rows: dict[str, dict[str, float]]) -> None:
    """Print one Markdown table."""
    columns = list(next(iter(rows.values())))
    print(f"\n**{case}**\n\n| map, policy | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name, row in rows.items():
        cells = (f"{row[c]:.4f}" if c == "Spearman" else f"{row[c]:.2f}" for c in columns)
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--method", default="swift")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--picture", type=Path, help="write one slice of every case here")
    parser.add_argument("--maps", type=Path, help="write the colour maps side by side here")
    options = parser.parse_args()
    if options.maps:
        maps_picture(options.maps)
    if options.picture:
        picture(options.picture, options.method)
    found = {}
    for case, pair in cases().items():
        found[case] = table(*pair, options.method)
        show(case, found[case])
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
