"""Registration by person and by way of judging: accuracy, verdict, expected error.

    python workflows/benchmarks/persons.py [--seeds 1 2] [--kinds hybrid mr-pet ct-mr brain]
        [--people dev check] [--out FILE.jsonl] [--part 0/2] [--preset default] [--data DIR]
        [--region]
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
* brain: group templates of T1, CT, PET and SPECT in one space, and one simulated brain.
"""

from __future__ import annotations

import argparse
import json
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from monai.data.meta_tensor import MetaTensor
from registration import SHARED, Volumes, foreground, random_move, simulated_brain
from scipy import ndimage

import medfuse
from medfuse.errors import MedfuseError
from medfuse.imaging.grid import Grid, transform_points
from medfuse.registration import Registration
from medfuse.registration.expected import expected_error
from medfuse.registration.region import read_region
from medfuse.registration.signs import GOOD_WITHIN_MM, LOOK_WITHIN_MM

DEV = ("STS_001", "STS_002", "STS_004", "STS_006", "STS_014", "STS_024", "STS_036", "STS_042")
CHECK = ("STS_012", "STS_019", "STS_023", "STS_028", "STS_047")
#: Templates of the check: whatever shows these.
CHECK_BRAINS = ("spm-single-subject-t1", "dat-spect")
PAIRS = {"hybrid": ("ct", "pet"), "mr-pet": ("mr", "pet"), "ct-mr": ("ct", "mr")}
FILE_OF = {"ct": "ct", "mr": "mr-t1"}
GOOD_MM, FAILED_MM = 4.0, 10.0
POINTS = 200
RING_MM = 15.0


def person(name: str, data: Path) -> dict[str, MetaTensor]:
    """CT, MR and PET of one person in one world."""
    aligned = data / "sts001-aligned-pet-ct-mr"
    folder = aligned if name == "STS_001" else data / "sts-patients" / name
    ct = medfuse.load(folder / "ct.nii.gz", modality="CT", values_in="HU")
    mr = medfuse.load(folder / "mr-t1.nii.gz", modality="MRI")
    if name == "STS_001":
        return {"ct": ct, "mr": mr, "pet": medfuse.load(folder / "pet-suv-dicom")}
    pet = medfuse.load(folder / "pet-suv.nii.gz", modality="PET", values_in="SUVbw")
    return {"ct": ct, "mr": mr, "pet": pet}


def brains(data: Path) -> Iterator[tuple[str, Volumes]]:
    """Every anatomical template with every functional one."""
    templates, maps = data / "mni-templates", data / "juspace-nuclear-maps"
    anatomical = {
        name: medfuse.load(templates / f"{name}.nii.gz", modality="MRI")
        for name in ("cit168-t1-brain", "spm-t1-avg", "spm-single-subject-t1")
    }
    ct = medfuse.load(
        templates / "clinical-ct-older-adults.nii.gz", modality="CT", values_in="a.u."
    )
    functional = {
        path.name: medfuse.load(folder / f"{path.name}.nii.gz", modality=kind, values_in="a.u.")
        for folder, path, kind in (
            (templates, Path("spm-pet"), "PET"),
            (templates, Path("spm-spect"), "SPECT"),
            (maps, Path("fdopa-pet"), "PET"),
            (maps, Path("dat-spect"), "SPECT"),
        )
    }
    for one, fixed in {**anatomical, "ct": ct}.items():
        for two, moving in {**functional, "ct": ct}.items():
            if one != two:
                yield f"{one}|{two}", Volumes(fixed, moving, np.eye(4))
    yield "simulated|pet", simulated_brain()


