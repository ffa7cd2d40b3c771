"""Registration of a functional (moving) to an anatomical (fixed) volume, and its result.

Mutual information; an exhaustive coarse search where the headers cannot be trusted; bit for bit
the same on every run. Says when the result should not be believed, never that it is accurate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike

from medfuse.errors import UsageError
from medfuse.imaging.grid import Grid, Matrix, coverage, to_sitk
from medfuse.registration.inputs import check_volume, prepare
from medfuse.registration.progress import Meter, in_parallel, single_threaded_itk
from medfuse.registration.quality import judge, no_overlap
from medfuse.registration.refine import is_rigid, itk_transform, nearest_rotation
from medfuse.registration.strategy import (
    PRESETS,
    Outcome,
    Volumes,
    rotation_angle,
    solve,
)

if TYPE_CHECKING:
    from monai.data.meta_tensor import MetaTensor

Method = Literal["auto", "rigid", "affine", "identity"]
SCHEMA = "medfuse-registration/1"
INTERPOLATIONS = {"linear": sitk.sitkLinear, "nearest": sitk.sitkNearestNeighbor}
RIGID_TOLERANCE = 1e-3
_PLAIN = (
    "method",
    "verdict",
    "metric_before",
    "metric_after",
    "iterations",
    "stop_reason",
    "overlap",
    "shift_mm",
    "rotation_deg",
    "seed",
)


@dataclass(frozen=True, eq=False, kw_only=True)
class Registration:
    """Where the points of a fixed volume are in a moving one.

    Parameters
    ----------
    matrix : (4, 4) float64
        Fixed point -> moving point, RAS mm; rigid unless an affine map was asked for or given.
    fixed_grid : Grid
        Grid onto which `resample` brings a volume.
    method : str
        What was done: "identity" (headers trusted), "rigid", "affine", or with a remark by hand.
    verdict : {"good", "suspect"}
        "suspect" where one of the rules of `registration_quality` speaks against the result.
        "good" only says that none does: mutual information and overlap cannot prove accuracy.
    reasons : tuple of str
        Why, in plain words; remarks too.
    metric_before, metric_after : float
        Mattes mutual information (nats, higher is better) in the fixed foreground at the start and
        at the end; outside the moving field of view the moving image counts as background.
    iterations : int
        Of the optimiser, on the way that won.
    stop_reason : str
    overlap : float
        Fraction of the fixed foreground inside the moving field of view.
    shift_mm, rotation_deg : float
        Motion from the start (headers, or `initial` where given) to the result: of the middle of
        the fixed grid, and angle.
    seed : int
    sharpness : float or None
        Mutual information here divided by its mean 8 mm and 8 degrees away; about 1 where the
        images fit by chance. None where it was not measured.

    References
    ----------
    Mattes et al., IEEE TMI 22(1), 2003. Rohlfing, IEEE TMI 31(2), 2012 (why similarity and overlap
    do not measure accuracy).
    """

    matrix: Matrix
    fixed_grid: Grid
    method: str
    verdict: Literal["good", "suspect"]
    reasons: tuple[str, ...]
    metric_before: float
    metric_after: float
    iterations: int
    stop_reason: str
    overlap: float
    shift_mm: float
    rotation_deg: float
    seed: int
    sharpness: float | None = None

    @classmethod
    def given(cls, matrix: ArrayLike, grid: Grid) -> Self:
        """A map that somebody states: nothing was searched, and nothing is judged.

        Parameters
        ----------
        matrix : (4, 4) array-like
            Fixed point -> moving point, RAS mm.
        grid : Grid
            Of the fixed volume.
        """
        return cls(
            matrix=np.asarray(matrix, dtype=np.float64),
            fixed_grid=grid,
            method="given",
            verdict="good",
            reasons=(),
            metric_before=0.0,
            metric_after=0.0,
            iterations=0,
            stop_reason="given",
            overlap=1.0,
            shift_mm=0.0,
            rotation_deg=0.0,
            seed=0,
        )

    @property
    def inverse(self) -> Matrix:
        """(4, 4) moving point -> fixed point, RAS mm."""
        return np.asarray(np.linalg.inv(self.matrix))

    def resample(self, moving: MetaTensor, interpolation: str = "linear") -> MetaTensor:
        """Bring a volume in the moving world onto the fixed grid, in one interpolation.

        Nothing is extrapolated: outside the field of view of `moving` the result is 0 and
        ``grid.coverage`` of ``meta["field_of_view"]`` is false.

        Parameters
        ----------
        moving : (C, X, Y, Z) MetaTensor
        interpolation : {"linear", "nearest"}
            No higher order: overshoot would make negative or exaggerated activity.

        Returns
        -------
        resampled : (C, X', Y', Z') MetaTensor, float32
            On the fixed grid; modality, unit, suv, source and notes are kept.
        """
        import torch
        from monai.data.meta_tensor import MetaTensor

        from medfuse.kernel.scratch import empty

        if interpolation not in INTERPOLATIONS:
            raise UsageError(
                "E_SETTINGS",
                what="Cannot resample",
                cause=f"unknown interpolation {interpolation!r}",
                remedy=f"Choose one of {', '.join(INTERPOLATIONS)}",
            )
        grid = Grid.from_volume(moving)
        inside = coverage(self.fixed_grid, grid, self.matrix)
        channels = moving.detach().cpu().numpy().astype(np.float32, copy=False)
        onto = _empty_image(self.fixed_grid)
        transform = itk_transform(self.matrix)
        method = INTERPOLATIONS[interpolation]
        values = empty((len(channels), *self.fixed_grid.shape))
        for channel, out in zip(channels, values.numpy(), strict=True):
            image = to_sitk(channel, grid.affine)
            sampled = sitk.Resample(image, onto, transform, method, 0.0, sitk.sitkFloat32)
            del image  # as large as what follows
            np.multiply(sitk.GetArrayViewFromImage(sampled).transpose(2, 1, 0), inside, out=out)
        meta = {k: moving.meta[k] for k in _KEPT if k in moving.meta}
        meta["spacing"] = list(self.fixed_grid.spacing)
        meta["field_of_view"] = {
            "shape": list(grid.shape),
            "affine": grid.affine.tolist(),
            "moving_from_fixed": self.matrix.tolist(),
        }
        return MetaTensor(values, affine=torch.tensor(self.fixed_grid.affine), meta=meta)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; no times, so equal runs give equal bytes."""
        return {
            "schema": SCHEMA,
            "direction": "fixed point -> moving point, RAS mm, column vectors",
            "matrix": self.matrix.tolist(),
            "inverse": self.inverse.tolist(),
            "fixed_grid": {
                "shape": list(self.fixed_grid.shape),
                "affine": self.fixed_grid.affine.tolist(),
            },
            **{name: getattr(self, name) for name in _PLAIN},
            "sharpness": self.sharpness,
            "reasons": list(self.reasons),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Registration:
        """Read what `to_dict` wrote."""
        grid = values["fixed_grid"]
        return cls(
            matrix=np.array(values["matrix"], dtype=np.float64),
            fixed_grid=Grid(tuple(grid["shape"]), np.array(grid["affine"], dtype=np.float64)),
            reasons=tuple(values["reasons"]),
            sharpness=values.get("sharpness"),  # missing from older files
            **{name: values[name] for name in _PLAIN},
        )

    def write_tfm(self, path: Path) -> None:
        """Write an ITK transform file (text, LPS mm), which 3D Slicer and ITK tools read.

        As ITK has it, the transform maps a point of the fixed volume to the moving one, which is
        what ``ResampleImageFilter`` needs to bring the moving volume onto the fixed grid.
        """
        sitk.WriteTransform(itk_transform(self.matrix), str(path))


_KEPT = ("modality", "unit", "source", "suv", "notes")


def register(
    *,
    fixed: MetaTensor,
    moving: MetaTensor,
    method: Method = "auto",
    preset: str = "default",
    initial: ArrayLike | None = None,
    seed: int = 0,
    progress: Callable[[float, str], None] | None = None,
) -> Registration:
    """Find the rigid (or affine) map from an anatomical to a functional volume.

    Parameters
    ----------
    fixed, moving : (1, X, Y, Z) MetaTensor
        Anatomical and functional volume, RAS affines in mm.
    method : {"auto", "rigid", "affine", "identity"}
        "identity" trusts the headers (or `initial`) and only judges them. "auto" does so too, after
        a check, where both volumes name one frame of reference and overlap; otherwise, and for
        "rigid", all rotations up to 45 degrees and all translations are searched coarsely and the
        best refined. "affine" then refines all 12 parameters: for scanners whose scales differ; a
        stretch that no scanner makes is "suspect".
    preset : {"fast", "default", "thorough"}
    initial : (4, 4) array-like, optional
        Fixed -> moving map, RAS mm: only its neighbourhood (24 degrees, 60 mm) is searched. One
        that is not rigid is taken as it is ("identity") or refined without a search ("affine").
    seed : int
        Of the sampling pattern, >= 0.
    progress : callable, optional
        Called with (fraction, text) as the work goes on, from worker threads too, never at the same
        time. If it raises, the work stops and the exception comes out of here.

    Raises
    ------
    RegistrationError
        ``E_TOO_FEW_SLICES``, ``E_NONFINITE``, ``E_CONSTANT``, ``E_NO_OVERLAP``,
        ``E_REGISTRATION``. A doubtful result is returned, with the verdict "suspect".
    UsageError
        ``E_SETTINGS``: an unknown method or preset, or an initial map that does not fit the method.
    """
    start = _checked_start(method, preset, initial, seed)
    thin = method == "identity"
    check_volume(fixed, role="fixed (anatomical)", thin_allowed=thin)
    check_volume(moving, role="moving (functional)", thin_allowed=thin)
    meter = Meter(progress)
    plan = PRESETS[preset]
    with single_threaded_itk():
        meter.stage(0.0, 0.1, total=2, text="preparing")
        one, other = in_parallel(lambda v: prepare(v, base_mm=plan.base_mm), (fixed, moving), meter)
        pair = Volumes(one, other, shares_frame=_shares_frame(fixed, moving))
        meter.check()
        if method == "identity" or initial is not None:
            no_overlap(pair.fixed.grid, pair.moving.grid, start)
        outcome = solve(
            pair,
            plan,
            method=method,
            start=start,
            given=initial is not None,
            seed=seed,
            meter=meter,
        )
        meter.stage(1.0, 1.0, total=1, text="registered")
        meter.check()
    return _registration(outcome, pair, start, seed)


def _registration(outcome: Outcome, pair: Volumes, start: Matrix, seed: int) -> Registration:
    verdict, reasons = judge(outcome)
    change = outcome.matrix @ np.linalg.inv(start)
    middle = np.append(pair.fixed.grid.centre, 1.0)
    shift = np.linalg.norm((outcome.matrix @ middle - start @ middle)[:3])
    return Registration(
        matrix=outcome.matrix,
        fixed_grid=pair.fixed.grid,
        method=outcome.method,
        verdict=verdict,
        reasons=reasons,
        metric_before=outcome.metric_before,
        metric_after=outcome.metric_after,
        iterations=outcome.iterations,
        stop_reason=outcome.stop_reason,
        overlap=outcome.overlap,
        shift_mm=float(shift),
        rotation_deg=rotation_angle(change),
        seed=seed,
        sharpness=outcome.sharpness,
    )


def _empty_image(grid: Grid) -> sitk.Image:
    """Return an image that only carries a geometry."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.affine
    image = sitk.Image([*grid.shape], sitk.sitkUInt8)
    image.SetSpacing(grid.spacing)
    image.SetDirection((lps[:3, :3] / np.array(grid.spacing)).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def _shares_frame(fixed: MetaTensor, moving: MetaTensor) -> bool:
    frames = [(v.meta.get("source") or {}).get("frame_of_reference") for v in (fixed, moving)]
    return frames[0] is not None and frames[0] == frames[1]


def _checked_start(method: str, preset: str, initial: ArrayLike | None, seed: int) -> Matrix:
    cause = ""
    matrix = np.eye(4) if initial is None else np.array(initial, dtype=np.float64)
    if method not in get_args(Method):
        cause = f"unknown method {method!r} ({', '.join(get_args(Method))})"
    elif preset not in PRESETS:
        cause = f"unknown preset {preset!r} ({', '.join(PRESETS)})"
    elif seed < 0:
        cause = f"the seed must be 0 or more, got {seed}"
    elif matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        cause = f"the initial map must be 4x4 finite numbers, got shape {matrix.shape}"
    elif not np.allclose(matrix[3], [0, 0, 0, 1]):
        cause = "the last row of the initial map is not 0 0 0 1"
    elif np.linalg.det(matrix[:3, :3]) <= 0:
        cause = "the initial map mirrors or is singular"
    elif method in ("auto", "rigid") and not is_rigid(matrix, RIGID_TOLERANCE):
        cause = "the initial map is not rigid; affine refines it, identity takes it as it is"
    if cause:
        raise UsageError(
            "E_SETTINGS", what="Cannot register", cause=cause, remedy="Correct the setting"
        )
    if is_rigid(matrix, RIGID_TOLERANCE):
        matrix[:3, :3] = nearest_rotation(matrix[:3, :3])
    return matrix
