"""What the numbers of a label map are called.

Names are read from the file itself (TotalSegmentator and Connectome Workbench leave them in the
header), from tables beside it (BIDS ``dseg.tsv``, JSON as of MOOSE and nnU-Net), or from a table
that the user names (also a color table of FreeSurfer, ITK-SNAP or 3D Slicer). The numbers of
FreeSurfer mean the same everywhere; they are used where the file name says aseg, aparc or wmparc.
"""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

from medfuse.errors import InputError, UsageError
from medfuse.imaging.nifti.sidecar import stem_of
from medfuse.imaging.volume import display_name

FREESURFER = "freesurfer"
_MAX_BYTES = 1 << 22
_MAX_NAME = 80
_INDEX, _NAME = ("index", "label", "id", "value"), ("name", "label_name", "region", "abbreviation")
_XML_LABEL = re.compile(
    r'<Label\s[^>]*?Key="(\d{1,9})"[^>]*>\s*(?:<!\[CDATA\[)?(.*?)(?:\]\]>)?\s*</Label>'
)
_LUT_LINE = re.compile(
    r'^\s*(\d{1,9})\s+(?:"([^"]+)"|([^\s"]+))(?:\s+[\d.]+){3,4}\s*$'
    r'|^\s*(\d{1,9})(?:\s+[\d.]+){6}\s+"([^"]+)"\s*$'
)
_OF_FREESURFER = re.compile(r"(?:^|[^a-z])(?:aseg|aparc|wmparc)(?:[^a-z]|$)")

_ASEG_SIDES = {
    "Cerebral-White-Matter": (2, 41), "Cerebral-Cortex": (3, 42), "Lateral-Ventricle": (4, 43),
    "Inf-Lat-Vent": (5, 44), "Cerebellum-White-Matter": (7, 46), "Cerebellum-Cortex": (8, 47),
    "Thalamus": (10, 49), "Caudate": (11, 50), "Putamen": (12, 51), "Pallidum": (13, 52),
    "Hippocampus": (17, 53), "Amygdala": (18, 54), "Accumbens-area": (26, 58),
    "VentralDC": (28, 60), "vessel": (30, 62), "choroid-plexus": (31, 63),
}  # fmt: skip
_ASEG_MIDDLE = {
    14: "3rd-Ventricle", 15: "4th-Ventricle", 16: "Brain-Stem", 24: "CSF", 72: "5th-Ventricle",
    77: "WM-hypointensities", 80: "non-WM-hypointensities", 85: "Optic-Chiasm",
    251: "CC_Posterior", 252: "CC_Mid_Posterior", 253: "CC_Central", 254: "CC_Mid_Anterior",
    255: "CC_Anterior",
}  # fmt: skip
#: Desikan-Killiany, in the order of FreeSurfer's numbers 1000 to 1035 and 2000 to 2035.
_CORTEX = """
    unknown bankssts caudalanteriorcingulate caudalmiddlefrontal corpuscallosum cuneus entorhinal
    fusiform inferiorparietal inferiortemporal isthmuscingulate lateraloccipital
    lateralorbitofrontal lingual medialorbitofrontal middletemporal parahippocampal paracentral
    parsopercularis parsorbitalis parstriangularis pericalcarine postcentral posteriorcingulate
    precentral precuneus rostralanteriorcingulate rostralmiddlefrontal superiorfrontal
    superiorparietal superiortemporal supramarginal frontalpole temporalpole transversetemporal
    insula
""".split()  # noqa: SIM905


def names_for(path: Path, extensions: list[bytes], stated: str | None) -> dict[int, str]:
    """Names of the labels of a NIfTI file; empty where nothing tells them.

    Parameters
    ----------
    path : Path
    extensions : list of bytes
        Contents of its header extensions.
    stated : str, optional
        A table of the user, or "freesurfer".

    Raises
    ------
    InputError
        ``E_LABELS``: the stated table cannot be read.
    """
    if stated is not None:
        return freesurfer() if stated.lower() == FREESURFER else read_names(Path(stated))
    for content in extensions:
        if found := _of_xml(content.decode("utf-8", "replace")):
            return found
    for beside in tables_beside(path):
        try:
            return read_names(beside)
        except (InputError, UsageError):
            continue
    return freesurfer() if _OF_FREESURFER.search(path.name.lower()) else {}


