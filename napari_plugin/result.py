"""The result that is shown, and whether it is that of what is chosen now.

Names of layers, status, tabs, read-out and export all ask this one object.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from medfuse.registration.result import Registration
from medfuse.settings import PAIR_SETTINGS, CaseSettings, names_in
from napari_plugin.must_fit import RegionKey
from napari_plugin.records import Fusion, Pair

HEADLINES = {"pass": "every check passed", "look": "worth a look", "fail": "do not use"}
#: Settings that decide nothing in a picture, or that stand on the layers.
_ASIDE = {"accept_suspect", *PAIR_SETTINGS, *names_in(("Reading", "Output"))}


class LayerKey(NamedTuple):
    """What a layer was when it was read; ``content``: checksum of a part of its voxels."""

    layer: str
    data: int
    content: int
    place: bytes
    units: str
    said: tuple[str, ...]


PairKey = tuple[LayerKey | None, LayerKey | None]


@dataclass(frozen=True)
class Now:
    """What is chosen: both layers, how they are aligned (None: not yet), the settings, and the
    region that the registration must get right."""

    key: PairKey
    registration: Registration | None
    settings: CaseSettings
    region: RegionKey | None = None


@dataclass(frozen=True, eq=False)
class Result:
    """A finished fusion, and what it is a result of.

    Attributes
    ----------
    fusion : Fusion
    why : str
        Empty while it belongs to what is chosen; else what it is of: "of an earlier pair (...)".
    """

    fusion: Fusion
    why: str = ""

    @classmethod
    def of(cls, fusion: Fusion, now: Now) -> Result:
        """Judge a fusion against what is chosen now."""
        return cls(fusion, _difference(fusion, now))

    @property
    def is_current(self) -> bool:
        """Whether it is the result of what is chosen now."""
        return not self.why

    @property
    def status(self) -> str:
        """One line for the status of the panel."""
        verdict = self.fusion.audit.verdict
        if self.fusion.opened:
            return f"Opened {self.fusion.opened}: audit {verdict.upper()}, {HEADLINES[verdict]}."
        if not self.is_current:
            return f"Not fused yet: picture, audit and record are {self.why}."
        return f"Audit: {verdict.upper()}, {HEADLINES[verdict]}. See the Audit tab."

    @property
    def suffix(self) -> str:
        """What is added to the names of its layers."""
        return "" if self.is_current or self.fusion.opened else f" ({self.why})"

    @property
    def question(self) -> str:
        """What is asked before a result is written that is not of what is chosen."""
        return (
            f"What you are about to write is {self.why}. It does not show what is chosen now. "
            "Press Fuse first to write the present choice. Write the earlier result nevertheless?"
        )

    def headed(self, text: str) -> str:
        """A text about it; it says first of what it is, where that is not what is chosen."""
        return text if self.is_current else f"{self.why[0].upper()}{self.why[1:]}: {text}"


def without_statements(settings: CaseSettings) -> CaseSettings:
    """Settings without what was stated of one pair."""
    return CaseSettings(**decisive(settings))


def earlier_pair(pair: Pair) -> str:
    """What is said of something that was made of other layers than those that are chosen."""
    return f"of an earlier pair ({pair.title})"


def _difference(fusion: Fusion, now: Now) -> str:
    pair = fusion.pair
    if fusion.opened:
        return f"of the opened result {fusion.opened}"
    sources = (pair.anatomical, pair.functional)
    for then, key in zip(pair.key, now.key, strict=True):
        if key is None or then is None or key.layer != then.layer:
            return earlier_pair(pair)
    for then, key, source in zip(pair.key, now.key, sources, strict=True):
        if what := _changed(then, key):
            return f"made before {what} of {source.name} changed"
    if fusion.aligned.asked != now.region:
        return "made before the region of the registration changed"
    if now.registration is None or not _same_place(fusion.registration, now.registration):
        return "made before the alignment changed"
    if decisive(fusion.settings) != decisive(now.settings):
        return "made before the settings changed"
    return ""


def _changed(then: Any, now: Any) -> str:
    if (then.place, then.units) != (now.place, now.units):
        return "the place"
    if (then.data, then.content) != (now.data, now.content):
        return "the voxels"
    return "modality or unit" if then.said != now.said else ""


def _same_place(one: Registration, other: Registration) -> bool:
    same = one.deformation is other.deformation
    return same and bool(np.array_equal(one.matrix, other.matrix))


def decisive(settings: CaseSettings) -> dict[str, Any]:
    """The settings that make another picture of the same layers where they differ."""
    return settings.model_dump(exclude=_ASIDE)
