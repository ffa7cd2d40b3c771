"""Is the fused picture faithful to its two sources? Numbers, thresholds and verdicts.

Every check states what was measured, the limit and its reason (docs/audit.md); none of them trusts
the guide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from medfuse.audit.both_sources import both_sources, contradiction_map, judged_by_colour
from medfuse.audit.colour import picture, read_back_checks
from medfuse.audit.decomposition import decomposition, overshoot
from medfuse.audit.hot_spots import find_hot_spots, lesion_contrast
from medfuse.audit.model import (
    GREY_LEVEL,
    SCHEMA,
    Audit,
    Check,
    Evidence,
    Functional,
    ReadBack,
    Verdict,
)
from medfuse.audit.orientation import laterality, position
from medfuse.audit.share import share
from medfuse.audit.structure import estimated_share, estimated_weights, invented, unexplained_map
from medfuse.audit.sums import gather
from medfuse.kernel.threads import share_out

__all__ = [
    "GREY_LEVEL",
    "SCHEMA",
    "Audit",
    "Check",
    "Evidence",
    "Functional",
    "ReadBack",
    "Verdict",
    "audit_fusion",
    "contradiction_map",
    "estimated_share",
    "estimated_weights",
    "unexplained_map",
]


def audit_fusion(evidence: Evidence) -> Audit:
    """Check one fused image or volume against its two sources.

    Parameters
    ----------
    evidence : Evidence
        Sources, picture and what is known of the fusion, on one grid in slice order. Checks
        without evidence are left out.

    Returns
    -------
    Audit
        Checks ``linearity``, ``bounded``, ``weights``, ``finite``, ``invented``, ``detail``,
        ``contradiction``, ``share``,
        ``hot_spots``, ``overshoot``, ``gamut``, ``chroma``, ``coverage``, ``window``,
        ``laterality``, for a picture of another tool ``position``, and for a scalar with a colour
        map ``read_back`` and, where both images can be read, ``anatomy_back``.
    """
    found: dict[str, Any] = {}
    questions: dict[str, Callable[[Evidence], Any]] = {
        "hot_spots": find_hot_spots,
        "sums": gather,
        "read_back": lambda e: list(read_back_checks(e.read_back)),
        "both": lambda e: list(both_sources(e)) if not e.colours_unknown else [],
        "invented": invented,
        "laterality": laterality,
        "position": lambda e: [position(e)] if e.is_foreign else [],
    }
    share_out(lambda name: found.update({name: questions[name](evidence)}), list(questions))
    return Audit(tuple(_in_order(evidence, found)))


def _in_order(evidence: Evidence, found: dict[str, Any]) -> Iterator[Check]:
    sums = found["sums"]
    yield from decomposition(sums, evidence)
    yield found["invented"]
    by_colour = any(check.verdict == "pass" for check in found["read_back"])
    for check in found["both"]:
        yield (judged_by_colour(check, uptake_is_read=by_colour) if check.id == "detail" else check)
    if evidence.share is not None:
        yield share(sums, evidence, by_colour=by_colour)
    yield from lesion_contrast(evidence, found["hot_spots"])
    if evidence.overshoot is not None:
        yield overshoot(sums)
    yield from picture(sums, evidence, found["hot_spots"])
    yield found["laterality"]
    yield from (*found["position"], *found["read_back"])
