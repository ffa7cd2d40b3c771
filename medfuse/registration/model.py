"""The result of a registration: a map, the grid it belongs to, and what is known about it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike, NDArray

from medfuse.errors import UsageError
from medfuse.imaging.fingerprint import CHANGED, FINGERPRINT, as_read, with_fingerprint
from medfuse.imaging.grid import Grid, Matrix, coverage, to_sitk
from medfuse.registration.deformation import Deformation, deformed_coverage, empty_image
from medfuse.registration.evidence import Alternative, Place, Sign, Verdict
from medfuse.registration.expected import ExpectedError
from medfuse.registration.refine import itk_transform
from medfuse.registration.tfm import tfm_text

if TYPE_CHECKING:
    from monai.data.meta_tensor import MetaTensor

SCHEMA = "medfuse-registration/1"
#: Ends the name of a method that was followed by a deformation.
DEFORMED = " + deformation"
INTERPOLATIONS = {"linear": sitk.sitkLinear, "nearest": sitk.sitkNearestNeighbor}
_KEPT = ("modality", "unit", "source", "suv", "notes", CHANGED)
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
    verdict : {"good", "look", "suspect"}
        That of the worst of `signs`. "good" only says that none speaks against the result; a person
        has to look at a "look"; a "suspect" position is not fused unless that is asked for.
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
    signs : tuple of Sign
        What was measured for or against the position, each with its number and limit.
    expected : ExpectedError or None
        Bound of the error at each point; None where nothing could be optimised.
    places : tuple of Place
        The bound at named points: centre of the uptake, middle and rim of the body.
    alternatives : tuple of Alternative
        Other positions that were considered, the headers among them.
    deformation : Deformation or None
        A local deformation of the fixed world, applied before `matrix`. What is said of the error,
        of the overlap and of the metric is that of `matrix` alone.

    References
    ----------
    Mattes et al., IEEE TMI 22(1), 2003. Rohlfing, IEEE TMI 31(2), 2012 (why similarity and overlap
    do not measure accuracy).
    """

    matrix: Matrix
    fixed_grid: Grid
    method: str
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
    sharpness: float | None = None
    signs: tuple[Sign, ...] = ()
    expected: ExpectedError | None = None
    places: tuple[Place, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    deformation: Deformation | None = None

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

    @property
    def bends(self) -> bool:
        """Whether there is a deformation, and one that was used."""
        return self.deformation is not None and self.deformation.moves

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

        from medfuse.imaging.located import like
        from medfuse.kernel.scratch import empty

        if interpolation not in INTERPOLATIONS:
            raise UsageError(
                "E_SETTINGS",
                what="Cannot resample",
                cause=f"unknown interpolation {interpolation!r}",
                remedy=f"Choose one of {', '.join(INTERPOLATIONS)}",
            )
        moving = as_read(moving)
        grid = Grid.from_volume(moving)
        inside = self.covers(grid)
        channels = moving.detach().cpu().numpy().astype(np.float32, copy=False)
        onto = empty_image(self.fixed_grid)
        transform = self.itk()
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
        if self.deformation is not None and self.bends:
            meta["field_of_view"]["deformation"] = self.deformation.to_meta()
        if FINGERPRINT in moving.meta:
            meta = with_fingerprint(meta, values.numpy()[0], self.fixed_grid.affine)
        return like(moving, values, torch.tensor(self.fixed_grid.affine), meta)

    def itk(self) -> sitk.Transform:
        """The whole map as ITK resamples with it: fixed point -> moving point, LPS."""
        if self.deformation is None or not self.bends:
            return itk_transform(self.matrix)
        return self.deformation.itk(self.matrix)

    def covers(self, moving: Grid) -> NDArray[np.bool_]:
        """(X, Y, Z) voxels of the fixed grid that lie in the field of view of a moving one."""
        if self.deformation is None or not self.bends:
            return coverage(self.fixed_grid, moving, self.matrix)
        return deformed_coverage(self.fixed_grid, moving, self.matrix, self.deformation)

    def error_within_mm(self, points: ArrayLike) -> NDArray[np.float64]:
        """(N,) bound under which the error lies in nine cases of ten, at (N, 3) points, RAS mm.

        Points of the fixed world. Infinite where nothing was measured. A deformation is not in it.
        """
        if self.expected is None:
            return np.full(len(np.reshape(points, (-1, 3))), np.inf)
        return self.expected.within_mm(points)

    def error_words(self) -> str:
        """The expected error in words; empty where it was not measured."""
        parts = [f"{math.ceil(p.within_mm):.0f} mm at {p.name}" for p in self.places]
        before = "before the deformation " if self.method.endswith(DEFORMED) else ""
        return f"{before}likely within {', '.join(parts)}" if parts else ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; no times, so equal runs give equal bytes."""
        values = self._plain_dict()
        if self.signs:
            values["signs"] = [sign.to_dict() for sign in self.signs]
        if self.expected is not None:
            places = [asdict(place) for place in self.places]
            values["expected_error"] = {"places": places, **self.expected.to_dict()}
        if self.alternatives:
            values["alternatives"] = [a.to_dict() for a in self.alternatives]
        if self.deformation is not None:
            values["deformation"] = self.deformation.to_dict()
        return values

    def _plain_dict(self) -> dict[str, Any]:
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
    def from_dict(
        cls,
        values: dict[str, Any],
        *,
        displacement: ArrayLike | None = None,
        linear_only: bool = False,
    ) -> Registration:
        """Read what `to_dict` wrote.

        Parameters
        ----------
        values : dict
        displacement : (X, Y, Z, 3) array-like, optional
            Of a deformation, RAS mm, which lies in a file of its own.
        linear_only : bool
            Leave a deformation out.

        Raises
        ------
        UsageError
            ``E_SETTINGS``: there is a deformation, and no displacement was given.
        """
        grid = values["fixed_grid"]
        matrix = np.array(values["matrix"], dtype=np.float64)
        error = values.get("expected_error")  # as the rest, missing from older files
        return cls(
            matrix=matrix,
            fixed_grid=Grid(tuple(grid["shape"]), np.array(grid["affine"], dtype=np.float64)),
            reasons=tuple(values["reasons"]),
            sharpness=values.get("sharpness"),
            signs=tuple(Sign.from_dict(sign) for sign in values.get("signs", ())),
            expected=ExpectedError.from_dict(error, matrix) if error else None,
            places=tuple(Place.from_dict(place) for place in error["places"]) if error else (),
            alternatives=tuple(Alternative.from_dict(a) for a in values.get("alternatives", ())),
            deformation=None if linear_only else _deformation(values, displacement),
            **{name: values[name] for name in _PLAIN},
        )

    def write_tfm(self, path: Path) -> None:
        """Write the linear part as an ITK transform file (text, LPS mm), for 3D Slicer and ITK.

        As ITK has it, the transform maps a point of the fixed volume to the moving one, which is
        what ``ResampleImageFilter`` needs to bring the moving volume onto the fixed grid.
        """
        path.write_text(tfm_text(self.matrix), "ascii", newline="\n")


def _deformation(values: dict[str, Any], displacement: ArrayLike | None) -> Deformation | None:
    told = values.get("deformation")
    if not told:
        return None
    if displacement is None:
        displacement = told.get("displacement")
    if displacement is None:
        raise UsageError(
            "E_SETTINGS",
            what="Cannot read the registration",
            cause=f"its deformation lies in {told['file']}, which was not given",
            remedy="Give its displacements, or take the linear part alone (linear_only=True)",
        )
    return Deformation.from_dict(told, displacement)
