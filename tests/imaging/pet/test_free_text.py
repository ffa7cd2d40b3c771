"""Numbers and units as people write them: read, or refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfuse.imaging.pet.free_text import (
    activity_in_bq,
    image_unit,
    mass_in_kg,
    masses_in_prose,
    read_number,
    read_quantity,
)


@pytest.mark.parametrize(
    ("value", "number", "unit"),
    [
        (370, 370.0, ""), ("370", 370.0, ""), ("370.5", 370.5, ""), ("370,5", 370.5, ""),
        ("70 kg", 70.0, "kg"), ("70,5kg", 70.5, "kg"), ("3.7e8", 3.7e8, ""), ([370], 370.0, ""),
        (" -60 ", -60.0, ""), (".5", 0.5, ""), ("0,250", 0.25, ""),
    ],
)  # fmt: skip
def test_numbers_are_read_with_point_or_comma(value: object, number: float, unit: str) -> None:
    found = read_quantity(value)
    assert found is not None
    assert (found.value, found.unit) == (number, unit)


@pytest.mark.parametrize(
    "value",
    ["70,500", "1,234.5", "1 234", "about 70", "<70", "n/a", "", None, True, [1, 2], {}, "nan",
     float("nan"), float("inf")],
)  # fmt: skip
def test_what_has_two_readings_is_no_number(value: object) -> None:
    assert read_quantity(value) is None


@given(st.floats(1e-3, 1e12, allow_nan=False), st.sampled_from(["", " MBq", "kg"]))
def test_every_number_of_python_comes_back(number: float, unit: str) -> None:
    found = read_quantity(f"{number!r}{unit}")
    assert found is not None
    assert (found.value, found.unit) == (number, unit.strip())
    assert read_number(f"{number!r}{unit}") == (None if unit else number)


@pytest.mark.parametrize(
    ("unit", "bq"),
    [
        ("MBq", 1e6), ("mbq", 1e6), ("MBQ", 1e6), ("kBq", 1e3), ("KBq", 1e3), ("Bq", 1.0),
        ("GBq", 1e9), ("mCi", 3.7e7), ("MCi", 3.7e7), ("uCi", 3.7e4), ("µCi", 3.7e4),
        ("μCi", 3.7e4), ("Ci", 3.7e10), ("megabecquerel", 1e6), ("millicurie", 3.7e7),
        ("drops", None), ("", None), ("MBq/kg", None), ("xBq", None), (None, None),
    ],
)  # fmt: skip
def test_units_of_activity(unit: object, bq: float | None) -> None:
    assert activity_in_bq(unit) == bq


@pytest.mark.parametrize(
    ("unit", "kg"),
    [("kg", 1.0), ("KG", 1.0), ("(kg)", 1.0), ("g", 1e-3), ("lbs", 0.45359237), ("lb.", 0.45359237),
     ("Pounds", 0.45359237), ("stone", 6.35029318), ("kilos", 1.0),
     ("stones?", None), ("cm", None)],
)  # fmt: skip
def test_units_of_mass(unit: str, kg: float | None) -> None:
    found = mass_in_kg(unit)
    assert found == (None if kg is None else pytest.approx(kg))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("body weight in kg", 1), ("Weight (lbs)", 1), ("weight, e.g. 70", 0), ("weight [g]", 1),
        ("kg or pounds", 2), ("weight in g at the first visit", 1), ("", 0), ("weighing scale", 0),
    ],
)  # fmt: skip
def test_units_in_prose(text: str, count: int) -> None:
    assert len(masses_in_prose(text)) == count


@pytest.mark.parametrize(
    ("text", "unit", "factor"),
    [
        *[(t, "Bq/ml", 1.0) for t in ("Bq/mL", "BQML", "bq/cc", "Bq / ml", "Bq.mL-1", "Bq/cm3",
                                      "Bq/cm^3", "becquerel/ml", "Bq per mL", "Bqcc")],
        ("kBq/ml", "Bq/ml", 1e3), ("KBQ/ML", "Bq/ml", 1e3), ("MBq/ml", "Bq/ml", 1e6),
        ("nCi/cc", "Bq/ml", 37.0), ("uCi/ml", "Bq/ml", 3.7e4),
        ("SUV", "SUVbw", 1.0), ("g/ml", "SUVbw", 1.0), ("GML", "SUVbw", 1.0),
        ("SUVbw", "SUVbw", 1.0),
        ("HU", "HU", 1.0), ("CNTS", "counts", 1.0), ("arbitrary", "a.u.", 1.0),
    ],
)  # fmt: skip
def test_units_of_images(text: str, unit: str, factor: float) -> None:
    found = image_unit(text)
    assert found is not None
    assert (found[0], found[1]) == (unit, pytest.approx(factor))


@pytest.mark.parametrize(
    "text", ["mBq/ml", "mbq/ml", "SUVR", "SUVlbm", "SUL", "%ID/g", "BP_ND", "Bq", "Bq/kg", {}, []]
)
def test_a_unit_with_two_readings_or_of_something_else_is_unknown(text: object) -> None:
    assert image_unit(text) is None
