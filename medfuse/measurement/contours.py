"""The contours of one structure as a region: planes found, holes cut, slabs stacked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medfuse.errors import GeometryError, MedfuseError
from medfuse.imaging.grid import Grid
from medfuse.imaging.memory import require_memory
from medfuse.imaging.volume import Place
from medfuse.measurement.polygons import filled
from medfuse.measurement.region import Region, Space

#: kind, corners (N, 3) in RAS mm, thickness of the slab in mm where it is told
Contour = tuple[str, NDArray[np.float64], float | None]
_CLOSED = ("CLOSED_PLANAR", "CLOSED_PLANAR_XOR", "CLOSEDPLANAR_XOR")
_FLAT_MM = 0.5  # off the plane of a contour, and between contours of one plane
_PARALLEL = np.cos(np.radians(2.0))
_PIXEL_MM, _MOST_PIXELS = 0.5, 1024
_GAP = 1.5  # planes farther apart than so many spacings have a hole between them


def region_of_contours(
    name: str, number: int | None, contours: Sequence[Contour], space: Space, place: Place
) -> Region:
    """A region of closed planar contours; each fills half of the way to the next planes.

    Contours of one plane are joined by the even-odd rule, which cuts holes out. Planes that are
    missing are not filled in: a remark tells of them.

    Raises
    ------
    GeometryError
        ``E_REGION_GEOMETRY``: contours that are not flat or not parallel, or a single plane of
        which nothing tells the thickness.
    """
    closed = [c for c in contours if c[0].upper() in _CLOSED and len(c[1]) >= 3]
    notes = ["open contours and points enclose nothing"] if len(closed) < len(contours) else []
    if not closed:
        return _empty(name, number, space, notes)
    axes = _axes([points for _, points, _ in closed], name, place)
    local = [points @ axes.T for _, points, _ in closed]  # columns: row, column, height
    heights = np.array([points[:, 2].mean() for points in local])
    planes = _planes(heights)
    thickness = _thickness(planes, [slab for _, _, slab in closed], name, place)
    index = np.rint((planes - planes[0]) / thickness).astype(int)
    if len(planes) > 1 and np.abs(planes - planes[0] - index * thickness).max() > thickness / 4:
        notes.append("its contours are unevenly spaced; each was put on the nearest plane")
    if (missing := int(index[-1]) + 1 - len(set(index.tolist()))) > 0:
        notes.append(f"{missing} plane(s) between its contours are empty")
    corners = np.concatenate([points[:, :2] for points in local])
    low, high = corners.min(axis=0), corners.max(axis=0)
    pixel = max(_PIXEL_MM, float((high - low).max()) / _MOST_PIXELS)
    size = np.ceil((high - low) / pixel).astype(int) + 1
    shape = (int(size[0]), int(size[1]), int(index[-1]) + 1)
    require_memory(shape, 8, place)
    weights = np.zeros(shape, dtype=np.float32)
    own = np.abs(heights[:, None] - planes).argmin(axis=1)
    for plane, at in enumerate(index):
        rings = [
            (points[:, :2] - low) / pixel for points, where in zip(local, own, strict=True)
            if where == plane
        ]  # fmt: skip
        weights[..., at] = np.maximum(weights[..., at], filled(rings, shape[:2]))
    affine = np.eye(4)
    affine[:3, :3] = axes.T * [pixel, pixel, thickness]
    affine[:3, 3] = axes.T @ [*low, planes[0]]
    return Region.cut(
        name, weights, affine, space, label=number, kind="contours", notes=tuple(notes)
    )


def _empty(name: str, number: int | None, space: Space, notes: list[str]) -> Region:
    nothing = np.zeros((1, 1, 1), dtype=np.uint8)
    grid = Grid((1, 1, 1), np.eye(4))
    return Region(name, nothing, grid, space, number, "contours", tuple(notes))


def _axes(rings: list[NDArray[np.float64]], name: str, place: Place) -> NDArray[np.float64]:
    """(3, 3) directions of rows, columns and height, from the largest contour."""
    normals = [_normal(points) for points in rings]
    area = [float(np.linalg.norm(normal)) for normal in normals]
    largest = int(np.argmax(area))
    if area[largest] < 1e-6:
        raise _odd(place, f"the contours of {name!r} enclose no area")
    height = normals[largest] / area[largest]
    height = height * np.sign(height[np.argmax(np.abs(height))])
    for points, normal, size in zip(rings, normals, area, strict=True):
        off = np.abs((points - points.mean(axis=0)) @ height).max()
        turned = size > 1 and abs(normal @ height) / size < _PARALLEL
        if off > _FLAT_MM or turned:
            raise _odd(place, f"the contours of {name!r} do not lie in parallel planes")
    across = np.eye(3)[np.argmin(np.abs(height))]
    row = np.cross(height, across)
    row /= np.linalg.norm(row)
    return np.stack([row, np.cross(height, row), height])


def _normal(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area vector of a closed contour (Newell)."""
    points = points - points.mean(axis=0)
    return np.asarray(np.cross(points, np.roll(points, -1, axis=0)).sum(axis=0) / 2)


def _planes(heights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Heights of the planes, ascending; what lies within half a millimetre is one."""
    ordered = np.sort(heights)
    groups = np.split(ordered, np.flatnonzero(np.diff(ordered) > _FLAT_MM) + 1)
    return np.array([group.mean() for group in groups])


def _thickness(
    planes: NDArray[np.float64], told: list[float | None], name: str, place: Place
) -> float:
    if len(planes) > 1:
        return float(np.median(np.diff(planes)))
    known = {value for value in told if value}
    if len(known) == 1:
        return known.pop()
    raise _odd(
        place, f"{name!r} is drawn in one plane only, and nothing tells how thick its slice is"
    )


def _odd(place: Place, cause: str) -> MedfuseError:
    return place.error(
        GeometryError, "E_REGION_GEOMETRY", cause,
        "Export it as a segmentation, or draw it in parallel planes",
    )  # fmt: skip
