"""A folder of files that is there when it is whole, and not before."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medfuse.errors import OutputError
from medfuse.results.folder import writing


def require_new(target: Path, what: str) -> None:
    """Stop where something lies at the place of a new folder.

    Raises
    ------
    OutputError
        ``E_WRITE``.
    """
    if target.exists() or target.is_symlink():
        raise OutputError(
            "E_WRITE",
            what=what,
            where=target.name,
            cause="something of this name is there already",
            remedy="Choose another folder, or remove that one",
        )


@contextmanager
def new_folder(target: Path, what: str, *, replace_old: bool = False) -> Iterator[Path]:
    """Write into the folder that this gives; it takes its place when the block ends well.

    Parameters
    ----------
    target : Path
        Where nothing may be.
    what : str
        What fails, for the error.
    replace_old : bool
        The folder at `target` is an earlier one of the same kind: it goes when the new is whole.

    Raises
    ------
    OutputError
        ``E_WRITE``: the disk is full, or something lies at `target`.
    """
    if not replace_old:
        require_new(target, what)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".medfuse-", dir=target.parent))
        try:
            yield scratch
            os.chmod(scratch, 0o755)
            if replace_old:
                shutil.rmtree(target)
            os.replace(scratch, target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
