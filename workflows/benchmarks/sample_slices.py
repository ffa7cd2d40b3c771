"""One slice of each sample case, for pictures that may be published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from medfuse.case.pipeline import CaseSettings, align, load_pair
from medfuse.fusion import fuse
from medfuse.imaging.grid import DisplayOrder, Grid
from medfuse.imaging.windows import apply_window
from medfuse.kernel.colormaps import apply_colormap
from medfuse.results.export import to_bytes
from medfuse.study import discover

STUDY = Path(__file__).resolve().parents[2] / "sample_data" / "study"
CASES = ("simulated-brain-pet-mr", "sts001-aligned-pet-ct", "sts001-aligned-ct-mr")
BAR = 22


def sample_slices(names: tuple[str, ...] = CASES) -> dict[str, tuple[Tensor, Tensor]]:
    """Coloured functional (1, 3, R, K) and anatomical (1, 1, R, K) image in [0, 1] by case.

    The slice is that with the most uptake (of a CT, the middle one), as medfuse would show it.
    """
    slices = {}
    for case in discover(STUDY).cases:
        if case.name not in names:
            continue
        settings = CaseSettings(**case.overrides)
        anatomical, functional = load_pair(case.anatomical, case.functional, settings)
        on_grid = align(anatomical, functional, settings).resample(functional)
        seen = fuse(functional=on_grid, anatomical=anatomical, method="mean", audit=False)
        assert seen.window is not None  # these have units
        assert seen.colormap is not None
        order = DisplayOrder.from_grid(Grid.from_volume(anatomical))
        values, b = (
            order.apply(torch.as_tensor(np.asarray(x)))[0]
            for x in (apply_window(on_grid, seen.window), seen.anatomical)
        )
        is_ct = functional.meta["modality"] == "CT"
        k = len(values) // 2 if is_ct else int(values.sum((1, 2)).argmax())
        coloured = apply_colormap(values[k][None, None], seen.colormap)
        slices[case.name] = coloured, b[k][None, None]
    return {name: slices[name] for name in names}


def sheet(rows: list[dict[str, Tensor]], side: int = 256) -> Image.Image:
    """Pictures (1, 3, R, K) in rows, with the names of the first row above; each fits a square."""
    out = Image.new("RGB", (side * len(rows[0]), BAR + side * len(rows)))
    draw = ImageDraw.Draw(out)
    for place, name in enumerate(rows[0]):
        draw.text((place * side + 6, 5), name, fill="white")
    for line, row in enumerate(rows):
        for place, rgb in enumerate(row.values()):
            cell = Image.fromarray(np.moveaxis(to_bytes(rgb[0]), 0, -1))
            cell.thumbnail((side, side))
            x, y = (side - cell.width) // 2, (side - cell.height) // 2
            out.paste(cell, (place * side + x, BAR + line * side + y))
    return out
