"""What the default shows of each sample case, beside its sources and the customary overlay.

python workflows/benchmarks/defaults.py [--picture docs/images/defaults.png]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from sample_slices import STUDY, sheet
from torch import Tensor

from medfuse.case.pipeline import CaseSettings, align, load_pair
from medfuse.fusion import fuse
from medfuse.imaging.grid import DisplayOrder, Grid
from medfuse.imaging.windows import apply_window
from medfuse.kernel.colormaps import apply_colormap
from medfuse.study import discover

PLAIN = {"bone": "gray"}  # a CT by itself is looked at in grey


def rows() -> list[dict[str, Tensor]]:
    """The slice with the most uptake of each case, of a CT the middle one: (1, 3, R, K) each."""
    out = []
    for case in discover(STUDY).cases:
        settings = CaseSettings(**{"accept_suspect": True, **case.overrides})
        anatomical, functional = load_pair(case.anatomical, case.functional, settings)
        on_grid = align(anatomical, functional, settings).resample(functional)
        pair = {"functional": on_grid, "anatomical": anatomical}
        default, overlay = (
            fuse(**pair, style=style, audit=False) for style in ("fusion", "overlay")
        )
        assert default.window is not None  # the sample has units
        order = DisplayOrder.from_grid(Grid.from_volume(anatomical))
        values, grey, inside = (
            order.apply(torch.as_tensor(np.asarray(x)))[0]
            for x in (apply_window(on_grid, default.window), default.anatomical, default.coverage)
        )
        seen = (values * inside).sum((1, 2))
        k = len(seen) // 2 if functional.meta["modality"] == "CT" else int(seen.argmax())
        name = str(default.colormap)
        coloured = apply_colormap(values[k][None, None], PLAIN.get(name, name))
        pictures = [
            order.apply(torch.as_tensor(np.asarray(x.rgb)))[:, k] for x in (overlay, default)
        ]
        print(f"{case.name}: {default.method.name}, {name}: {default.chosen}")
        out.append(
            {
                "anatomical": grey[k].expand(1, 3, -1, -1),
                "functional": coloured * inside[k],
                "overlay: hot, 50 %": pictures[0][None],
                "default": pictures[1][None],
            }
        )
    return out


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--picture", type=Path, default=Path("defaults.png"))
    sheet(rows()).save(parser.parse_args().picture)


if __name__ == "__main__":
    main()
