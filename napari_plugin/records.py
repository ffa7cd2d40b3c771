"""What jobs hand over: a pair, how it lies, what was fused. Plain values, which import no work."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from monai.data import MetaTensor
from numpy.typing import NDArray

from medfuse.audit import Audit
from medfuse.errors import RegistrationError
from medfuse.fusion import FusionResult
from medfuse.registration.region import Region
from medfuse.registration.result import Registration
from medfuse.settings import CaseSettings
from napari_plugin.must_fit import RegionKey
from napari_plugin.outputs import Output
from napari_plugin.settings import USUAL
from napari_plugin.source import Source

#: Tokens of the first slice of a run that goes on, and of one at a coarse position.
EARLY, COARSE = "early", "coarse"


def new_token() -> str:
    """A word by which layers find the fusion or alignment that they come from."""
    return secrets.token_hex(6)


@dataclass(frozen=True)
class Pair:
    """The two layers as they were when a job began."""

    anatomical: Source
    functional: Source
    key: Any

    @property
    def title(self) -> str:
        """Names of both layers."""
        return f"{self.anatomical.name} + {self.functional.name}"

    @property
    def words(self) -> tuple[str, str]:
        """Modality of the functional and of the anatomical image."""
        return tuple(s.meta["modality"] for s in (self.functional, self.anatomical))

    @property
    def statements(self) -> dict[str, Any]:
        """What the user stated and chose of images from files, as settings of a case."""
        found = self._reading()
        for role, source in (("anatomical", self.anatomical), ("functional", self.functional)):
            if source.path is None:
                continue
            if "modality" in source.stated:
                found[f"{role}_modality"] = source.stated["modality"]
            if "series" in source.opened:
                found[f"{role}_series"] = str(source.opened["series"])
            if "frame" in source.opened:
                found["frame"] = source.opened["frame"]
        if self.functional.path is not None and "unit" in self.functional.stated:
            found["functional_unit"] = self.functional.stated["unit"]
        return found

    def _reading(self) -> dict[str, Any]:
        """The settings with which both were read: one that an image did not need is the other's."""
        unusual = [source.opened for source in (self.functional, self.anatomical)]
        found = dict(USUAL)
        for name, usual in USUAL.items():
            if isinstance(usual, bool):
                values = [read.get(name, usual) for read in unusual]
                found[name] = any(values)
            else:
                found[name] = unusual[0].get(name, usual)
        return found


@dataclass(frozen=True, eq=False)
class Aligned:
    """A pair, its registration and the resampled image.

    ``on_grid``: (C, X, Y, Z) MetaTensor, functional, on the anatomical grid. ``region`` had to fit
    above all; ``asked`` says what it was chosen by.
    """

    pair: Pair
    registration: Registration
    on_grid: MetaTensor
    region: Region | None = None
    asked: RegionKey | None = None
    token: str = field(default_factory=new_token)


@dataclass(frozen=True, eq=False)
class Refused:
    """An alignment that should not be fused unseen, and why."""

    aligned: Aligned
    error: RegistrationError


@dataclass(frozen=True, eq=False)
class Charts:
    """What the plots of the audit show, inside the functional field of view.

    ``weights``: (50,) voxels by weight from 0 to 1; ``profile``: mean share of the anatomical
    image in every slice from superior, NaN where nothing was measured.
    """

    weights: NDArray[Any]
    profile: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Fusion:
    """A finished fusion and all that belongs to it.

    Attributes
    ----------
    record : str
        Its provenance as text.
    contents : (int, int)
        Checksums of the voxels of both layers, by which an edit in place is found.
    charts : Charts or None
        None of an opened result.
    opened : str
        Name of the folder it was opened from; "" where it was made here.
    """

    aligned: Aligned
    settings: CaseSettings
    result: FusionResult
    audit: Audit
    outputs: tuple[Output, ...]
    charts: Charts | None
    record: str = ""
    contents: tuple[int, int] = (0, 0)
    opened: str = ""
    token: str = field(default_factory=new_token)

    @property
    def pair(self) -> Pair:
        """What was fused."""
        return self.aligned.pair

    @property
    def registration(self) -> Registration:
        """How it was aligned."""
        return self.aligned.registration

    @property
    def on_grid(self) -> MetaTensor:
        """(C, X, Y, Z) functional image on the anatomical grid."""
        return self.aligned.on_grid


@dataclass(frozen=True, eq=False)
class Early:
    """The picture of a run that goes on, with one slice fused."""

    picture: Output
    source: Source
    token: str = EARLY


@dataclass(frozen=True, eq=False)
class PaintedSlice:
    """One slice of a picture: ``rgb`` uint8 belongs at ``where`` in its array."""

    fusion: Fusion
    where: tuple[slice, ...]
    rgb: NDArray[np.uint8]
