"""What is to be measured, as a person asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medfuse.measurement.files import Named
from medfuse.measurement.region import Isocontour, Space, Sphere, Threshold


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Regions, and how they are read and measured.

    Attributes
    ----------
    files : sequence of Named
    shapes : sequence of Sphere or Isocontour
    reference : str, optional
    mtv_threshold : Threshold
    drawn_on : {"anatomical", "functional"}, optional
        Image on which the regions were drawn, where a file does not tell.
    names : str, optional
        Table with the names of labels, or "freesurfer".
    keep_names : bool
    allow_patient_mismatch : bool
    """

    files: Sequence[Named] = ()
    shapes: Sequence[Sphere | Isocontour] = ()
    reference: str | None = None
    mtv_threshold: Threshold
    drawn_on: Space | None = None
    names: str | None = None
    keep_names: bool = False
    allow_patient_mismatch: bool = False
