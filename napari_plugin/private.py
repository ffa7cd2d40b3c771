"""What the plugin remembers of an image and no layer says: its path, its names, its UIDs.

A layer can be saved, sent or shown by anything in napari. What leads to a person or a disk stays
here, in the memory of the process; the layer holds a random word that finds it again. A layer that
outlives the process is one whose file is not known.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

ORIGIN = "origin"  # the random word, in the plugin's entry of a layer
FROM_FILE = "from_file"  # whether the voxels of the layer are those of the file
#: Fields of ``meta["source"]``; hashes of UIDs without a secret can be undone by trying UIDs.
PRIVATE = frozenset(
    {"name", "patient", "subject", "uids", "secret", "series", "frame_of_reference"}
)


@dataclass(frozen=True)
class _Known:
    path: str | None = None
    opened: dict[str, Any] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)


_KNOWN: dict[str, _Known] = {}
_KEPT: dict[str, Any] = {}


def keep(value: Any) -> str:
    """Remember anything that no layer should hold; give the word that finds it again."""
    word = secrets.token_hex(8)
    _KEPT[word] = value
    return word


def kept(word: Any) -> Any | None:
    """What `keep` remembers; None for a word that it did not give."""
    return _KEPT.get(word) if isinstance(word, str) else None


def remember(
    meta: dict[str, Any], path: str | None, opened: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Keep what is private of an image; give what its layer has to hold to find it again.

    ``opened``: "series" and "frame", where one was chosen of what lies at the path.
    """
    source = meta.get("source") or {}
    word = secrets.token_hex(8)
    kept = {key: source[key] for key in PRIVATE & source.keys()}
    chosen = {key: value for key, value in (opened or {}).items() if value is not None}
    _KNOWN[word] = _Known(path, chosen, kept)
    return {ORIGIN: word, FROM_FILE: path is not None}


def shareable(meta: dict[str, Any]) -> dict[str, Any]:
    """Give the facts of an image as a layer may hold them."""
    source = meta.get("source")
    if not source:
        return meta
    return {**meta, "source": {key: source[key] for key in source if key not in PRIVATE}}


def whole(entry: dict[str, Any], name: str) -> dict[str, Any]:
    """Give the facts of a layer with what is remembered; `name` is what it is called else."""
    meta = dict(entry["meta"])
    if not meta.get("source"):
        return meta
    return meta | {"source": {"name": name, **meta["source"], **_known(entry).source}}


def path_of(entry: dict[str, Any]) -> str | None:
    """File or folder that a layer was read from, where its voxels are still those of the file."""
    return _known(entry).path if entry.get(FROM_FILE) else None


def opened_of(entry: dict[str, Any]) -> dict[str, Any]:
    """Series and frame that were chosen when a layer was read."""
    return dict(_known(entry).opened) if entry.get(FROM_FILE) else {}


def _known(entry: dict[str, Any]) -> _Known:
    return _KNOWN.get(str(entry.get(ORIGIN)), _Known())
