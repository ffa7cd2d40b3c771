"""Presets of registration: how finely is searched, refined and checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from medfuse.registration.refine import Level

#: Where a start is sought, the outline is what leads there. At the end it is left out: blur,
#: breathing and clothing put it at another place in either scan, and along a limb or neck that
#: tapers the error of a few millimetres becomes one of ten.
_COARSE: dict[str, Any] = {"bins": 32, "deeper_mm": 0.0, "air_mm": (0.0, 16.0)}
_FINE: dict[str, Any] = {"bins": 50, "deeper_mm": 4.0, "air_mm": (8.0, 16.0)}


@dataclass(frozen=True)
class Plan:
    """One preset.

    Parameters
    ----------
    base_mm : float
        Finer voxels are averaged to about this size first.
    search_mm : float
        Voxel size of the exhaustive search.
    step_deg, limit_deg : float
        Lattice of rotations searched everywhere.
    near_step_deg, near_limit_deg, near_mm : float
        Rotations and shifts searched around a given start.
    starts : int
        Candidates refined at the coarse level.
    coarse, fine : Level
    witnesses : int
        Further optimisations from which the expected error comes.
    turned_mm : float
        Voxel size of the search among half and quarter turns of the body.
    """

    base_mm: float
    search_mm: float
    step_deg: float
    limit_deg: float
    starts: int
    coarse: Level
    fine: Level
    witnesses: int = 7
    turned_mm: float = 18.0
    near_step_deg: float = 16.0
    near_limit_deg: float = 24.0
    near_mm: float = 60.0


PRESETS = {
    "fast": Plan(
        base_mm=2.0,
        search_mm=16.0,
        step_deg=30.0,
        limit_deg=45.0,
        starts=4,
        coarse=Level(step_mm=7.0, sigma_mm=5.0, samples=10_000, iterations=30, **_COARSE),
        fine=Level(step_mm=4.0, sigma_mm=3.0, samples=20_000, iterations=30, **_FINE),
        witnesses=5,
        turned_mm=20.0,
    ),
    "default": Plan(
        base_mm=2.0,
        search_mm=13.0,
        step_deg=24.0,
        limit_deg=45.0,
        starts=6,
        coarse=Level(step_mm=6.0, sigma_mm=4.0, samples=10_000, iterations=40, **_COARSE),
        fine=Level(step_mm=3.0, sigma_mm=2.5, samples=30_000, iterations=40, **_FINE),
    ),
    "thorough": Plan(
        base_mm=1.5,
        search_mm=11.0,
        step_deg=20.0,
        limit_deg=60.0,
        starts=12,
        coarse=Level(step_mm=5.0, sigma_mm=4.0, samples=20_000, iterations=60, **_COARSE),
        fine=Level(step_mm=2.0, sigma_mm=1.5, samples=100_000, iterations=60, **_FINE),
    ),
}
