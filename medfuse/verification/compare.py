"""Two records compared entry by entry, whatever entries a version of the schema has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def differences(made: Any, found: Any, *, older: bool = False, at: str = "") -> Iterator[str]:
    """Names of the entries, ``a.b.3``, in which a record is not the one that was made again.

    Parameters
    ----------
    made, found : JSON values
        An empty entry (None) is one that is not there: MONAI drops these on the way.
    older : bool
        Another version wrote `found`, which may know fewer entries: those are left out.
    """
    if isinstance(made, dict) and isinstance(found, dict):
        for name in sorted(made.keys() | found.keys(), key=str):
            ours, theirs = made.get(name), found.get(name)
            if older and name not in found:
                continue
            yield from differences(ours, theirs, older=older, at=f"{at}.{name}" if at else name)
    elif isinstance(made, list) and isinstance(found, list) and len(made) == len(found):
        for number, (ours, theirs) in enumerate(zip(made, found, strict=True)):
            yield from differences(ours, theirs, older=older, at=f"{at}.{number}")
    elif isinstance(made, bool) is not isinstance(found, bool) or made != found:
        yield at


def left_out(made: Any, found: Any, at: str = "") -> Iterator[str]:
    """Names of the entries that a record of another version lacks."""
    if isinstance(made, dict) and isinstance(found, dict):
        for name, ours in made.items():
            inside = f"{at}.{name}" if at else str(name)
            if name in found:
                yield from left_out(ours, found[name], inside)
            elif ours is not None:
                yield inside
