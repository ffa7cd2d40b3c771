"""Files that stand for a content kept elsewhere: git-annex (DataLad) and Git LFS.

References
----------
git-annex, "internals/pointer file" and "internals"; Git LFS specification, "The pointer".
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Literal

from medfuse.errors import InputError

Pointer = Literal["a git-annex pointer", "a Git LFS pointer"]
ANNEX: Final = "a git-annex pointer"
LFS: Final = "a Git LFS pointer"
_REMEDIES: dict[Pointer, str] = {
    ANNEX: "Fetch the content: run `datalad get FILE` or `git annex get FILE` in its data set",
    LFS: "Fetch the content: run `git lfs pull` in its repository",
}
_OBJECTS = "/annex/objects/"


def pointer_kind(head: bytes) -> Pointer | None:
    """What kind of pointer a file with this beginning is; None where it is none."""
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        return LFS
    line = head.partition(b"\n")[0].replace(b"\\", b"/")
    return ANNEX if _OBJECTS.encode() in b"/" + line and len(line) < 1000 else None


def pointer_error(name: str, kind: Pointer) -> InputError:
    """That a file holds no content but the place of it, and how it is fetched."""
    return InputError(
        "E_NO_CONTENT",
        what="Cannot read",
        where=name,
        cause=f"the file is {kind}: its content is not on this machine",
        remedy=_REMEDIES[kind],
    )


def is_annexed(link: Path) -> bool:
    """Whether a link points to what git-annex keeps of the repository that the link lies in."""
    target = _target(link)
    if ".git" not in target.parts or _OBJECTS not in target.as_posix():
        return False
    repository = os.path.realpath(Path(*target.parts[: target.parts.index(".git")]))
    return Path(os.path.realpath(link.parent)).is_relative_to(repository)


def lacks_content(link: Path) -> bool:
    """Whether a path is a link of git-annex whose content was not fetched."""
    return link.is_symlink() and not link.exists() and _OBJECTS in _target(link).as_posix()


def _target(link: Path) -> Path:
    """Where a link points, which need not be there."""
    return Path(os.path.normpath(link.parent.absolute() / os.readlink(link)))
