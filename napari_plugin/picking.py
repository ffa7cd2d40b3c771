"""What lies in a folder, and what of it is opened: series, frames, a BIDS subject.

A folder with a few plain images is opened whole. Where there is something to choose, a person is
asked; without a window the choice must be unambiguous.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from medfuse.errors import InputError

FEW = 2  # images that are opened without a question
MEAN = "mean"
FUNCTIONAL = ("PET", "SPECT")
NIFTI = (".nii", ".nii.gz")
_MOST = 200  # NIfTI files of a folder that are listed
_DEEP = 4
_ANATOMICAL = re.compile(r"(T1w|T2w|FLAIR|PDw|angio|MP2RAGE|T1|T2)$", re.IGNORECASE)
_FUNCTIONAL = re.compile(r"(pet|spect|nm)$", re.IGNORECASE)


@dataclass(frozen=True)
class Item:
    """One image that can be opened.

    Attributes
    ----------
    path : Path
        Folder or file.
    title : str
        What a person chooses by.
    name : str
        What its layer is called.
    series : str or None
        End of its UID, where the folder holds several.
    modality : str
    frames : int
        1 for a volume, more for a time series.
    problem : str
        Why it cannot be opened; "" where it can.
    """

    path: Path
    title: str
    name: str
    series: str | None = None
    modality: str = "unknown"
    frames: int = 1
    problem: str = ""


@dataclass(frozen=True)
class Pick:
    """An image that is opened, and which frame of it: a number, "mean", or None of a volume."""

    item: Item
    frame: int | str | None = None


def dicom_items(path: Path) -> list[Item]:
    """Series of a DICOM folder, or of one of its files."""
    from medfuse.imaging.reader import describe

    found = describe(path)
    many = len([series for series in found if not _problem(series)]) > 1
    return [_dicom_item(path, series, many) for series in found]


def nifti_item(path: Path, root: Path | None = None) -> Item:
    """A NIfTI file; ``root`` shortens its title."""
    import nibabel as nib

    name = path.name.removesuffix(".gz").removesuffix(".nii")
    title = str(path.relative_to(root).as_posix()) if root else path.name
    try:
        shape = nib.load(path).shape
    except Exception:  # its own reader says what is wrong, once it is chosen
        return Item(path, title, name)
    frames = int(shape[3]) if len(shape) == 4 else 1
    size = " x ".join(str(n) for n in shape[:3])
    modality = "MRI" if _ANATOMICAL.search(name) else "PET" if _FUNCTIONAL.search(name) else ""
    return Item(path, f"{title}  {size}", name, None, modality or "unknown", frames)


def nifti_items(folder: Path) -> list[Item]:
    """NIfTI files of a folder and its subfolders, e.g. of a BIDS subject."""
    return [nifti_item(path, folder) for path in islice(_nifti_files(folder, _DEEP), _MOST)]


def holds_nifti(folder: Path) -> bool:
    """Whether a folder or one of its subfolders has a NIfTI file."""
    return next(_nifti_files(folder, _DEEP), None) is not None


def must_choose(items: list[Item]) -> bool:
    """Whether a person has to say what is meant."""
    usable = [item for item in items if not item.problem]
    return len(usable) > FEW or any(item.frames > 1 for item in usable)


def first_guess(items: list[Item]) -> list[Item]:
    """What is ticked at first: one anatomical and one functional image."""
    usable = [item for item in items if not item.problem]
    if len(usable) <= FEW:
        return usable
    guess = []
    for modalities in (("MRI",), ("PET", "SPECT")):
        guess += [item for item in usable if item.modality in modalities][:1]
    if len(guess) < FEW:
        guess += [item for item in usable if item.modality == "CT"][: FEW - len(guess)]
    return guess


def unasked(items: list[Item]) -> list[Pick]:
    """What is opened where nobody can be asked.

    Raises
    ------
    InputError
        ``E_AMBIGUOUS_SERIES``: several NIfTI files that are no one pair.
    """
    usable = [item for item in items if not item.problem]
    files = [item for item in usable if item.path.name.lower().endswith(NIFTI)]
    guess = first_guess(items)
    if len(files) > FEW:
        pairs = [sum(i.modality == m for i in files) for m in ("MRI", "PET")]
        if pairs != [1, 1]:
            raise InputError(
                "E_AMBIGUOUS_SERIES",
                what="Cannot open the folder",
                where=files[0].path.parent.name,
                cause=f"it holds {len(files)} images and not one MRI and one PET by their names",
                remedy='Open it with "Open..." in the panel and choose, or open single files',
            )
        return [Pick(item) for item in guess]
    return [Pick(item) for item in (usable or items[:1])]


def _dicom_item(path: Path, series: dict[str, Any], many: bool) -> Item:
    number, shape = series["series"], series["shape"]
    name = "DICOM" if number is None else f"series {number}"
    size = " x ".join(str(n) for n in shape) if shape else f"{series['images']} images"
    title = f"{name}  {series['modality']}  {size}"
    frames = int(series["frames"] or 1)
    uid = series["uid_end"] if many else None
    return Item(path, title, name, uid, series["modality"], frames, _problem(series))


def _problem(series: dict[str, Any]) -> str:
    """What keeps a series from being read; that a frame has to be chosen does not."""
    return next((text for text in series["problems"] if "[E_DYNAMIC]" not in text), "")


def _nifti_files(folder: Path, deep: int) -> Iterator[Path]:
    try:
        entries = sorted(islice(folder.iterdir(), 2000))
    except OSError:
        return
    yield from (p for p in entries if p.is_file() and p.name.lower().endswith(NIFTI))
    if deep > 1:
        for sub in (p for p in entries if p.is_dir() and not p.is_symlink()):
            yield from _nifti_files(sub, deep - 1)
