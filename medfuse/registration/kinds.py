"""What kind of pair this is: on that depends how much the spread of the witnesses says."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfuse.imaging.grid import from_sitk, transform_points
from medfuse.registration.expected import Kind
from medfuse.registration.inputs import Prepared

#: Width, depth and height of the foreground, mm; heads of children and brains without skull too.
LEAST_SIZE_MM, MOST_SIZE_MM = (100.0, 120.0, 80.0), (200.0, 250.0, 270.0)
#: So much of its largest section may touch a side, or the upper end, of the field of view.
MOST_AT_SIDES, MOST_ABOVE = 0.25, 0.4


def kind_of(volume: Prepared, fixed: dict[str, Any], moving: dict[str, Any]) -> Kind:
    """Kind of a pair, from the prepared fixed volume and the meta data of both."""
    if shows_head(volume):
        return "head"
    # CT with PET or SPECT mostly come from one session on one scanner.
    uptake = moving.get("modality") in ("PET", "SPECT")
    return "one session" if uptake and fixed.get("modality") == "CT" else "two sessions"


def shows_head(volume: Prepared) -> bool:
    """Tell a head by its size, and by ending inside the field of view above and on all sides.

    A limb or trunk goes on beyond the upper end. Where the vertex is cut off, it is no head to this
    function: what is said of the rest of the body then holds, which is more careful.
    """
    mask, affine = from_sitk(volume.mask)
    index = np.argwhere(mask > 0)
    if not len(index):
        return False
    # Up to permutation and sign, the axes of the array are those of the patient.
    turn = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    axes = [int(np.argmax(np.abs(row))) for row in turn]
    if len(set(axes)) < 3:
        return False
    points = transform_points(affine, index[:: max(1, len(index) // 5000)])
    size = np.ptp(np.quantile(points, (0.01, 0.99), axis=0), axis=0)
    if (size < LEAST_SIZE_MM).any() or (size > MOST_SIZE_MM).any():
        return False
    ends = [_touching(mask > 0, axis) for axis in axes]
    above = ends[2][1 if turn[2, axes[2]] > 0 else 0]
    return max(*ends[0], *ends[1]) <= MOST_AT_SIDES and above <= MOST_ABOVE


def _touching(inside: NDArray[np.bool_], axis: int) -> tuple[float, float]:
    """Area at both ends of an axis, as parts of the largest section across it."""
    area = inside.sum(axis=tuple(k for k in range(3) if k != axis))
    largest = float(area.max())
    return float(area[0]) / largest, float(area[-1]) / largest
