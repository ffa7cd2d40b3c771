"""The sample pair that comes with medfuse: a T1 MRI of a brain and a simulated FDG PET of it."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from pathlib import Path

from medfuse.errors import InputError

#: What the sample consists of; the sidecar says that the values are SUV.
FILES = ("t1.nii.gz", "simulated-pet.nii.gz", "simulated-pet.json")
_CLONE = Path(__file__).resolve().parents[2] / "sample_data" / "study" / "simulated-brain"


def sample_folder() -> Path:
    """Where the sample lies: in a clone of the repository, or where a wheel has put it.

    Raises
    ------
    InputError
        ``E_NO_SAMPLE``: it was left out of the installation.
    """
    for folder in (_CLONE, *_installed()):
        if all((folder / name).is_file() for name in FILES):
            return folder
    raise InputError(
        "E_NO_SAMPLE",
        what="Cannot find the sample",
        where=FILES[0],
        cause="it is no part of this installation",
        remedy="Install medfuse again from its wheel, or from a clone of the repository",
    )


def _installed() -> Iterator[Path]:
    try:
        files = importlib.metadata.files("medfuse") or []
    except importlib.metadata.PackageNotFoundError:
        return
    for file in files:
        if file.name == FILES[0]:
            yield Path(str(file.locate())).resolve().parent
