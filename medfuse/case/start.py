"""Where the registration of a case begins, as its settings say: a linear map, and a deformation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medfuse.errors import MedfuseError
from medfuse.imaging.grid import Matrix
from medfuse.registration.deformation import Deformation
from medfuse.registration.region import Region
from medfuse.registration.result import Registration, register
from medfuse.registration.start import landmark_note, read_start
from medfuse.settings import CaseSettings

if TYPE_CHECKING:
    from monai.data import MetaTensor


def start_of(
    settings: CaseSettings, anat: MetaTensor, func: MetaTensor
) -> tuple[Matrix | None, Deformation | None]:
    """The 4x4 point map from which registration starts, and a deformation that is taken with it.

    Raises
    ------
    InputError
        ``E_BAD_TRANSFORM``.
    """
    if not settings.initial:
        return None, None
    path, kind = Path(settings.initial), settings.initial_kind
    return read_start(path, kind=kind, fixed=anat, moving=func)


def start_matrix(settings: CaseSettings, anat: MetaTensor, func: MetaTensor) -> Matrix | None:
    """The linear part of `start_of`."""
    return start_of(settings, anat, func)[0]


def registered(
    settings: CaseSettings,
    anat: MetaTensor,
    func: MetaTensor,
    *,
    start: tuple[Matrix | None, Deformation | None],
    region: Region | None,
    **more: Any,
) -> Registration:
    """Register as the settings say; a start by landmarks is named among the reasons.

    Parameters
    ----------
    start : tuple
        What `start_of` read.
    region : Region or None
        What the registration must get right.
    **more
        Further arguments of `register`.

    Raises
    ------
    MedfuseError
        As `register`, in the words of the settings.
    """
    initial, deformation = start
    try:
        found = register(
            fixed=anat,
            moving=func,
            method=settings.registration,
            preset=settings.preset,
            initial=initial,
            deformation=deformation,
            seed=settings.seed,
            choose=settings.choose,
            region=region,
            **more,
        )
    except MedfuseError as error:
        raise error.renamed({"method": "registration"}) from error
    if settings.initial and settings.initial_kind == "landmarks":
        found = replace(found, reasons=(*found.reasons, landmark_note(Path(settings.initial))))
    return found
