"""Pictures on disk: PNG and the like, found, measured, read, or refused."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from torch import Tensor

from medfuse.errors import InputError, OutputError, UsageError
from medfuse.imaging.pointers import pointer_error, pointer_kind

IMAGE_SUFFIXES: Final = (".png", ".webp", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
#: Depths of detectors that are stored in 16 bits.
DEPTHS: Final = (8, 10, 12, 14, 16)

_ORIENTATION: Final = 0x0112
_TIFF_BITS: Final = 258
_TIFF_PHOTOMETRIC: Final = 262
_WHITE_IS_ZERO: Final = 0
_GRAY_OR_COLOR: Final = frozenset(
    ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr")
)
_NO_RANGE: Final = "have no known range: save it with 8 or 16 bits without sign"


@dataclass(frozen=True)
class PictureFile:
    """A picture as it was read.

    Attributes
    ----------
    planes : (1, 3 or 1, H, W) float32 in [0, 1]
    notes : tuple of str
        What the reader had to decide.
    """

    planes: Tensor
    notes: tuple[str, ...] = ()


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
            sizes[_shown_size(image)] = path
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


def read_picture(path: Path, mode: str) -> Tensor:
    """The planes of `open_picture`, where nobody is told its notes."""
    return open_picture(path, mode).planes


def open_picture(path: Path, mode: str, *, bits: int | None = None) -> PictureFile:
    """Read a picture as it is meant to be seen, or refuse it by what it is.

    Turned by its orientation tag; transparent parts as over black; palettes looked up; colors of
    another color profile brought to sRGB; 16-bit gray by its depth.

    Parameters
    ----------
    path : Path
    mode : {"RGB", "L"}
    bits : int, optional
        Depth of a picture of 16-bit gray. Default: the smallest of 8, 10, 12, 14 and 16 that holds
        its largest value, with a note.

    Raises
    ------
    InputError
        ``E_FRAMES``: pages or frames of an animation. ``E_DTYPE``: ink (CMYK), colors of 16 bits,
        numbers without a range. ``E_NO_CONTENT``, ``E_EMPTY_FILE``, ``E_UNREADABLE``,
        ``E_CORRUPT``, ``E_TOO_LARGE``.
    """
    notes: list[str] = []
    with _opened(path) as image:
        _require_one_frame(image, path)
        _require_readable(image, path)
        stated = _stated_depth(image)
        image.load()
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I;16"):
            gray = _gray_16(image, upright, bits or stated, notes)
            planes = np.repeat(gray[None], 3, axis=0) if mode == "RGB" else gray[None]
        else:
            planes = _as_shown(upright, mode, notes)
    return PictureFile(torch.from_numpy(np.ascontiguousarray(planes))[None], tuple(notes))


def over_black(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """(..., 3 or 4) RGB(A) of 8 or 16 bits or in [0, 1] as (..., 3) float32 in [0, 1]."""
    whole = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1
    values = pixels.astype(np.float32) / np.float32(whole)
    shown: NDArray[np.float32] = values[..., :3]
    return shown * values[..., 3:] if values.shape[-1] == 4 else shown


def _gray_16(
    image: Image.Image, upright: Image.Image, bits: int | None, notes: list[str]
) -> NDArray[np.float32]:
    values = np.asarray(upright).astype(np.uint16)
    hidden = image.info.get("transparency")
    top = int(values.max(initial=0))
    depth = bits or next(d for d in DEPTHS if top < 1 << d or d == DEPTHS[-1])
    if not bits and top and depth < DEPTHS[-1]:
        notes.append(
            f"its largest value is {top} of 65535, so it was read as {depth} bits (white is "
            f"{(1 << depth) - 1}); state its depth (bits) where that is wrong"
        )
    if image.info.get("icc_profile"):
        notes.append("its color profile was left out")
    white = (1 << depth) - 1
    gray = np.minimum(values, white).astype(np.float32) / np.float32(white)
    if _tag(image, _TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO:
        gray = 1 - gray
    if isinstance(hidden, int):
        gray[values == hidden] = 0
    return gray


def _as_shown(image: Image.Image, mode: str, notes: list[str]) -> NDArray[np.float32]:
    """(3 or 1, H, W) in [0, 1] of a picture with 8 bits a channel."""
    profile = image.info.get("icc_profile")
    seen = image.has_transparency_data
    if seen:
        rgba = np.asarray(image.convert("RGBA"))
        seen = bool((rgba[..., 3] < 255).any())
        image = image.convert("RGBA").convert("RGB")  # the alpha is laid on below
    elif image.mode not in ("L", "RGB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    if profile:
        image = _to_srgb(image, profile, notes)
    pixels = np.asarray(image.convert(mode)).astype(np.float32) / np.float32(255)
    if seen:
        notes.append("its transparent parts were taken as over black")
        alpha = rgba[..., 3].astype(np.float32) / np.float32(255)
        pixels = pixels * (alpha if mode == "L" else alpha[..., None])
    return np.moveaxis(pixels, -1, 0) if mode == "RGB" else pixels[None]


def _to_srgb(image: Image.Image, profile: bytes, notes: list[str]) -> Image.Image:
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        name = ImageCms.getProfileDescription(own).strip()
        if "srgb" in name.lower():
            return image
        srgb = ImageCms.createProfile("sRGB")
        turned = ImageCms.profileToProfile(image, own, srgb, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        notes.append("its color profile does not fit it and was left out")
        return image
    notes.append(f"its colors were brought from the color profile {name[:40]} to sRGB")
    return turned or image


def _require_one_frame(image: Image.Image, path: Path) -> None:
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # photographs with a preview behind them
        kind = "pages" if image.format == "TIFF" else "frames of an animation"
        raise _cannot_read(path, "E_FRAMES", f"it holds {frames} {kind}: save one as its own file")


def _require_readable(image: Image.Image, path: Path) -> None:
    if image.mode.startswith("I;16"):
        return
    if image.mode in ("I", "F"):
        kind = "float" if image.mode == "F" else "signed or 32-bit integer"
        raise _cannot_read(path, "E_DTYPE", f"its {kind} pixels {_NO_RANGE}")
    if image.mode not in _GRAY_OR_COLOR:
        cause = f"its colors are {image.mode} and no RGB: convert it to RGB"
        raise _cannot_read(path, "E_DTYPE", cause)
    if _bits_a_channel(image) > 8:
        cause = "it has 16 bits a channel and several channels: save it with 8 bits a channel"
        raise _cannot_read(path, "E_DTYPE", cause)


def _bits_a_channel(image: Image.Image) -> int:
    """What the file holds; Pillow keeps 8 of them without a word."""
    stated = _tag(image, _TIFF_BITS)
    if stated is not None:
        return max(stated) if isinstance(stated, tuple) else int(stated)
    return 16 if any(";16" in str(tile[3]) for tile in getattr(image, "tile", ())) else 8


def _stated_depth(image: Image.Image) -> int | None:
    """Depth that a TIFF states where it is no whole number of bytes."""
    bits = _bits_a_channel(image)
    return bits if 8 < bits < 16 else None


def _tag(image: Image.Image, number: int) -> Any:
    tags = getattr(image, "tag_v2", None)
    return None if tags is None else tags.get(number)


def _shown_size(image: Image.Image) -> tuple[int, int]:
    """Width and height when turned by the orientation tag (Pillow turns TIFF itself)."""
    width, height = image.size
    turned = image.format != "TIFF" and image.getexif().get(_ORIENTATION) in (5, 6, 7, 8)
    return (height, width) if turned else (width, height)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """An open picture; what PIL says about a bad one becomes an InputError."""
    if path.exists() and not path.is_file():
        raise _cannot_read(path, "E_UNREADABLE", "it is no file")
    try:
        # From a stream: what Pillow maps into memory by name is scrambled where a TIFF is turned.
        with path.open("rb") as file, Image.open(file) as image:
            yield image
    except UnidentifiedImageError as error:
        raise _no_picture(path) from error
    except Image.DecompressionBombError as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        cause = f"it has more than {most} million pixels: crop it or make it smaller"
        raise _cannot_read(path, "E_TOO_LARGE", cause) from error
    except MemoryError as error:
        raise _cannot_read(path, "E_TOO_LARGE", "the memory cannot hold its pixels") from error
    except (OSError, SyntaxError, EOFError, ValueError) as error:
        cause = getattr(error, "strerror", None) or "it is truncated or corrupt"
        raise _cannot_read(path, "E_CORRUPT", cause) from error


def _no_picture(path: Path) -> InputError:
    with path.open("rb") as file:
        head = file.read(1024)
    name = f"{path.parent.name}/{path.name}"
    if kind := pointer_kind(head):
        return pointer_error(name, kind)
    code, cause = (
        ("E_UNREADABLE", "it is no readable picture") if head else ("E_EMPTY_FILE", "it is empty")
    )
    return _cannot_read(path, code, cause)


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
