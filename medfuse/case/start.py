"""Where the registration of a case begins, as its settings say: a linear map, and a deformation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medfuse.imaging.grid import Matrix
from medfuse.registration.deformation import Deformation
from medfuse.registration.start import read_start
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
