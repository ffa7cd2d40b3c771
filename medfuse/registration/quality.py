"""Rules that speak against a registration, in plain words; none of them can prove one right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from medfuse.errors import RegistrationError, option
from medfuse.imaging.grid import Grid, Matrix, transform_points
from medfuse.registration.refine import NEARBY_DEG, NEARBY_MM

if TYPE_CHECKING:
    from medfuse.registration.strategy import Outcome

MIN_OVERLAP = 0.25
MIN_METRIC = 0.05
MAX_RIVAL = 0.985
#: Set on the pairs of sample_data, checked on others: workflows/benchmarks/verdict.py.
MIN_SHARPNESS = 1.07
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


def judge(outcome: Outcome) -> tuple[Literal["good", "suspect"], tuple[str, ...]]:
    """Return the verdict and its reasons; remarks are there for a good verdict too."""
    against = [
        *_about_overlap(outcome),
        *_about_information(outcome),
        *_about_sharpness(outcome),
        *_about_what_was_kept(outcome),
        *_about_motion(outcome),
        *_about_shape(outcome),
    ]
    if against:
        return "suspect", tuple(against)
    return "good", tuple(_remarks(outcome))


def _about_overlap(outcome: Outcome) -> list[str]:
    if outcome.overlap >= MIN_OVERLAP:
        return []
    return [
        f"only {100 * outcome.overlap:.0f} % of the anatomical foreground lies in the functional "
        f"field of view (at least {100 * MIN_OVERLAP:.0f} % are expected)"
    ]


def _about_information(outcome: Outcome) -> list[str]:
    found = []
    if outcome.metric_after < MIN_METRIC:
        found.append(
            f"the aligned volumes share almost no information "
            f"(mutual information {outcome.metric_after:.3f}, at least {MIN_METRIC} is expected)"
        )
    if outcome.rival > MAX_RIVAL:
        found.append(
            "another, clearly different position explains the images "
            f"{'better' if outcome.rival > 1 else 'nearly as well'} (score {outcome.rival:.2f} "
            "times that of the position kept)"
        )
    return found


def _about_sharpness(outcome: Outcome) -> list[str]:
    if outcome.method == "identity" or outcome.sharpness >= MIN_SHARPNESS:
        return []
    return [
        f"{_dull(outcome)} (at least {MIN_SHARPNESS} times is expected): the position is wrong, or "
        "the two series show different things"
    ]


def _dull(outcome: Outcome) -> str:
    return (
        f"the images fit only {outcome.sharpness:.2f} times better here than {NEARBY_MM:.0f} mm or "
        f"{NEARBY_DEG:.0f} degrees away"
    )


def _about_what_was_kept(outcome: Outcome) -> list[str]:
    is_trusted = outcome.method != "identity" or outcome.shares_frame
    if is_trusted or outcome.change_mm <= MAX_KEPT_MM or outcome.gain <= MAX_KEPT_GAIN:
        return []
    return [
        f"nothing was moved, as asked, but the images fit {1 + outcome.gain:.1f} times better "
        f"{outcome.change_mm:.0f} mm and {outcome.change_deg:.0f} degrees away"
    ]


def _about_motion(outcome: Outcome) -> list[str]:
    if outcome.method == "identity":
        return []
    shift, turn = outcome.change_mm, outcome.change_deg
    moved = f"{shift:.1f} mm and {turn:.1f} degrees"
    if outcome.shares_frame and (shift > MAX_HEADER_SHIFT_MM or turn > MAX_HEADER_TURN_DEG):
        return [
            f"the headers name one frame of reference, but the images fit best {moved} away from "
            "it: did the patient move between the scans?"
        ]
    if (outcome.given or outcome.shares_frame) and (shift > MAX_SHIFT_MM or turn > MAX_TURN_DEG):
        return [f"the result lies {moved} away from its start"]
    return []


def _about_shape(outcome: Outcome) -> list[str]:
    low, high = _lengths(outcome.matrix)
    volume = 1.0 / float(np.linalg.det(outcome.matrix[:3, :3]))
    within = max(high, 1.0 / low) <= MAX_STRETCH
    if within and max(volume, 1.0 / volume) <= MAX_VOLUME_CHANGE:
        return []
    return [
        f"the map changes lengths of the functional image by {_percent(low)} to {_percent(high)} "
        f"and its volume by {_percent(volume)}; between two scans of one patient at most "
        f"{100 * (MAX_STRETCH - 1):.0f} % and {100 * (MAX_VOLUME_CHANGE - 1):.0f} % are believed"
    ]


def _lengths(matrix: Matrix) -> tuple[float, float]:
    """Least and greatest factor by which lengths of the moving volume change."""
    factors = 1.0 / np.linalg.svd(matrix[:3, :3], compute_uv=False)
    return float(factors[0]), float(factors[-1])


def _percent(factor: float) -> str:
    return f"{100.0 * (factor - 1.0):+.1f} %"


def _remarks(outcome: Outcome) -> list[str]:
    if outcome.method == "affine":
        low, high = _lengths(outcome.matrix)
        return [f"lengths of the functional image changed by {_percent(low)} to {_percent(high)}"]
    if outcome.method != "identity":
        return []
    dull = [f"nothing in the images confirms the position: {_dull(outcome)}"]
    remarks = dull if outcome.sharpness < MIN_SHARPNESS else []
    if outcome.iterations == 0:
        what = "given start was" if outcome.given else "positions in the headers were"
        return [f"the {what} trusted; nothing was optimised", *remarks]
    return [
        f"the headers were kept: refining moved by {outcome.change_mm:.1f} mm and "
        f"{outcome.change_deg:.1f} degrees only, or gained no information",
        *remarks,
    ]


def no_overlap(fixed: Grid, moving: Grid, moving_from_fixed: Matrix) -> None:
    """Refuse two fields of view that do not meet.

    Raises
    ------
    RegistrationError
        ``E_NO_OVERLAP`` with the distance in mm.
    """
    gap = gap_mm(fixed, moving, moving_from_fixed)
    if gap > 0.0:
        raise RegistrationError(
            "E_NO_OVERLAP",
            what="Cannot register",
            cause=f"the fields of view of the fixed and the moving volume lie {gap:.0f} mm apart",
            remedy=f"Use {option('method', 'auto')} to search for the position, or check "
            f"that both series "
            "show the same region",
        )


def gap_mm(fixed: Grid, moving: Grid, moving_from_fixed: Matrix) -> float:
    """Shortest distance between two fields of view, mm; 0 where they meet.

    Alternating projection between two convex boxes (von Neumann) ends at a nearest pair of points.
    """
    to_index = np.linalg.inv(moving.affine)
    back = np.linalg.inv(moving_from_fixed)
    to_fixed_index = np.linalg.inv(fixed.affine)
    point = transform_points(moving_from_fixed, fixed.centre)
    other = point
    for _ in range(200):
        other = _into(moving, to_index, point)
        home = _into(fixed, to_fixed_index, transform_points(back, other))
        point = transform_points(moving_from_fixed, home)
    distance = float(np.linalg.norm(point - other))
    return distance if distance > 0.01 else 0.0


def _into(grid: Grid, to_index: NDArray[Any], point: NDArray[Any]) -> NDArray[Any]:
    """Return the point of a field of view that is nearest to a world point."""
    index = transform_points(to_index, point)
    clipped = np.clip(index, -0.5, np.array(grid.shape) - 0.5)
    return transform_points(grid.affine, clipped)
