"""Checks in words: what was found and the most that passes, in one direction."""

from __future__ import annotations

from typing import Any

import pytest

from medfuse.report.words import limit_in_words, value_in_words


def check(name: str, value: float | None, unit: str, limit: float | None, **more: Any) -> Any:
    return {"id": name, "value": value, "unit": unit, "threshold": limit, "verdict": "pass"} | more


@pytest.mark.parametrize(
    ("told", "found", "limit"),
    [
        (check("invented", 0.009, "fraction of voxels", 0.04),
         "fine structure that neither source explains: 0.9 %", "limit 4 %"),
        (check("share", 0.992, "fraction of the luminance", 0.8),
         "functional brightness lost there: 0.8 %", "limit 20 %"),
        (check("detail", 1.0, "fraction of the detail", 0.25),
         "fine detail of the weaker source missing in brightness: 0 %", "limit 75 %"),
        (check("laterality", 0.37, "", 0.0), "better explained when mirrored: -37 %", "limit 0 %"),
        (check("linearity", 2.4e-7, "luminance", 1e-5),
         "brightness from neither source: 2.4e-07", "limit 1e-05"),
        (check("registration", None, "overlap", None),
         "functional image outside the anatomical one: not measured", ""),
        (check("unit", 1.0, "SUVbw", None), "values in SUVbw", ""),
        (check("new", 3.0, "mm", 5.0), "mm: 3", "limit 5"),
        (check("new", 3.0, "", None), "3", ""),
    ],
)  # fmt: skip
def test_less_is_better_in_value_and_limit(told: Any, found: str, limit: str) -> None:
    assert value_in_words(told) == found
    assert limit_in_words(told) == limit


def test_a_limit_that_was_not_applied_says_why() -> None:
    told = check("share", 0.008, "fraction", 0.1, details={"by_colour": True})
    assert limit_in_words(told) == "no limit, because the color shows it"
    assert limit_in_words(told | {"verdict": "look"}) == "limit 90 %"
