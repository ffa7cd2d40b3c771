"""Pairs of images for training: folders of pictures or registered volumes, paired by name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import torch
from torch import Tensor

from medfuse.errors import InputError, UsageError, option
from medfuse.imaging.pictures import read_picture
from medfuse.kernel.color import luma
from medfuse.kernel.colormaps import apply_colormap

PICTURES = (".png", ".webp", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
VOLUMES = (".nii", ".nii.gz")
# What medfuse itself calls a registered functional volume in the result folder of a case.
CASE_VOLUME = "functional_on_anatomical.nii.gz"

# (A, B) folder names of public data sets and of ours.
LAYOUTS = (
    ("vi", "ir"),
    ("PET", "MRI"),
    ("SPECT", "MRI"),
    ("CT", "MRI"),
    ("functional", "anatomical"),
    ("a", "b"),
)
# A slice with less contrast than this (of 255) teaches nothing.
_BLANK = 8


@dataclass(frozen=True)
class Pairs:
    """Luminance pairs in memory.

    Attributes
    ----------
    names : one per pair; slices of a volume are ``case#slice``
    a, b : uint8 tensors (H, W), 0..255: functional and anatomical luminance
    """

    names: tuple[str, ...]
    a: tuple[Tensor, ...]
    b: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.names)

    def select(self, index: Sequence[int]) -> Pairs:
        """The pairs at these positions."""
        return Pairs(
            tuple(self.names[i] for i in index),
            tuple(self.a[i] for i in index),
            tuple(self.b[i] for i in index),
        )

    def sha256(self) -> str:
        """Hash of all pixels, independent of file format and path."""
        digest = hashlib.sha256()
        for image in (*self.a, *self.b):
            digest.update(np.asarray(image.shape, dtype="<i8").tobytes())
            digest.update(image.numpy().tobytes())
        return digest.hexdigest()


def find_pair_folders(data: Path) -> tuple[Path, Path]:
    """Find the A and the B folder of a data set: ``vi``/``ir``, ``PET``/``MRI``, ...

    Looks in ``data`` and in ``data/train``.

    Raises
    ------
    InputError
        If no known layout is there.
    """
    for root in (data, data / "train"):
        for a, b in LAYOUTS:
            if (root / a).is_dir() and (root / b).is_dir():
                return root / a, root / b
    known = ", ".join(f"{a}/{b}" for a, b in LAYOUTS)
    raise InputError(
        "E_NO_IMAGES",
        what="Cannot find training pairs",
        where=data.name,
        cause=f"none of the folder pairs {known} is there",
        remedy=f"Name the two folders with {option('a', 'DIR')} (functional) and "
        f"{option('b', 'DIR')} (anatomical)",
    )


def load_pairs(a: Path, b: Path) -> Pairs:
    """Load all pairs of two folders into memory.

    Pictures (PNG, WebP, JPEG, BMP, TIFF; colour becomes luminance) and NIfTI volumes on one grid
    (every slice with contrast in both becomes a pair) are paired by file name without suffix.

    Raises
    ------
    InputError
        If a folder is missing or empty, files are unpaired, a pair differs in size, or an image
        is constant or cannot be read.
    """
    files_a, files_b = _list_images(a), _list_images(b)
    _check_paired(a, b, files_a, files_b)
    names: list[str] = []
    images_a: list[Tensor] = []
    images_b: list[Tensor] = []
    for name in sorted(files_a):
        for part, image_a, image_b in _read_pair(name, files_a[name], files_b[name]):
            names.append(part)
            images_a.append(image_a)
            images_b.append(image_b)
    return Pairs(tuple(names), tuple(images_a), tuple(images_b))


def split_validation(
    pairs: Pairs, *, fraction: float = 0.1, group_digits: int = 0
) -> tuple[Pairs, Pairs]:
    """Hold out pairs for validation, the same ones every time.

    Parameters
    ----------
    pairs : Pairs
    fraction : float in [0, 1)
        Share of the pairs (or groups) to hold out; at least one unless 0.
    group_digits : int
        0 takes evenly spread pairs. Otherwise names end in this many digits of slice number and
        what stands before is the patient, and whole patients are held out. Slices of one volume
        are always one group.

    Raises
    ------
    UsageError
        If nothing would be left to train on.
    """
    if fraction <= 0:
        return pairs, pairs.select([])
    held = held_out(pairs.names, fraction=fraction, group_digits=group_digits)
    return (
        pairs.select([i for i, name in enumerate(pairs.names) if name not in held]),
        pairs.select([i for i, name in enumerate(pairs.names) if name in held]),
    )


def held_out(names: Sequence[str], *, fraction: float, group_digits: int = 0) -> set[str]:
    """Which names :func:`split_validation` holds out."""
    groups = [_group(name, group_digits) for name in names]
    unique = list(dict.fromkeys(groups))
    count = max(1, round(fraction * len(unique)))
    if count >= len(unique):
        raise UsageError(
            "E_NO_IMAGES",
            what="Cannot hold out validation data",
            cause=f"only {len(unique)} independent images or cases are there",
            remedy="Give more data, or set the validation fraction to 0",
        )
    step = len(unique) / count
    held = {unique[int((k + 0.5) * step)] for k in range(count)}
    return {name for name, group in zip(names, groups, strict=True) if group in held}


def _group(name: str, digits: int) -> str:
    case = name.split("#")[0]
    return case[:-digits] if digits and len(case) > digits else case


def _stem(path: Path) -> str:
    return path.name[:-7] if path.name.lower().endswith(".nii.gz") else path.stem


def _list_images(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(
            "E_NO_IMAGES",
            what="Cannot read training data",
            where=folder.name,
            cause="there is no such folder",
            remedy=f"Check {option('a')} and {option('b')}",
        )
    files = {
        _stem(path): path
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name.lower().endswith(PICTURES + VOLUMES)
    }
    files |= {path.parent.name: path for path in sorted(folder.glob(f"*/{CASE_VOLUME}"))}
    if not files:
        raise InputError(
            "E_NO_IMAGES",
            what="Cannot read training data",
            where=folder.name,
            cause="no image files are there",
            remedy=f"Supported are {', '.join(PICTURES + VOLUMES)}",
        )
    return files


def _check_paired(a: Path, b: Path, files_a: dict[str, Path], files_b: dict[str, Path]) -> None:
    lonely = [f"{a.name}/{files_a[n].name}" for n in sorted(files_a.keys() - files_b.keys())]
    lonely += [f"{b.name}/{files_b[n].name}" for n in sorted(files_b.keys() - files_a.keys())]
    if lonely:
        more = f" and {len(lonely) - 10} more" if len(lonely) > 10 else ""
        raise InputError(
            "E_UNPAIRED",
            what="Cannot pair training data",
            cause=f"{len(lonely)} files have no partner: {', '.join(lonely[:10])}{more}",
            remedy="Give both folders the same file names, or remove these files",
        )


def _read_pair(name: str, path_a: Path, path_b: Path) -> list[tuple[str, Tensor, Tensor]]:
    if path_a.name.lower().endswith(VOLUMES) != path_b.name.lower().endswith(VOLUMES):
        raise _unreadable(path_a, f"its partner {path_b.name} is of another kind")
    if path_a.name.lower().endswith(VOLUMES):
        return _read_volumes(name, path_a, path_b)
    image_a, image_b = _read_picture(path_a), _read_picture(path_b)
    _check_shapes(path_a, tuple(image_a.shape), tuple(image_b.shape))
    for path, image in ((path_a, image_a), (path_b, image_b)):
        if image.amin() == image.amax():
            raise _unreadable(path, f"every pixel is {int(image.amin())}", code="E_CONSTANT")
    return [(name, image_a, image_b)]


def _read_picture(path: Path) -> Tensor:
    try:
        rgb = read_picture(path, "RGB")
    except InputError as error:
        raise _unreadable(path, error.cause) from error
    return luma(255 * rgb)[0, 0].round().to(torch.uint8)


def _read_volumes(name: str, path_a: Path, path_b: Path) -> list[tuple[str, Tensor, Tensor]]:
    """Slices along the third axis; scalars get percentile windows, A the default colour map."""
    a, affine_a = _read_volume(path_a)
    b, affine_b = _read_volume(path_b)
    _check_shapes(path_a, a.shape, b.shape)
    if not np.allclose(affine_a, affine_b, atol=1e-3):
        raise _unreadable(path_a, "it is not on the grid of its partner (register it first)")
    planes_a = luma(apply_colormap(_window(a), "hot"))
    planes_b = _window(b)
    out = []
    for k in range(a.shape[2]):
        pair = [(255 * p[k, 0]).round().to(torch.uint8) for p in (planes_a, planes_b)]
        if min(int(p.amax()) - int(p.amin()) for p in pair) >= _BLANK:
            out.append((f"{name}#{k:04d}", pair[0], pair[1]))
    if not out:
        raise _unreadable(path_a, "no slice has contrast in both volumes", code="E_CONSTANT")
    return out


def _read_volume(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        image = nibabel.as_closest_canonical(nibabel.load(path))
        array = np.asarray(image.dataobj, dtype=np.float32)
    except (OSError, ValueError, EOFError, nibabel.filebasedimages.ImageFileError) as error:
        raise _unreadable(path, "it is no readable NIfTI volume") from error
    if array.ndim != 3:
        raise _unreadable(path, f"it has {array.ndim} dimensions, expected 3")
    if not np.isfinite(array).all():
        raise _unreadable(path, "it holds NaN or infinities")
    return array, image.affine


def _window(volume: np.ndarray) -> Tensor:
    """(X, Y, Z) -> (Z, 1, Y, X) in [0, 1] between the 0.5 and 99.5 percentile."""
    low, high = np.percentile(volume, [0.5, 99.5])
    scaled = np.clip((volume - low) / max(float(high - low), 1e-6), 0, 1)
    return torch.from_numpy(np.ascontiguousarray(scaled.T, dtype=np.float32)).unsqueeze(1)


def _check_shapes(path: Path, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    if a != b:
        raise _unreadable(path, f"it is {a} and its partner {b}")


def _unreadable(path: Path, cause: str, *, code: str = "E_UNREADABLE") -> InputError:
    return InputError(
        code,
        what="Cannot train on this image",
        where=f"{path.parent.name}/{path.name}",
        cause=cause,
        remedy="Correct or remove the pair",
    )
