"""Radionuclides of nuclear medicine: names, half-lives, and which of them no PET can see."""

from __future__ import annotations

import re
from typing import NamedTuple

#: Half-lives in seconds; used to check headers to 2 %, never in place of the header's value.
HALF_LIVES_S = {
    "C-11": 1223.4,
    "N-13": 597.9,
    "O-14": 70.62,
    "O-15": 122.24,
    "F-18": 6586.2,
    "Na-22": 8.2107e7,
    "K-38": 458.2,
    "Sc-43": 14008.0,
    "Sc-44": 14292.0,
    "Ti-45": 11088.0,
    "Mn-52": 483062.0,
    "Mn-52m": 1266.0,
    "Fe-52": 29790.0,
    "Cu-60": 1422.0,
    "Cu-61": 12020.0,
    "Cu-62": 580.4,
    "Cu-64": 45721.0,
    "Zn-62": 33094.0,
    "Ga-66": 34164.0,
    "Ga-67": 281769.0,
    "Ga-68": 4062.6,
    "Ge-68": 2.341e7,
    "As-72": 93600.0,
    "Se-73": 25740.0,
    "Br-75": 5802.0,
    "Br-76": 58320.0,
    "Br-77": 205344.0,
    "Rb-82": 75.5,
    "Y-86": 53064.0,
    "Zr-89": 282276.0,
    "Nb-90": 52560.0,
    "Y-90": 230580.0,
    "Tc-94m": 3120.0,
    "Tc-99m": 21624.0,
    "In-111": 242326.0,
    "I-123": 47604.0,
    "I-124": 360806.0,
    "I-131": 693377.0,
    "Xe-133": 453384.0,
    "Tb-152": 63000.0,
    "Sm-153": 166608.0,
    "Lu-177": 574068.0,
    "Tl-201": 262837.0,
}
#: Emit no positrons (and no internal pairs worth imaging): an image of them is SPECT, or planar.
SINGLE_PHOTON = frozenset(
    {"Ga-67", "Tc-99m", "In-111", "I-123", "I-131", "Xe-133", "Sm-153", "Lu-177", "Tl-201"}
)
#: Given in gigabecquerels.
THERAPY = frozenset({"Y-90", "I-131", "Sm-153", "Lu-177"})


class Usual(NamedTuple):
    """What is customary with a nuclide: activity in MBq, and hours from injection to scan."""

    least_mbq: float
    most_mbq: float
    longest_h: float


#: Outside of these an SUV is remarked upon, never refused: children, phantoms and low-dose
#: protocols are real.
USUAL = {
    "C-11": Usual(50, 1200, 1.5),
    "N-13": Usual(100, 1200, 0.5),
    "O-15": Usual(50, 2600, 0.25),
    "F-18": Usual(15, 900, 3.5),
    "Cu-64": Usual(30, 600, 72),
    "Ga-68": Usual(20, 400, 3.5),
    "Rb-82": Usual(200, 2400, 0.25),
    "Zr-89": Usual(10, 250, 240),
    "Y-90": Usual(200, 20000, 96),
    "Tc-99m": Usual(20, 1500, 26),
    "In-111": Usual(20, 300, 120),
    "I-123": Usual(20, 450, 50),
    "I-124": Usual(10, 400, 168),
    "I-131": Usual(20, 12000, 240),
    "Lu-177": Usual(300, 12000, 240),
}