def cases(
    kinds: list[str], people: list[str], data: Path
) -> Iterator[tuple[str, str, Callable[[], Volumes]]]:
    """Kind, name and volumes of all pairs."""
    names = [*(DEV if "dev" in people else ()), *(CHECK if "check" in people else ())]
    for name in names:
        images: dict[str, MetaTensor] = {}
        for kind in [k for k in PAIRS if k in kinds]:

            def pair(kind: str = kind, name: str = name, images: dict = images) -> Volumes:
                images.update(images or person(name, data))
                fixed, moving = PAIRS[kind]
                return Volumes(images[fixed], images[moving], np.eye(4))

            yield kind, name, pair
    if "brain" in kinds:
        for name, volumes in brains(data):
            if group(name) in people:
                yield "brain", name, lambda volumes=volumes: volumes


def group(name: str) -> str:
    """Dev or check."""
    held_out = name in CHECK or any(part in CHECK_BRAINS for part in name.split("|"))
    return "check" if held_out else "dev"


def with_header(volume: MetaTensor, move: np.ndarray) -> MetaTensor:
    """The same voxels, said to lie elsewhere."""
    meta = {key: value for key, value in volume.meta.items() if key != "affine"}
    return MetaTensor(volume.as_tensor(), affine=move @ np.asarray(volume.affine), meta=meta)


def run(
    kind: str, name: str, pair: Volumes, seed: int, preset: str, region: Path | None = None
) -> dict[str, Any]:
    """One registration, with what is needed to judge it later."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode()), len(kind)])
    centre = Grid.from_volume(pair.moving).centre
    move = random_move(rng, centre, 20, 40) if seed else np.eye(4)
    points = foreground(pair.fixed)
    points = points[:: max(1, len(points) // POINTS)]
    row = {"kind": kind, "name": name, "seed": seed, "truth": (move @ pair.truth).tolist()}
    moving = with_header(pair.moving, move)
    if region:
        row["region"] = True
    wall, busy = time.perf_counter(), time.process_time()
    try:
        found = medfuse.register(
            fixed=pair.fixed,
            moving=moving,
            preset=preset,
            region=read_region(region, pair.fixed, moving) if region else None,
        )
    except MedfuseError as error:
        return row | {"error": str(error)}
    seconds = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - busy}
    return row | seconds | {"points": points.round(2).tolist(), "found": found.to_dict()}


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


def contour(name: str, image: str, data: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels of an expert's contour as (X, Y, Z) bool, and its affine."""
    volume = medfuse.load(
        data / "sts-patients" / name / f"{image}-gtv.nii.gz", modality="MRI", values_in="a.u."
    )
    return np.asarray(volume)[0] > 0.5, np.asarray(volume.affine, dtype=float)


def roc_area(name: str, moving_from_fixed: np.ndarray, data: Path) -> float:
    """PET inside the MR contour against a ring of 15 mm around it."""
    return roc_values(name, lambda points: transform_points(moving_from_fixed, points), data)


def roc_values(name: str, there: Callable[[np.ndarray], np.ndarray], data: Path) -> float:
    """The same for any map of points of the MR to those of the PET, RAS mm."""
    inside, affine = contour(name, "mr-t1", data)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    far = ndimage.distance_transform_edt(~inside, sampling=spacing)
    pet = person(name, data)["pet"]
    to_index = np.linalg.inv(np.asarray(pet.affine))
    values = []
    for where in (inside, (far > 0) & (far <= RING_MM)):
        points = there(transform_points(affine, np.argwhere(where)[::3]))
        index = transform_points(to_index, points).T
        values.append(ndimage.map_coordinates(np.asarray(pet)[0], index, order=1))
    ranks = np.concatenate(values).argsort().argsort()
    n, m = len(values[0]), len(values[1])
    return float((ranks[:n].sum() - n * (n - 1) / 2) / (n * m))


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
    parser.add_argument("--region", action="store_true", help="the tumor must fit")
    parser.add_argument("--tables", nargs="+", type=Path, help="only print tables of these files")
    options = parser.parse_args()
    if options.tables:
        table([judged_anew(row) for row in read(options.tables)], options.data)
        return
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
            row = run(kind, name, pair(), seed, options.preset, drawn)
            with options.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(kind, name, seed, f"{errors(row).mean():.1f} mm", verdict(row), flush=True)


if __name__ == "__main__":
    main()
