"""Does the verdict of a registration tell good results from failed ones?

    python workflows/benchmarks/verdict.py [--starts 8] [--data DIR] [--json F]

Outcomes are simulated on every pair of volumes of `registration.py`:

* search: the moving header is moved by up to 20 degrees and 40 mm, no start is given;
* local: only the neighbourhood of a start up to 40 degrees and 80 mm off is climbed, so that many
  runs end in a wrong optimum, as those of a plain optimiser do;
* headers: a position up to 40 degrees and 80 mm off is kept as it is ("identity");
* mismatch: the head of one person and the thigh of another, searched.

An outcome is good within 4 mm of the pair's own result from the truth, failed beyond 10 mm; what
lies between is left out, and so is `ct-mr`, on which the result from the truth is itself in doubt.
Printed are the areas under the ROC curve of `sharpness` (the threshold was set on the pairs of
sample_data; the others are the check), and how often the verdict is right.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from registration import (
    SHARED,
    Sarcoma,
    Volumes,
    foreground,
    hybrid,
    moved,
    random_move,
    shared_pairs,
    simulated_brain,
)

import medfuse
from medfuse.errors import RegistrationError
from medfuse.imaging.grid import Grid
from medfuse.registration.geometry import distance_mm
from medfuse.registration.inputs import prepare
from medfuse.registration.plan import PRESETS
from medfuse.registration.progress import Meter, single_threaded_itk
from medfuse.registration.refine import Stage
from medfuse.registration.result import Registration

GOOD_MM, FAILED_MM = 4.0, 10.0
TRUSTED = (5.0, 15.0, 40.0), (10.0, 25.0, 80.0)  # largest turn (degrees) and shift (mm), in turn
KINDS = ("search", "local", "headers", "mismatch")
SAMPLE_PAIRS = ("brain", "hybrid", "sarcoma")
THIGHS = ("hybrid", "pet-mr", "sarcoma")


@dataclass(frozen=True)
class Outcome:
    """One simulated result; `error_mm` is infinite for a pair that does not belong together."""

    pair: str
    kind: str
    error_mm: float
    sharpness: float
    verdict: str

    @property
    def label(self) -> str:
        if self.error_mm < GOOD_MM:
            return "good"
        return "failed" if self.error_mm > FAILED_MM else "between"

    @property
    def in_sample(self) -> bool:
        return all(name in SAMPLE_PAIRS for name in self.pair.split("|"))


def find(pair: Volumes, **options: object) -> Registration:
    """medfuse.register, headers not trusted."""
    known = {"method": "rigid", "accept_pair": "roles", **options}
    return medfuse.register(fixed=pair.fixed, moving=pair.moving, **known)


def climb(pair: Volumes, start: np.ndarray) -> np.ndarray:
    """What a plain optimiser finds near a start: coarse, then fine."""
    plan = PRESETS["default"]
    with single_threaded_itk():
        fixed, moving = (prepare(v, base_mm=plan.base_mm) for v in (pair.fixed, pair.moving))
        for level in (plan.coarse, plan.fine):
            start = Stage.of(fixed, moving, level, seed=0).refine(start, Meter(None)).matrix
    return start


def simulate(name: str, pair: Volumes, starts: int) -> Iterator[Outcome]:
    """Searches, wrong optima and wrong headers of one pair."""
    rng = np.random.default_rng(5)
    points, centre = foreground(pair.fixed), Grid.from_volume(pair.fixed).centre
    home = find(pair, initial=pair.truth).matrix

    def outcome(kind: str, found: Registration, truth: np.ndarray) -> Outcome:
        error = distance_mm(found.matrix, truth, points)
        return Outcome(name, kind, error, found.sharpness or 0.0, found.verdict)

    for number in range(starts):
        trial = moved(pair, 100 + number)
        found = find(Volumes(trial.fixed, trial.moving, trial.truth))
        yield outcome("search", found, trial.move @ home)
        turn, shift = (limits[number % 3] for limits in TRUSTED)
        start = home @ random_move(rng, centre, turn, shift)
        yield outcome("headers", find(pair, initial=start, method="identity"), home)
        yield outcome("local", find(pair, initial=climb(pair, start), method="identity"), home)


def mismatch(name: str, fixed: Volumes, moving: Volumes) -> Outcome:
    """Two body parts that share nothing but their roundness; a refusal counts as noticed."""
    try:
        found = find(Volumes(fixed.fixed, moving.moving, np.eye(4)))
    except RegistrationError:
        return Outcome(name, "mismatch", float("inf"), 0.0, "refused")
    return Outcome(name, "mismatch", float("inf"), found.sharpness or 0.0, found.verdict)


def area(good: list[float], failed: list[float]) -> float:
    """Area under the ROC curve: chance that a good outcome has more than a failed one."""
    one, two = np.array(good)[:, None], np.array(failed)[None]
    return float((one > two).mean() + 0.5 * (one == two).mean())


def row(outcomes: list[Outcome]) -> dict[str, float]:
    """Figures of one group of outcomes."""
    good = [o for o in outcomes if o.label == "good"]
    failed = [o for o in outcomes if o.label == "failed"]
    figures: dict[str, float] = {"good": len(good), "failed": len(failed)}
    if good and failed:
        figures["area"] = area([o.sharpness for o in good], [o.sharpness for o in failed])
    if good:
        figures["good_kept"] = sum(o.verdict == "good" for o in good) / len(good)
        figures["least_of_good"] = min(o.sharpness for o in good)
    if failed:
        figures["failed_noticed"] = sum(o.verdict != "good" for o in failed) / len(failed)
        figures["most_of_failed"] = max(o.sharpness for o in failed)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--starts", type=int, default=8, help="of each kind for each pair")
    parser.add_argument("--data", type=Path, default=SHARED, help="folder of the further volumes")
    parser.add_argument("--json", type=Path, help="write outcomes and figures here")
    options = parser.parse_args()
    case = Sarcoma()
    pairs = {"brain": simulated_brain(), "hybrid": hybrid()}
    pairs["sarcoma"] = Volumes(case.fixed, case.moving, case.reference)
    if options.data.is_dir():
        pairs |= {n: p for n, p in shared_pairs(options.data) if n != "ct-mr"}
    else:
        print("further volumes are not here: only the sample data is measured")
    outcomes = []
    for name, pair in pairs.items():
        outcomes += list(simulate(name, pair, options.starts))
        print(name, {k: round(v, 3) for k, v in row(outcomes[-3 * options.starts :]).items()})
    heads = [name for name in pairs if name not in THIGHS]
    for thigh, head in itertools.product([n for n in THIGHS if n in pairs], heads):
        for one, two in ((thigh, head), (head, thigh)):
            outcomes.append(mismatch(f"{one}|{two}", pairs[one], pairs[two]))
    groups = {
        "all": outcomes,
        "pairs of sample_data (threshold set here)": [o for o in outcomes if o.in_sample],
        "other pairs (check)": [o for o in outcomes if not o.in_sample],
    }
    goods = [o for o in outcomes if o.label == "good"]
    groups |= {k: [o for o in outcomes if o.kind == k and o.label == "failed"] + goods
               for k in KINDS}  # fmt: skip
    table = {name: row(group) for name, group in groups.items()}
    print(f"{len(outcomes)} outcomes")
    for name, figures in table.items():
        print(f"{name:44}", "  ".join(f"{k} {v:.3g}" for k, v in figures.items()))
    if options.json:
        content = {"table": table, "outcomes": [asdict(o) for o in outcomes]}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
