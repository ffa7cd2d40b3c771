"""From the image planes of one frame to one regular grid, or to the reason why there is none.

Positions alone decide: never SliceThickness, never file or instance numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medfuse.errors import GeometryError, MedfuseError, SeriesError, option
from medfuse.imaging.dicom.orientation import REEXPORT, find_orientation
from medfuse.imaging.dicom.planes import Plane
from medfuse.imaging.dicom.tilt import Tilt
from medfuse.imaging.volume import Place, out_of_this_world

#: DICOM patient coordinates (LPS) to RAS, both mm. Its own inverse.
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
SAME_POSITION_MM = 0.01
#: Distance of a slice from its place on the best regular grid: mm, share of the step. Positions
#: written with one decimal are off by 0.087 mm at most (half a decimal in each of three axes).
GRID_TOLERANCE = (0.1, 0.1)
#: Of very thin and of thick slices, never more than: share of the step, mm.
MOST_OFF_GRID = (0.25, 0.5)
#: A step that is so much longer than the usual one is a gap: factor, and mm beyond rounding.
GAP = (1.5, 0.2)
#: In-plane drift over the stack: mm, share of the stack's length (0.09 degrees: what cosines
#: written with three decimals are off).
DRIFT_TOLERANCE = (0.1, 1.5e-3)


@dataclass(frozen=True, eq=False)
class Grid:
    """Planes in order on a regular grid.

    Attributes
    ----------
    planes : tuple of Plane
        Sorted along the slice normal.
    affine : (4, 4) float64
        Voxel index (column, row, slice) to RAS mm.
    shape : (3,) int
        Columns, rows, slices.
    tilt : Tilt or None
        Of a sheared stack; `affine` and `shape` are then those of the slices as stored.
    """

    planes: tuple[Plane, ...]
    affine: np.ndarray
    shape: tuple[int, int, int]
    notes: tuple[str, ...] = ()
    tilt: Tilt | None = None

    @property
    def straight(self) -> tuple[np.ndarray, tuple[int, int, int]]:
        """Affine and shape of the volume, once a tilt has been removed."""
        return (
            self.tilt.straight(self.affine, self.shape) if self.tilt else (self.affine, self.shape)
        )

    def distance_mm(self, other: Grid) -> float:
        """How far the corners of two frames lie apart at most, mm; infinite for unlike shapes."""
        if self.shape != other.shape:
            return math.inf
        ends = [(0, n - 1) for n in self.shape]
        index = np.stack(np.meshgrid(*ends, [1.0], indexing="ij"), -1).reshape(-1, 4)
        apart = index @ (self.straight[0] - other.straight[0]).T
        return float(np.linalg.norm(apart[:, :3], axis=1).max())


def lay_out(planes: Sequence[Plane], place: Place) -> Grid:
    """Sort the planes of one frame along their normal and find the grid on which they lie.

    In this order: orientations are unit, orthogonal and equal; rows, columns and pixel spacing
    are equal; no position is taken twice; no slice is missing; every slice lies close to one
    regular grid, along the normal or, with a gantry tilt, aslant of it.

    Raises
    ------
    GeometryError
        ``E_BAD_ORIENTATION``, ``E_ORIENTATION_MIXED``, ``E_SPACING``, ``E_TILT``,
        ``E_BAD_AFFINE``
    SeriesError
        ``E_SHAPE_MIXED``, ``E_DUPLICATE_SLICE``, ``E_MISSING_SLICE``, ``E_TOO_FEW_SLICES``

    References
    ----------
    DICOM PS3.3 C.7.6.2.1.1 (image position and orientation).
    """
    rows, notes = find_orientation(planes, place)
    _require_one_shape(planes, place)
    positions = np.array([p.position for p in planes])
    along = positions @ rows[2]
    order = sorted(range(len(planes)), key=lambda k: (along[k], planes[k].name))
    planes = tuple(planes[k] for k in order)
    local = (positions[order] - positions[order[0]]) @ rows.T
    _require_distinct(local[:, 2], planes, float(along[order[0]]), place)
    start, step = _fit(local, planes, place)
    first = planes[0]
    assert first.pixel_spacing is not None
    between_rows, between_columns = first.pixel_spacing
    tilt = _tilt(step, len(planes), (between_columns, between_rows))
    if tilt:
        notes.append(
            f"gantry tilt of {tilt.angle_deg:.1f} degrees was removed: slices were shifted within "
            f"their plane by up to {tilt.millimetres:.1f} mm (linear interpolation)"
        )
    lps = np.eye(4)
    lps[:3, 0] = rows[0] * between_columns
    lps[:3, 1] = rows[1] * between_rows
    lps[:3, 2] = rows[2] * step[2]
    lps[:3, 3] = positions[order[0]] + start @ rows
    if cause := out_of_this_world(lps):
        raise place.error(GeometryError, "E_BAD_AFFINE", cause, REEXPORT)
    shape = (first.columns, first.rows, len(planes))
    return Grid(planes, LPS_TO_RAS @ lps, shape, tuple(notes), tilt)


def require_positions(planes: Sequence[Plane], place: Place) -> None:
    """Refuse planes without position, orientation or pixel spacing.

    Raises
    ------
    GeometryError
        ``E_NO_POSITION``, ``E_SPACING``
    """
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
                REEXPORT,
            )
        if plane.pixel_spacing is None or min(plane.pixel_spacing) <= 0:
            raise place.error(
                GeometryError,
                "E_SPACING",
                f"{plane.name} has no valid PixelSpacing (two positive numbers, mm)",
                REEXPORT,
            )


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
                REEXPORT,
            )


def _millimetres(plane: Plane) -> str:
    assert plane.pixel_spacing is not None
    return f"{plane.pixel_spacing[1]:.4g} x {plane.pixel_spacing[0]:.4g}"


def _require_distinct(
    along: np.ndarray, planes: Sequence[Plane], start: float, place: Place
) -> None:
    """`along` is measured from the first plane, `start` is its own place along the normal."""
    if along[-1] <= SAME_POSITION_MM:
        raise place.error(
            SeriesError,
            "E_TOO_FEW_SLICES",
            "1 slice position; a volume needs 2 or more"
            + (f" ({len(planes)} images of one slice)" if len(planes) > 1 else ""),
            "Give the folder of the whole series, or another series: a single slice, also one "
            "that moves, is not fused",
        )
    same = np.diff(along) <= SAME_POSITION_MM
    if same.any():
        at = int(np.argmax(same))
        group = [p.name for p, z in zip(planes, along, strict=True) if abs(z - along[at]) <= 0.01]
        raise place.error(
            SeriesError,
            "E_DUPLICATE_SLICE",
            f"{len(group)} images with different pixels lie at one position "
            f"({start + along[at]:.2f} mm along the normal): {', '.join(group[:4])}",
            REEXPORT,
        )


def _fit(local: np.ndarray, planes: Sequence[Plane], place: Place) -> tuple[np.ndarray, np.ndarray]:
    """Start and step of the grid, mm along columns, rows and normal; refuses what is off it.

    First a straight stack through the outermost slices, then the best straight one (rounding at
    the ends moves all others); the same again with slices that slide within their plane.

    Parameters
    ----------
    local : (slices, 3) float64
        Positions along columns, rows and normal, from the first slice on, mm.
    """
    along = local[:, 2]
    _require_no_gap(along, planes, place)
    k = np.arange(len(local))[:, None]
    slope, middle = np.polyfit(k[:, 0], local, 1)
    ends = along[-1] / (len(along) - 1)
    slide = along @ local[:, :2] / (along @ along)
    zero = np.zeros(2)
    models = (
        ([0.0, 0.0, 0.0], [*zero, ends]),
        ([*local[:, :2].mean(axis=0), middle[2]], [*zero, slope[2]]),
        ([0.0, 0.0, 0.0], [*(slide * ends), ends]),
        (middle, slope),
    )
    drift = max(DRIFT_TOLERANCE[0], DRIFT_TOLERANCE[1] * along[-1])
    for start, step in ((np.array(a), np.array(b)) for a, b in models):
        off = np.abs(local - (start + k * step))
        if off[:, 2].max() <= grid_limit(step[2]) and np.hypot(off[:, 0], off[:, 1]).max() <= drift:
            return start, step
    raise _off_grid(local, start, step, planes, place)


def grid_limit(step_mm: float) -> float:
    """How far a slice may lie from its place on the regular grid, mm.

    >>> [grid_limit(step) for step in (0.1, 0.7, 3.27, 10.0)]
    [0.025, 0.1, 0.327, 0.5]
    """
    share, most = MOST_OFF_GRID
    return float(min(max(GRID_TOLERANCE[0], GRID_TOLERANCE[1] * step_mm), share * step_mm, most))


def _require_no_gap(along: np.ndarray, planes: Sequence[Plane], place: Place) -> None:
    steps = np.diff(along)
    usual = float(np.sort(steps)[(len(steps) - 1) // 2])
    wide = steps > max(GAP[0] * usual, usual + GAP[1])
    two_spacings = np.count_nonzero(wide) > max(2, len(steps) // 4)
    if not wide.any() or two_spacings:
        return
    widest = int(np.argmax(steps))
    lost = round(float(steps[widest]) / usual) - 1
    raise place.error(
        SeriesError,
        "E_MISSING_SLICE",
        f"gap of {steps[widest]:.2f} mm between {planes[widest].name} and "
        f"{planes[widest + 1].name} where the spacing is {usual:.2f} mm "
        f"({'one slice' if lost == 1 else f'{lost} slices'} missing?)",
        REEXPORT,
    )


def _off_grid(
    local: np.ndarray, start: np.ndarray, step: np.ndarray, planes: Sequence[Plane], place: Place
) -> MedfuseError:
    """What is wrong with slices that fit no grid; `start` and `step` are those of the best one."""
    off = np.abs(local[:, 2] - (start[2] + step[2] * np.arange(len(local)))).max()
    if off > grid_limit(step[2]):
        steps = np.diff(local[:, 2])
        return place.error(
            GeometryError,
            "E_SPACING",
            f"slice steps range from {steps.min():.3f} to {steps.max():.3f} mm; slices lie up to "
            f"{off:.2f} mm off the best regular grid, {grid_limit(step[2]):.2f} mm are allowed",
            "Resample the series to equal steps first, or choose another one with "
            f"{option('series', 'NUMBER')}",
        )
    distance = np.hypot(local[:, 0], local[:, 1])
    worst = int(np.argmax(distance))
    return place.error(
        GeometryError,
        "E_TILT",
        f"{planes[worst].name} lies {distance[worst]:.2f} mm off the normal through "
        f"{planes[0].name}, and not all slices slide alike, as they would with a gantry tilt",
        REEXPORT,
    )


def _tilt(step: np.ndarray, slices: int, spacing: tuple[float, float]) -> Tilt | None:
    """The tilt of a stack whose step is (columns, rows, normal), mm."""
    if not step[:2].any():
        return None
    pixels = step[:2] / spacing
    length = float(np.linalg.norm(step[:2])) * (slices - 1)
    angle = math.degrees(math.atan2(float(np.linalg.norm(step[:2])), float(step[2])))
    return Tilt((float(pixels[0]), float(pixels[1])), length, angle)
