"""Subject, session and data set of a file by BIDS names: of the file, else of its folders."""

from __future__ import annotations

from pathlib import Path


def entity(path: Path, key: str) -> str | None:
    """An entity with its key, e.g. "ses-01" for "ses"; None where neither name has it."""
    path = path.absolute()
    own = [part for part in path.name.split("_") if part.startswith(f"{key}-")]
    if own:
        return own[0].partition(".")[0]
    return next((p.name for p in path.parents if p.name.startswith(f"{key}-")), None)


def subject_folder(path: Path) -> Path:
    """Folder of the subject of a file; the folder of the file where no folder bears its name."""
    path = path.absolute()
    subject = entity(path, "sub")
    return next((p for p in path.parents if subject and p.name == subject), path.parent)


def data_set_of(path: Path) -> Path:
    """Top of the data set of a file: above the folder of its subject, else its own folder."""
    folder = subject_folder(path)
    return folder.parent if folder.name.startswith("sub-") else folder
