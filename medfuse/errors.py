"""What can go wrong, said in one line: every error carries a stable code and a remedy.

Imports nothing, so that every room may raise from here.
"""

from __future__ import annotations

from typing import ClassVar


class MedfuseError(Exception):
    """A failure that the user can understand and act on.

    The text reads ``<what failed>: <where>: <cause>. <remedy>. [E_CODE]``. No part of it may hold
    patient data: name files relative to the input, name series by number.

    Parameters
    ----------
    code : str
        Stable cause code, ``E_...``; scripts and the batch ledger rely on it.
    what : str
        What failed, e.g. ``"Cannot read PET series 4"``.
    cause : str
        The reason, with numbers and units.
    remedy : str
        What the user can do.
    where : str, optional
        File (relative) or series.
    """

    group: ClassVar[str] = "internal"

    def __init__(self, code: str, *, what: str, cause: str, remedy: str, where: str = "") -> None:
        self.code = code
        self.what = what
        self.where = where
        self.cause = cause
        self.remedy = remedy
        head = f"{what}: {where}" if where else what
        super().__init__(f"{head}: {cause.rstrip('.')}. {remedy.rstrip('.')}. [{code}]")

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.code, self.what, self.cause, self.remedy, self.where)


def _rebuild(
    cls: type[MedfuseError], code: str, what: str, cause: str, remedy: str, where: str
) -> MedfuseError:
    return cls(code, what=what, cause=cause, remedy=remedy, where=where)


class InputError(MedfuseError):
    """A file or folder cannot be read as an image (missing, empty, truncated, corrupt, foreign)."""

    group = "input"


class SeriesError(MedfuseError):
    """The files are readable but do not make one volume (mixed, missing, dynamic, duplicate)."""

    group = "series"


class GeometryError(MedfuseError):
    """Position, orientation or spacing is missing, contradictory or impossible."""

    group = "geometry"


class UnitError(MedfuseError):
    """Values have no usable unit (SUV not available, implausible HU, not quantitative)."""

    group = "unit"


class SuvUnavailable(UnitError):
    """SUV cannot be computed; names the DICOM tag that is missing or implausible."""


class RegistrationError(MedfuseError):
    """The two volumes could not be aligned well enough to be fused."""

    group = "registration"


class WeightsError(MedfuseError):
    """Network weights are missing, altered, of another shape, or not safetensors."""

    group = "weights"


class OutputError(MedfuseError):
    """Results cannot be written."""

    group = "output"


class UsageError(MedfuseError):
    """Options contradict each other or ask for something that is not there."""

    group = "usage"
