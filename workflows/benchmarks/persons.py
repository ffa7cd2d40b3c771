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
  the tumour. Where both were called good and the loop is 10 mm off, one of them is wrong.
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
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from peers import RIGID, installed
from persons_data import FILE_OF, PAIRS, cases, contour, group, roc_area, trial
from registration import SHARED, Volumes, ours

import medfuse
from medfuse.case.focus import read_region
from medfuse.errors import MedfuseError
from medfuse.imaging.grid import transform_points
from medfuse.registration import Registration
from medfuse.registration.expected import expected_error
from medfuse.registration.signs import GOOD_WITHIN_MM, LOOK_WITHIN_MM

GOOD_MM, FAILED_MM = 4.0, 10.0


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
        print(f"| {name} | {' | '.join(cells)} |")

    for row in rows:
        line(f"{row['kind']} {row['name']}", [row])
    for kind in (*PAIRS, "brain"):
        for people in ("dev", "check"):
            chosen = [r for r in rows if r["kind"] == kind and group(r["name"]) == people]
            if chosen:
                line(f"**{kind} {people}, median of {len(chosen)}**", chosen)


def judged_anew(row: dict[str, Any]) -> dict[str, Any]:
    """Bound and verdict of a stored row from its witnesses, with the factors and limits of now."""
    error = row.get("found", {}).get("expected_error")
    if not error:
        return row
    found = Registration.from_dict(row["found"])
    fixed, _, moving = row["name"].partition("|")
    hybrid = row["kind"] == "hybrid" or (fixed == "ct" and moving != "ct")
    expected = expected_error(found.matrix, found.expected.witnesses, one_session=hybrid)
    within = float(expected.within_mm(row["points"]).mean())
    word = "good" if within <= GOOD_WITHIN_MM else "look" if within <= LOOK_WITHIN_MM else "suspect"
    words = [word, *(s.verdict for s in found.signs if s.name != "expected error")]
    verdict = max(words, key=("good", "look", "suspect").index)
    return row | {"found": replace(found, expected=expected, verdict=verdict).to_dict()}


def errors(row: dict[str, Any]) -> np.ndarray:
    """(N,) error of a result at its points, mm; infinite where it was refused."""
    if "found" not in row:
        return np.array([np.inf])
    points = np.array(row["points"])
    gap = transform_points(row["found"]["matrix"], points) - transform_points(row["truth"], points)
    return np.linalg.norm(gap, axis=1)


def verdict(row: dict[str, Any]) -> str:
    return row["found"]["verdict"] if "found" in row else "refused"


