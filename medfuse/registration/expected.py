"""How far off a registration may be, in millimetres, at every point.

The same pair is optimised again under other conditions: from other starts, with the roles of the
images exchanged, with more blur, with the outline, on one half of the body at a time. Where all of
these *witnesses* agree, the images fix the position; where they do not, they do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medfuse.imaging.grid import Grid, Matrix, transform_points

CONFIDENCE = 0.9
#: Least bound of a body that may bend.
LEAST_MM = 3.0
Kind = Literal["head", "one session", "two sessions"]
#: `least_mm` and `factor` by kind of pair, set on persons by cross-validation:
#: workflows/benchmarks/persons.py, docs/lab/registration.md. A head is one rigid body. Between two
#: sessions limbs bend and organs move: no rigid witness sees that, so its spread counts more.
LEAST_AND_FACTOR: dict[Kind, tuple[float, float]] = {
    "head": (2.0, 2.3),
    "one session": (LEAST_MM, 2.7),
    "two sessions": (LEAST_MM, 3.4),
}


@dataclass(frozen=True, eq=False)
class Witness:
    """One more optimisation of the pair, and where it ended.

    Parameters
    ----------
    name : str
    matrix : (4, 4) float64
        Fixed point -> moving point, RAS mm.
    """

    name: str
    matrix: Matrix

    def off_mm(self, matrix: Matrix, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N,) distance from where `matrix` puts the points, mm."""
        gap = transform_points(self.matrix, points) - transform_points(matrix, points)
        return np.asarray(np.linalg.norm(gap, axis=-1))

    def exchanged(self) -> Witness:
        """The same witness of the exchanged pair."""
        return Witness(self.name, np.asarray(np.linalg.inv(self.matrix)))


@dataclass(frozen=True, eq=False)
class ExpectedError:
    """A bound under which the error lies in nine cases of ten, at each point.

    It is ``sqrt(least_mm ** 2 + (factor * spread) ** 2)``, where the spread is the median distance
    of the witnesses from the result at that point: one that strays alone says more about itself
    than about the result. `least_mm` and `factor` were set on persons (docs/registration.md); what
    all witnesses have in common, such as a limb that bent between the scans, they cannot see.

    Parameters
    ----------
    matrix : (4, 4) float64
        The result that is judged, fixed point -> moving point, RAS mm.
    witnesses : tuple of Witness
    least_mm, factor : float
    spread : {"median", "rms"}
        How distances become one; "rms" in results of older versions.
    """

    matrix: Matrix
    witnesses: tuple[Witness, ...]
    least_mm: float
    factor: float
    spread: Literal["median", "rms"] = "median"

    def spread_mm(self, points: ArrayLike) -> NDArray[np.float64]:
        """(N,) typical distance of the witnesses from the result at (N, 3) points, mm."""
        at = np.asarray(points, dtype=np.float64).reshape(-1, 3)
        off = np.array([witness.off_mm(self.matrix, at) for witness in self.witnesses])
        if not len(off):
            return np.full(len(at), np.inf)
        whole = (
            np.median(off, axis=0) if self.spread == "median" else np.sqrt((off**2).mean(axis=0))
        )
        return np.asarray(whole)

    def within_mm(self, points: ArrayLike) -> NDArray[np.float64]:
        """(N,) 90 % bound of the error at (N, 3) points of the fixed world, RAS mm."""
        return np.asarray(np.hypot(self.least_mm, self.factor * self.spread_mm(points)))

    def on_grid(self, grid: Grid) -> NDArray[np.float32]:
        """(X, Y, Z) 90 % bound of the error at every voxel of a grid in the fixed world, mm."""
        x, y = np.indices(grid.shape[:2], dtype=np.float64)
        within = np.empty(grid.shape, np.float32)
        for z in range(grid.shape[2]):
            index = np.stack([x, y, np.full_like(x, z)], axis=-1).reshape(-1, 3)
            plane = self.within_mm(transform_points(grid.affine, index))
            within[..., z] = plane.reshape(grid.shape[:2])
        return within

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "confidence": CONFIDENCE,
            "least_mm": self.least_mm,
            "factor": self.factor,
            "spread": self.spread,
            "witnesses": [{"name": w.name, "matrix": w.matrix.tolist()} for w in self.witnesses],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any], matrix: Matrix) -> ExpectedError:
        """Read what `to_dict` wrote."""
        witnesses = tuple(
            Witness(w["name"], np.array(w["matrix"], dtype=np.float64)) for w in values["witnesses"]
        )
        spread = values.get("spread", "rms")
        return cls(matrix, witnesses, values["least_mm"], values["factor"], spread)


def expected_error(matrix: Matrix, witnesses: tuple[Witness, ...], kind: Kind) -> ExpectedError:
    """The bound with the figures that were set on persons, for a kind of pair."""
    return ExpectedError(matrix, witnesses, *LEAST_AND_FACTOR[kind])
