"""Is the fused picture faithful to its two sources? Numbers, thresholds and verdicts.

Every check states what was measured, the limit and its reason (docs/audit.md); none of them trusts
the guide.
"""

from __future__ import annotations

from medfuse.audit.colour import picture, uptake_read_back
from medfuse.audit.decomposition import decomposition, overshoot
from medfuse.audit.hot_spots import lesion_contrast
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
from medfuse.audit.structure import estimated_share, invented, unexplained_map
from medfuse.audit.sums import gather
from medfuse.kernel.threads import one_thread

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
    "estimated_share",
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
        Checks ``linearity``, ``bounded``, ``weights``, ``finite``, ``invented``, ``share``,
        ``hot_spots``, ``overshoot``, ``gamut``, ``chroma``, ``coverage``, ``window``,
        ``laterality``, for a picture of another tool ``position``, and for a scalar with a colour
        map ``read_back``.
    """
    with one_thread():
        return Audit(tuple(_checks(evidence)))


def _checks(evidence: Evidence) -> list[Check]:
    sums = gather(evidence)
    readable = list(uptake_read_back(evidence.read_back))
    checks = [*decomposition(sums, evidence), invented(evidence)]
    if evidence.share is not None:
        by_colour = any(check.verdict == "pass" for check in readable)
        checks.append(share(sums, evidence, by_colour=by_colour))
    checks += lesion_contrast(evidence)
    if evidence.overshoot is not None:
        checks.append(overshoot(sums))
    checks += [*picture(sums, evidence), laterality(evidence)]
    if evidence.is_foreign:
        checks.append(position(evidence))
    return [*checks, *readable]
