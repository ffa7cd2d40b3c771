"""What is measured about a position: signs, positions beside it, and the bound at named points."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np

from medfuse.imaging.grid import Matrix

Verdict = Literal["good", "look", "suspect"]


@dataclass(frozen=True)
class Sign:
    """One number that speaks for or against a position.

    Parameters
    ----------
    name, unit : str
    value, limit : float
        The value is not finite where there was nothing to compare with.
    verdict : {"good", "look", "suspect"}
        What this sign alone says.
    reason : str
        In plain words, where it is not good.
    """

    name: str
    value: float
    limit: float
    unit: str
    verdict: Verdict
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"value": self.value if np.isfinite(self.value) else None}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        value = values.get("value")  # MONAI drops what is None
        return cls(**{**values, "value": np.inf if value is None else value})


@dataclass(frozen=True)
class Place:
    """The bound of the error at one point, mm; `point` in RAS mm of the fixed world."""

    name: str
    point: tuple[float, float, float]
    within_mm: float

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Read what `asdict` made."""
        x, y, z = values["point"]
        return cls(values["name"], (x, y, z), values["within_mm"])


@dataclass(frozen=True, eq=False)
class Alternative:
    """A position that was considered.

    Parameters
    ----------
    name : str
        "headers" (or "start") for the place where the volumes lie, "search" for the best place
        that the images say; further ones are called "2", "3", ...
    matrix : (4, 4) float64
        Fixed point -> moving point, RAS mm.
    metric, overlap : float
        As of a registration, at this place.
    away_mm, away_deg : float
        From the place where the headers (or the start) put the volumes.
    """

    name: str
    matrix: Matrix
    metric: float
    overlap: float
    away_mm: float
    away_deg: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        names = ("name", "metric", "overlap", "away_mm", "away_deg")
        return {n: getattr(self, n) for n in names} | {"matrix": self.matrix.tolist()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        return cls(**{**values, "matrix": np.array(values["matrix"], dtype=np.float64)})
