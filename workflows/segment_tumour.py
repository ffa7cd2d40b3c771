"""Does fusion help a small network to outline a tumour? Cross-validated, with its seeds.

    python workflows/segment_tumour.py cases.csv --structure GTV_Mass [--json results.json]

``cases.csv`` is a manifest of ``medfuse batch`` with a column more: case, anatomical, functional,
rtstruct (contours drawn on the anatomical image) and, if wanted, initial (a start of the
registration); paths are relative to it. Every case is registered and fused; a 2-D U-Net then
learns the outline from each of INPUTS, with the same slices, seeds and steps. Cases are left out
one by one; a single case is cut into blocks of neighbouring slices, and slices within GAP_MM of a
block are not learned from, as they show the same tissue. Research use only.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import time
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pydicom
import torch
from matplotlib.path import Path as Polygon
from monai.data import MetaTensor
from monai.losses import DiceCELoss
from monai.metrics import DiceMetric
from monai.networks.nets import UNet
from monai.transforms import (
    Compose,
    Lambdad,
    LoadImaged,
    MapTransform,
    RandAffined,
    Resized,
)
from monai.utils import set_determinism
from torch import Tensor

from medfuse.imaging.monai_reader import ClinicalReader
from medfuse.imaging.windows import apply_window, default_window
from medfuse.transforms import FuseLuminanced, RegisterRigidd

#: What the network sees; the last one is PET and MR with the fused luminance as a channel more.
INPUTS = {
    "MR": ("mr",),
    "PET": ("pet",),
    "PET + MR": ("pet", "mr"),
    "fused colour": ("fused",),
    "PET + MR + fused": ("pet", "mr", "luminance"),
}
#: What the others are compared with, fold by fold and seed by seed.
RIVAL = "PET + MR"
SIDE = 96
BLOCKS = 4
GAP_MM = 10.0
BATCH = 8
LEARNING_RATE = 3e-3


class ContoursToMaskd(MapTransform):
    """Turn the path of a DICOM RTSTRUCT into a mask on the grid of an image.

    Parameters
    ----------
    keys : str
        Paths; each becomes a (1, X, Y, Z) mask of 0 and 1.
    ref_key : str
        Image on which the contours were drawn.
    structure : str
        ROI name.
    """

    def __init__(
        self, keys: str, ref_key: str, structure: str, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.ref_key = ref_key
        self.structure = structure

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = rasterize(read_contours(Path(d[key]), self.structure), d[self.ref_key])
        return d


def read_contours(rtstruct: Path, structure: str) -> list[np.ndarray]:
    """Closed contours of a structure, each (n, 3), RAS mm."""
    dataset = pydicom.dcmread(rtstruct)
    names = {int(r.ROINumber): str(r.ROIName) for r in dataset.StructureSetROISequence}
    if structure not in names.values():
        raise SystemExit(f"{rtstruct.name}: no {structure!r}, only {', '.join(names.values())}")
    return [
        np.reshape(np.asarray(contour.ContourData, float), (-1, 3)) * [-1, -1, 1]
        for roi in dataset.ROIContourSequence
        if names[int(roi.ReferencedROINumber)] == structure
        for contour in roi.ContourSequence
    ]


def rasterize(contours: list[np.ndarray], image: MetaTensor) -> MetaTensor:
    """Fill contours slice by slice; one inside another is a hole."""
    mask = np.zeros(image.shape[1:], bool)
    pixels = np.stack(np.meshgrid(*map(np.arange, mask.shape[:2]), indexing="ij"), -1)
    to_index = np.linalg.inv(np.asarray(image.affine, float))
    for contour in contours:
        index = contour @ to_index[:3, :3].T + to_index[:3, 3]
        k = int(np.round(index[:, 2].mean()))
        if not (0 <= k < mask.shape[2] and np.ptp(index[:, 2]) < 1):
            raise SystemExit("the contours do not lie in slices of the anatomical image")
        inside = Polygon(index[:, :2]).contains_points(pixels.reshape(-1, 2))
        mask[:, :, k] ^= inside.reshape(mask.shape[:2])
    return MetaTensor(torch.from_numpy(mask[None].astype(np.float32)), affine=image.affine)


def preparation(structure: str) -> Compose:
    """Paths -> registered, fused, and averaged onto SIDE x SIDE pixels a slice."""
    keys = ["mr", "pet", "fused", "luminance", "mask"]
    return Compose(
        [
            LoadImaged(["mr", "pet"], reader=ClinicalReader, ensure_channel_first=True),
            ContoursToMaskd("mask", ref_key="mr", structure=structure),
            RegisterRigidd("pet", key_dst="mr"),
            FuseLuminanced("mr", "pet"),
            Lambdad(["mr", "pet"], windowed),
            Resized(keys, spatial_size=(SIDE, SIDE, -1), mode="area"),
        ]
    )


def windowed(image: MetaTensor) -> MetaTensor:
    """In [0, 1] by the window with which fusion sees the image: no input is scaled better."""
    values = apply_window(image.as_tensor(), default_window(image))
    return MetaTensor(torch.as_tensor(values), affine=image.affine)


@dataclass(frozen=True)
class Slices:
    """All slices of a case: channels by name (Z, C, SIDE, SIDE) and the mask."""

    case: str
    images: dict[str, Tensor]
    mask: Tensor
    step_mm: float

    def inputs(self, names: tuple[str, ...]) -> Tensor:
        """(Z, C, SIDE, SIDE) for the network."""
        return torch.cat([self.images[name] for name in names], dim=1)


def read_cases(table: Path, structure: str) -> list[Slices]:
    """Load, register and fuse all cases of the table."""
    prepare, found = preparation(structure), []
    with table.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            places = {"mr": "anatomical", "pet": "functional", "mask": "rtstruct"}
            paths = {key: table.parent / row[column] for key, column in places.items()}
            start = {"initial": table.parent / row["initial"]} if row.get("initial") else {}
            d = prepare({**paths, **start})
            slices = {k: d[k].as_tensor().movedim(-1, 0).float() for k in (*places, *FUSED)}
            step = float(torch.linalg.norm(d["mr"].affine[:3, 2]))
            found.append(Slices(row["case"], slices, (slices["mask"] > 0.5).float(), step))
    return found


FUSED = ("fused", "luminance")


@dataclass(frozen=True)
class Fold:
    """Slices (case, slice) to learn from and to be judged by."""

    name: str
    learn: list[tuple[int, int]]
    judge: list[tuple[int, int]]


def folds(cases: list[Slices]) -> Iterator[Fold]:
    """Leave out one case at a time; of a single case, a block of slices and its neighbours."""
    if len(cases) > 1:
        every = [(c, k) for c, case in enumerate(cases) for k in range(len(case.mask))]
        for number, case in enumerate(cases):
            judge = [place for place in every if place[0] == number]
            yield Fold(case.case, [p for p in every if p not in judge], judge)
        return
    (case,) = cases
    drawn = torch.nonzero(case.mask.amax(dim=(1, 2, 3)) > 0)[:, 0]
    gap = int(np.ceil(GAP_MM / case.step_mm))
    for block in torch.chunk(drawn, BLOCKS):
        first, last = int(block[0]), int(block[-1])
        learn = [k for k in range(len(case.mask)) if not first - gap <= k <= last + gap]
        yield Fold(
            f"slices {first + 1} to {last + 1}",
            [(0, k) for k in learn],
            [(0, int(k)) for k in block],
        )


def train(inputs: Tensor, masks: Tensor, *, seed: int, steps: int) -> torch.nn.Module:
    """Learn outlines from slices (N, C, SIDE, SIDE), shifted, turned and mirrored at random."""
    set_determinism(seed)
    net = UNet(2, inputs.shape[1], 1, channels=(8, 16, 32, 64), strides=(2, 2, 2))
    loss_of = DiceCELoss(sigmoid=True)
    optimizer = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    augment = RandAffined(
        ["image", "mask"], prob=0.9, rotate_range=0.3, translate_range=8, scale_range=0.15,
        mode=("bilinear", "nearest"), padding_mode="border",
    ).set_random_state(seed)  # fmt: skip
    order = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        chosen = torch.randint(len(inputs), (BATCH,), generator=order)
        drawn = [augment({"image": inputs[n], "mask": masks[n]}) for n in chosen]
        image, mask = (torch.stack([d[k].as_tensor() for d in drawn]) for k in ("image", "mask"))
        optimizer.zero_grad()
        loss_of(net(image), mask).backward()
        optimizer.step()
        schedule.step()
    return net.eval()


@torch.inference_mode()
def dice(net: torch.nn.Module, inputs: Tensor, mask: Tensor) -> float:
    """Dice over all slices together, as of one volume."""
    found = (net(inputs).sigmoid() > 0.5).float()
    volumes = (t.movedim(0, -1)[None] for t in (found, mask))  # (1, 1, X, Y, Z)
    return float(DiceMetric()(*volumes)[0, 0])


def run(cases: list[Slices], *, seeds: int, steps: int) -> list[dict[str, Any]]:
    """Dice of every input, fold and seed."""
    rows = []
    for fold in folds(cases):
        for name, channels in INPUTS.items():
            parts = [case.inputs(channels) for case in cases]
            learn, judge = (
                (
                    torch.stack([parts[c][k] for c, k in places]),
                    torch.stack([cases[c].mask[k] for c, k in places]),
                )
                for places in (fold.learn, fold.judge)
            )
            for seed in range(seeds):
                begun = time.perf_counter()
                net = train(*learn, seed=seed, steps=steps)
                score = dice(net, *judge)
                spent = time.perf_counter() - begun
                rows.append({"input": name, "fold": fold.name, "seed": seed, "dice": score})
                print(f"{fold.name}, {name}, seed {seed}: {score:.3f} in {spent:.0f} s", flush=True)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: Dice by fold (mean over seeds), mean and spread; the last column is paired."""
    score = {(row["input"], row["fold"], row["seed"]): row["dice"] for row in rows}
    names, seeds = ({row[key]: None for row in rows} for key in ("fold", "seed"))
    lines = [["input", *names, "mean", "SD of seeds", f"minus {RIVAL}"]]
    lines.append(["---"] * len(lines[0]))
    for name in INPUTS:
        by_fold = [fmean(score[name, fold, seed] for seed in seeds) for fold in names]
        by_seed = [fmean(score[name, fold, seed] for fold in names) for seed in seeds]
        gains = [score[name, f, s] - score[RIVAL, f, s] for f in names for s in seeds]
        numbers = (f"{x:.3f}" for x in (*by_fold, fmean(by_fold), spread(by_seed)))
        lines.append([name, *numbers, f"{fmean(gains):+.3f} (SD {spread(gains):.3f})"])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def spread(values: list[float]) -> float:
    """Sample standard deviation; NaN of one value."""
    return stdev(values) if len(values) > 1 else math.nan


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("cases", type=Path)
    parser.add_argument("--structure", default="GTV_Mass", help="ROI name in the RTSTRUCT")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--json", type=Path, help="write every score here")
    options = parser.parse_args(arguments)
    cases = read_cases(options.cases, options.structure)
    if len(cases) == 1:
        print("One case: its folds are slices of one tumour, and say nothing of other patients.")
    rows = run(cases, seeds=options.seeds, steps=options.steps)
    print("\n" + table(rows))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
