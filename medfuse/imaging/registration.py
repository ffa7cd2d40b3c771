"""Rigid registration of a functional volume to the anatomical grid, with a verdict.

Mattes mutual information (SimpleITK), several starts, several resolutions, the same bits every
time for a seed. Mutual information cannot prove accuracy, so the verdict never claims it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import SimpleITK as sitk

from medfuse.errors import RegistrationError, UsageError
from medfuse.imaging.folder import writing
from medfuse.imaging.grid import Grid, Matrix, from_sitk, lps_from_ras, to_sitk, transform_points
from medfuse.imaging.registration_inputs import Prepared, check_volume, prepare
from medfuse.imaging.registration_progress import Meter, in_parallel, single_threaded_itk
from medfuse.imaging.registration_refine import Level, Refined, Stage
from medfuse.imaging.registration_search import rotation_ball, search

if TYPE_CHECKING:
    from monai.data.meta_tensor import MetaTensor

Method = Literal["auto", "rigid", "identity"]
Preset = Literal["fast", "default", "thorough"]
Verdict = Literal["good", "suspect"]
Progress = Callable[[float, str], None]

METRIC = "Mattes mutual information"
MIN_OVERLAP = 0.25  # of the fixed foreground inside the moving field of view
MIN_METRIC = 0.05  # mutual information below this is hardly more than chance
MAX_START_SHIFT_MM, MAX_START_TURN_DEG = 100.0, 45.0  # from a start that was given or trusted
REVIEW_MM, REVIEW_DEG = 5.0, 5.0  # correction of a shared frame of reference worth a look
AGREE_MM = 5.0  # two starts that end closer than this agree
RIVAL_SCORE = 0.97  # a start that ends elsewhere with this part of the best score is a rival


@dataclass(frozen=True)
class _Effort:
    """What a preset spends."""

    step_mm: float
    rotation_deg: float
    candidates: int
    coarse: Level
    fine: Level


_EFFORT = {
    "fast": _Effort(14, 30, 4, Level(6, 4, 0.3, 50, 4, 0.3), Level(4, 2.5, 0.3, 60, 1, 0.05)),
    "default": _Effort(12, 24, 6, Level(6, 4, 0.3, 60, 4, 0.3), Level(3, 2, 0.3, 100, 1, 0.02)),
    "thorough": _Effort(10, 18, 10, Level(6, 4, 0.5, 90, 4, 0.2), Level(2, 1.5, 0.5, 150, 1, 0.01)),
}


@dataclass(frozen=True)
class Registration:
    """A rigid map between two volumes and how it came about.

    Attributes
    ----------
    matrix : (4, 4) float64
        Fixed point -> moving point, RAS mm.
    fixed_grid : Grid
        Grid of the fixed volume, onto which :meth:`resample` brings the moving one.
    method : {"rigid", "identity"}
        What was done in the end.
    start : {"headers", "given", "search"}
        Where it began.
    verdict : {"good", "suspect"}
    reasons : tuple of str
        Why it is suspect, or what to look at.
    metric_before, metric_after : float
        Mattes mutual information, higher is better, at the start and at the end.
    iterations : int
    stop_reason : str
        ITK's words.
    overlap : float
        Fraction of the fixed foreground inside the moving field of view.
    shift_mm, rotation_deg : float
        Motion from the start: of the middle of the fixed volume, and about it.
    seed : int
    """

    matrix: Matrix
    fixed_grid: Grid
    method: str
    start: str
    verdict: Verdict
    reasons: tuple[str, ...]
    metric_before: float
    metric_after: float
    iterations: int
    stop_reason: str
    overlap: float
    shift_mm: float
    rotation_deg: float
    seed: int

    @property
    def inverse(self) -> Matrix:
        """Moving point -> fixed point, RAS mm, (4, 4)."""
        return np.linalg.inv(self.matrix)

    def resample(
        self, moving: MetaTensor, interpolation: Literal["linear", "nearest"] = "linear"
    ) -> MetaTensor:
        """Bring a volume from the moving space onto the fixed grid, once, without extrapolation.

        Parameters
        ----------
        moving : (1, X, Y, Z) MetaTensor
            The moving volume, or another one in its world.
        interpolation : {"linear", "nearest"}

        Returns
        -------
        MetaTensor (1, *fixed_grid.shape) float32
            In the unit of `moving`, 0 outside its field of view; ``meta["field_of_view"]`` says
            where that is (see `grid.coverage`).
        """
        import torch
        from monai.data.meta_tensor import MetaTensor

        how = {"linear": sitk.sitkLinear, "nearest": sitk.sitkNearestNeighbor}[interpolation]
        source = Grid.from_volume(moving)
        image = to_sitk(moving.detach().cpu().numpy()[0].astype(np.float32), source.affine)
        empty = to_sitk(np.zeros(self.fixed_grid.shape, np.uint8), self.fixed_grid.affine)
        found = sitk.Resample(image, empty, self._itk(), how, 0.0, sitk.sitkFloat32)
        meta = {k: moving.meta[k] for k in _KEPT if k in moving.meta}
        meta["spacing"] = list(self.fixed_grid.spacing)
        meta["field_of_view"] = {
            "shape": list(source.shape),
            "affine": source.affine.tolist(),
            "moving_from_fixed": self.matrix.tolist(),
        }
        return MetaTensor(
            torch.from_numpy(np.ascontiguousarray(from_sitk(found)[0])[None]),
            affine=torch.from_numpy(self.fixed_grid.affine.copy()),
            meta=meta,
        )

    def write_tfm(self, path: Path) -> None:
        """Write an ITK transform file (LPS, fixed point -> moving point, as ITK resamples).

        Raises
        ------
        OutputError
            ``E_WRITE``.
        """
        with writing(path):
            sitk.WriteTransform(self._itk(), str(path))

    def _itk(self) -> sitk.AffineTransform:
        lps = lps_from_ras(self.matrix)
        transform = sitk.AffineTransform(3)
        transform.SetMatrix(lps[:3, :3].ravel().tolist())
        transform.SetTranslation(lps[:3, 3].tolist())
        return transform

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, the content of ``transform.json``."""
        return {
            "schema": "medfuse-transform/1",
            "direction": "fixed point -> moving point, RAS, mm",
            "matrix": self.matrix.tolist(),
            "inverse": self.inverse.tolist(),
            "fixed_grid": {
                "shape": list(self.fixed_grid.shape),
                "affine": self.fixed_grid.affine.tolist(),
            },
            "method": self.method,
            "start": self.start,
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "metric": METRIC,
            "metric_before": self.metric_before,
            "metric_after": self.metric_after,
            "iterations": self.iterations,
            "stop_reason": self.stop_reason,
            "overlap": self.overlap,
            "shift_mm": self.shift_mm,
            "rotation_deg": self.rotation_deg,
            "seed": self.seed,
        }

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Registration:
        """Undo :meth:`to_dict`."""
        grid = record["fixed_grid"]
        kept = {k: record[k] for k in cls.__dataclass_fields__ if k in record}
        return cls(
            **{
                **kept,
                "matrix": np.asarray(record["matrix"], dtype=np.float64),
                "fixed_grid": Grid(tuple(grid["shape"]), np.asarray(grid["affine"])),
                "reasons": tuple(record["reasons"]),
            }
        )