#: RadionuclideCodeSequence code values (SNOMED-RT, SNOMED CT) of DICOM CID 18 and 4020.
_CODES = {
    "C-105A1": "C-11",
    "40565003": "C-11",
    "C-107A1": "N-13",
    "21576001": "N-13",
    "C-B1038": "O-15",
    "129504001": "O-15",
    "C-111A1": "F-18",
    "77004003": "F-18",
    "C-1018C": "O-14",
    "424875009": "O-14",
    "C-155A1": "Na-22",
    "71633006": "Na-22",
    "C-135A4": "K-38",
    "423764008": "K-38",
    "126605": "Sc-43",
    "126600": "Sc-44",
    "C-166A2": "Ti-45",
    "75696008": "Ti-45",
    "C-149A1": "Mn-52",
    "37225000": "Mn-52",
    "126607": "Mn-52m",
    "C-130A1": "Fe-52",
    "69089000": "Fe-52",
    "C-127A4": "Cu-60",
    "425364008": "Cu-60",
    "C-127A1": "Cu-61",
    "71425003": "Cu-61",
    "C-127A5": "Cu-62",
    "422934004": "Cu-62",
    "C-141A1": "Zn-62",
    "65054007": "Zn-62",
    "C-131A1": "Ga-66",
    "79477007": "Ga-66",
    "C-128A2": "Ge-68",
    "53315004": "Ge-68",
    "C-115A2": "As-72",
    "2705002": "As-72",
    "C-116A2": "Se-73",
    "87437000": "Se-73",
    "C-113A1": "Br-75",
    "17910003": "Br-75",
    "C-113A2": "Br-76",
    "79523006": "Br-76",
    "C-113A3": "Br-77",
    "86521004": "Br-77",
    "C-162A3": "Y-86",
    "10738001": "Y-86",
    "126603": "Nb-90",
    "C-163AA": "Tc-94m",
    "424079002": "Tc-94m",
    "126606": "Tb-152",
    "C-B1134": "Sm-153",
    "419804008": "Sm-153",
    "C-127A2": "Cu-64",
    "3932008": "Cu-64",
    "C-131A2": "Ga-67",
    "2008008": "Ga-67",
    "C-131A3": "Ga-68",
    "35337001": "Ga-68",
    "C-159A2": "Rb-82",
    "79197006": "Rb-82",
    "C-168A4": "Zr-89",
    "63360001": "Zr-89",
    "C-162A7": "Y-90",
    "14691008": "Y-90",
    "C-163A8": "Tc-99m",
    "72454006": "Tc-99m",
    "C-145A4": "In-111",
    "56609000": "In-111",
    "C-114A4": "I-123",
    "21572004": "I-123",
    "C-114A5": "I-124",
    "40937006": "I-124",
    "C-114B1": "I-131",
    "1368003": "I-131",
    "C-172A8": "Xe-133",
    "80751004": "Xe-133",
    "C-101ED": "Lu-177",
    "447553000": "Lu-177",
    "C-138A9": "Tl-201",
    "60057003": "Tl-201",
}
_ELEMENTS = {
    "carbon": "C",
    "nitrogen": "N",
    "oxygen": "O",
    "fluorine": "F",
    "fluor": "F",
    "sodium": "Na",
    "potassium": "K",
    "scandium": "Sc",
    "titanium": "Ti",
    "manganese": "Mn",
    "iron": "Fe",
    "zinc": "Zn",
    "germanium": "Ge",
    "arsenic": "As",
    "selenium": "Se",
    "bromine": "Br",
    "niobium": "Nb",
    "terbium": "Tb",
    "copper": "Cu",
    "gallium": "Ga",
    "rubidium": "Rb",
    "zirconium": "Zr",
    "yttrium": "Y",
    "technetium": "Tc",
    "indium": "In",
    "iodine": "I",
    "xenon": "Xe",
    "samarium": "Sm",
    "lutetium": "Lu",
    "thallium": "Tl",
}
_MASS_FIRST = re.compile(r"(?<![\d.])(\d{1,3}m?)[\s^\-\[\]]*([A-Za-z]+)")
_FDG = re.compile(r"\bFDG\b|fluoro-?deoxy-?glucose|fludeoxyglucose", re.IGNORECASE)
_ELEMENT_FIRST = re.compile(r"([A-Za-z]+)[\s^\-\[\]]*(\d{1,3}m?)(?![\d.])")


def find_nuclide(code: str | None, meaning: str | None, half_life_s: float | None) -> str | None:
    """Name the nuclide of a header, e.g. "F-18".

    Parameters
    ----------
    code, meaning : str, optional
        Code value and code meaning of RadionuclideCodeSequence (0054,0300).
    half_life_s : float, optional
        Used only where neither names a nuclide of the table; must match one within 1 %.

    Returns
    -------
    str or None
        One of `HALF_LIVES_S`; free text of the header never comes through.
    """
    named = {*named_nuclides(meaning)} if code not in _CODES else {_CODES[code]}
    if named:
        return named.pop() if len(named) == 1 else None
    fitting = fitting_nuclides(half_life_s, 0.01) if half_life_s else []
    return fitting[0] if len(fitting) == 1 else None


def named_nuclides(text: str | None) -> list[str]:
    """Nuclides of the table that a text names, e.g. "^18^Fluorine", "FDG", "Ga-68 PSMA"."""
    found = []
    for pattern, swap in ((_MASS_FIRST, True), (_ELEMENT_FIRST, False)):
        for first, second in pattern.findall(text or ""):
            element, mass = (second, first) if swap else (first, second)
            name = f"{_ELEMENTS.get(element.lower(), element.capitalize())}-{mass}"
            if name in HALF_LIVES_S and name not in found:
                found.append(name)
    if not found and _FDG.search(text or ""):
        found.append("F-18")
    return found


def fitting_nuclides(half_life_s: float, tolerance: float) -> list[str]:
    """Nuclides whose half-life lies within a relative `tolerance` of `half_life_s`."""
    return [n for n, s in HALF_LIVES_S.items() if abs(half_life_s / s - 1) <= tolerance]
