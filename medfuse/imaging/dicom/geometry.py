"""From image planes to one regular grid, or to the reason why they do not make one.

Positions alone decide: never SliceThickness, never file or instance numbers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from medfuse.errors import GeometryError, SeriesError, option
from medfuse.imaging.dicom.planes import FRAME_KEYS, Plane
from medfuse.imaging.dicom.tilt import Tilt
from medfuse.imaging.volume import Place

#: DICOM patient coordinates (LPS) to RAS, both mm. Its own inverse.
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
SAME_POSITION_MM = 0.01
#: Steps may differ by what header rounding and bed seams do (brain-pd 1.0 %, STS_001 0.6 %).
STEP_TOLERANCE = (0.05, 0.02)  # mm, share of the spacing
#: Distance of a slice from its place on the regular grid.
GRID_TOLERANCE = (0.1, 0.1)  # mm, share of the spacing
#: In-plane drift over the stack: mm, share of the stack's length (0.06 degrees).
DRIFT_TOLERANCE = (0.1, 1e-3)
ORIENTATION_TOLERANCE = 1e-3
_REEXPORT = f"Export the series again, or choose another one with {option('series', 'NUMBER')}"


@dataclass(frozen=True, eq=False)
class Stack:
    """Planes in order on a regular grid.

    Attributes
    ----------
    affine : (4, 4) float64
        Voxel index (column, row, slice) to RAS mm.
    shape : (3,) int
        Columns, rows, slices.
    frames : tuple of tuple of Plane
        For each frame (time, echo ...) its planes, sorted along the slice normal.
    frame_text : str
        What tells the frames apart, e.g. "FrameReferenceTime 0, 60000".
    tilt : Tilt or None
        Of a sheared stack; `affine` and `shape` are then those of the slices as stored.
    """

    affine: np.ndarray
    shape: tuple[int, int, int]
    frames: tuple[tuple[Plane, ...], ...]
    frame_text: str = ""
    notes: tuple[str, ...] = field(default=())
    tilt: Tilt | None = None

    @property
    def straight(self) -> tuple[np.ndarray, tuple[int, int, int]]:
        """Affine and shape of the volume, once a tilt has been removed."""
        return (
            self.tilt.straight(self.affine, self.shape) if self.tilt else (self.affine, self.shape)
        )


def stack_planes(
    planes: Sequence[Plane], place: Place, fingerprint: Callable[[Plane], bytes]
) -> Stack:
    """Sort planes along their normal and find the grid on which they lie.

    In this order: every plane has a position, orientation and pixel spacing; orientations are unit,
    orthogonal and equal; rows, columns and pixel spacing are equal; repeated positions are frames
    or identical copies; the steps are equal; the slices lie on one straight line, along the normal
    or, with a gantry tilt, aslant of it.

    Parameters
    ----------
    planes : sequence of Plane
    place : Place
    fingerprint : callable
        Hash of the pixels of a plane; asked only for planes at one position.

    Returns
    -------
    Stack

    Raises
    ------
    GeometryError
        ``E_NO_POSITION``, ``E_BAD_ORIENTATION``, ``E_ORIENTATION_MIXED``, ``E_SPACING``, ``E_TILT``
    SeriesError
        ``E_SHAPE_MIXED``, ``E_DUPLICATE_SLICE``, ``E_MISSING_SLICE``, ``E_TOO_FEW_SLICES``

    References
    ----------
    DICOM PS3.3 C.7.6.2.1.1 (image position and orientation).
    """
    _require_positions(planes, place)
    rows, notes = _orientation(planes, place)
    _require_one_shape(planes, place)
    frames, frame_text, duplicate_notes = _frames(planes, rows[2], place, fingerprint)
    first = frames[0]
    if len(first) < 2:
        raise place.error(
            SeriesError,
            "E_TOO_FEW_SLICES",
            f"{len(first)} slice position; a volume needs 2 or more",
            "Give the folder of the whole series",
        )
    positions = np.array([p.position for p in first])
    step = _step(positions @ rows[2], first, place)
    tilt = _tilt(positions, rows, first, place)
    if tilt:
        notes.append(
            f"gantry tilt of {tilt.angle_deg:.1f} degrees was removed: slices were shifted within "
            f"their plane by up to {tilt.millimetres:.1f} mm (linear interpolation)"
        )
    assert first[0].pixel_spacing is not None
    between_rows, between_columns = first[0].pixel_spacing
    lps = np.eye(4)
    lps[:3, 0] = rows[0] * between_columns
    lps[:3, 1] = rows[1] * between_rows
    lps[:3, 2] = rows[2] * step
    lps[:3, 3] = positions[0]
    shape = (first[0].columns, first[0].rows, len(first))
    notes += duplicate_notes
    return Stack(LPS_TO_RAS @ lps, shape, frames, frame_text, tuple(notes), tilt)


def _require_positions(planes: Sequence[Plane], place: Place) -> None:
    for plane in planes:
        tags = {
            "ImagePositionPatient": plane.position,
            "ImageOrientationPatient": plane.orientation,
        }
        lacking = [name for name, value in tags.items() if value is None]
        if lacking:
            raise place.error(
                GeometryError,
                "E_NO_POSITION",
                f"{plane.name} has no valid {' and no '.join(lacking)}",
                _REEXPORT,
            )
        if plane.pixel_spacing is None or min(plane.pixel_spacing) <= 0:
            raise place.error(
                GeometryError,
                "E_SPACING",
                f"{plane.name} has no valid PixelSpacing (two positive numbers, mm)",
                _REEXPORT,
            )


def _orientation(planes: Sequence[Plane], place: Place) -> tuple[np.ndarray, list[str]]:
    """Orthonormal rows: direction of columns, of rows, and the slice normal (LPS)."""
    cosines = np.array([p.orientation for p in planes])
    first = cosines[0]
    row, column = first[:3], first[3:]
    lengths = float(np.linalg.norm(row)), float(np.linalg.norm(column))
    drift = max(abs(lengths[0] - 1), abs(lengths[1] - 1), abs(float(row @ column)))
    if drift > ORIENTATION_TOLERANCE:
        raise place.error(
            GeometryError,
            "E_BAD_ORIENTATION",
            f"ImageOrientationPatient of {planes[0].name} is not two orthogonal unit vectors "
            f"(lengths {lengths[0]:.4f} and {lengths[1]:.4f}, cosine {row @ column:.4f})",
            _REEXPORT,
        )
    groups = Counter(tuple(float(v) for v in np.round(c, 2)) for c in cosines)
    if np.abs(cosines - first).max() > ORIENTATION_TOLERANCE:
        sizes = ", ".join(str(n) for n in sorted(groups.values(), reverse=True)[:6])
        raise place.error(
            GeometryError,
            "E_ORIENTATION_MIXED",
            f"{len(planes)} images lie in {max(2, len(groups))} orientations ({sizes} images)",
            "Export each orientation as a series of its own",
        )
    row = row / lengths[0]
    column = column - row * (row @ column)
    column = column / np.linalg.norm(column)
    notes = []
    if drift > ORIENTATION_TOLERANCE / 10:
        notes.append(f"direction cosines were off by {drift:.1e} and were made orthonormal")
    return np.array([row, column, np.cross(row, column)]), notes


def _require_one_shape(planes: Sequence[Plane], place: Place) -> None:
    first = planes[0]
    assert first.pixel_spacing is not None
    for plane in planes:
        assert plane.pixel_spacing is not None
        same = (plane.rows, plane.columns) == (first.rows, first.columns)
        if not (same and np.allclose(plane.pixel_spacing, first.pixel_spacing, rtol=1e-4, atol=0)):
            raise place.error(
                SeriesError,
                "E_SHAPE_MIXED",
                f"{plane.name} has {plane.columns} x {plane.rows} pixels of "
                f"{_millimetres(plane)} mm, {first.name} {first.columns} x {first.rows} of "
                f"{_millimetres(first)} mm",
                _REEXPORT,
            )


def _millimetres(plane: Plane) -> str:
    assert plane.pixel_spacing is not None
    return f"{plane.pixel_spacing[1]:.4g} x {plane.pixel_spacing[0]:.4g}"


def _frames(
    planes: Sequence[Plane],
    normal: np.ndarray,
    place: Place,
    fingerprint: Callable[[Plane], bytes],
) -> tuple[tuple[tuple[Plane, ...], ...], str, list[str]]:
    """Split planes into frames of one plane a position; drop identical copies."""
    groups = _positions(planes, normal)
    notes: list[str] = []
    if any(len(g) > 1 for g in groups):
        copies = len(planes)
        groups = [_without_copies(g, fingerprint) for g in groups]
        copies -= sum(len(g) for g in groups)
        if copies:
            notes.append(f"{copies} images are copies with identical pixels and were dropped")
    counts = {len(g) for g in groups}
    if len(counts) > 1 and min(counts) > 1:
        raise place.error(
            SeriesError,
            "E_MISSING_SLICE",
            f"positions hold {min(counts)} to {max(counts)} images: a time frame is incomplete",
            _REEXPORT,
        )
    if len(counts) > 1:
        group = next(g for g in groups if len(g) > min(counts))
        where = float(np.dot(np.array(group[0].position), normal))
        raise place.error(
            SeriesError,
            "E_DUPLICATE_SLICE",
            f"{len(group)} images with different pixels lie at one position "
            f"({where:.2f} mm along the normal): {', '.join(p.name for p in group[:4])}",
            _REEXPORT,
        )
    ordered, frame_text = _order_frames(groups, counts.pop(), place)
    return tuple(zip(*ordered, strict=True)), frame_text, notes


def _positions(planes: Sequence[Plane], normal: np.ndarray) -> list[list[Plane]]:
    along = [float(np.dot(np.array(p.position), normal)) for p in planes]
    groups: list[list[Plane]] = []
    last = -math.inf
    for index in sorted(range(len(planes)), key=lambda i: (along[i], planes[i].name)):
        if along[index] - last > SAME_POSITION_MM:
            groups.append([])
            last = along[index]
        groups[-1].append(planes[index])
    return groups


def _without_copies(group: list[Plane], fingerprint: Callable[[Plane], bytes]) -> list[Plane]:
    if len(group) == 1:
        return group
    unique: dict[object, Plane] = {}
    for plane in group:
        times = tuple(v for k, v in sorted(plane.keys.items()) if k != "InstanceNumber")
        unique.setdefault((fingerprint(plane), plane.slope, plane.intercept, times), plane)
    return list(unique.values())


def _order_frames(
    groups: list[list[Plane]], count: int, place: Place
) -> tuple[list[list[Plane]], str]:
    """Bring the planes of each position into one frame order."""
    if count == 1:
        return groups, ""
    for key in FRAME_KEYS:
        values = {p.keys.get(key) for g in groups for p in g}
        if None in values:
            continue
        by_position = [sorted({p.keys[key] for p in g}) for g in groups]
        if key == "InstanceNumber" and all(len(v) == count for v in by_position):
            return [sorted(g, key=lambda p: p.keys["InstanceNumber"]) for g in groups], key
        if len(values) == count and all(len(v) == count for v in by_position):
            shown = ", ".join(f"{v:g}" for v in by_position[0][:6])
            text = key if key == "acquisition time" else f"{key} {shown}"
            return [sorted(g, key=lambda p, k=key: p.keys[k]) for g in groups], text  # type: ignore[misc]
    raise place.error(
        SeriesError,
        "E_DUPLICATE_SLICE",
        f"every position holds {count} different images, and no tag tells them apart",
        _REEXPORT,
    )


def _tilt(
    positions: np.ndarray, rows: np.ndarray, planes: Sequence[Plane], place: Place
) -> Tilt | None:
    """How far the slices slide within their plane; refuses slices that do so unevenly."""
    offsets = positions - positions[0]
    along, sideways = offsets @ rows[2], offsets @ rows[:2].T
    tolerance = max(DRIFT_TOLERANCE[0], DRIFT_TOLERANCE[1] * along[-1])
    distance = np.linalg.norm(sideways, axis=1)
    if distance.max() <= tolerance:
        return None
    slope = (along @ sideways) / (along @ along)
    uneven = np.linalg.norm(sideways - np.outer(along, slope), axis=1)
    if uneven.max() > tolerance:
        worst = int(np.argmax(distance))
        raise place.error(
            GeometryError,
            "E_TILT",
            f"{planes[worst].name} lies {distance[worst]:.2f} mm off the normal through "
            f"{planes[0].name}, and not all slices slide alike, as they would with a gantry tilt",
            _REEXPORT,
        )
    assert planes[0].pixel_spacing is not None
    between_rows, between_columns = planes[0].pixel_spacing
    last = slope * along[-1]
    pixels = last / (len(along) - 1) / (between_columns, between_rows)
    length = float(np.linalg.norm(last))
    return Tilt(
        (float(pixels[0]), float(pixels[1])),
        length,
        math.degrees(math.atan2(length, float(along[-1]))),
    )


def _step(along: np.ndarray, planes: Sequence[Plane], place: Place) -> float:
    """Spacing of the slices in mm; refuses gaps and uneven steps."""
    steps = np.diff(along)
    usual = float(np.sort(steps)[(len(steps) - 1) // 2])
    widest, wide = int(np.argmax(steps)), int(np.count_nonzero(steps > 1.5 * usual))
    two_spacings = wide > max(2, len(steps) // 4)
    if wide and not two_spacings:
        lost = round(float(steps[widest]) / usual) - 1
        raise place.error(
            SeriesError,
            "E_MISSING_SLICE",
            f"gap of {steps[widest]:.2f} mm between {planes[widest].name} and "
            f"{planes[widest + 1].name} where the spacing is {usual:.2f} mm "
            f"({'one slice' if lost == 1 else f'{lost} slices'} missing?)",
            _REEXPORT,
        )
    mean = float(along[-1] - along[0]) / len(steps)
    off_grid = np.abs(along - (along[0] + mean * np.arange(len(along)))).max()
    uneven = np.abs(steps - mean).max() > max(STEP_TOLERANCE[0], STEP_TOLERANCE[1] * mean)
    if uneven or off_grid > max(GRID_TOLERANCE[0], GRID_TOLERANCE[1] * mean):
        raise place.error(
            GeometryError,
            "E_SPACING",
            f"slice steps range from {steps.min():.3f} to {steps.max():.3f} mm; slices lie up to "
            f"{off_grid:.2f} mm off a regular grid",
            "Resample the series to equal steps first, or choose another one with "
            f"{option('series', 'NUMBER')}",
        )
    return mean
