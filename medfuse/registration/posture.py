"""How the patient lay by the headers of both series, and what the images say to that."""

from __future__ import annotations

from typing import Any

from medfuse.registration.evidence import Sign

_FIRST = {"H": "head", "F": "feet", "L": "left side", "R": "right side", "A": "front", "P": "back"}
_LYING = {"S": "supine", "P": "prone", "DL": "on the left side", "DR": "on the right side"}
#: Lying on the back, the left, the front and the right side are quarter turns from each other.
_ROUND = ("S", "DL", "P", "DR")


def posture_of(meta: dict[str, Any]) -> str | None:
    """PatientPosition of a loaded image, e.g. "HFS"; None where it is not known (NIfTI)."""
    code = (meta.get("source") or {}).get("patient_position")
    if not isinstance(code, str) or code[1:2] != "F":
        return None
    return code if code[0] in _FIRST and code[2:] in _LYING else None


def words(code: str) -> str:
    """A code in words: "head first, supine (HFS)"."""
    return f"{_FIRST[code[0]]} first, {_LYING[code[2:]]} ({code})"


def about_posture(
    fixed: dict[str, Any], moving: dict[str, Any], turned: str
) -> tuple[list[Sign], list[str]]:
    """Compare the patient positions of both series with one another and with the images.

    Parameters
    ----------
    fixed, moving : dict
        ``meta`` of the images.
    turned : str
        The turn against the headers after which the images fit; empty for none.

    Returns
    -------
    signs : list of Sign
        None where a series does not say how the patient lay.
    remarks : list of str
        What is worth to be known where the sign is good.
    """
    one, two = posture_of(fixed), posture_of(moving)
    if one is None or two is None:
        return [], []
    said = f"the anatomical series says {words(one)}, the functional one {words(two)}"
    steps = abs(_ROUND.index(one[2:]) - _ROUND.index(two[2:])) % 4
    lying = 90.0 * min(steps, 4 - steps)
    angle = max(lying, 180.0 if one[0] != two[0] else 0.0)
    reason, remarks = "", []
    if turned:
        reason = (
            f"{said}, but the images fit only after {turned}: one of the two patient positions was "
            "probably entered wrongly, and left and right may be exchanged in that series"
        )
    elif lying:
        reason = (
            f"{said}: soft parts such as breast and belly lie otherwise in the two, and no rigid "
            "registration is right for them"
        )
    elif one != two:
        remarks = [f"{said}; the images agree with the orientation in both headers"]
    sign = Sign("patient position", angle, 0.0, "degrees", "look" if reason else "good", reason)
    return [sign], remarks