_KEPT = ("modality", "unit", "source", "suv", "notes")


def register(
    *,
    fixed: MetaTensor,
    moving: MetaTensor,
    method: Method = "auto",
    preset: Preset = "default",
    initial: Any = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Registration:
    """Find the rigid map from the anatomical (fixed) to the functional (moving) volume.

    Parameters
    ----------
    fixed, moving : (1, X, Y, Z) MetaTensor
        As `medfuse.load` gives them.
    method : {"auto", "rigid", "identity"}
        ``auto`` starts from the headers where both volumes share a frame of reference, and
        searches all translations and rotations up to 45 degrees otherwise; ``rigid`` always
        searches; ``identity`` trusts the headers (or `initial`) and only measures.
    preset : {"fast", "default", "thorough"}
        How many starts are followed, and how finely.
    initial : (4, 4) array, optional
        Start, fixed point -> moving point, RAS mm; it replaces headers and search.
    seed : int
        Of the sampling pattern. The same seed gives the same bits.
    progress : callable (fraction, text), optional
        Raise from it to cancel.

    Returns
    -------
    Registration

    Raises
    ------
    RegistrationError
        ``E_NO_OVERLAP``, ``E_TOO_FEW_SLICES``, ``E_CONSTANT``, ``E_NONFINITE``, ``E_REGISTRATION``.
    UsageError
        If an option is unknown.

    References
    ----------
    Mattes et al., IEEE TMI 22 (2003); Rohlfing, IEEE TMI 31 (2012), on why similarity and overlap
    are no proof of accuracy.
    """
    _check_option("method", method, get_args(Method))
    _check_option("preset", preset, get_args(Preset))
    check_volume(fixed, role="fixed")
    check_volume(moving, role="moving")
    meter = Meter(progress)
    with single_threaded_itk():
        meter.stage(0.0, 0.05, total=1, text="preparing")
        pair = prepare(fixed, base_mm=1.5), prepare(moving, base_mm=1.5)
        meter.check()
        return _register(fixed, moving, pair, method, _EFFORT[preset], initial, seed, meter)


def _register(
    fixed: MetaTensor,
    moving: MetaTensor,
    pair: tuple[Prepared, Prepared],
    method: Method,
    effort: _Effort,
    initial: Any,
    seed: int,
    meter: Meter,
) -> Registration:
    start = np.eye(4) if initial is None else np.asarray(initial, dtype=np.float64)
    shared = _shares_frame(fixed, moving)
    fine = Stage.of(*pair, effort.fine, seed=seed)
    before = fine.evaluate(start)
    trusted = initial is not None or method == "identity" or (method == "auto" and shared)
    origin = "given" if initial is not None else "headers" if trusted else "search"
    if trusted and before.overlap == 0:
        raise _no_overlap(fixed, moving, start)
    rivals: tuple[str, ...] = ()
    if method == "identity":
        found = before
    elif trusted:
        found = _follow([start], pair, effort, fine, seed, meter)[0]
        found = _keep_headers(found, before, fine.grid, origin)
    else:
        ends = _searched(pair, effort, fine, seed, meter)
        found, rivals = ends[0], _rivals(ends, fine.grid)
    meter.stage(1.0, 1.0, total=1, text="registered")
    meter.check()
    shift, turn = _motion(start, found.matrix, fine.grid)
    suspect = [*_weak(found), *rivals, *(_far(shift, turn) if trusted else ())]
    review = _review(shift, turn) if shared and method != "identity" else []
    return Registration(
        matrix=found.matrix,
        fixed_grid=Grid.from_volume(fixed),
        method="identity" if np.array_equal(found.matrix, np.eye(4)) else "rigid",
        start=origin,
        verdict="suspect" if suspect else "good",
        reasons=(*suspect, *review),
        metric_before=round(before.metric or 0.0, 9),
        metric_after=round(found.metric or 0.0, 9),
        iterations=found.iterations,
        stop_reason=found.stop_reason,
        overlap=found.overlap,
        shift_mm=shift,
        rotation_deg=turn,
        seed=seed,
    )


def _searched(
    pair: tuple[Prepared, Prepared], effort: _Effort, fine: Stage, seed: int, meter: Meter
) -> list[Refined]:
    rotations = rotation_ball(step_deg=effort.rotation_deg, limit_deg=45.0)
    meter.stage(0.05, 0.5, total=len(rotations), text="searching starts")
    found = search(*pair, rotations=rotations, step_mm=effort.step_mm, meter=meter)
    if not found:
        raise RegistrationError(
            "E_REGISTRATION",
            what="Cannot register",
            cause="no position was found in which both foregrounds overlap enough",
            remedy="Give a start with --initial, or check that both scans show the same body part",
        )
    starts = [candidate.matrix for candidate in found[: effort.candidates]]
    return _follow(starts, pair, effort, fine, seed, meter)


def _follow(
    starts: list[Matrix],
    pair: tuple[Prepared, Prepared],
    effort: _Effort,
    fine: Stage,
    seed: int,
    meter: Meter,
) -> list[Refined]:
    """Refine starts coarsely, the best few finely; best first."""
    coarse = Stage.of(*pair, effort.coarse, seed=seed)
    meter.stage(0.5, 0.75, total=len(starts) * effort.coarse.iterations, text="coarse refinement")
    ends = in_parallel(lambda start: coarse.refine(start, meter), starts, meter)
    ends.sort(key=lambda end: -end.score)
    best = ends[:2]
    meter.stage(0.75, 1.0, total=len(best) * effort.fine.iterations, text="fine refinement")
    refined = in_parallel(lambda end: fine.refine(end.matrix, meter), best, meter)
    return sorted(refined, key=lambda end: -end.score)


def _keep_headers(found: Refined, before: Refined, grid: Grid, origin: str) -> Refined:
    """Headers that are as good as the refined map stay untouched."""
    shift, turn = _motion(before.matrix, found.matrix, grid)
    small = shift < 1.0 and turn < 1.0
    return before if origin == "headers" and (small or before.score >= found.score) else found


def _rivals(ends: list[Refined], grid: Grid) -> tuple[str, ...]:
    best = ends[0]
    for end in ends[1:]:
        gap, turn = _motion(best.matrix, end.matrix, grid)
        if end.score >= RIVAL_SCORE * best.score and gap > AGREE_MM:
            return (
                f"two starts end {gap:.0f} mm and {turn:.0f} degrees apart with almost the same "
                "mutual information",
            )
    return ()


def _weak(found: Refined) -> list[str]:
    reasons = []
    if found.overlap < MIN_OVERLAP:
        reasons.append(
            f"only {100 * found.overlap:.0f} % of the anatomical foreground lies inside the "
            "functional field of view"
        )
    if found.metric is None or found.metric < MIN_METRIC:
        reasons.append(
            f"mutual information is {found.metric or 0.0:.3f}, hardly more than chance "
            f"(below {MIN_METRIC:g})"
        )
    return reasons


def _far(shift: float, turn: float) -> list[str]:
    if shift <= MAX_START_SHIFT_MM and turn <= MAX_START_TURN_DEG:
        return []
    return [f"it ended {shift:.0f} mm and {turn:.0f} degrees from its start"]


def _review(shift: float, turn: float) -> list[str]:
    if shift <= REVIEW_MM and turn <= REVIEW_DEG:
        return []
    return [
        f"review: {shift:.1f} mm and {turn:.1f} degrees were corrected although both series "
        "share a frame of reference"
    ]


def _motion(start: Matrix, end: Matrix, grid: Grid) -> tuple[float, float]:
    """Shift of the grid's centre in mm and rotation in degrees from one map to another."""
    step = end[:3, :3] @ np.linalg.inv(start[:3, :3])
    turn = np.degrees(np.arccos(np.clip((np.trace(step) - 1) / 2, -1, 1)))
    gap = transform_points(end, grid.centre) - transform_points(start, grid.centre)
    return float(np.linalg.norm(gap)), float(turn)


def _shares_frame(fixed: MetaTensor, moving: MetaTensor) -> bool:
    frames = [v.meta.get("source", {}).get("frame_of_reference") for v in (fixed, moving)]
    return frames[0] is not None and frames[0] == frames[1]


def _no_overlap(fixed: MetaTensor, moving: MetaTensor, start: Matrix) -> RegistrationError:
    here = transform_points(start, Grid.from_volume(fixed).centre)
    gap = float(np.linalg.norm(here - Grid.from_volume(moving).centre))
    return RegistrationError(
        "E_NO_OVERLAP",
        what="Cannot register",
        cause=f"the two fields of view do not overlap; their centres lie {gap:.0f} mm apart",
        remedy="Use --registration rigid, which searches, or give a start with --initial",
    )


def _check_option(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(
            "E_USAGE",
            what="Cannot register",
            cause=f"{name} must be one of {', '.join(allowed)}, got {value!r}",
            remedy="Choose one of these",
        )