def read_names(path: Path) -> dict[int, str]:
    """Read a table of labels: TSV or CSV with a head, JSON, or a color table.

    Raises
    ------
    InputError
        ``E_LABELS``.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise _unreadable(path, "it is too large for a table of labels")
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise _unreadable(path, (error.strerror or type(error).__name__).lower()) from None
    except ValueError:
        raise _unreadable(path, "it is no UTF-8 text") from None
    found = _of_json(text) or _of_table(text) or _of_lut(text) or _of_xml(text)
    if not found:
        raise _unreadable(path, "no pairs of a number and a name were found in it")
    return found


def freesurfer() -> dict[int, str]:
    """Names of aseg, and of aparc and wmparc (Desikan-Killiany).

    References
    ----------
    FreeSurferColorLUT.txt of FreeSurfer 7.
    """
    names = dict(_ASEG_MIDDLE)
    for name, (left, right) in _ASEG_SIDES.items():
        names |= {left: f"Left-{name}", right: f"Right-{name}"}
    for number, name in enumerate(_CORTEX):
        names |= {1000 + number: f"ctx-lh-{name}", 2000 + number: f"ctx-rh-{name}"}
        names |= {3000 + number: f"wm-lh-{name}", 4000 + number: f"wm-rh-{name}"}
    return names | {5001: "Left-UnsegmentedWhiteMatter", 5002: "Right-UnsegmentedWhiteMatter"}


def tables_beside(path: Path) -> list[Path]:
    """Tables that may belong to a label map: of its name, and by BIDS of its entities."""
    stem = stem_of(path)
    own = [path.with_name(f"{stem}{suffix}") for suffix in (".tsv", ".json", ".txt", ".csv")]
    *entities, suffix = stem.split("_")
    tables = []
    if path.name.startswith("sub-") and suffix == "dseg":
        for folder in (path.parent, *path.absolute().parents[1:4]):
            for table in sorted(folder.glob("*dseg.tsv"))[:64]:
                parts = table.stem.split("_")
                if parts[-1] == suffix and set(parts[:-1]) <= set(entities):
                    tables.append(table)
    return [table for table in dict.fromkeys([*own[:1], *tables, *own[1:]]) if table.is_file()]


def _of_json(text: str) -> dict[int, str]:
    """``{"1": "liver"}`` or ``{"liver": 1}``, as they are or under "labels"."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if isinstance(content, dict):
        inner = {str(k).lower(): v for k, v in content.items()}
        for name in ("labels", "labelmap", "label_map", "organ_indices", "index"):
            if isinstance(inner.get(name), dict):
                content = inner[name]
                break
    return _pairs(content.items()) if isinstance(content, dict) else {}


def _pairs(pairs: Any) -> dict[int, str]:
    found = {}
    for one, other in pairs:
        for number, name in ((one, other), (other, one)):
            text = str(number)
            if text.isdigit() and len(text) < 10 and isinstance(name, str) and not name.isdigit():
                found[int(text)] = _clean(name)
    return {number: name for number, name in found.items() if number and name}


def _of_table(text: str) -> dict[int, str]:
    lines = text.splitlines()
    mark = "\t" if lines and "\t" in lines[0] else ","
    rows = list(csv.reader(lines, delimiter=mark))
    head = [cell.strip().lower() for cell in rows[0]] if rows else []
    index = next((head.index(name) for name in _INDEX if name in head), None)
    named = next((head.index(name) for name in _NAME if name in head), None)
    if index is None or named is None:
        return {}
    return _pairs((r[index].strip(), r[named]) for r in rows[1:] if len(r) > max(index, named))


def _of_lut(text: str) -> dict[int, str]:
    """Color tables of FreeSurfer and 3D Slicer (number, name, colors) and of ITK-SNAP."""
    found = {}
    for line in text.splitlines():
        if match := _LUT_LINE.match(line):
            found[int(match[1] or match[4])] = _clean(match[2] or match[3] or match[5])
    return {number: name for number, name in found.items() if number}


def _of_xml(text: str) -> dict[int, str]:
    if "<Label" not in text:
        return {}
    return _pairs(_XML_LABEL.findall(text))


def _clean(name: str) -> str:
    printable = "".join(c if c.isprintable() else " " for c in name)
    return " ".join(printable.split())[:_MAX_NAME]


def _unreadable(path: Path, cause: str) -> InputError:
    return InputError(
        "E_LABELS",
        what="Cannot read the names of the labels",
        where=display_name(path),
        cause=cause,
        remedy="Give a table with the columns index and name (.tsv), JSON, or a color table",
    )
