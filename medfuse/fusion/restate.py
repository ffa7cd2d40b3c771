"""The evidence of a fusion from its stored volumes, without the anatomical image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from medfuse.audit import Evidence
from medfuse.fusion.evidence import evidence_of_picture
from medfuse.fusion.planes import in_slices
from medfuse.fusion.slices import Repainted
from medfuse.fusion.sources import Sources

#: Checks of the audit in which the anatomical image has no part.
TOLD = (
    "bounded", "weights", "finite", "share", "hot_spots", "gamut", "chroma", "coverage", "window",
    "read_back",
)  # fmt: skip


def restated_evidence(
    sources: Sources, again: Repainted, volumes: Mapping[str, Tensor]
) -> Evidence:
    """What the checks `TOLD` look at; the others would take the luminance for the anatomy.

    Parameters
    ----------
    sources : Sources
        As of `repaint`.
    again : Repainted
        The picture painted again.
    volumes : dict of (1, X, Y, Z) float32
        ``weights``, ``share`` and, if stored, ``bound_change`` and ``painted``.
    """
    # Contiguous, as they were: the order in which numbers are summed decides the last digit.
    planes: dict[str, Any] = {
        name: in_slices(volume, again.order).contiguous() for name, volume in volumes.items()
    }
    picture = again.picture
    shown = evidence_of_picture(sources, again.order, again.pair, again.pair.b, picture.rgb)
    return replace(
        shown,
        gamut_change=picture.gamut_change,
        chroma_change=picture.chroma_change,
        chroma_change_before=picture.chroma_change_before,
        **planes,
    )
