"""Folders of picture pairs: found by name, read, written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from medfuse.errors import InputError, OutputError, UsageError
from medfuse.kernel.metrics_images import SMALLEST

IMAGE_SUFFIXES: Final = (".png", ".webp", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")

_LISTED = 20


@dataclass(frozen=True)
class Pair:
    """Two pictures of one name, and finished results for them by row of the table."""

    name: str
    a: Path
    b: Path
    fused: Mapping[str, Path]
    size: tuple[int, int]  # width, height


def find_pairs(a_dir: Path, b_dir: Path, fused: Mapping[str, Path]) -> list[Pair]:
    """Pair the pictures of two folders, and of folders of results, by name without suffix.

    Raises
    ------
    UsageError
        E_UNPAIRED if a picture has no partner (all are listed), E_SIZE if partners differ in
        size, E_DUPLICATE_NAME if two files of a folder have the same name.
    InputError
        If a folder holds no pictures, or one cannot be read.
    """
    a, b = _pictures(a_dir), _pictures(b_dir)
    others = {name: _pictures(folder) for name, folder in fused.items()}
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
        Pair(name, a[name], b[name], files, common_size(name, [a[name], b[name], *files.values()]))
        for name in sorted(a)
        for files in [{row: other[name] for row, other in others.items()}]
    ]


def _pictures(folder: Path) -> dict[str, Path]:
    """Pictures of a folder by name without suffix."""
    if not folder.is_dir():
        raise InputError(
            "E_UNREADABLE",
            what="Cannot read pictures",
            where=folder.name,
            cause="this is not a folder",
            remedy="Give a folder of PNG, WebP, JPEG or TIFF files",
        )
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in found:
            raise UsageError(
                "E_DUPLICATE_NAME",
                what="Cannot pair the pictures",
                where=folder.name,
                cause=f"{found[path.stem].name} and {path.name} have the same name",
                remedy="Keep one of them",
            )
        found[path.stem] = path
    if not found:
        raise InputError(
            "E_NO_IMAGES",
            what="Cannot read pictures",
            where=folder.name,
            cause=f"the folder holds none of {', '.join(IMAGE_SUFFIXES)}",
            remedy="Give a folder of PNG, WebP, JPEG or TIFF files",
        )
    return found


def common_size(name: str, paths: Sequence[Path]) -> tuple[int, int]:
    """Width and height of pictures that belong together.

    Raises
    ------
    UsageError
        E_SIZE if they differ, or are too small to be fused and judged.
    InputError
    """
    sizes = {}
    for path in paths:
        with _opened(path) as image:
            sizes[image.size] = path
    if len(sizes) > 1:
        listed = " and ".join(f"{w} x {h} ({p.parent.name})" for (w, h), p in sizes.items())
        raise UsageError(
            "E_SIZE",
            what="Cannot use the pair",
            where=name,
            cause=f"the pictures differ in size: {listed} pixels",
            remedy="Register them and resample them to one grid first",
        )
    size = next(iter(sizes))
    if min(size) < SMALLEST:
        raise UsageError(
            "E_SIZE",
            what="Cannot use the pair",
            where=name,
            cause=f"the pictures are {size[0]} x {size[1]} pixels",
            remedy=f"Give pictures of at least {SMALLEST} x {SMALLEST} pixels",
        )
    return size


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """An open picture; what PIL says about a bad one becomes an InputError."""
    try:
        with Image.open(path) as image:
            yield image
    except UnidentifiedImageError as error:
        empty = path.stat().st_size == 0
        code, cause = ("E_EMPTY_FILE", "it is empty") if empty else ("E_UNREADABLE", "no picture")
        raise _cannot_read(path, code, cause) from error
    except Image.DecompressionBombError as error:
        raise _cannot_read(path, "E_TOO_LARGE", "it has far too many pixels") from error
    except (OSError, SyntaxError) as error:
        cause = getattr(error, "strerror", None) or "it is truncated or corrupt"
        raise _cannot_read(path, "E_CORRUPT", cause) from error


def read_picture(path: Path, mode: str) -> Tensor:
    """A picture as (1, 3 or 1, H, W) float32 in [0, 1]; 16-bit gray keeps its depth."""
    with _opened(path) as image:
        if image.mode.startswith("I;16"):
            gray = torch.from_numpy(np.asarray(image, dtype=np.float32) / 65535)[None, None]
            return gray.expand(1, 3, -1, -1) if mode == "RGB" else gray
        if image.mode in ("I", "F"):
            raise _cannot_read(path, "E_DTYPE", f"pixels of type {image.mode} have no known range")
        pixels = torch.from_numpy(np.array(image.convert(mode)))
    planes = pixels.permute(2, 0, 1) if mode == "RGB" else pixels.unsqueeze(0)
    return planes.unsqueeze(0).float() / 255


def write_pictures(folder: Path, pairs: Sequence[Pair], rgb: Tensor) -> None:
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


def _cannot_read(path: Path, code: str, cause: str) -> InputError:
    return InputError(
        code,
        what="Cannot read picture",
        where=f"{path.parent.name}/{path.name}",
        cause=cause,
        remedy="Replace the file, or remove it from both folders",
    )


def cannot_write(name: str, error: OSError) -> OutputError:
    """What the system said about a write, as our error."""
    return OutputError(
        "E_WRITE",
        what="Cannot write",
        where=name,
        cause=error.strerror or "the file system refused",
        remedy="Choose another folder or make room",
    )
