"""A measured result as DICOM objects, with patient and study where that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from medfuse.dicom_out.origin import patient_of
from medfuse.dicom_out.regions import RegionObjects, region_objects
from medfuse.measurement.measure import Shape, voxels_of
from medfuse.measurement.table import RegionTable
from medfuse.record.privacy import case_secret
from medfuse.registration.result import Registration
from medfuse.verification.inputs import Source

if TYPE_CHECKING:
    from monai.data import MetaTensor


def objects_of(
    pair: Sequence[tuple[MetaTensor, Source]],
    table: RegionTable,
    shapes: Sequence[Shape],
    registration: Registration,
    *,
    keep_patient: bool,
) -> RegionObjects:
    """Segmentation and report of a table.

    Parameters
    ----------
    pair : sequence of (MetaTensor, Source)
        The anatomical and the functional image, as they were acquired.
    table : RegionTable
        Of `shapes`, in their order.
    shapes : sequence of Region, Sphere or Isocontour
    registration : Registration
    keep_patient : bool
        Patient and study of the functional image; else a pseudonym.

    Raises
    ------
    MedfuseError
        As of `region_objects`.
    """
    functional, source = pair[1]
    series = source.series if keep_patient else None
    return region_objects(
        functional,
        table,
        voxels_of(functional, shapes, registration),
        salt=case_secret([image.meta.get("source") or {} for image, _ in pair]),
        patient=patient_of(series.files[0].path) if series else None,
    )
