"""How well uptake can be read from the 8-bit picture, and what it costs the anatomy.

    python workflows/benchmarks/read_back.py [--json f.json] [--picture f.png]

On the simulated brain of the sample study (true alignment known) and the aligned sarcoma case,
every colour map is fused with the same guide. Error is a share of the window; VIF_B is that of the
MRI in the picture's luminance (profile reference), mean over every third slice
with uptake.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor
from PIL import Image
from scipy.stats import spearmanr

import medfuse
from medfuse.imaging.grid import DisplayOrder, Grid
from medfuse.imaging.windows import apply_window
from medfuse.kernel.color import read_back
from medfuse.kernel.metrics import compute

ROOT = Path(__file__).resolve().parents[2] / "sample_data"
STUDY = ROOT / "study"
READABLE_ROWS = tuple((m, p) for m in ("ember", "dusk", "amber") for p in ("clip", "fit"))
ROWS = (("hot", "clip"), ("hot", "fit"), ("hot-iron", "clip"), *READABLE_ROWS)


def cases() -> dict[str, tuple[MetaTensor, MetaTensor]]:
    """Anatomical image and functional image on its grid, by name."""
    brain = STUDY / "simulated-brain"
    mri = medfuse.load(brain / "t1.nii.gz", modality="MRI")
    pet = medfuse.load(brain / "simulated-pet.nii.gz", modality="PET", values_in="SUVbw")
    truth = json.loads((ROOT / "truth" / "simulated-brain.json").read_text())
    matrix = np.array(truth["moving_from_fixed_ras_mm"])
    aligned = medfuse.register(fixed=mri, moving=pet, method="identity", initial=matrix)
    sarcoma = STUDY / "sts001-aligned"
    t1 = medfuse.load(sarcoma / "mr-t1.nii.gz", modality="MRI")
    suv = medfuse.load(sarcoma / "pet-suv-dicom")
    headers = medfuse.register(fixed=t1, moving=suv, method="identity")
    return {
        "simulated brain": (mri, aligned.resample(pet)),
        "sts001 aligned": (t1, headers.resample(suv)),
    }


def measure(
    mri: MetaTensor, pet: MetaTensor, method: str, name: str, gamut: str
) -> dict[str, float]:
    """One row of the table."""
    res = medfuse.fuse(functional=pet, anatomical=mri, method=method, colormap=name, gamut=gamut)
    order = DisplayOrder.from_grid(Grid.from_volume(mri))
    values = order.apply(apply_window(np.asarray(pet)[0], res.window))
    rgb = torch.from_numpy(np.ascontiguousarray(order.apply(np.asarray(res.rgb))).swapaxes(0, 1))
    rgb = (rgb * 255).round() / 255
    inside = order.apply(np.asarray(res.coverage)[0]) & (values > 0.02)
    chosen = np.flatnonzero(inside)[:: max(1, int(inside.sum() // 200_000))]
    colours = rgb.permute(1, 0, 2, 3).reshape(3, -1)[:, chosen][None]
    found = read_back(colours, name)[0][0, 0].numpy()
    error = np.abs(found - values.reshape(-1)[chosen])
    slices = [k for k in range(0, len(values), 3) if inside[k].mean() > 0.02]
    b = torch.from_numpy(
        np.ascontiguousarray(order.apply(np.asarray(res.anatomical))).swapaxes(0, 1)
    )
    a = torch.from_numpy(
        np.ascontiguousarray(order.apply(np.asarray(res.functional_luminance))).swapaxes(0, 1)
    )
    vif = compute(a[slices], b[slices], rgb[slices], profile="reference", only=["VIF"])["VIF_B"]
    return {
        "median_%": 100 * float(np.median(error)),
        "p95_%": 100 * float(np.quantile(error, 0.95)),
        "spearman": float(spearmanr(found, values.reshape(-1)[chosen]).statistic),
        "VIF_B": float(vif.nanmean()),
        "moved_%": 100 * res.audit["gamut"].value,
    }


def picture(path: Path, method: str) -> None:
    """Middle slice of the simulated brain under every row, side by side."""
    mri, pet = cases()["simulated brain"]
    order = DisplayOrder.from_grid(Grid.from_volume(mri))
    tiles = []
    for name, gamut in ROWS:
        res = medfuse.fuse(
            functional=pet, anatomical=mri, method=method, colormap=name, gamut=gamut
        )
        rgb = order.apply(np.asarray(res.rgb))
        tiles.append(rgb[:, rgb.shape[1] // 2].transpose(1, 2, 0))
    half = -(-len(tiles) // 3)
    tiles += [np.zeros_like(tiles[0])] * (3 * half - len(tiles))
    rows = [np.concatenate(tiles[k : k + half], axis=1) for k in range(0, 3 * half, half)]
    Image.fromarray((np.concatenate(rows) * 255).round().astype(np.uint8)).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--method", default="swift")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--picture", type=Path, help="write the middle slices here")
    options = parser.parse_args()
    table = {
        case: {f"{m} {p}": measure(*pair, options.method, m, p) for m, p in ROWS}
        for case, pair in cases().items()
    }
    for case, rows in table.items():
        print(f"\n{case}, guide {options.method}")
        columns = list(next(iter(rows.values())))
        print(f"{'':16}" + "".join(f"{c:>12}" for c in columns))
        for name, row in rows.items():
            print(f"{name:16}" + "".join(f"{row[c]:12.4g}" for c in columns))
    if options.json:
        options.json.write_text(json.dumps(table, indent=2) + "\n")
    if options.picture:
        picture(options.picture, options.method)


if __name__ == "__main__":
    main()
