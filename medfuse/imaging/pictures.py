"""Pictures on disk: PNG and the like, found, measured, read, or refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from medfuse.errors import InputError, OutputError, UsageError

IMAGE_SUFFIXES: Final = (".png", ".webp", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


def picture_files(folder: Path) -> dict[str, Path]:
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


def common_size(name: str, paths: Sequence[Path], smallest: int) -> tuple[int, int]:
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
    if min(size) < smallest:
        raise UsageError(
            "E_SIZE",
            what="Cannot use the pair",
            where=name,
            cause=f"the pictures are {size[0]} x {size[1]} pixels",
            remedy=f"Give pictures of at least {smallest} x {smallest} pixels",
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
