"""Moving the functional image by hand, and seeing it where it was before."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from monai.data import MetaTensor
from numpy.typing import ArrayLike, NDArray

from medfuse.imaging.grid import Grid, Matrix, transform_points
from medfuse.registration.region import Region
from medfuse.registration.result import Registration, register
from medfuse.settings import CaseSettings, Progress
from napari_plugin.records import Aligned

RAS_FROM_LPI = -np.eye(
    3
)  # left, posterior, inferior are the opposites of right, anterior, superior


def rigid_motion(
    shift: tuple[float, float, float], turn: tuple[float, float, float], centre: ArrayLike
) -> Matrix:
    """(4, 4) motion of the functional image in the anatomical world, RAS mm.

    Parameters
    ----------
    shift : (3,) float
        To the left, posterior, inferior; mm.
    turn : (3,) float
        About the left-right, front-back, head-feet axis through `centre`, in this order; degrees,
        right-handed about R, A, S.
    centre : (3,) float
        RAS mm.
    """
    rotation = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(turn)):
        rotation = _about(axis, angle) @ rotation
    motion = np.eye(4)
    motion[:3, :3] = rotation
    middle = np.asarray(centre, dtype=np.float64)
    motion[:3, 3] = middle - rotation @ middle + RAS_FROM_LPI @ np.asarray(shift)
    return motion


def moved_by_hand(
    found: Registration,
    shift: tuple[float, float, float],
    turn: tuple[float, float, float],
    centre: NDArray[np.float64],
) -> Registration:
    """A registration after which the functional image lies moved by hand.

    What was measured at the place before does not hold here: until `measured_here` has looked, the
    verdict is "look" and there are no numbers. What was done is told in the reasons, so that it
    stands in provenance and audit. At rest the registration itself comes back.
    """
    if not any((*shift, *turn)):
        return found
    matrix = found.matrix @ np.linalg.inv(rigid_motion(shift, turn, centre))
    words = ("left", "posterior", "inferior")
    way = ", ".join(f"{value:g} mm {word}" for value, word in zip(shift, words, strict=True))
    angles = ", ".join(f"{angle:g}" for angle in turn)
    told = f"moved by hand: {way}; turned by {angles} degrees about R, A, S"
    unmeasured = "not measured yet at this place; fusing measures it"
    moved = transform_points(matrix, centre) - centre
    cosine = (np.trace(matrix[:3, :3]) - 1) / 2
    return replace(
        found,
        matrix=matrix,
        method=f"{found.method} + by hand",
        verdict="look",
        reasons=(told, unmeasured),
        metric_after=math.nan,
        overlap=math.nan,
        signs=(),
        expected=None,
        places=(),
        shift_mm=float(np.linalg.norm(moved)),
        rotation_deg=float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))),
        sharpness=None,  # that of another place
        deformation=None,
    )


def measured_here(
    moved: Registration,
    fixed: MetaTensor,
    moving: MetaTensor,
    settings: CaseSettings,
    progress: Progress | None = None,
    region: Region | None = None,
) -> Registration:
    """What the images say at the place to which they were moved by hand."""
    found = register(
        fixed=fixed,
        moving=moving,
        method="identity",
        initial=moved.matrix,
        preset=settings.preset,
        seed=settings.seed,
        region=region,
        progress=progress,
        accept_pair="same-image",  # the pair was judged before
        allow_patient_mismatch=True,
    )
    return replace(
        found,
        method=moved.method,
        # Somebody looked, and answers for it.
        verdict="look" if found.verdict == "suspect" else found.verdict,
        reasons=(moved.reasons[0], *found.reasons),
        shift_mm=moved.shift_mm,
        rotation_deg=moved.rotation_deg,
        alternatives=moved.alternatives,
    )


def resample_on(registration: Registration, moving: MetaTensor, like: MetaTensor) -> MetaTensor:
    """The functional image on another grid in the anatomical world, e.g. one slice."""
    return replace(registration, fixed_grid=Grid.from_volume(like)).resample(moving)


def unmoved(aligned: Aligned) -> MetaTensor:
    """Functional image on the anatomical grid where its own file has it."""
    headers = replace(aligned.registration, matrix=np.eye(4), deformation=None)
    return headers.resample(aligned.pair.functional.volume())


def _about(axis: int, angle: float) -> NDArray[np.float64]:
    """(3, 3) right-handed rotation about R (0), A (1) or S (2)."""
    c, s = np.cos(angle), np.sin(angle)
    i, j = [(1, 2), (2, 0), (0, 1)][axis]
    rotation = np.eye(3)
    rotation[i, i] = rotation[j, j] = c
    rotation[i, j], rotation[j, i] = -s, s
    return rotation
