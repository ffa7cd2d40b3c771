"""Local deformations by person, beside other packages from the same start.

    python workflows/benchmarks/deformable.py ROWS.jsonl [--people STS_024 ...] [--peers]
        [--preset default] [--data DIR]

ROWS.jsonl comes from `persons.py --kinds ct-mr mr-pet`: its rigid results are where every method
starts. Printed are, by person, the loop CT - MR - PET - CT at the tumour, the area of the contour
test, the least Jacobian of ours, and seconds of the processor for both steps of the loop.

Peers (`peers.py`) are taken where their wheels are installed (pip install "medfuse[benchmark]").
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from peers import DEFORMABLE, Points, deformed_by, installed
from persons_data import contour, person, roc_values
from registration import SHARED

from medfuse.imaging.grid import Matrix, transform_points
from medfuse.registration.inputs import prepare
from medfuse.registration.local import deform
from medfuse.registration.progress import Meter, single_threaded_itk


def ours(fixed: Any, moving: Any, matrix: Matrix, preset: str) -> tuple[Points, float]:
    """Our deformation, and its least Jacobian."""
    one, two = (prepare(volume, base_mm=2.0) for volume in (fixed, moving))
    with single_threaded_itk():
        found = deform(one, two, matrix, preset=preset, meter=Meter(None))
    return lambda p: transform_points(matrix, p + found.shifts(p)), found.least_jacobian


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", type=Path, help="rigid results of persons.py")
    parser.add_argument("--people", nargs="*", help="default: all in the file")
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--data", type=Path, default=SHARED)
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.rows.open()]
    starts = {
        (r["kind"], r["name"]): np.linalg.inv(r["truth"]) @ np.array(r["found"]["matrix"])
        for r in rows
        if "found" in r
    }
    options.peers = installed(DEFORMABLE) if options.peers else {}
    print(
        "| person | method | loop mm | area | least Jacobian | s CPU |\n|---|---|---|---|---|---|"
    )
    for name in options.people or sorted({n for k, n in starts if k == "mr-pet"} - {"STS_001"}):
        one_person(name, starts["ct-mr", name], starts["mr-pet", name], options)


def one_person(name: str, first: Matrix, second: Matrix, options: argparse.Namespace) -> None:
    """Print a line for each method."""
    images = person(name, options.data)
    inside, affine = contour(name, "ct", options.data)
    points = transform_points(affine, np.argwhere(inside)[:: max(1, int(inside.sum()) // 200)])
    pairs = (("ct", "mr", first), ("mr", "pet", second))

    def line(method: str, maps: list[Points], least: float, seconds: float) -> None:
        loop = np.linalg.norm(maps[1](maps[0](points)) - points, axis=1).mean()
        area = roc_values(name, maps[1], options.data)
        jacobian = f"{least:.2f}" if np.isfinite(least) else ""
        print(
            f"| {name} | {method} | {loop:.1f} | {area:.2f} | {jacobian} | {seconds:.0f} |",
            flush=True,
        )

    line("rigid", [lambda p, m=m: transform_points(m, p) for *_, m in pairs], np.nan, 0.0)
    busy = time.process_time()
    found = [ours(images[f], images[m], matrix, options.preset) for f, m, matrix in pairs]
    least = min(jacobian for _, jacobian in found)
    line("deformable", [map_ for map_, _ in found], least, time.process_time() - busy)
    for method, peer in options.peers.items():
        made = [deformed_by(peer, images[f], images[m], matrix) for f, m, matrix in pairs]
        line(method, [map_ for map_, _ in made], np.nan, sum(seconds for _, seconds in made))


if __name__ == "__main__":
    main()
