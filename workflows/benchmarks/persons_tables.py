"""Tables of `persons.py`: accuracy, verdict and bound by kind of pair, by part, loops, contours."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from persons_data import FILE_OF, PAIRS, contour, group, roc_area
from scipy import stats

from medfuse.imaging.grid import transform_points
from medfuse.registration import Registration
from medfuse.registration.expected import CONFIDENCE, Kind, expected_error
from medfuse.registration.signs import GOOD_WITHIN_MM, LOOK_WITHIN_MM

GOOD_MM, FAILED_MM = 4.0, 10.0
PARTS = {"limbs": ("mr-pet", "ct-mr"), "hybrid": ("hybrid",), "brain": ("brain",)}
FACTORS = np.arange(0.1, 8.01, 0.1)


def kind_of_row(row: dict[str, Any]) -> Kind:
    """What `medfuse.registration.kinds` says of these images."""
    if row["kind"] == "brain":
        return "head"
    return "one session" if row["kind"] == "hybrid" else "two sessions"


def judged_anew(row: dict[str, Any]) -> dict[str, Any]:
    """Bound and verdict of a stored row from its witnesses, with the factors and limits of now."""
    error = row.get("found", {}).get("expected_error")
    if not error:
        return row
    found, kind = Registration.from_dict(row["found"]), kind_of_row(row)
    expected = expected_error(found.matrix, found.expected.witnesses, kind)
    within = float(expected.within_mm(row["points"]).mean())
    most = GOOD_WITHIN_MM[kind]
    word = "good" if within <= most else "look" if within <= LOOK_WITHIN_MM else "suspect"
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
    """A part with its 95 % confidence interval (Clopper and Pearson, exact)."""
    if not total:
        return "-"
    low = stats.beta.ppf(0.025, hits, total - hits + 1) if hits else 0.0
    high = stats.beta.ppf(0.975, hits + 1, total - hits) if hits < total else 1.0
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
            chosen = [r for r in whole if (r["kind"], group(r["name"])) == (kind, people)]
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
    by_part(whole)
    loops(whole, data)
    at_the_tumor(rows, data)


def by_part(rows: list[dict[str, Any]]) -> None:
    """Verdict and bound by part of the body, with the bound of factors set on others beside it."""
    print("\n| part | n | good but >= 10 mm | failures noticed | < 4 mm kept |"
          " error under the bound | factor set on others | factor | median bound |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|")
    for part, kinds in PARTS.items():
        chosen = [r for r in rows if r["kind"] in kinds]
        judged = [r for r in chosen if "expected_error" in r.get("found", {})]
        if not judged:
            continue
        mm = np.array([errors(r).mean() for r in chosen])
        good = np.array([verdict(r) == "good" for r in chosen])
        failed, right = mm >= FAILED_MM, mm < GOOD_MM
        hits, total, bound = coverage(judged)
        held_out, factors = left_out(judged)
        print(
            f"| {part} | {len(mm)} | {share(int((good & failed).sum()), int(good.sum()))} | "
            f"{share(int((failed & ~good).sum()), int(failed.sum()))} | "
            f"{share(int((right & good).sum()), int(right.sum()))} | {share(hits, total)} | "
            f"{share(held_out, total)} | {min(factors):.1f}-{max(factors):.1f} | {bound:.1f} |"
        )


def left_out(rows: list[dict[str, Any]]) -> tuple[int, list[float]]:
    """Cases under the bound whose factor was set on all other persons, and these factors.

    A person of the template pairs is their anatomical template. The factor is the least of a
    lattice whose bound holds for nine of ten of the others.
    """
    people = np.array([r["name"].partition("|")[0] for r in rows])
    mm = np.array([errors(r).mean() for r in rows])
    bounds = np.array([_bounds(r) for r in rows])
    hits, chosen = 0, []
    for person_ in sorted(set(people)):
        one = people == person_
        if one.all():
            continue
        enough = (mm[~one, None] <= bounds[~one]).mean(axis=0) >= CONFIDENCE
        best = int(np.argmax(enough)) if enough.any() else -1
        chosen.append(float(FACTORS[best]))
        hits += int((mm[one] <= bounds[one, best]).sum())
    return hits, chosen or [np.nan]


def _bounds(row: dict[str, Any]) -> np.ndarray:
    """Mean bound of a row for every factor of the lattice, mm."""
    expected = Registration.from_dict(row["found"]).expected
    spread = expected.spread_mm(row["points"])
    return np.hypot(expected.least_mm, FACTORS[:, None] * spread).mean(axis=1)


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
    """CT <- MR <- PET at the tumor, and the contour, by person and seed."""
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
