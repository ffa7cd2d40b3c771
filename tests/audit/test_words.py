"""Checks in words: what was found and what it should be, in one direction."""

from __future__ import annotations

from typing import Any

import pytest

from medfuse.audit.words import limit_in_words, value_in_words


def check(name: str, value: float | None, unit: str, limit: float | None, **more: Any) -> Any:
    return {"id": name, "value": value, "unit": unit, "threshold": limit, "verdict": "pass"} | more


@pytest.mark.parametrize(
    ("told", "found", "limit"),
    [
        (check("invented", 0.00927, "fraction of voxels", 0.04), "0.927 % of voxels",
         "at most 4 %"),
        (check("hot_spots", 1.0, "fraction of the contrast", 0.5), "100 % of the contrast",
         "at least 50 %"),
        (check("detail", -0.0, "fraction of the detail", 0.25), "0 % of the detail",
         "at least 25 %"),
        (check("linearity", 2.4e-7, "luminance", 1e-5), "2.4e-07 luminance", "below 1e-05"),
        (check("registration", 0.93, "overlap", None), "93 % overlap", ""),
        (check("unit", 1.0, "SUVbw", None), "SUVbw", ""),
        (check("gamut", None, "", None), "–", ""),
    ],
)  # fmt: skip
def test_value_and_limit_are_said_in_the_same_direction(told: Any, found: str, limit: str) -> None:
    assert value_in_words(told) == found
    assert limit_in_words(told) == limit


def test_a_limit_that_was_not_applied_says_why() -> None:
    told = check("share", 0.008, "fraction", 0.1, details={"by_colour": True})
    assert limit_in_words(told).startswith("at least 10 %, not applied: the uptake is read")
    assert limit_in_words(told | {"verdict": "look"}) == "at least 10 %"
