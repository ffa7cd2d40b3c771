"""Folders of picture pairs: found by name, read, written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from medfuse.errors import UsageError
from medfuse.evaluation.images import SMALLEST
from medfuse.imaging.pictures import cannot_write, common_size, picture_files

_LISTED = 20


@dataclass(frozen=True)
class PicturePair:
    """Two pictures of one name, and finished results for them by row of the table."""

    name: str
    a: Path
    b: Path
    fused: Mapping[str, Path]
    size: tuple[int, int]  # width, height


def find_pairs(a_dir: Path, b_dir: Path, fused: Mapping[str, Path]) -> list[PicturePair]:
    """PicturePair the pictures of two folders, and of folders of results, by name without suffix.

    Raises
    ------
    UsageError
        E_UNPAIRED if a picture has no partner (all are listed), E_SIZE if partners differ in
        size, E_DUPLICATE_NAME if two files of a folder have the same name.
    InputError
        If a folder holds no pictures, or one cannot be read.
    """
    a, b = picture_files(a_dir), picture_files(b_dir)
    others = {name: picture_files(folder) for name, folder in fused.items()}
    alone = [(path.name, a_dir.name) for name, path in a.items() if name not in b]
    alone += [(path.name, b_dir.name) for name, path in b.items() if name not in a]
    alone += [(f"no {n}", fused[row].name) for row, o in others.items() for n in a if n not in o]
    if alone:
        listed = ", ".join(f"{name} ({folder})" for name, folder in alone[:_LISTED])
        more = f" and {len(alone) - _LISTED} more" if len(alone) > _LISTED else ""
        raise UsageError(
            "E_UNPAIRED",
            what="Cannot pair the pictures",
            cause=f"{len(alone)} without a partner: {listed}{more}",
            remedy="Give partners the same file name, or remove what is not to be judged",
        )
    return [
        PicturePair(
            name,
            a[name],
            b[name],
            files,
            common_size(name, [a[name], b[name], *files.values()], SMALLEST),
        )
        for name in sorted(a)
        for files in [{row: other[name] for row, other in others.items()}]
    ]


def write_pictures(folder: Path, pairs: Sequence[PicturePair], rgb: Tensor) -> None:
    """Write (N, 3, H, W) in [0, 1] as ``folder/NAME.png``, 8-bit RGB."""
    pixels = (rgb * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for pair, picture in zip(pairs, pixels, strict=True):
            Image.fromarray(picture).save(folder / f"{pair.name}.png")
    except OSError as error:
        raise cannot_write(folder.name, error) from error


def check_outside(save: Path, inputs: Sequence[Path]) -> None:
    """Refuse to write into a folder that is read."""
    if any(save.resolve().is_relative_to(folder.resolve()) for folder in inputs):
        raise UsageError(
            "E_UNSAFE_PATH",
            what="Cannot save the fused pictures",
            where=save.name,
            cause="the folder lies inside an input folder",
            remedy="Choose another folder",
        )
