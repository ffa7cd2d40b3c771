"""Signs that speak for or against a registration, each with its number and limit."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from medfuse.imaging.grid import Matrix, transform_points
from medfuse.registration.evidence import Sign, Verdict
from medfuse.registration.expected import Kind
from medfuse.registration.refine import NEARBY_DEG, NEARBY_MM

if TYPE_CHECKING:
    from medfuse.registration.outcome import Outcome, Volumes
    from medfuse.registration.region import Region

MIN_OVERLAP = 0.25
MIN_OF_REGION = 0.9
MIN_METRIC = 0.05
MAX_RIVAL = 0.985
MIN_SHARPNESS = 1.05
#: Mean over the foreground of the bound of the error (90 %): up to here good, then look, suspect.
#: 8 mm in a head and 12 mm between two sessions are the same spread of the witnesses.
GOOD_WITHIN_MM: dict[Kind, float] = {"head": 8.0, "one session": 12.0, "two sessions": 12.0}
LOOK_WITHIN_MM = 50.0
#: A mirrored copy that fits better than this, relative to the image as it is, is reported.
MAX_MIRRORED = 1.02
#: The same where the place is doubtful.
MAX_MIRRORED_BY_CHANCE = 1.5
#: So nearly as good a fit on the other side of the body, the other thigh, is reported.
MAX_OTHER_SIDE = 0.9
#: A position that is kept as asked is doubted where one that far off fits that much better.
MAX_KEPT_MM = 10.0
MAX_KEPT_GAIN = 0.5
MAX_SHIFT_MM = 100.0
MAX_TURN_DEG = 45.0
#: Scanners of one patient differ in scale by a few per cent at most; these limits are generous.
MAX_STRETCH = 1.15
MAX_VOLUME_CHANGE = 1.3
MAX_HEADER_SHIFT_MM = 5.0
MAX_HEADER_TURN_DEG = 5.0


def _sign(
    name: str,
    value: float,
    limit: float,
    unit: str,
    *,
    ok: bool,
    otherwise: Verdict = "suspect",
    reason: str = "",
) -> Sign:
    verdict: Verdict = "good" if ok else otherwise
    return Sign(name, float(value), limit, unit, verdict, "" if ok else reason)


def about_overlap(outcome: Outcome) -> list[Sign]:
    return [
        _sign(
            "overlap",
            outcome.overlap,
            MIN_OVERLAP,
            "of the foreground",
            ok=outcome.overlap >= MIN_OVERLAP,
            reason=f"only {100 * outcome.overlap:.0f} % of the anatomical foreground lies in the "
            f"functional field of view (at least {100 * MIN_OVERLAP:.0f} % are expected)",
        )
    ]


def about_information(outcome: Outcome) -> list[Sign]:
    return [
        _sign(
            "mutual information",
            outcome.metric_after,
            MIN_METRIC,
            "nats",
            ok=outcome.metric_after >= MIN_METRIC,
            reason=f"the aligned volumes share almost no information (mutual information "
            f"{outcome.metric_after:.3f}, at least {MIN_METRIC} is expected)",
        ),
        _sign(
            "best other position",
            outcome.rival,
            MAX_RIVAL,
            "of the score",
            ok=outcome.rival <= MAX_RIVAL,
            reason="another, clearly different position explains the images "
            f"{'better' if outcome.rival > 1 else 'nearly as well'} (score {outcome.rival:.2f} "
            "times that of the position kept)",
        ),
    ]


def about_region(matrix: Matrix, pair: Volumes, region: Region) -> list[Sign]:
    """How much of a region the functional image shows."""
    at = transform_points(matrix, region.points(matrix))
    grid = pair.moving.grid
    index = transform_points(np.linalg.inv(grid.affine), at)
    seen = ((index >= -0.5) & (index <= np.array(grid.shape) - 0.5)).all(axis=1).mean()
    return [
        _sign(
            "overlap of the region",
            seen,
            MIN_OF_REGION,
            "of the region",
            ok=bool(seen >= MIN_OF_REGION),
            otherwise="look",
            reason=f"only {100 * seen:.0f} % of the region lies in the functional field of view "
            f"(at least {100 * MIN_OF_REGION:.0f} % are expected)",
        )
    ]


def about_sharpness(outcome: Outcome) -> list[Sign]:
    return [
        _sign(
            "sharpness",
            outcome.sharpness,
            MIN_SHARPNESS,
            "times",
            ok=outcome.method == "identity" or outcome.sharpness >= MIN_SHARPNESS,
            reason=f"{dull(outcome)} (at least {MIN_SHARPNESS} times is expected): the position "
            "is wrong, or the two series show different things",
        )
    ]


def dull(outcome: Outcome) -> str:
    return (
        f"the images fit only {outcome.sharpness:.2f} times better here than {NEARBY_MM:.0f} mm or "
        f"{NEARBY_DEG:.0f} degrees away"
    )


def about_error(outcome: Outcome, within_mm: float | None, most_mm: float, over: str) -> list[Sign]:
    if within_mm is None:
        return []
    # Who says that the images lie right, be it the headers, is a better witness than dull images.
    worst: Verdict = "look" if outcome.method == "identity" else "suspect"
    return [
        _sign(
            "expected error",
            within_mm,
            most_mm,
            "mm",
            ok=within_mm <= most_mm,
            otherwise="look" if within_mm <= LOOK_WITHIN_MM else worst,
            reason=f"the images fix the position only to within {math.ceil(within_mm)} mm (mean "
            f"bound over {over}, at most {most_mm:.0f} mm is expected)",
        )
    ]


def about_sides(outcome: Outcome) -> list[Sign]:
    turned = outcome.turned and outcome.method != "identity"
    # Where the place itself is wrong, the mirrored copy may find a better one by chance.
    is_sharp = outcome.sharpness >= MIN_SHARPNESS
    most = MAX_MIRRORED if is_sharp else MAX_MIRRORED_BY_CHANCE
    return [
        _sign(
            "mirrored copy",
            outcome.mirrored,
            most,
            "of the information",
            ok=outcome.mirrored <= most,
            otherwise="look",
            reason=f"the images fit {outcome.mirrored:.2f} times as well when the functional image "
            "is mirrored: check that left is left in both",
        ),
        _sign(
            "other side of the body",
            outcome.other_side,
            MAX_OTHER_SIDE,
            "of the score",
            ok=outcome.other_side <= MAX_OTHER_SIDE,
            otherwise="look",
            reason=f"the images fit {outcome.other_side:.2f} times as well on the other side of "
            "the body: check that it is the right leg or arm",
        ),
        _sign(
            "turn against the headers",
            float(bool(turned)),
            0.0,
            "turns",
            ok=not turned,
            otherwise="look",
            reason=f"the images fit best after {outcome.turned}, against what the headers say: "
            "check the patient position of both scans",
        ),
    ]


def about_what_was_kept(outcome: Outcome) -> list[Sign]:
    if outcome.undecided:
        return [
            _sign(
                "headers and images",
                outcome.change_mm,
                MAX_HEADER_SHIFT_MM,
                "mm",
                ok=False,
                otherwise="look",
                reason=f"the images fit slightly better {outcome.change_mm:.0f} mm and "
                f"{outcome.change_deg:.0f} degrees away from where the headers have them, but they "
                "do not fix that position: the headers were kept, and the other position is "
                "offered as an alternative",
            )
        ]
    if outcome.method != "identity" or outcome.shares_frame:
        return []
    return [
        _sign(
            "gain elsewhere",
            outcome.gain,
            MAX_KEPT_GAIN,
            "of the information",
            ok=outcome.change_mm <= MAX_KEPT_MM or outcome.gain <= MAX_KEPT_GAIN,
            reason=f"nothing was moved, as asked, but the images fit {1 + outcome.gain:.1f} times "
            f"better {outcome.change_mm:.0f} mm and {outcome.change_deg:.0f} degrees away",
        )
    ]


def about_motion(outcome: Outcome) -> list[Sign]:
    shift, turn = outcome.change_mm, outcome.change_deg
    moved = f"{shift:.1f} mm and {turn:.1f} degrees"
    if outcome.shares_frame and not outcome.given:
        # Gain: what the search found there explains more than the headers do.
        small = shift <= MAX_HEADER_SHIFT_MM and turn <= MAX_HEADER_TURN_DEG
        return [
            _sign(
                "headers and images",
                shift,
                MAX_HEADER_SHIFT_MM,
                "mm",
                ok=small or outcome.gain <= 0.05,
                otherwise="look",
                reason="the headers name one frame of reference, but the images fit best "
                f"{moved} away from it: did the patient move between the scans? The position of "
                "the headers was kept; the other one is offered as an alternative",
            )
        ]
    far = shift > MAX_SHIFT_MM or turn > MAX_TURN_DEG
    if not outcome.given or outcome.method == "identity":
        return []
    return [
        _sign(
            "distance from the start",
            shift,
            MAX_SHIFT_MM,
            "mm",
            ok=not far,
            reason=f"the result lies {moved} away from its start",
        )
    ]


def about_shape(outcome: Outcome) -> list[Sign]:
    low, high = lengths(outcome.matrix)
    volume = 1.0 / float(np.linalg.det(outcome.matrix[:3, :3]))
    within = max(high, 1.0 / low) <= MAX_STRETCH
    return [
        _sign(
            "stretch",
            max(high, 1.0 / low),
            MAX_STRETCH,
            "times",
            ok=within and max(volume, 1.0 / volume) <= MAX_VOLUME_CHANGE,
            reason=f"the map changes lengths of the functional image by {percent(low)} to "
            f"{percent(high)} and its volume by {percent(volume)}; between two scans of one "
            f"patient at most {100 * (MAX_STRETCH - 1):.0f} % and "
            f"{100 * (MAX_VOLUME_CHANGE - 1):.0f} % are believed",
        )
    ]


def lengths(matrix: Matrix) -> tuple[float, float]:
    """Least and greatest factor by which lengths of the moving volume change."""
    factors = 1.0 / np.linalg.svd(matrix[:3, :3], compute_uv=False)
    return float(factors[0]), float(factors[-1])


def percent(factor: float) -> str:
    return f"{100.0 * (factor - 1.0):+.1f} %"
