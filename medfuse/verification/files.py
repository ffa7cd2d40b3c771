"""Every file of a result is there, unaltered, and nothing else is: no link, no empty folder.

Whoever made the folder is not trusted: a file is hashed only where its size is the recorded one,
and nothing is opened that is no plain file.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from medfuse.errors import MedfuseError
from medfuse.results.folder import (
    BIDS_DESCRIPTION,
    MANIFEST,
    SIGNATURE_SUFFIX,
    STUDY_LIST,
    file_sha256,
    is_plain,
    shown_name,
)
from medfuse.results.ledger_files import CRATE, LEDGERS, SUMMARY, TABLES
from medfuse.verification.finding import Finding, agreement, listed, not_checked, short
from medfuse.verification.signing import MAX_SIGNATURE_BYTES
from medfuse.verification.volumes import result_grid

#: A folder with one of these was once a result, or pretends to be one.
_MARKS = (MANIFEST, "provenance.json", "audit.json")
SIGNATURE = MANIFEST + SIGNATURE_SUFFIX
MAX_ENTRIES = 100_000
#: All files of a result together: volumes, slices and DICOM of a voxel; pages, figures, headers.
_MOST_BYTES_PER_VOXEL, _MOST_OTHER_BYTES = 256, 1 << 29
#: What a batch writes beside its results.
WORKING_PAPERS = (
    LEDGERS, SUMMARY, *TABLES, CRATE, "study.html", BIDS_DESCRIPTION, "logs/*.log", "*.bids.json",
)  # fmt: skip
_STUDY_FILES = (*WORKING_PAPERS, STUDY_LIST, STUDY_LIST + SIGNATURE_SUFFIX)


def result_folders(study: Path) -> list[Path]:
    """Folders of a study that hold a result, whole or not, by name."""
    if not study.is_dir():
        return []
    inside = (path for path in study.iterdir() if not path.name.startswith("."))
    return sorted(path for path in inside if _is_marked(path))


def _is_marked(path: Path) -> bool:
    try:
        return path.is_dir() and any((path / name).exists() for name in _MARKS)
    except OSError:  # a folder that may not be entered is one that cannot be verified
        return True


def check_files(folder: Path, manifest: dict[str, Any]) -> Iterator[Finding]:
    """Compare a result folder with its manifest, file by file."""
    plain, odd = entries(folder)
    own = {MANIFEST, *([SIGNATURE] if _is_signature(folder / SIGNATURE) else [])}
    expected = manifest["files"]
    found = set(plain) - own
    left = _most_bytes(folder)
    altered = []
    for name in sorted(found.intersection(expected)):
        if plain[name] > left:
            altered.append(f"{name} (not read: far too large)")
            continue
        left -= plain[name]
        if _differs(folder / name, plain[name], expected[name]):
            altered.append(name)
    whole = json.dumps(manifest, indent=1) + "\n"
    if whole != (folder / MANIFEST).read_text("utf-8"):
        altered.append(MANIFEST)
    if set(manifest) != {"schema", "case", "key", "files"}:
        altered.append(f"{MANIFEST} (fields)")
    for what, names in (
        ("missing files", sorted(set(expected) - found)),
        ("unknown files", sorted({*(found - set(expected)), *odd})),
        ("altered files", sorted(altered)),
    ):
        yield Finding(what, not names, listed(names) or f"none of {len(expected)}")


def check_name(folder: Path, case: str) -> Finding:
    """A result folder is called as its case: two that were exchanged are not."""
    name = shown_name(Path(os.path.abspath(folder)).name)
    text = f"the folder is called {short(name)}, its record is of case {short(case)}"
    return Finding("folder name", name == case, "that of the case" if name == case else text)


def entries(folder: Path) -> tuple[dict[str, int], list[str]]:
    """All plain files below a folder with their sizes, and whatever else lies there.

    Links, empty folders, pipes and what cannot be listed are in the second list, with the reason.
    Links are never followed.
    """
    plain: dict[str, int] = {}
    odd: list[str] = []
    waiting = [""]
    while waiting and len(plain) + len(odd) < MAX_ENTRIES:
        inside = waiting.pop()
        try:
            names = sorted(os.listdir(folder / inside))
            stats = [(f"{inside}{n}", (folder / inside / n).lstat()) for n in names[:MAX_ENTRIES]]
        except OSError as error:
            odd.append(f"{inside} ({(error.strerror or 'unreadable').lower()})")
            continue
        if not names:
            odd.append(f"{inside} (empty folder)")
        for path, status in stats:
            if stat.S_ISDIR(status.st_mode):
                waiting.append(f"{path}/")
            elif stat.S_ISREG(status.st_mode):
                plain[path] = status.st_size
            else:
                odd.append(f"{path} ({'link' if stat.S_ISLNK(status.st_mode) else 'no file'})")
    if waiting:
        odd.append(f"more than {MAX_ENTRIES} entries")
    return plain, odd


def check_beside(study: Path, results: list[Path]) -> Iterator[Finding]:
    """What lies in a study folder beside the results: working papers, or nobody's."""
    names, unknown = {path.name for path in results}, list[str]()
    papers: list[str] = []
    for name in sorted(os.listdir(study)):
        path = study / name
        if name in names and path.is_dir() and not path.is_symlink():
            continue
        inside = path.is_dir() and not path.is_symlink()
        below, odd = entries(path) if inside else ({}, [])
        found = [f"{name}/{n}" for n in below] if inside else [name]
        unknown += [f"{name}/{n}" for n in odd]
        for one in found:
            plain = (study / one).is_file() and not (study / one).is_symlink()
            known = plain and any(_is_called(one, pattern) for pattern in _STUDY_FILES)
            (papers if known else unknown).append(one)
    if unknown:
        yield agreement("unknown files beside the results", unknown, says="no part of a batch")
    if papers:
        yield not_checked(
            "papers of the study",
            f"{listed(papers)}; a signature covers the summary and study.html",
        )


def _most_bytes(folder: Path) -> int:
    """What the files of a result can take together: nothing beyond it is worth hashing."""
    try:
        voxels = math.prod(result_grid(folder).shape)
    except (MedfuseError, KeyError, TypeError, ValueError):  # another finding says so
        voxels = 0
    return _MOST_OTHER_BYTES + _MOST_BYTES_PER_VOXEL * voxels


def _is_called(name: str, pattern: str) -> bool:
    path = PurePosixPath(name)
    return len(path.parts) == pattern.count("/") + 1 and path.match(pattern)


def _is_signature(path: Path) -> bool:
    """A signature holds two comments and two keys of base64, and is small."""
    if not is_plain(path, MAX_SIGNATURE_BYTES):
        return False
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return False
    heads = ("untrusted comment: ", "", "trusted comment: ", "")
    return len(lines) == 4 and all(x.startswith(h) for x, h in zip(lines, heads, strict=True))


def _differs(path: Path, size: int, record: Any) -> bool:
    if set(record) != {"sha256", "bytes"} or size != record["bytes"]:
        return True
    try:
        return bool(file_sha256(path) != record["sha256"])
    except OSError:  # what cannot be read cannot be vouched for
        return True
