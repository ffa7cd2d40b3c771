"""Registration by person and by way of judging: accuracy, verdict, expected error.

    python workflows/benchmarks/persons.py [--seeds 1 2] [--kinds hybrid mr-pet ct-mr brain]
        [--people dev check] [--out FILE.jsonl] [--part 0/2] [--preset default] [--data DIR]
        [--region]
    python workflows/benchmarks/persons.py --peers --out PEERS.jsonl
    python workflows/benchmarks/persons.py --peers --tables PEERS.jsonl
    python workflows/benchmarks/persons.py --tables FILE.jsonl [FILE.jsonl ...]

One random motion of the moving header (up to 20 degrees and 40 mm) for each pair and seed; seed 0
leaves the headers as they are. Results are appended to FILE.jsonl, and what is there is not
repeated; --tables judges what is stored with the factors and limits of this version. The persons
are split: limits and factors are set on DEV, and CHECK is only looked at.

* hybrid: CT <- PET of one scanner; the truth is gold, breathing and bed motion aside.
* mr-pet, ct-mr: a clinical fusion is the truth, silver: it is itself up to 12 mm off in some.
* loop: CT <- MR and MR <- PET, each found on its own, composed and compared with the scanner at
  the tumor. Where both were called good and the loop is 10 mm off, one of them is wrong.
* contour: area under the ROC curve of the PET inside the contour that an expert drew on the MR,
  against a ring of 15 mm around it, where the result puts it and where the headers put it.
* region (--region): the contour on the fixed image is what must fit; errors at the tumor, with and
  without, are a table of their own.
* --peers: the same pairs by `fast` and `default`, elastix, ANTs and greedy (`peers.py`), error and
  processor time of each; nothing else is recorded.
* brain: group templates of T1, CT, PET and SPECT in one space, and one simulated brain.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from peers import RIGID, installed
from persons_data import FILE_OF, PAIRS, cases, group, trial
from persons_tables import errors, judged_anew, read, table, verdict
from registration import SHARED, Volumes, ours

import medfuse
from medfuse.case.focus import read_region
from medfuse.errors import MedfuseError
from medfuse.imaging.grid import transform_points


def run(
    kind: str, name: str, pair: Volumes, seed: int, preset: str, region: Path | None = None
) -> dict[str, Any]:
    """One registration, with what is needed to judge it later."""
    moving, truth, points = trial(kind, name, pair, seed)
    row = {"kind": kind, "name": name, "seed": seed, "truth": truth.tolist()}
    if region:
        row["region"] = True
    wall, busy = time.perf_counter(), time.process_time()
    try:
        found = medfuse.register(
            fixed=pair.fixed,
            moving=moving,
            preset=preset,
            region=read_region(region, pair.fixed, moving) if region else None,
            accept_pair="roles",  # CT <- MR
        )
    except MedfuseError as error:
        return row | {"error": str(error)}
    seconds = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - busy}
    return row | seconds | {"points": points.round(2).tolist(), "found": found.to_dict()}


def beside_peers(
    kind: str, name: str, pair: Volumes, seed: int, methods: dict[str, Any]
) -> dict[str, Any]:
    """Mean error, mm, and seconds of the processor by method, for one pair."""
    moving, truth, points = trial(kind, name, pair, seed)
    here = transform_points(truth, points)
    row: dict[str, Any] = {"kind": kind, "name": name, "seed": seed, "methods": {}}
    for method, register in methods.items():
        try:
            matrix, cpu = register(pair.fixed, moving, None)
            mm = float(np.linalg.norm(transform_points(matrix, points) - here, axis=1).mean())
        except (MedfuseError, RuntimeError) as error:
            mm, cpu = float("inf"), float("nan")
            print(f"{method} on {kind} {name}: {error}")
        row["methods"][method] = {"mm": mm, "cpu": cpu}
    return row


def table_of_peers(rows: list[dict[str, Any]]) -> None:
    """Mean error in mm and seconds of the processor by pair, and their medians."""
    methods = list(rows[0]["methods"])
    print(f"| pair | {' | '.join(f'{m}, mm | s' for m in methods)} |")
    print(f"|---|{'---|---|' * len(methods)}")

    def line(name: str, chosen: list[dict[str, Any]]) -> None:
        cells = [
            f"{np.median([r['methods'][m][key] for r in chosen]):.1f}"
            for m in methods
            for key in ("mm", "cpu")
        ]
        print(f"| {name.replace('|', ' and ')} | {' | '.join(cells)} |")

    for row in rows:
        line(f"{row['kind']} {row['name']}", [row])
    for kind in (*PAIRS, "brain"):
        for people in ("dev", "check"):
            chosen = [r for r in rows if r["kind"] == kind and group(r["name"]) == people]
            if chosen:
                line(f"**{kind} {people}, median of {len(chosen)}**", chosen)


def tables(files: list[Path], *, peers: bool, data: Path) -> None:
    """Print what is stored, judged by the limits of this version."""
    rows = read(files)
    if peers:
        table_of_peers(rows)
    else:
        table([judged_anew(row) for row in rows], data)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", nargs="+", default=[*PAIRS, "brain"])
    parser.add_argument("--people", nargs="+", default=["dev", "check"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--preset", default="default")
    parser.add_argument("--part", default="0/1", help="this part of the pairs, e.g. 0/2")
    parser.add_argument("--out", type=Path, default=Path("persons.jsonl"))
    parser.add_argument("--data", type=Path, default=SHARED, help="folder of the further volumes")
    parser.add_argument("--peers", action="store_true", help="beside other packages")
    parser.add_argument("--region", action="store_true", help="the tumor must fit")
    parser.add_argument("--tables", nargs="+", type=Path, help="only print tables of these files")
    options = parser.parse_args()
    if options.tables:
        tables(options.tables, peers=options.peers, data=options.data)
        return
    ours_too = {f"medfuse {preset}": ("medfuse", ours(preset)) for preset in ("fast", "default")}
    methods = installed(ours_too | RIGID) if options.peers else {}
    done = {(r["kind"], r["name"], r["seed"]) for r in read([options.out])}
    part, parts = (int(n) for n in options.part.split("/"))
    for seed in options.seeds:
        for number, (kind, name, pair) in enumerate(
            cases(options.kinds, options.people, options.data)
        ):
            if number % parts != part or (kind, name, seed) in done:
                continue
            drawn = None
            if options.region:
                if kind not in PAIRS or name == "STS_001":  # no contour of one file
                    continue
                file = f"{FILE_OF[PAIRS[kind][0]]}-gtv.nii.gz"
                drawn = options.data / "sts-patients" / name / file
            if options.peers:
                row = beside_peers(kind, name, pair(), seed, methods)
            else:
                row = run(kind, name, pair(), seed, options.preset, drawn)
            with options.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            if options.peers:
                print(json.dumps(row), flush=True)
                continue
            print(kind, name, seed, f"{errors(row).mean():.1f} mm", verdict(row), flush=True)
    tables([options.out], peers=options.peers, data=options.data)


if __name__ == "__main__":
    main()
