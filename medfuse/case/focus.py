"""The region that the registration of a case must get right: from a file, or from a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medfuse.errors import GeometryError, option
from medfuse.imaging.volume import display_name
from medfuse.measurement.files import Images, Named, is_dicom, read_regions
from medfuse.measurement.nifti_regions import read_labels
from medfuse.measurement.region import Region as Structure
from medfuse.registration.region import REGION_FILE, Region, bad_region, region_of
from medfuse.settings import CaseSettings

if TYPE_CHECKING:
    from monai.data import MetaTensor

MOST_NAMES = 20
#: What `read_regions` calls a mask of which nothing tells a name.
_NAMELESS = "region 1"


def case_region(settings: CaseSettings, anat: MetaTensor, func: MetaTensor) -> Region | None:
    """The region that the settings of a case name; errors as `read_region`."""
    if settings.region is None:
        return None
    allowed = settings.allow_patient_mismatch
    return read_region(settings.region, anat, func, allow_patient_mismatch=allowed)


def read_region(
    text: str | Path,
    anat: MetaTensor,
    func: MetaTensor,
    *,
    allow_patient_mismatch: bool = False,
) -> Region:
    """Read one structure of a NIfTI mask or label map, a DICOM SEG or RTSTRUCT.

    A DICOM object lies in the world of the image with its frame of reference, a NIfTI file in that
    of the image on whose voxel lattice it lies, and if this does not decide, in the anatomical one.

    Parameters
    ----------
    text : str or Path
        ``FILE`` with one structure, or ``NAME=FILE``: the name of the structure, or its number.
    anat, func : (C, X, Y, Z) MetaTensor
        Their grids and headers are asked for.
    allow_patient_mismatch : bool

    Raises
    ------
    InputError
        ``E_REGION``: several structures and no name, none of that name, empty, drawn on neither
        image, or outside of the field of view.
    MedfuseError
        As `medfuse.measurement.files.read_regions`.
    """
    file = Named.parse(str(text))
    where, images = display_name(file.path), Images.of(func, anat)
    plain = Named(file.path)
    try:
        found = read_regions(plain, images, allow_patient_mismatch=allow_patient_mismatch)
    except GeometryError as error:
        if error.code != "E_REGION_SPACE":
            raise
        if is_dicom(file.path):
            raise bad_region(where, error.cause) from error
        found = read_regions(
            plain,
            images,
            drawn_on="anatomical",
            allow_patient_mismatch=allow_patient_mismatch,
        )
    return region_of(_named(found, file.name, where), anat, func, where)


def stored_region(folder: Path, provenance: Mapping[str, Any]) -> Region | None:
    """The region of a result, from its copy of the mask and its record.

    Raises
    ------
    MedfuseError
        As reading a mask.
    """
    steps = {step["name"]: step["parameters"] for step in provenance["steps"]}
    told = steps["register"].get("region")
    if told is None:
        return None
    mask = read_labels(folder / REGION_FILE)
    of: Any = "fixed" if told["in_the_world_of"] == "anatomical" else "moving"
    return Region(mask.values >= 0.5, np.asarray(mask.grid.affine, dtype=np.float64), of)


def _named(found: Sequence[Structure], name: str | None, where: str) -> Structure:
    names = [region.name for region in found]
    listed = ", ".join(names[:MOST_NAMES]) + (", ..." if len(names) > MOST_NAMES else "")
    remedy = f"Name one of them with {option('region', 'NAME=FILE')}"
    if len(found) == 1 and (name is None or names == [_NAMELESS]):
        return found[0]
    if name is None:
        raise bad_region(where, f"it holds {len(found)} structures ({listed})", remedy)
    fitting = [region for region in found if name in (region.name, str(region.label))]
    fitting = fitting or [r for r in found if r.name.casefold() == name.casefold()]
    if not fitting:
        raise bad_region(where, f"it holds no structure {name!r}, but {listed}", remedy)
    if len(fitting) > 1:
        numbers = ", ".join(str(region.label) for region in fitting)
        cause = f"{len(fitting)} of its structures are called {name!r} (numbers {numbers})"
        raise bad_region(where, cause, f"Give the number: {option('region', 'NUMBER=FILE')}")
    return fitting[0]
