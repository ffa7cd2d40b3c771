"""Names of cases: fit for folders everywhere, telling the person, and owing nothing to others.

A name comes from the place of the images in the study (or from a cell of a manifest) alone: no
subject that is added or taken away can give it to another person.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from medfuse.study.model import Case, Skipped, gather

MAX_NAME = 80
#: In UTF-8: what file systems take (143 to 255), less what is put around a name.
MAX_BYTES = 110
#: What lies beside the results.
TAKEN = frozenset(
    {"logs", "cases", "batch.jsonl", "summary.csv", "study.html", "dataset_description.json"}
)
HASH_DIGITS = 6

_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


def case_name(text: str) -> str:
    """A name for a folder from a path or a free text; the same text gives the same name.

    Letters and digits of every script stay. Where anything is lost (blanks, signs, bytes that are
    no UTF-8, what is too long, what Windows or a batch reserves), six digits of a hash of the text
    follow, so that no two texts share a name because of it.

    >>> case_name("site1/李四"), case_name("sub-01")
    ('site1_李四', 'sub-01')
    """
    whole = unicodedata.normalize("NFC", text).replace("/", "_")
    kept = "".join(c if _is_kept(c) else "\0" for c in whole)
    name = _shortened(re.sub("\0+", "_", kept).strip("._-")) or "case"
    if not _can_be_stored(name):
        name = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("._-") or "case"
    if _RESERVED.match(name) or name.lower() in TAKEN:
        name = f"case_{name}"
    return name if name == whole else _with_hash(name, whole)


def told_apart(cases: Sequence[Case], root: Path) -> Sequence[Case]:
    """The cases, with a hash of its images behind each name that several would have.

    Names that differ in upper and lower case alone count as one, since many disks do not tell them
    apart. All cases of such a name are changed, so that none keeps what was another's.
    """
    once: set[int] = set()
    often: set[int] = set()
    for case in cases:  # hashes: a study may be long
        folded = hash(case.name.casefold())
        (often if folded in once else once).add(folded)
    if not often:
        return cases
    return gather(_changed(cases, often, root))[0]


def _changed(cases: Sequence[Case], often: set[int], root: Path) -> Iterator[Case | Skipped]:
    used: dict[str, int] = {}
    for case in cases:
        if hash(case.name.casefold()) not in often:
            yield case
            continue
        places = [os.path.relpath(path, root) for path in (case.anatomical, case.functional)]
        name = _with_hash(case.name, repr((case.name, *places, sorted(case.overrides.items()))))
        used[name] = used.get(name, 0) + 1  # beyond one: a line that is there twice
        yield replace(case, name=name if used[name] == 1 else f"{name}-{used[name]}")


def _with_hash(name: str, text: str) -> str:
    return f"{name}-{sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:HASH_DIGITS]}"


def _is_kept(character: str) -> bool:
    return character in "_.-" or unicodedata.category(character)[0] in "LMN"


def _shortened(name: str) -> str:
    while len(name) > MAX_NAME or len(name.encode()) > MAX_BYTES:
        name = name[:-1]
    return name.rstrip("._-")


def _can_be_stored(name: str) -> bool:
    """Whether this system has bytes for the name: a Latin-1 locale has none for Chinese."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True
