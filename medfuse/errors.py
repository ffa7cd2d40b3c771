"""What can go wrong, said in one line: every error carries a stable code and a remedy.

Imports nothing, so that every room may raise from here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import ClassVar, Self

#: Said in every result, on every page and in the help.
NOTICE = "Research use only: not a medical device, not for diagnosis or treatment."
#: Where it has to be short: in DICOM and BIDS files.
SHORT_NOTICE = "Research use only, not for diagnosis."

#: How a front end names a setting and the value that is advised ("" for none).
Words = Callable[[str, str], str]

# Private-use characters: a file name that we print cannot be mistaken for them.
_OPEN, _BETWEEN, _CLOSE = "\ue000", "\ue001", "\ue002"
_OPTION = re.compile(f"{_OPEN}(.*?){_BETWEEN}(.*?){_CLOSE}")


def option(name: str, value: str = "") -> str:
    """Mention a setting in a cause or a remedy; every front end says it in its own words.

    Parameters
    ----------
    name : str
        Keyword of the function that raises, or a field of `CaseSettings`.
    value : str
        What it should be set to, e.g. ``mean`` or ``LOW HIGH``.
    """
    return f"{_OPEN}{name}{_BETWEEN}{value}{_CLOSE}"


def keyword(name: str, value: str) -> str:
    """The words of Python: ``name=value``."""
    return f"{name}={value}" if value else name


def in_words(text: str, words: Words) -> str:
    """Put the words of a front end in place of every `option`."""
    return _OPTION.sub(lambda found: words(found[1], found[2]), text)


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
        What the user can do. Settings are mentioned by :func:`option`, here and in `cause`.
    where : str, optional
        File (relative) or series.
    """

    group: ClassVar[str] = "internal"

    def __init__(self, code: str, *, what: str, cause: str, remedy: str, where: str = "") -> None:
        self.code = code
        self.what = what
        self.where = where
        self._cause = cause
        self._remedy = remedy
        super().__init__(code, what, cause, remedy, where)

    @property
    def cause(self) -> str:
        """The reason, with settings named as Python has them."""
        return in_words(self._cause, keyword)

    @property
    def remedy(self) -> str:
        """What the user can do, with settings named as Python has them."""
        return self.remedy_in(keyword)

    def remedy_in(self, words: Words) -> str:
        """What the user can do, with settings named as a front end has them."""
        return in_words(self._remedy, words)

    def __str__(self) -> str:
        return self.told(keyword)

    def told(self, words: Words) -> str:
        """The whole line, with settings named as a front end has them."""
        head = f"{self.what}: {self.where}" if self.where else self.what
        line = f"{head}: {self._cause.rstrip('.')}. {self._remedy.rstrip('.')}. [{self.code}]"
        return in_words(line, words)

    def renamed(self, names: Mapping[str, str]) -> Self:
        """The same error for a caller that has other names for the settings of a function."""
        return self.reworded(lambda name, value: option(names.get(name, name), value))

    def reworded(self, words: Words) -> Self:
        """The same error with settings named as a front end has them, for who prints it there."""
        what, cause, remedy = (in_words(x, words) for x in (self.what, self._cause, self._remedy))
        return type(self)(self.code, what=what, cause=cause, remedy=remedy, where=self.where)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.code, self.what, self._cause, self._remedy, self.where)


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
