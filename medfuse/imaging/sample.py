"""Sample images to try medfuse with: in a clone, in the package, or fetched from a release."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from pathlib import Path

from medfuse.errors import InputError

#: What the sample of the brain consists of; the sidecar says that the values are SUV.
FILES = ("t1.nii.gz", "simulated-pet.nii.gz", "simulated-pet.json")
_STUDY = Path(__file__).resolve().parents[2] / "sample_data" / "study"
_CLONE = _STUDY / "simulated-brain"
#: Folder in the study, name in the release and SHA-256 of what the package leaves out
#: (`tools/release_files.py` makes the archives and prints the hashes).
ARCHIVES: dict[str, tuple[str, str]] = {
    "sarcoma": ("sts001", "d53509f9fff44b31747216c7cdaaa5de38f25a457758d4790eab3920e2f3b5e9"),
    "ct-mri": (
        "sts001-aligned",
        "f8110bcc1084bb1764d31bd2398927dde11f3ea2c83800f071b971f032dfc014",
    ),
}
#: Anatomical and functional image of each sample, in its folder.
PAIRS: dict[str, tuple[str, str]] = {
    "brain": FILES[:2],
    "sarcoma": ("mr-t2", "pet-fdg"),
    "ct-mri": ("mr-t1.nii.gz", "ct.nii.gz"),
}


def sample_folder(name: str = "brain") -> Path:
    """Where a sample lies: in a clone of the repository, in the package, or among the downloads.

    Parameters
    ----------
    name : {"brain", "sarcoma", "ct-mri"}
        The brain comes with the package. The others are fetched when they are first used.

    Raises
    ------
    InputError
        ``E_NO_SAMPLE``: the brain was left out of the installation.
        ``E_DOWNLOAD``: another sample cannot be fetched.
    """
    if name != "brain":
        return _larger(*ARCHIVES[name])
    for folder in (_CLONE, *_installed()):
        if all((folder / file).is_file() for file in FILES):
            return folder
    raise InputError(
        "E_NO_SAMPLE",
        what="Cannot find the sample",
        where=FILES[0],
        cause="it is no part of this installation",
        remedy="Install medfuse again from its wheel, or from a clone of the repository",
    )


def sample_files(name: str = "brain") -> dict[str, Path]:
    """The files of a sample pair, by their place in its folder; errors as `sample_folder`."""
    folder = sample_folder(name)
    parts = FILES if name == "brain" else PAIRS[name]
    files = [f for part in parts for f in (folder / part, *sorted((folder / part).rglob("*")))]
    return {file.relative_to(folder).as_posix(): file for file in files if file.is_file()}


def _larger(folder: str, sha256: str) -> Path:
    if (_STUDY / folder).is_dir():
        return _STUDY / folder
    from medfuse.imaging.downloads import fetch_folder

    return fetch_folder(f"sample-{folder}.zip", sha256)


def _installed() -> Iterator[Path]:
    """Where a wheel has put the sample: as its list of files says, or beside the package."""
    yield Path(__file__).resolve().parents[2] / "share" / "medfuse" / "sample"
    try:
        files = importlib.metadata.files("medfuse") or []
    except importlib.metadata.PackageNotFoundError:
        return
    for file in files:
        if file.name == FILES[0]:
            yield Path(str(file.locate())).resolve().parent
