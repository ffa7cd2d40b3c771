"""The direction of a stack of image planes; several of them are no volume, often a localizer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from medfuse.errors import GeometryError, MedfuseError, option
from medfuse.imaging.dicom.planes import Plane
from medfuse.imaging.volume import Place

#: Of direction cosines, also between slices: what three decimals do to lengths and right angles.
ORIENTATION_TOLERANCE = 2e-3
REEXPORT = f"Export the series again, or choose another one with {option('series', 'NUMBER')}"


def find_orientation(planes: Sequence[Plane], place: Place) -> tuple[np.ndarray, list[str]]:
    """Find the common direction of image planes.

    Returns
    -------
    rows : (3, 3) float64
        Orthonormal: direction of columns, of rows, and the slice normal (LPS).
    notes : list of str

    Raises
    ------
    GeometryError
        ``E_BAD_ORIENTATION``, ``E_ORIENTATION_MIXED``
    """
    cosines = np.array([p.orientation for p in planes])
    _require_unit_cosines(cosines, planes, place)
    if np.abs(cosines - cosines[0]).max() > ORIENTATION_TOLERANCE:
        raise _mixed_orientations(planes, place)
    # The mean of many roundings is closer to the truth than the first of them.
    mean = cosines[0] if (cosines == cosines[0]).all() else cosines.mean(axis=0)
    row, column = mean[:3], mean[3:]
    lengths = float(np.linalg.norm(row)), float(np.linalg.norm(column))
    drift = max(abs(lengths[0] - 1), abs(lengths[1] - 1), abs(float(row @ column)))
    row = row / lengths[0]
    column = column - row * (row @ column)
    column = column / np.linalg.norm(column)
    notes = []
    if drift > 1e-4:
        notes.append(f"direction cosines were off by {drift:.1e} and were made orthonormal")
    return np.array([row, column, np.cross(row, column)]), notes


def _require_unit_cosines(cosines: np.ndarray, planes: Sequence[Plane], place: Place) -> None:
    rows, columns = cosines[:, :3], cosines[:, 3:]
    dots = np.sum(rows * columns, axis=1)
    lengths = np.linalg.norm(rows, axis=1), np.linalg.norm(columns, axis=1)
    off = np.max([np.abs(lengths[0] - 1), np.abs(lengths[1] - 1), np.abs(dots)], axis=0)
    worst = int(np.argmax(off))
    if off[worst] > ORIENTATION_TOLERANCE:
        raise place.error(
            GeometryError,
            "E_BAD_ORIENTATION",
            f"ImageOrientationPatient of {planes[worst].name} is not two orthogonal unit vectors "
            f"(lengths {lengths[0][worst]:.4f} and {lengths[1][worst]:.4f}, cosine "
            f"{dots[worst]:.4f})",
            REEXPORT,
        )


def _mixed_orientations(planes: Sequence[Plane], place: Place) -> MedfuseError:
    groups = Counter(tuple(np.round(p.orientation, 2) + 0.0) for p in planes)  # type: ignore[arg-type]
    sizes = ", ".join(str(n) for n in sorted(groups.values(), reverse=True)[:6])
    return place.error(
        GeometryError,
        "E_ORIENTATION_MIXED",
        f"{len(planes)} images lie in {max(2, len(groups))} orientations ({sizes} images)"
        f"{_LOCALISER if _looks_like_localiser(planes) else ''}",
        "Export each orientation as a series of its own, or choose another series with "
        f"{option('series', 'NUMBER')}",
    )


_LOCALISER = ": this is a localizer (scout), or several stacks in one series, not one volume"


def _looks_like_localiser(planes: Sequence[Plane]) -> bool:
    """Two or more stacks that stand across each other; one turned slice in a stack is none."""
    groups = Counter(
        tuple(np.round(np.cross(p.orientation[:3], p.orientation[3:]), 2))  # type: ignore[index]
        for p in planes
    )
    normals, sizes = np.array(list(groups)), np.array(list(groups.values()))
    across = np.abs(normals @ normals.T) < math.cos(math.radians(20))
    return bool(min(across @ sizes) > 1) or len(planes) <= 3
