"""What a deformation is worth: its signs, and what it makes of a registration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from medfuse.registration.deformation import Deformation
from medfuse.registration.evidence import Sign, Verdict
from medfuse.registration.grounds import Grounds
from medfuse.registration.inputs import Prepared
from medfuse.registration.model import DEFORMED, Registration
from medfuse.registration.progress import Meter

if TYPE_CHECKING:
    from monai.data.meta_tensor import MetaTensor

ESTIMATE = (
    "a deformation is an estimate and no measurement: nothing in the images proves that tissue "
    "moved like this"
)
#: A place that is squeezed to nothing, or turned inside out.
FOLDED = 0.0
#: Mean distance between what is found from either image: most persons in docs/lab/registration.md
#: lie below it, and a lesion of 10 mm is missed above it.
MAX_INVERSE_MM = 5.0
#: Change of the volume of the hottest region: as much as 0.7 mm of the radius of a lesion of 30 mm.
MAX_VOLUME_CHANGE = 0.15
_ORDER: tuple[Verdict, ...] = ("good", "look", "suspect")


def with_deformation(
    found: Registration,
    fixed: Prepared,
    moving: Prepared,
    volume: MetaTensor,
    *,
    preset: str,
    meter: Meter,
) -> Registration:
    """Deform after a linear registration, and judge it: if used, never better than "look".

    Parameters
    ----------
    volume : (1, X, Y, Z) MetaTensor
        The moving volume as loaded.

    Raises
    ------
    RegistrationError
        ``E_REGISTRATION`` where too little of the body lies in both fields of view.
    """
    from medfuse.registration.local import deform  # torch is slow to import

    witnesses = found.expected.witnesses if found.expected else ()
    deformation = deform(
        fixed, moving, found.matrix, witnesses=witnesses, preset=preset, meter=meter
    )
    return _judged(found, deformation, volume)


def with_given(found: Registration, deformation: Deformation, volume: MetaTensor) -> Registration:
    """Add a deformation that somebody gave to a linear map that was kept, and judge it alike.

    Parameters
    ----------
    volume : (1, X, Y, Z) MetaTensor
        The moving volume as loaded.
    """
    return _judged(found, deformation, volume)


def _judged(found: Registration, deformation: Deformation, volume: MetaTensor) -> Registration:
    from medfuse.registration.uptake import hot_region

    if deformation.moves:
        region = hot_region(volume, found.fixed_grid, found.matrix, deformation)
        deformation = replace(deformation, region=region)
    signs = deformation_signs(deformation.to_dict())
    reasons = tuple(sign.reason for sign in signs if sign.reason)
    return replace(
        found,
        deformation=deformation,
        method=found.method + (DEFORMED if deformation.moves else ""),
        verdict=max((found.verdict, *(sign.verdict for sign in signs)), key=_ORDER.index),
        signs=(*found.signs, *signs),
        reasons=(*reasons, *found.reasons),
    )


def not_used(facts: Mapping[str, Any]) -> str:
    """Why a deformation was found and not used; empty where it was, or where none was found."""
    told = facts.get("grounds")
    return Grounds(**told).why_not if told and not facts["largest_mm"] else ""


def deformation_signs(facts: Mapping[str, Any]) -> tuple[Sign, ...]:
    """Judge what `Deformation.to_dict` says."""
    if reason := not_used(facts):
        return (Sign("deformation", facts["mean_mm"], 0.0, "mm", "good", reason),)
    least, inverse = float(facts["least_jacobian"]), facts.get("inverse_mm")
    moved = f"by {facts['mean_mm']:.1f} mm on average, {facts['largest_mm']:.1f} mm at most"
    signs = [
        Sign("deformation", facts["mean_mm"], 0.0, "mm", "look", f"{ESTIMATE} ({moved})"),
        Sign(
            "least Jacobian",
            least,
            FOLDED,
            "times the volume",
            "good" if least > FOLDED else "suspect",
            "" if least > FOLDED else f"the deformation folds (least Jacobian {least:.2f})",
        ),
    ]
    if inverse is not None:
        signs.append(_about_inverse(float(inverse)))
    if region := facts.get("region"):
        change = abs(float(region["volume_change"]) - 1)
        signs.append(
            Sign(
                "volume of the hottest region",
                change,
                MAX_VOLUME_CHANGE,
                "relative change",
                "good" if change <= MAX_VOLUME_CHANGE else "look",
                ""
                if change <= MAX_VOLUME_CHANGE
                else f"the deformation changes the volume of the hottest region by "
                f"{100 * (region['volume_change'] - 1):+.0f} % (at most "
                f"{100 * MAX_VOLUME_CHANGE:.0f} % is expected)",
            )
        )
    return tuple(signs)


def _about_inverse(inverse_mm: float) -> Sign:
    ok = inverse_mm <= MAX_INVERSE_MM
    return Sign(
        "inverse consistency",
        inverse_mm,
        MAX_INVERSE_MM,
        "mm",
        "good" if ok else "look",
        ""
        if ok
        else f"the deformations from either image to the other disagree by {inverse_mm:.1f} mm "
        f"on average (at most {MAX_INVERSE_MM:.0f} mm is expected)",
    )