def share(hits: int, total: int) -> str:
    """A part with its 95 % confidence interval (Wilson)."""
    if not total:
        return "-"
    z, p = 1.96, hits / total
    middle = (p + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * np.sqrt(p * (1 - p) / total + z**2 / (4 * total**2))
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return f"{hits}/{total} ({100 * low:.0f}-{100 * high:.0f} %)"


def coverage(rows: list[dict[str, Any]]) -> tuple[int, int, float]:
    """Cases whose mean error lies under the mean bound, their number, median bound in mm."""
    hits, bounds = 0, []
    for row in rows:
        if "expected_error" not in row.get("found", {}):
            continue
        within = Registration.from_dict(row["found"]).error_within_mm(row["points"])
        bounds.append(float(np.mean(within)))
        hits += bool(np.mean(errors(row)) <= bounds[-1])
    return hits, len(bounds), float(np.median(bounds)) if bounds else np.nan


def table(rows: list[dict[str, Any]], data: Path) -> None:
    """Figures by kind of pair, for the persons of DEV and of CHECK."""
    print("| pairs | n | median mm | < 4 mm | < 10 mm | good but >= 10 mm | failures noticed |"
          " < 4 mm kept | error under the bound | median bound | s wall | s CPU |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    whole = [r for r in rows if not r.get("region")]
    for kind in (*PAIRS, "brain"):
        for people in ("dev", "check"):
            chosen = [r for r in whole if r["kind"] == kind and group(r["name"]) == people]
            if not chosen:
                continue
            mm = np.array([errors(r).mean() for r in chosen])
            good = np.array([verdict(r) == "good" for r in chosen])
            hits, total, bound = coverage(chosen)
            failed, right = mm >= FAILED_MM, mm < GOOD_MM
            ran = [r for r in chosen if "cpu" in r]
            print(
                f"| {kind} {people} | {len(mm)} | {np.median(mm):.1f} | "
                f"{share(int(right.sum()), len(mm))} | {share(int((~failed).sum()), len(mm))} | "
                f"{share(int((good & failed).sum()), int(good.sum()))} | "
                f"{share(int((failed & ~good).sum()), int(failed.sum()))} | "
                f"{share(int((right & good).sum()), int(right.sum()))} | {share(hits, total)} | "
                f"{bound:.1f} | {np.median([r['wall'] for r in ran]):.1f} | "
                f"{np.median([r['cpu'] for r in ran]):.1f} |"
            )
    loops([r for r in rows if not r.get("region")], data)
    at_the_tumor(rows, data)


def at_the_tumor(rows: list[dict[str, Any]], data: Path) -> None:
    """Error where the expert's contour lies, with and without it as the region that must fit."""
    by = {(r["kind"], r["name"], r["seed"], bool(r.get("region"))): r for r in rows}
    print("\n| pair | person | without, mm | bound | verdict | with, mm | bound | verdict |")
    print("|---|---|---|---|---|---|---|---|")
    for (kind, name, seed, used), first in sorted(by.items()):
        second = by.get((kind, name, seed, True))
        if used or second is None or "found" not in first or "found" not in second:
            continue
        inside, affine = contour(name, FILE_OF[PAIRS[kind][0]], data)
        points = transform_points(affine, np.argwhere(inside)[:: max(1, int(inside.sum()) // 200)])
        cells = []
        for row in (first, second):
            found = Registration.from_dict(row["found"])
            gap = transform_points(found.matrix, points) - transform_points(row["truth"], points)
            cells += [
                f"{np.linalg.norm(gap, axis=1).mean():.1f}",
                f"{found.error_within_mm(points).mean():.1f}",
                found.verdict,
            ]
        print(f"| {kind} | {name} | {' | '.join(cells)} |")


def loops(rows: list[dict[str, Any]], data: Path) -> None:
    """CT <- MR <- PET at the tumour, and the contour, by person and seed."""
    by = {(r["kind"], r["name"], r["seed"]): r for r in rows}
    print("\n| person | seed | loop mm | bound mm | CT-MR | MR-PET | area headers | area result |")
    print("|---|---|---|---|---|---|---|---|")
    for (kind, name, seed), first in sorted(by.items()):
        second = by.get(("mr-pet", name, seed))
        if kind != "ct-mr" or second is None or name == "STS_001":
            continue
        if "found" not in first or "found" not in second:
            print(f"| {name} | {seed} | refused | | {verdict(first)} | {verdict(second)} | | |")
            continue
        inside, affine = contour(name, "ct", data)
        points = transform_points(affine, np.argwhere(inside)[:: max(1, int(inside.sum()) // 200)])
        one, two = (Registration.from_dict(r["found"]) for r in (first, second))
        # The MR that one result puts into the CT is not moved in the other pair.
        in_mr = transform_points(np.linalg.inv(first["truth"]) @ one.matrix, points)
        in_pet = transform_points(np.linalg.inv(second["truth"]) @ two.matrix, in_mr)
        loop = np.linalg.norm(in_pet - points, axis=1).mean()
        bound = np.hypot(one.error_within_mm(points), two.error_within_mm(in_mr)).mean()
        area = roc_area(name, np.linalg.inv(second["truth"]) @ two.matrix, data)
        print(
            f"| {name}{'' if group(name) == 'dev' else ' (check)'} | {seed} | {loop:.1f} | "
            f"{bound:.1f} | {one.verdict} | {two.verdict} | "
            f"{roc_area(name, np.eye(4), data):.2f} | {area:.2f} |"
        )


def read(paths: list[Path]) -> list[dict[str, Any]]:
    return [json.loads(line) for path in paths if path.exists() for line in path.open()]


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
        rows = read(options.tables)
        if options.peers:
            table_of_peers(rows)
        else:
            table([judged_anew(row) for row in rows], options.data)
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


if __name__ == "__main__":
    main()
