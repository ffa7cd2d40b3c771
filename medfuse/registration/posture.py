"""How the patient lay by the headers of both series, and what the images say to that.

PatientPosition is a statement beside the geometry (PS3.3 C.7.3.1.1.2): where a voxel lies follows
from ImagePositionPatient and ImageOrientationPatient alone (C.7.6.2.1.1), which are relative to the
patient. So no orientation of the slices contradicts it, and what does is told as a finding: another
position in the same frame of reference, or a table on the wrong side of the patient.
"""

from __future__ import annotations

from typing import Any

from medfuse.registration.evidence import Sign
from medfuse.registration.inputs import Prepared
from medfuse.registration.table import Side, table_side

_FIRST = {"H": "head", "F": "feet", "L": "left side", "R": "right side", "A": "front", "P": "back"}
_LYING = {"S": "supine", "P": "prone", "DL": "on the left side", "DR": "on the right side"}
#: Lying on the back, the left, the front and the right side are quarter turns from each other.
_ROUND = ("S", "DL", "P", "DR")
#: Where the table is for each of these, and in words.
_TABLE: tuple[Side, ...] = ("P", "L", "A", "R")
_WHERE = {"P": "behind", "A": "in front of", "L": "to the left of", "R": "to the right of"}


def posture_of(meta: dict[str, Any]) -> str | None:
    """PatientPosition of a loaded image, e.g. "HFS"; None where it is not known."""
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
    lying = _apart(_ROUND.index(one[2:]), _ROUND.index(two[2:]))
    angle = max(lying, 180.0 if one[0] != two[0] else 0.0)
    reason, remarks = "", []
    if turned:
        reason = (
            f"{said}, but the images fit only after {turned}: one of the two patient positions was "
            "probably entered wrongly, and left and right may be exchanged in that series"
        )
    elif one != two and _share_frame(fixed, moving):
        reason = (
            f"{said}, but both name one frame of reference, in which nobody lies in two ways: one "
            "of the two patient positions is wrong, and left and right may be exchanged in that "
            "series"
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


def about_table(role: str, meta: dict[str, Any], image: Prepared) -> list[Sign]:
    """Compare the patient position of a CT with the side on which its table lies.

    Parameters
    ----------
    role : str
        "anatomical" or "functional".
    meta : dict
        Of the loaded image.
    image : Prepared

    Returns
    -------
    signs : list of Sign
        None where the image is no CT, says no position, or shows no table for certain.
    """
    code = posture_of(meta)
    if code is None or code[0] not in "HF" or meta.get("unit") != "HU":
        return []
    side, expected = table_side(image), _ROUND.index(code[2:])
    if side is None:
        return []
    angle, reason = _apart(_TABLE.index(side), expected), ""
    if angle:
        reason = (
            f"the {role} CT says {words(code)}, but by its coordinates the table lies "
            f"{_WHERE[side]} the patient and not {_WHERE[_TABLE[expected]]} the patient. Its "
            "patient position or its orientation was changed, and left and right may be exchanged"
        )
    return [
        Sign(f"table of the {role} CT", angle, 0.0, "degrees", "look" if angle else "good", reason)
    ]


def _apart(one: int, other: int) -> float:
    """Degrees between two of four sides in order."""
    steps = abs(one - other) % 4
    return 90.0 * min(steps, 4 - steps)


def _share_frame(fixed: dict[str, Any], moving: dict[str, Any]) -> bool:
    frames = [(meta.get("source") or {}).get("frame_of_reference") for meta in (fixed, moving)]
    return frames[0] is not None and frames[0] == frames[1]
