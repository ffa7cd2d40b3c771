"""The images of a measurement: values, grids, and how their worlds lie to each other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medfuse.errors import UsageError
from medfuse.imaging.grid import Grid, Matrix
from medfuse.measurement.back import ReadBack
from medfuse.measurement.deformed import deformed
from medfuse.measurement.peak import SphereMeans
from medfuse.measurement.region import Region, Space
from medfuse.registration.deformation import Deformation
from medfuse.registration.result import Registration


@dataclass(frozen=True, eq=False)
class Worlds:
    """Which grids there are, and how their worlds lie to each other.

    Attributes
    ----------
    functional : Grid
        On which the functional values lie.
    measured_in : Space
        World of that grid: "anatomical" for a resampled image.
    anatomical : Grid or None
    field : Grid
        Of the functional image as it was acquired.
    registration : Registration or None
    """

    functional: Grid
    measured_in: Space
    anatomical: Grid | None
    field: Grid
    registration: Registration | None

    @classmethod
    def of(
        cls, functional: Any, anatomical: Any | None, registration: Registration | None
    ) -> Worlds:
        """The worlds of two images; a resampled one lies in the anatomical world."""
        if functional.ndim != 4 or functional.shape[0] != 1:
            raise unusable(
                f"expected one channel (1, X, Y, Z), got shape {tuple(functional.shape)}",
                "Give the scalar functional image as it was loaded",
            )
        own = Grid.from_volume(functional)
        view = functional.meta.get("field_of_view")
        field = own
        if view is not None:
            field = Grid(tuple(view["shape"]), np.asarray(view["affine"], dtype=np.float64))
            if registration is None:
                registration = Registration.given(view["moving_from_fixed"], own)
                if told := view.get("deformation"):
                    registration = replace(registration, deformation=Deformation.from_meta(told))
        onto = registration.fixed_grid if registration is not None else None
        if anatomical is not None:
            onto = Grid.from_volume(anatomical)
        return cls(own, "functional" if view is None else "anatomical", onto, field, registration)

    def map(self, start: Space, end: Space) -> Matrix:
        """World point of `start` -> world point of `end`, RAS mm; without a deformation."""
        if start == end or self.registration is None:
            return np.eye(4)
        found = self.registration
        return found.matrix if start == "anatomical" else found.inverse

    def brought(self, region: Region, space: Space) -> Region:
        """A region for a grid of `space`: itself, to be mapped there, or deformed and there."""
        return region if self.registration is None else deformed(region, self.registration, space)


@dataclass(frozen=True, eq=False)
class Volume:
    """The functional image that is measured."""

    values: NDArray[np.float32]
    inside: NDArray[np.bool_] | None
    unit: str
    modality: str
    means: SphereMeans


@dataclass(frozen=True, eq=False)
class Beside:
    """What lies on the anatomical grid; None for what is not there."""

    values: NDArray[Any] | None
    modality: str | None
    unit: str | None
    share: NDArray[Any] | None
    read_back: ReadBack | None

    @property
    def is_empty(self) -> bool:
        """Whether nothing lies there."""
        return self.values is None and self.share is None and self.read_back is None


def volume_of(functional: Any, worlds: Worlds) -> Volume:
    """The image that is measured; of a resampled one, only what was measured counts."""
    values = functional.detach().cpu().numpy()[0].astype(np.float32, copy=False)
    inside = None
    if worlds.measured_in == "anatomical":
        onto = Registration.given(np.eye(4), worlds.functional)
        found = replace(worlds.registration or onto, fixed_grid=worlds.functional)
        inside = found.covers(worlds.field)
    return Volume(
        values,
        inside,
        unit=str(functional.meta.get("unit", "a.u.")),
        modality=str(functional.meta.get("modality", "unknown")),
        means=SphereMeans(values, worlds.functional.affine, inside),
    )


def beside_of(
    anatomical: Any | None,
    worlds: Worlds,
    share: ArrayLike | None,
    read_back: ReadBack | None,
) -> Beside:
    """What lies on the anatomical grid.

    Raises
    ------
    UsageError
        ``E_SETTINGS``: something of another shape.
    """
    plane = None if share is None else np.asarray(share)
    if plane is not None and plane.ndim == 4:
        plane = plane[0]
    grid = worlds.anatomical.shape if worlds.anatomical is not None else None
    shown = read_back.values if read_back is not None else None
    for name, array in (("share", plane), ("read_back", shown)):
        if array is not None and array.shape != grid:
            raise unusable(
                f"{name} has shape {array.shape}, the anatomical grid {grid or 'is not known'}",
                "Give the anatomical image or the registration of the same fusion",
            )
    meta = anatomical.meta if anatomical is not None else {}
    return Beside(
        values=anatomical.detach().cpu().numpy()[0] if anatomical is not None else None,
        modality=meta.get("modality"),
        unit=meta.get("unit"),
        share=plane,
        read_back=read_back,
    )


def unusable(cause: str, remedy: str) -> UsageError:
    """A call that cannot be measured."""
    return UsageError("E_SETTINGS", what="Cannot measure", cause=cause, remedy=remedy)
