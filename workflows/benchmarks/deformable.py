"""Local deformations by person, beside other packages from the same start.

    python workflows/benchmarks/deformable.py ROWS.jsonl [--people STS_024 ...] [--peers]
        [--preset default] [--grounds] [--data DIR]
    python workflows/benchmarks/deformable.py ROWS.jsonl --brains

ROWS.jsonl comes from `persons.py --kinds ct-mr mr-pet brain`: every method starts from its rigid
results. Printed are, by person, the loop CT - MR - PET - CT at the tumour, the area of the contour
test, the least Jacobian of ours, and seconds of the processor for both steps of the loop.

Peers (`peers.py`) are taken where their wheels are installed (pip install "medfuse[benchmark]").
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from peers import DEFORMABLE, Points, deformed_by, installed
from persons_data import brains, contour, person, roc_values
from registration import SHARED

from medfuse.imaging.grid import Matrix, transform_points
from medfuse.registration import Registration
from medfuse.registration.deformation import Deformation
from medfuse.registration.expected import Witness
from medfuse.registration.inputs import prepare
from medfuse.registration.local import deform
from medfuse.registration.progress import Meter, single_threaded_itk


@dataclass(frozen=True)
class Start:
    """A rigid result in the world of unmoved headers, with its witnesses."""

    matrix: Matrix
    witnesses: tuple[Witness, ...]

    @classmethod
    def of(cls, row: dict[str, Any], truth: Matrix | None = None) -> Start:
        """From a row of persons.py; `truth` is that of the unmoved pair."""
        move = np.array(row["truth"]) @ np.linalg.inv(np.eye(4) if truth is None else truth)
        back, found = np.linalg.inv(move), Registration.from_dict(row["found"])
        told = found.expected.witnesses if found.expected else ()
        return cls(back @ found.matrix, tuple(Witness(w.name, back @ w.matrix) for w in told))


def ours(fixed: Any, moving: Any, start: Start, preset: str) -> tuple[Points, Deformation]:
    """Our map, and the deformation in it."""
    one, two = (prepare(volume, base_mm=2.0) for volume in (fixed, moving))
    with single_threaded_itk():
        found = deform(
            one, two, start.matrix, witnesses=start.witnesses, preset=preset, meter=Meter(None)
        )
    return lambda p: transform_points(start.matrix, p + found.shifts(p)), found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", type=Path, help="rigid results of persons.py")
    parser.add_argument("--people", nargs="*", help="default: all in the file")
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--grounds", action="store_true", help="what spoke for a deformation")
    parser.add_argument("--brains", action="store_true", help="template pairs in place of persons")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--data", type=Path, default=SHARED)
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.rows.open()]
    starts = {(r["kind"], r["name"]): Start.of(r) for r in rows if "found" in r}
    options.peers = installed(DEFORMABLE) if options.peers else {}
    print(
        "| person | method | loop mm | area | least Jacobian | s CPU |\n|---|---|---|---|---|---|"
    )
    if options.brains:
        heads(rows, options)
        return
    for name in options.people or sorted({n for k, n in starts if k == "mr-pet"} - {"STS_001"}):
        one_person(name, starts["ct-mr", name], starts["mr-pet", name], options)


def heads(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Print a line for each pair of brain templates: error in mm, rigid and deformed."""
    told = {r["name"]: r for r in rows if r["kind"] == "brain" and "found" in r}
    for name, pair in brains(options.data):
        if name not in told:
            continue
        points, start = np.array(told[name]["points"]), Start.of(told[name], pair.truth)
        map_, deformation = ours(pair.fixed, pair.moving, start, options.preset)
        true = transform_points(pair.truth, points)
        rigid, deformed = (
            np.linalg.norm(moved - true, axis=1).mean()
            for moved in (transform_points(start.matrix, points), map_(points))
        )
        print(f"| {name} | {rigid:.1f} | {deformed:.1f} |", flush=True)
        if options.grounds:
            print(deformation.grounds, flush=True)


def one_person(name: str, first: Start, second: Start, options: argparse.Namespace) -> None:
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

    line("rigid", [lambda p, s=s: transform_points(s.matrix, p) for *_, s in pairs], np.nan, 0.0)
    busy = time.process_time()
    found = [ours(images[f], images[m], start, options.preset) for f, m, start in pairs]
    least = min(deformation.least_jacobian for _, deformation in found)
    used = ", ".join(f"{f}-{m}" for (f, m, _), (_, d) in zip(pairs, found, strict=True) if d.moves)
    seconds = time.process_time() - busy
    line(f"deformable ({used or 'not used'})", [map_ for map_, _ in found], least, seconds)
    if options.grounds:
        for (f, m, _), (_, deformation) in zip(pairs, found, strict=True):
            print(f"{f}-{m}: {deformation.grounds}", flush=True)
    for method, peer in options.peers.items():
        made = [deformed_by(peer, images[f], images[m], start.matrix) for f, m, start in pairs]
        line(method, [map_ for map_, _ in made], np.nan, sum(seconds for _, seconds in made))


if __name__ == "__main__":
    main()
