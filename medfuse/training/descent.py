"""What the descent guides are asked for, pair by pair of modalities; see docs/guides.md."""

from __future__ import annotations

from typing import Any

from medfuse.methods.fitted import KEEP_BONE, KEEP_BOTH

_MINUTE: dict[str, Any] = {
    "architecture": "descent",
    "crop": 128,
    "batch": 6,
    "steps": 340,
    "ema": 0.97,
    "cysts": 0.1,
    "validation": 0.3,
    "validations": 1,
    "group_digits": 3,
}
#: CT in its soft-tissue window, shown in colors that tell it: brightness belongs to the MRI, bone
#: to the CT.
_BONE = {
    "gradient": 2.0,
    "edges": 2.0,
    "detail": 2.0,
    "weaker": 2.0,
    "keep_a": 0.76,
    "base": 0.0,
    "thick": 25.0,
    "tissue": 70.0,
    "explained": 10.0,
}
#: PET in customary maps: the hottest stays bright, and the uptake's order is kept.
_HOT = {
    "weaker": 4.0,
    "keep_b": 0.92,
    "base": 5.0,
    "order": 1.0,
    "keep_order": 0.85,
    "thick": 15.0,
    "thick_pixels": 3,
    "explained": 5.0,
}


def _recipe(
    name: str,
    summary: str,
    wanted: dict[str, Any],
    *,
    rounds: int = 3,
    start: str = "local-energy",
    bone: bool = False,
    **changes: Any,
) -> dict[str, Any]:
    asked = (KEEP_BONE if bone else KEEP_BOTH).model_dump() | wanted
    return {
        **_MINUTE,
        "name": name,
        "summary": summary,
        "options": {"wanted": asked, "rounds": rounds, "start": start},
        "sources": asked,
        **changes,
    }


DESCENT = (
    _recipe(
        "descent",
        "learned steps toward keeping both, in a minute of processor time, on one's own images",
        {},
        validation=0.2,
        group_digits=0,
    ),
    _recipe(
        "descent-pet",
        "learned steps toward keeping both, trained on brain PET and MRI",
        {"edges": 10.0, "keep_b": 0.93, "keep_a": 0.84, "thick": 0.0},
    ),
    _recipe(
        "descent-spect",
        "learned steps toward keeping both, trained on brain SPECT and MRI",
        {"edges": 12.0, "keep_a": 0.82, "keep_b": 0.9, "base": 1.0, "thick": 0.0},
    ),
    _recipe(
        "descent-ct",
        "learned steps toward keeping both, trained on head CT and MRI",
        {"keep_a": 0.9, "keep_b": 0.9, "weaker": 4.0},
        cysts=0.15,
    ),
    _recipe(
        "volume-ct",
        "CT on MRI of volumes in colors that tell the CT: bone from the CT, brightness of the MRI",
        _BONE,
        rounds=4,
        start="ct-mri",
        bone=True,
        crop=96,
        steps=300,
    ),
    _recipe(
        "volume-pet",
        "learned steps toward keeping both, trained on PET over MRI and CT of volumes",
        _HOT,
        crop=96,
        steps=280,
    ),
)
