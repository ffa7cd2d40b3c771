"""What a result says of a local deformation: rows of the audit, and the file of displacements."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medfuse.audit import Check
from medfuse.registration.deformation import FILE, Deformation
from medfuse.registration.deformed import (
    ESTIMATE,
    FOLDED,
    MAX_INVERSE_MM,
    MAX_VOLUME_CHANGE,
    not_used,
)
from medfuse.results.vectors import write_vectors

CHECKS = ("deformation", "deformation_inverse", "deformation_volume")


def deformation_checks(facts: Mapping[str, Any] | None) -> list[Check]:
    """Audit checks of a deformation: folding, inverse consistency, volume of the hottest region.

    Parameters
    ----------
    facts : mapping or None
        ``deformation`` of ``transform.json``; nothing is checked where there is none.
    """
    if not facts:
        return []
    if reason := not_used(facts):
        return [_not_used(reason, float(facts["largest_mm"]))]
    least, inverse = float(facts["least_jacobian"]), facts.get("inverse_mm")
    checks = [
        Check(
            "deformation",
            "Deformation does not fold",
            least,
            "times the volume",
            FOLDED,
            "fail" if least <= FOLDED else "pass",
            f"At its most squeezed place the deformation leaves {100 * least:.0f} % of the volume; "
            f"0 or less would be a fold. It moves the body by {facts['mean_mm']:.1f} mm on average "
            f"and by {facts['largest_mm']:.1f} mm at most. {ESTIMATE[0].upper()}{ESTIMATE[1:]}.",
        ),
    ]
    if inverse is not None:
        checks.append(_inverse(float(inverse)))
    return checks + ([_volume(facts["region"])] if facts.get("region") else [])


def _not_used(reason: str, largest_mm: float) -> Check:
    return Check(
        "deformation",
        "Deformation that was asked for",
        largest_mm,
        "mm",
        None,
        "pass",
        f"{reason[0].upper()}{reason[1:]}. All displacements in {FILE} are 0, and the images lie "
        "where the linear registration puts them.",
    )


def _inverse(inverse_mm: float) -> Check:
    return Check(
        "deformation_inverse",
        "Deformation from either image",
        inverse_mm,
        "mm",
        MAX_INVERSE_MM,
        "pass" if inverse_mm <= MAX_INVERSE_MM else "look",
        f"The deformation that is found from the other image brings points back to within "
        f"{inverse_mm:.1f} mm on average (limit {MAX_INVERSE_MM:.0f} mm).",
    )


def _volume(region: Mapping[str, Any]) -> Check:
    change, unit = float(region["volume_change"]) - 1, region["unit"]
    return Check(
        "deformation_volume",
        "Hottest region after the deformation",
        abs(change),
        "relative change of volume",
        MAX_VOLUME_CHANGE,
        "pass" if abs(change) <= MAX_VOLUME_CHANGE else "look",
        f"The hottest region (above half of its highest value, {region['volume_ml']:.1f} ml) "
        f"changes its volume by {100 * change:+.0f} % (limit {100 * MAX_VOLUME_CHANGE:.0f} %). "
        f"Mean value before {region['mean_before']:.4g}, after {region['mean_after']:.4g} {unit}; "
        f"highest value before {region['highest_before']:.4g}, after "
        f"{region['highest_after']:.4g} {unit}. For figures to publish, measure on the original "
        "functional image.",
        dict(region),
    )


def write_deformation(folder: Path, deformation: Deformation) -> None:
    """Write the displacements into a result folder.

    Raises
    ------
    OutputError
        ``E_WRITE``.
    """
    write_vectors(folder / FILE, deformation.displacement, deformation.lattice.affine)
