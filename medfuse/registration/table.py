"""On which side of the patient the table of a CT lies, by its voxels and coordinates."""

from __future__ import annotations

from typing import Literal

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from medfuse.registration.inputs import Prepared

Side = Literal["A", "P", "L", "R"]

#: Above air, far below fat, in the scale of `inputs.prepare`: about -760 HU.
MATERIAL = 0.06
#: So far from the body nothing is told from its own edge, mm.
CLEAR_MM = 10.0
#: A table is the same in nearly all slices, over a length and a breadth that nothing else has, and
#: is much broader than thick.
SAME, LEAST_LENGTH_MM, LEAST_WIDTH_MM, FLAT = 0.9, 120.0, 150.0, 2.5
#: Part of it that must lie on one side of the middle of the body.
ON_ONE_SIDE = 0.95
_SIDES: dict[int, tuple[Side, Side]] = {0: ("R", "L"), 1: ("A", "P")}  # low, high end in LPS


def table_side(ct: Prepared) -> Side | None:
    """Where the table lies: anterior, posterior, left or right of the patient.

    The table is what goes through nearly all slices unchanged outside of the body, broad and flat.

    Parameters
    ----------
    ct : Prepared
        Of a CT in HU.

    Returns
    -------
    side : {"A", "P", "L", "R"} or None
        By the coordinates of the image; None where no table is seen for certain.
    """
    image, depth = (sitk.DICOMOrient(part, "LPS") for part in (ct.image, ct.depth))
    values = sitk.GetArrayViewFromImage(image).transpose(2, 1, 0)
    outside = sitk.GetArrayViewFromImage(depth).transpose(2, 1, 0) > CLEAR_MM
    spacing = image.GetSpacing()
    if values.shape[2] * spacing[2] < LEAST_LENGTH_MM:
        return None
    lasting = ((values > MATERIAL) & outside).mean(axis=2) >= SAME
    body = np.argwhere((~outside).any(axis=2)).mean(axis=0)
    at = np.argwhere(lasting)
    if not len(at):
        return None
    widths = [_columns(lasting, axis) * spacing[1 - axis] for axis in (0, 1)]
    axis = int(np.argmax(widths))  # that along which the table is thin
    return _side(at, body, axis, widths)


def _columns(lasting: NDArray[np.bool_], axis: int) -> int:
    return int(lasting.any(axis=axis).sum())


def _side(
    at: NDArray[np.int64], body: NDArray[np.float64], axis: int, widths: list[float]
) -> Side | None:
    if widths[axis] < LEAST_WIDTH_MM or widths[axis] < FLAT * widths[1 - axis]:
        return None
    high = float((at[:, axis] > body[axis]).mean())
    if high >= ON_ONE_SIDE:
        return _SIDES[axis][1]
    return _SIDES[axis][0] if high <= 1 - ON_ONE_SIDE else None
