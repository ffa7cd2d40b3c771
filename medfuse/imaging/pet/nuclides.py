"""Radionuclides of nuclear medicine: names, half-lives, and which of them no PET can see."""

from __future__ import annotations

import re

#: Half-lives in seconds; used to check headers to 2 %, never in place of the header's value.
HALF_LIVES_S = {
    "C-11": 1223.4,
    "N-13": 597.9,
    "O-15": 122.24,
    "F-18": 6586.2,
    "Sc-44": 14292.0,
    "Cu-64": 45721.0,
    "Ga-67": 281769.0,
    "Ga-68": 4062.6,
    "Rb-82": 75.5,
    "Zr-89": 282276.0,
    "Y-90": 230580.0,
    "Tc-99m": 21624.0,
    "In-111": 242326.0,
    "I-123": 47604.0,
    "I-124": 360806.0,
    "I-131": 693377.0,
    "Xe-133": 453384.0,
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
    "scandium": "Sc",
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
    if code in _CODES:
        return _CODES[code]
    for pattern, swap in ((_MASS_FIRST, True), (_ELEMENT_FIRST, False)):
        for first, second in pattern.findall(meaning or ""):
            element, mass = (second, first) if swap else (first, second)
            name = f"{_ELEMENTS.get(element.lower(), element.capitalize())}-{mass}"
            if name in HALF_LIVES_S:
                return name
    fitting = fitting_nuclides(half_life_s, 0.01) if half_life_s else []
    return fitting[0] if len(fitting) == 1 else None


def fitting_nuclides(half_life_s: float, tolerance: float) -> list[str]:
    """Nuclides whose half-life lies within a relative `tolerance` of `half_life_s`."""
    return [n for n, s in HALF_LIVES_S.items() if abs(half_life_s / s - 1) <= tolerance]
