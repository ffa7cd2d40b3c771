"""Numbers and units as people write them in sidecars and tables: read, or refused."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

_NUMBER = re.compile(
    r"\s*([+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d+)?)\s*(.*?)\s*", re.DOTALL
)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
_MISSING = frozenset({"", "n/a", "na", "nan", "none", "null", "-", "unknown", "missing"})
_PREFIXES = {"": 1.0, "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9}
_WORDS = {"nano": "n", "micro": "u", "milli": "m", "kilo": "k", "mega": "M", "giga": "G"}
_CURIE = 3.7e10
_VOLUMES = frozenset({"ml", "cc", "cm3", "cm^3", "cm**3", "milliliter", "millilitre", "cubiccm"})
_GRAMS = {
    **dict.fromkeys(("kg", "kgs", "kilo", "kilos", "kilogram", "kilograms", "kilogramme"), 1e3),
    **dict.fromkeys(("g", "gram", "grams", "gramme"), 1.0),
    **dict.fromkeys(("lb", "lbs", "pound", "pounds"), 453.59237),
    **dict.fromkeys(("st", "stone", "stones"), 6350.29318),
    **dict.fromkeys(("oz", "ounce", "ounces"), 28.349523125),
}
#: In prose only words that can mean nothing else, and symbols in brackets or after "in".
_MASS_IN_PROSE = re.compile(
    r"\b(kgs?|kilograms?|kilogrammes?|lbs?|pounds?|grams?|grammes?|stones?|ounces?)\b"
    r"|[(\[]\s*(g|st|oz)\s*[)\]]|\bin (g|st|oz)\b",
    re.IGNORECASE,
)
_SUV = frozenset({"suv", "suvbw", "g/ml", "gml", "suv(g/ml)", "suvbw(g/ml)", "g/ml(suv)"})
_SUV |= {"g/ml(suvbw)", "suv(bw)", "g/ml{suvbw}", "{suvbw}g/ml", "g/cc", "g/cm3"}
_COUNTS = frozenset({"counts", "count", "cnts", "cts"})
_ARBITRARY = frozenset({"a.u.", "au", "arbitrary", "arbitraryunits", "none", "unitless", "1"})
_ARBITRARY |= {"dimensionless", "n/a", "cps", "counts/sec", "counts/s", "propcps", "propcnts"}


@dataclass(frozen=True)
class Quantity:
    """A number with the unit text behind it ("" where there is none)."""

    value: float
    unit: str


def is_missing(value: object) -> bool:
    """Whether an entry says that there is no value: null, empty, n/a."""
    return value is None or (isinstance(value, str) and value.strip().lower() in _MISSING)


def read_quantity(value: object) -> Quantity | None:
    """Read 370, "370", "370,5", "70 kg"; None for what is no single finite number.

    A comma is a decimal one, but before exactly three digits, where it may part thousands: that
    is not read.
    """
    if isinstance(value, list):
        return read_quantity(value[0]) if len(value) == 1 else None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    found = _NUMBER.fullmatch(str(value))
    if found is None or _THOUSANDS.fullmatch(found[1]):
        return None
    if found[2][:1].isdigit() or found[2][:1] in (".", ","):
        return None
    number = float(found[1].replace(",", "."))
    return Quantity(number, found[2]) if math.isfinite(number) else None


def read_number(value: object) -> float | None:
    """Read a number without unit; None for anything else."""
    found = read_quantity(value)
    return found.value if found and not found.unit else None


def activity_in_bq(unit: object) -> float | None:
    """Becquerel in one unit of activity, e.g. 1e6 for "MBq"; None for what is none.

    Nobody injects milli- or thousand-millionfold less: "mbq" and "MBQ" are megabecquerel, "mci"
    and "MCi" are millicurie.
    """
    text = _plain(unit)
    for bare, size, of_m in (
        ("becquerels", 1.0, 1e6), ("becquerel", 1.0, 1e6), ("bq", 1.0, 1e6),
        ("curies", _CURIE, 1e-3), ("curie", _CURIE, 1e-3), ("ci", _CURIE, 1e-3),
    ):  # fmt: skip
        if text.lower().endswith(bare):
            prefix = text[: len(text) - len(bare)].lower()
            if prefix == "m":
                return size * of_m
            letter = _WORDS.get(prefix, {"g": "G"}.get(prefix, prefix))
            return size * _PREFIXES[letter] if letter in _PREFIXES else None
    return None


def mass_in_kg(unit: object) -> float | None:
    """Kilogram in one unit of mass, e.g. 0.4536 for "lbs"; None for what is none."""
    grams = _GRAMS.get(str(unit).strip().strip("()[].").lower())
    return None if grams is None else grams / 1e3


def masses_in_prose(text: object) -> set[float]:
    """Kilogram in one of each unit of mass that a description speaks of."""
    words = (found for groups in _MASS_IN_PROSE.findall(str(text)) for found in groups if found)
    return {kg for word in words if (kg := mass_in_kg(word)) is not None}


def image_unit(text: object) -> tuple[str, float] | None:
    """Our unit of the values of an image, and the factor to it; None for what is not known.

    "mBq/ml" is not known: milli and mega are both written so.
    """
    plain = _plain(text)
    lower = plain.lower()
    if lower in _SUV:
        return "SUVbw", 1.0
    if lower in ("hu", "hounsfield", "hounsfieldunits"):
        return "HU", 1.0
    if lower in _COUNTS:
        return "counts", 1.0
    if lower in _ARBITRARY:
        return "a.u.", 1.0
    return _concentration(plain)


def _concentration(plain: str) -> tuple[str, float] | None:
    if plain.lower() in ("bqml", "bqcc"):
        return "Bq/ml", 1.0
    for sign in ("/", "per", ".", "*"):
        activity, found, volume = plain.partition(sign)
        volume = volume.lower().removesuffix("^-1").removesuffix("-1")
        if found and volume in _VOLUMES and activity:
            if activity[0] in "mM" and activity[1:].lower() == "bq" and activity[0] == "m":
                return None
            size = activity_in_bq(activity)
            return None if size is None else ("Bq/ml", size)
    return None


def _plain(text: object) -> str:
    """A unit without blanks, with the micro signs as u."""
    return re.sub(r"\s+", "", str(text)).replace("µ", "u").replace("μ", "u")
