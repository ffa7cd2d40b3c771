"""A local deformation before a linear map: displacements on a coarse lattice, in millimetres.

A point x of the fixed world goes to ``matrix @ (x + u(x))`` of the moving one. Between the nodes of
the lattice ``u`` is linear, as in ITK's displacement fields; outside of the lattice it is zero.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, Self

import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike, NDArray

from medfuse.imaging.grid import LPS_FROM_RAS, Grid, Matrix, coverage, to_sitk, transform_points
from medfuse.registration.grounds import Grounds
from medfuse.registration.refine import itk_transform

FILE = "deformation.nii.gz"
FRAME = "fixed world; components in LPS as ITK and ANTs have them, mm"
#: Fixed-point steps by which the deformation is inverted, and a step for its derivative, mm.
INVERSION_STEPS, STEP_MM = 30, 2.0
_LPS = np.diag(LPS_FROM_RAS)[:3]


@dataclass(frozen=True)
class HotRegion:
    """The hottest region of the functional image, before and after the deformation.

    It is where the image exceeds half of its highest value, around that value.

    Parameters
    ----------
    volume_ml : float
        In the functional image.
    volume_change : float
        Volume after the deformation divided by that before it.
    mean_before, mean_after, highest_before, highest_after : float
        Of the values there, in `unit`: in the functional image, and on the anatomical grid.
    """

    volume_ml: float
    volume_change: float
    mean_before: float
    mean_after: float
    highest_before: float
    highest_after: float
    unit: str


@dataclass(frozen=True, eq=False)
class Deformation:
    """Displacements of fixed points, and what was measured about them.

    Parameters
    ----------
    lattice : Grid
        Nodes, in the fixed world.
    displacement : (X, Y, Z, 3) float32
        At each node, RAS mm.
    inverse_mm : float or None
        Inverse consistency: mean distance from its own place to which the two deformations, found
        from either image to the other, bring a point of the body there and back. None where only
        one of the two is known.
    region : HotRegion or None
        None where the moving image shows no uptake.
    given : bool
        Somebody gave it; it was not found from the images.
    grounds : Grounds or None
        What speaks for using it; where that is too little, all displacements are 0. None where it
        was given, or found by an older version.
    """

    lattice: Grid
    displacement: NDArray[np.float32]
    inverse_mm: float | None = None
    region: HotRegion | None = None
    given: bool = False
    grounds: Grounds | None = None

    def shifts(self, points: ArrayLike, *, beyond: bool = False) -> NDArray[np.float64]:
        """(N, 3) displacement at (N, 3) points of the fixed world, RAS mm.

        Outside of the lattice zero, or that of its edge if `beyond`.
        """
        at = np.asarray(points, dtype=np.float64).reshape(-1, 3)
        index = transform_points(np.linalg.inv(self.lattice.affine), at)
        last = np.array(self.lattice.shape) - 1
        seen = np.all((index >= -0.5) & (index <= last + 0.5), axis=1)
        index = np.clip(index, 0, last)
        low = np.minimum(index.astype(np.intp), np.maximum(last - 1, 0))
        part = index - low
        total = np.zeros((len(at), 3))
        for corner in product((0, 1), repeat=3):
            weight = np.prod(np.where(corner, part, 1 - part), axis=1)
            i, j, k = np.minimum(low + corner, last).T
            total += weight[:, None] * self.displacement[i, j, k]
        return total if beyond else np.where(seen.reshape(-1, 1), total, 0.0)

    def origins(self, points: ArrayLike, *, near_mm: float = 0.0) -> NDArray[np.float64]:
        """(N, 3) points that the deformation brings to these: its inverse, by fixed-point steps.

        It ends earlier where no step is longer than `near_mm`.
        """
        at = np.asarray(points, dtype=np.float64).reshape(-1, 3)
        here = at.copy()
        for _ in range(INVERSION_STEPS):
            before, here = here, at - self.shifts(here)
            if near_mm and float(np.abs(here - before).max(initial=0.0)) <= near_mm:
                break
        return here

    def volume_factors(self, points: ArrayLike) -> NDArray[np.float64]:
        """(N,) determinant of the Jacobian at points: volume after the map for volume before it."""
        at = np.asarray(points, dtype=np.float64).reshape(-1, 3)
        steps = STEP_MM * np.eye(3)
        slopes = [
            (self.shifts(at + step) - self.shifts(at - step)) / (2 * STEP_MM) for step in steps
        ]
        return np.asarray(np.linalg.det(np.eye(3) + np.stack(slopes, axis=-1)))

    @property
    def least_jacobian(self) -> float:
        """Least determinant of the Jacobian at all corners of all cells; 0 or less is a fold."""
        u = self.displacement.astype(np.float64)
        axes = self.lattice.affine[:3, :3]
        differences = [np.diff(u, axis=axis) for axis in range(3)]
        least = np.inf
        for corner in product((0, 1), repeat=3):
            slopes = []
            for axis, change in enumerate(differences):
                cut = [
                    slice(None) if a == axis else slice(c, n - 1 + c)
                    for a, (c, n) in enumerate(zip(corner, self.lattice.shape, strict=True))
                ]
                slopes.append(change[tuple(cut)])
            jacobian = np.eye(3) + np.stack(slopes, axis=-1) @ np.linalg.inv(axes)
            least = min(least, float(np.linalg.det(jacobian).min()))
        return least

    @property
    def moves(self) -> bool:
        """Whether anything is displaced at all."""
        return bool(self.displacement.any())

    @property
    def lengths(self) -> NDArray[np.float64]:
        """(X, Y, Z) length of the displacement at each node, mm."""
        return np.asarray(np.linalg.norm(self.displacement.astype(np.float64), axis=-1))

    @property
    def sha256(self) -> str:
        """Of the displacements as little-endian float32, last index fastest."""
        return hashlib.sha256(np.ascontiguousarray(self.displacement, "<f4").tobytes()).hexdigest()

    def itk(self, matrix: Matrix) -> sitk.CompositeTransform:
        """The whole map as ITK resamples with it: fixed point -> moving point, LPS."""
        shifts = (self.displacement * _LPS).astype(np.float64).transpose(2, 1, 0, 3)
        image = sitk.GetImageFromArray(np.ascontiguousarray(shifts), isVector=True)
        image.CopyInformation(empty_image(self.lattice))
        # ITK applies the last one of a composite first.
        return sitk.CompositeTransform(
            [itk_transform(matrix), sitk.DisplacementFieldTransform(image)]
        )

    def to_dict(self) -> dict[str, Any]:
        """What a record says of it; the displacements themselves lie in a file of their own."""
        lengths = self.lengths
        values = {
            "file": FILE,
            "frame": FRAME,
            "order": "applied to a fixed point before the matrix",
            "lattice": {
                "shape": list(self.lattice.shape),
                "affine": self.lattice.affine.tolist(),
            },
            "sha256": self.sha256,
            "largest_mm": float(lengths.max()),
            "mean_mm": float(lengths.mean()),
            "least_jacobian": self.least_jacobian,
            "inverse_mm": self.inverse_mm,
        }
        values |= {"given": True} if self.given else {}
        if self.grounds is not None:
            values |= {"used": self.grounds.used, "grounds": self.grounds.to_dict()}
        return values | ({"region": asdict(self.region)} if self.region else {})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], displacement: ArrayLike) -> Self:
        """Read what `to_dict` wrote, with the displacements."""
        lattice, region, inverse = values["lattice"], values.get("region"), values.get("inverse_mm")
        return cls(
            _grid(lattice),
            np.array(displacement, dtype=np.float32),
            None if inverse is None else float(inverse),
            HotRegion(**region) if region else None,
            bool(values.get("given", False)),
            Grounds(**values["grounds"]) if values.get("grounds") else None,
        )

    def to_meta(self) -> dict[str, Any]:
        """What `covered` needs, in the facts that travel with a resampled image."""
        return {"affine": self.lattice.affine.tolist(), "displacement": self.displacement}

    @classmethod
    def from_meta(cls, told: Mapping[str, Any]) -> Self:
        """Read what `to_meta` wrote."""
        displacement = np.asarray(told["displacement"], dtype=np.float32)
        x, y, z = displacement.shape[:3]
        return cls(Grid((x, y, z), np.asarray(told["affine"], dtype=float)), displacement)


def _grid(told: Mapping[str, Any]) -> Grid:
    x, y, z = (int(n) for n in told["shape"])
    return Grid((x, y, z), np.array(told["affine"], dtype=float))


def empty_image(grid: Grid) -> sitk.Image:
    """An image that only carries a geometry."""
    lps = LPS_FROM_RAS @ grid.affine
    image = sitk.Image([*grid.shape], sitk.sitkUInt8)
    image.SetSpacing(grid.spacing)
    image.SetDirection((lps[:3, :3] / np.array(grid.spacing)).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def deformed_coverage(
    grid: Grid, source: Grid, matrix: Matrix, deformation: Deformation
) -> NDArray[np.bool_]:
    """(X, Y, Z) voxels of `grid` that lie in the field of view of `source` after both maps."""
    ones = to_sitk(np.ones(source.shape, np.uint8), source.affine)
    seen = sitk.Resample(
        ones, empty_image(grid), deformation.itk(matrix), sitk.sitkNearestNeighbor, 0
    )
    return np.asarray(sitk.GetArrayViewFromImage(seen).transpose(2, 1, 0) > 0)


def covered(grid: Grid, view: Mapping[str, Any]) -> NDArray[np.bool_]:
    """(X, Y, Z) voxels inside the field of view that ``Registration.resample`` recorded.

    Parameters
    ----------
    grid : Grid
        In the fixed world.
    view : mapping
        ``meta["field_of_view"]`` of a resampled volume.
    """
    source = _grid(view)
    matrix = np.asarray(view["moving_from_fixed"], dtype=float)
    told = view.get("deformation")
    if told is None:
        return coverage(grid, source, matrix)
    return deformed_coverage(grid, source, matrix, Deformation.from_meta(told))
