"""Whether there is reason to deform: what a rigid motion leaves open, and what is made of it.

Mutual information rises by any deformation, also on a head, which does not bend. So a deformation
is only used where something else speaks for it: skin that does not fit after the rigid motion and
that the deformation brings together, or halves of the body that want to go elsewhere when they are
registered alone. Limits were set on persons and on brain templates: docs/lab/registration.md.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from medfuse.registration.expected import LEAST_MM

#: The information gained has to exceed the elastic energy that it costs by this factor.
WORTH = 1.25
#: What of a gap of the skin may be left.
RESOLVED = 0.75
#: Less than this is not known of a rigid registration either.
PARTS_MM = LEAST_MM


@dataclass(frozen=True)
class Grounds:
    """What was measured for and against a deformation.

    Parameters
    ----------
    skin_mm, skin_after_mm, skin_limit_mm : float
        Mean distance of both outlines after the rigid motion, after the deformation too, and what
        blur and voxels explain.
    parts_mm : float or None
        How far halves of the body, registered alone, lie from where the whole puts them.
    runs_through : bool
        The body leaves the field of view on two opposite sides.
    gain_nats, energy_nats : float
        Information gained inside the body, and the elastic energy that it costs.
    moved_mm : float
        Mean displacement that was found, used or not.
    disagreement_mm : float
        Inverse consistency of what was found from either image.
    """

    skin_mm: float
    skin_after_mm: float
    skin_limit_mm: float
    parts_mm: float | None
    runs_through: bool
    gain_nats: float
    energy_nats: float
    moved_mm: float
    disagreement_mm: float

    @property
    def used(self) -> bool:
        """Whether the deformation is used."""
        return self._is_worth_it and (self._skin or self._parts)

    @property
    def _is_worth_it(self) -> bool:
        return self.gain_nats > WORTH * self.energy_nats

    @property
    def _skin(self) -> bool:
        return self._skin_is_open and self.skin_after_mm <= RESOLVED * self.skin_mm

    @property
    def _parts(self) -> bool:
        return self._parts_are_open and self.disagreement_mm <= self.moved_mm

    @property
    def _skin_is_open(self) -> bool:
        return self.skin_mm > self.skin_limit_mm

    @property
    def _parts_are_open(self) -> bool:
        return self.runs_through and self.parts_mm is not None and self.parts_mm > PARTS_MM

    @property
    def why_not(self) -> str:
        """Why the deformation was not used; empty where it was."""
        if self.used:
            return ""
        if not (self._skin_is_open or self._parts_are_open):
            return (
                "the deformation was not used, because nothing that a rigid motion leaves open was "
                f"found: {self._found}"
            )
        if not self._is_worth_it:
            return (
                "the deformation was not used, because it makes the images too little alike for "
                f"how much it bends the body ({self._found})"
            )
        return (
            "the deformation was not used, because it does not explain what the rigid motion "
            f"leaves open: {self._found}; with it the outlines lie {self.skin_after_mm:.1f} mm "
            f"apart, and what is found from either image disagrees by {self.disagreement_mm:.1f} mm"
        )

    @property
    def _found(self) -> str:
        skin = (
            f"the outlines lie {self.skin_mm:.1f} mm apart, of which blur and voxels explain "
            f"{self.skin_limit_mm:.1f} mm"
        )
        if self.parts_mm is None:
            return skin
        parts = f"halves of the body, registered alone, lie {self.parts_mm:.1f} mm from the whole"
        if self.parts_mm <= PARTS_MM:
            return f"{skin}, and {parts}, of which {PARTS_MM:.0f} mm are not known anyway"
        head = "" if self.runs_through else ", but the body ends in the image, as a head does"
        return f"{skin}, and {parts}{head}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)
