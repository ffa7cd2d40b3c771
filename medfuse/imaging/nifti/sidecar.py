"""JSON sidecars of a NIfTI file, also those that BIDS inherits from folders above.

References
----------
BIDS 1.10, "The Inheritance Principle": a sidecar counts for an image of the same suffix whose
entities it does not contradict; a lower folder goes before a higher one; one folder has no two
sidecars for one image.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from medfuse.imaging.bids import data_set_of
from medfuse.imaging.pointers import lacks_content, pointer_kind

_MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class Sidecar:
    """What the sidecars of one image say together.

    Attributes
    ----------
    content : dict
        Without the fields in `conflicts`.
    sha256 : str or None
        Of all files; None where there is none.
    conflicts : frozenset of str
        Fields on which two sidecars of one folder disagree, and no lower one decides.
    readable : bool
        False where a sidecar that counts cannot be read: then nothing of it is used.
    """

    content: dict[str, Any]
    sha256: str | None = None
    conflicts: frozenset[str] = frozenset()
    readable: bool = True
    notes: tuple[str, ...] = ()


def stem_of(path: Path) -> str:
    """Name of a NIfTI file without .nii or .nii.gz."""
    return re.sub(r"\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE)


def sidecar_files(path: Path) -> list[list[Path]]:
    """Sidecars of an image by folder, from the top of the data set down."""
    path = path.absolute()
    own = path.with_name(f"{stem_of(path)}.json")
    top = data_set_of(path)
    levels = [p for p in reversed(path.parents) if p == top or top in p.parents]
    found = [_applicable(folder, path) for folder in levels] if _is_bids(path) else []
    if _is_there(own) and not any(own in level for level in found):
        found.append([own])
    return [level for level in found if level]


def read_sidecars(path: Path) -> Sidecar:
    """Read all sidecars of an image."""
    content: dict[str, Any] = {}
    conflicts: set[str] = set()
    hashes: list[str] = []
    for level in sidecar_files(path):
        parts = [_read(file) for file in level]
        hashes += [sha256 for _, sha256 in parts]
        if any(part is None for part, _ in parts):
            note = f"the JSON sidecar {_why_unread(level)} and was ignored"
            return Sidecar({}, _joined(hashes), readable=False, notes=(note,))
        of_level, disputed = _merged([part for part, _ in parts if part is not None])
        content |= of_level
        conflicts = (conflicts - of_level.keys()) | disputed
    notes = [
        f"two sidecars of one folder disagree on {', '.join(sorted(map(_shown, conflicts)))}"
    ] * bool(conflicts)
    kept = {name: value for name, value in content.items() if name not in conflicts}
    return Sidecar(kept, _joined(hashes), frozenset(conflicts), notes=tuple(notes))


def _why_unread(files: list[Path]) -> str:
    for file in files:
        try:
            if lacks_content(file) or (
                file.stat().st_size < 1000 and pointer_kind(file.read_bytes())
            ):
                return "has no content on this machine (a pointer: fetch its content)"
        except OSError:
            continue
    return "cannot be read"


def _shown(name: str) -> str:
    """A field name that may be printed: names of fields are words."""
    return name if re.fullmatch(r"[A-Za-z0-9_]{1,64}", name) else "a field"


def _is_bids(path: Path) -> bool:
    return path.name.startswith("sub-") and "_" in path.name


def _applicable(folder: Path, path: Path) -> list[Path]:
    *entities, suffix = stem_of(path).split("_")
    own = set(entities)
    return [f for f in _jsons(folder) if _applies(f.stem, own, suffix) and _is_there(f)]


def _jsons(folder: Path) -> list[Path]:
    try:
        return [folder / name for name in _json_names(folder, folder.stat().st_mtime_ns)]
    except OSError:
        return []


@lru_cache(maxsize=64)
def _json_names(folder: Path, changed: int) -> list[str]:
    """Names of the JSON files of a folder, listed once until it is `changed`."""
    return sorted(entry.name for entry in os.scandir(folder) if entry.name.endswith(".json"))


def _is_there(path: Path) -> bool:
    """A file, or a link to nowhere: that one cannot be read, and is not passed over."""
    return path.is_file() or path.is_symlink()


def _applies(stem: str, entities: set[str], suffix: str) -> bool:
    *own, last = stem.split("_")
    return last == suffix and set(own) <= entities


def _merged(parts: list[dict[str, Any]]) -> tuple[dict[str, Any], set[str]]:
    """One level together, and the fields on which its files disagree."""
    content: dict[str, Any] = {}
    disputed: set[str] = set()
    for part in parts:
        disputed |= {n for n in part.keys() & content.keys() if repr(part[n]) != repr(content[n])}
        content |= part
    return content, disputed


def _joined(hashes: list[str]) -> str | None:
    if len(hashes) < 2:
        return hashes[0] if hashes else None
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _read(path: Path) -> tuple[dict[str, Any] | None, str]:
    """Content, None where it is unusable, and sha256."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            return None, "too large"
        raw = path.read_bytes()
    except OSError:
        return None, "unreadable"
    sha256 = hashlib.sha256(raw).hexdigest()
    try:
        content = json.loads(raw, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return None, sha256
    return (content if isinstance(content, dict) else None), sha256


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object in which no name stands twice with two values."""
    content = dict(pairs)
    if len(content) < len(pairs) and any(repr(content[n]) != repr(v) for n, v in pairs):
        raise ValueError("a name stands twice")
    return content
