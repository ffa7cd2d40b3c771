"""Patient positions of two series, against each other and against what the images say."""

from __future__ import annotations

import pytest

from medfuse.registration.posture import about_posture, posture_of

TURN = "half a turn about the front-back axis"


def meta(code: object) -> dict:
    return {"source": {"kind": "dicom", "patient_position": code}}


@pytest.mark.parametrize(
    ("fixed", "moving", "turned", "angle", "verdict", "words"),
    [
        ("HFS", "HFS", "", 0.0, "good", ""),
        ("HFS", "FFS", "", 180.0, "good", ""),
        ("HFP", "HFS", "", 180.0, "look", "prone (HFP)"),
        ("FFDL", "HFS", "", 180.0, "look", "on the left side (FFDL)"),
        ("HFDR", "HFP", "", 90.0, "look", "on the right side (HFDR)"),
        ("HFDL", "HFDR", "", 180.0, "look", "soft parts"),
        ("HFS", "FFS", TURN, 180.0, "look", "feet first, supine (FFS)"),
        ("HFS", "HFS", TURN, 0.0, "look", "probably entered wrongly"),
    ],
)
def test_two_positions(fixed, moving, turned, angle, verdict, words):
    (sign,), remarks = about_posture(meta(fixed), meta(moving), turned)
    assert (sign.name, sign.value, sign.verdict) == ("patient position", angle, verdict)
    assert words in sign.reason
    assert bool(sign.reason) == (verdict == "look")
    assert bool(remarks) == (verdict == "good" and fixed != moving)


@pytest.mark.parametrize("code", [None, "", "HF", "HFX", "hfs", "XFS", "HHS", 7])
def test_what_is_no_position_says_nothing(code):
    assert posture_of(meta(code)) is None
    assert about_posture(meta("HFS"), meta(code), TURN) == ([], [])
    assert posture_of({"source": None}) is None
