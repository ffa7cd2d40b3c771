"""Both images back from a fused picture: from a two-way map, with the error of reading them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

import medfuse
from medfuse.errors import InputError, UsageError, option
from medfuse.imaging.nifti.colors import color_bytes
from medfuse.kernel.two_way_maps import MAPS
from medfuse.kernel.two_way_reading import TakenApart, find_map, take_apart
from medfuse.results.export import OUTLINED, write_nifti
from medfuse.results.folder import ResultFolder, write_through

SCHEMA = "medfuse-unfused/1"
LIKELY = 0.95  # quantile of the errors that is stated


@dataclass(frozen=True)
class Painted:
    """How a picture was painted, as far as it is known.

    Attributes
    ----------
    colormap : str or None
        None: it is found from the colours.
    bias : float
    windows : dict
        ``functional`` and ``anatomical``: low, high and unit, where they are known.
    method : str or None
        With ``anatomical-luma`` the brightness is the anatomical image alone.
    """

    colormap: str | None
    bias: float
    windows: Mapping[str, Any]
    method: str | None


def unfuse(
    picture: Path,
    out: Path,
    *,
    colormap: str | None = None,
    provenance: Path | None = None,
) -> dict[str, Any]:
    """Read both images back from a picture and write them, with their errors, into a folder.

    Parameters
    ----------
    picture : Path
        PNG, NIfTI (RGB24) or derived DICOM that medfuse wrote; 8 bits a channel, not resized.
    out : Path
        Folder; PNG gives 16-bit PNG files, the others NIfTI files.
    colormap : str, optional
        A two-way map; default as the record says, else found from the colours.
    provenance : Path, optional
        ``provenance.json`` of the result; default the one that lies beside the picture.

    Returns
    -------
    dict
        The content of ``unfused.json``.

    Raises
    ------
    UsageError
        ``E_NOT_TWO_WAY``: the picture is of no two-way map, or was changed since.
    InputError
        ``E_UNREADABLE``, ``E_FORMAT``.
    OutputError
    """
    painted = _painted(provenance or _beside(picture), picture.name, colormap)
    rgb, affine = _read(picture)
    apart, name = _taken_apart(rgb, painted, picture.name)
    scaled = {
        "functional": _in_unit(apart.uptake, painted.windows.get("functional")),
        "anatomical": _in_unit(apart.anatomy, painted.windows.get("anatomical")),
    }
    errors = {"functional": apart.uptake_error, "anatomical": apart.anatomy_error}
    alone = painted.method == "anatomical-luma"
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "medfuse": medfuse.__version__,
        "colormap": name,
        "bias": painted.bias,
        "foreign": round(apart.foreign, 6),
        "brightness": "anatomical image" if alone else "fused luminance",
        "images": {
            role: {
                "window": painted.windows.get(role),
                f"error_{LIKELY:.0%}_of_window": round(_quantile(errors[role]), 5),
            }
            for role in scaled
        },
    }
    with ResultFolder(out, case=out.name) as folder:
        for role, values in scaled.items():
            _write(folder.path, role, values, affine)
            _write(folder.path, f"{role}_error", errors[role], affine)
        text = json.dumps(record, indent=2) + "\n"
        write_through(folder.path / "unfused.json", text.encode())
    return record


def _taken_apart(rgb: Tensor, painted: Painted, name: str) -> tuple[TakenApart, str]:
    colormap = painted.colormap or find_map(rgb)
    if colormap not in MAPS:
        cause = (
            "its colors are of no two-way map, or of several"
            if colormap is None
            else f"the color map {colormap} does not hold both images"
        )
        raise _not_two_way(name, cause)
    try:
        return take_apart(rgb, colormap, bias=painted.bias), colormap
    except ValueError as error:
        raise _not_two_way(name, str(error)) from error


def _not_two_way(name: str, cause: str) -> UsageError:
    return UsageError(
        "E_NOT_TWO_WAY",
        what="Cannot take the picture apart",
        where=name,
        cause=cause,
        remedy=f"Give the picture as medfuse wrote it (glow, glow-safe or bone; no JPEG, not "
        f"resized), or name its map with {option('colormap', 'NAME')}",
    )


def _beside(picture: Path) -> Path | None:
    """The record of the result folder that the picture lies in."""
    folders = (picture.parent, picture.parent.parent)
    return next((p for f in folders if (p := f / "provenance.json").is_file()), None)


def _painted(record: Path | None, name: str, colormap: str | None) -> Painted:
    if record is None:
        return Painted(colormap, 0.0, {}, None)
    try:
        steps = {s["name"]: s["parameters"] for s in json.loads(record.read_text())["steps"]}
        fuse, windows = steps["fuse"], steps["window"]
        gamut, known = fuse["gamut"], steps["colour"]["colormap"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            "E_UNREADABLE",
            what="Cannot read the record",
            where=record.name,
            cause="it is no provenance.json of medfuse",
            remedy=f"Give another one with {option('provenance', 'FILE')}",
        ) from error
    if gamut != "band":
        raise _not_two_way(name, f"it was made with gamut {gamut}, which keeps no second image")
    chosen = {role: window for role, window in windows.items() if window}
    return Painted(colormap or known, fuse.get("bias", 0.0), chosen, fuse["method"])


def _read(path: Path) -> tuple[Tensor, NDArray[np.float64] | None]:
    """(1, 3, ...) uint8 and, of a volume, its affine."""
    lower = path.name.lower()
    if not path.exists():
        raise _cannot_read(path, "no such file or directory")
    if lower.endswith((".nii", ".nii.gz")):
        return _read_nifti(path)
    if path.is_dir() or lower.endswith(".dcm"):
        return _read_dicom(path)
    try:
        with Image.open(path) as image:
            if image.info.get("Comment") == OUTLINED:
                raise _drawn_into(path)
            seen = image.mode == "RGBA" and image.getchannel("A").getextrema() != (255, 255)
            if image.format == "JPEG" or image.mode not in ("RGB", "RGBA") or seen:
                kind = f"{image.format} {image.mode}{' with transparent parts' if seen else ''}"
                raise _cannot_read(path, f"{kind} does not keep every color")
            pixels = np.array(image.convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise _cannot_read(path, "it is no picture") from error
    return torch.from_numpy(pixels).permute(2, 0, 1)[None], None


def _read_nifti(path: Path) -> tuple[Tensor, NDArray[np.float64]]:
    try:
        image = nib.Nifti1Image.from_filename(path)
        rgb = color_bytes(image)
    except (OSError, EOFError, ValueError, nib.filebasedimages.ImageFileError) as error:
        raise _cannot_read(path, "it is no NIfTI file, or a damaged one") from error
    if rgb is None:
        cause = "it holds no colors: it is neither RGB24 nor 4-D with intent_name RGB"
        raise _cannot_read(path, cause)
    return torch.from_numpy(np.moveaxis(rgb, -1, 0).copy())[None], np.asarray(image.affine)


def _read_dicom(path: Path) -> tuple[Tensor, NDArray[np.float64]]:
    """A multi-frame file, or a folder with a file a slice; needs ``medfuse[dicom]``."""
    from medfuse.dicom_out import require_highdicom
    from medfuse.dicom_out.colour import lines_are_burned_in

    hd = require_highdicom()
    files = sorted(path.rglob("*.dcm")) if path.is_dir() else [path]
    try:
        images = [hd.imread(file) for file in files]
        if images and all(map(lines_are_burned_in, images)):
            raise _drawn_into(path)
        coloured = [
            image
            for image in images
            if image.get("SamplesPerPixel") == 3 and not lines_are_burned_in(image)
        ]
        volume = (
            coloured[0].get_volume() if len(coloured) == 1 else hd.get_volume_from_series(coloured)
        )
        lps = np.diag([-1.0, -1.0, 1.0, 1.0])
        return torch.from_numpy(volume.array.astype(np.uint8)).movedim(-1, 0)[
            None
        ], lps @ volume.affine
    except (OSError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        raise _cannot_read(path, "it holds no color volume that medfuse wrote") from error


def _drawn_into(path: Path) -> UsageError:
    return UsageError(
        "E_NOT_TWO_WAY",
        what="Cannot take the picture apart",
        where=path.name,
        cause="lines around regions were drawn into it, whose pixels hold neither image",
        remedy="Give the picture without lines (fused_rgb.nii.gz, fused.dcm or fused_000.png)",
    )


def _cannot_read(path: Path, cause: str) -> InputError:
    return InputError(
        "E_FORMAT",
        what="Cannot read the picture",
        where=path.name,
        cause=cause,
        remedy="Give a PNG, an RGB NIfTI (fused_rgb.nii.gz) or the derived DICOM of medfuse",
    )


def _in_unit(part: Tensor, window: Mapping[str, Any] | None) -> Tensor:
    """From a part of the window to its unit; unchanged where the window is not known."""
    if not window:
        return part
    low, high = float(window["low"]), float(window["high"])
    return part * (high - low) + low


def _quantile(errors: Tensor) -> float:
    return float(np.quantile(errors.numpy(), LIKELY))


def _write(folder: Path, name: str, values: Tensor, affine: NDArray[np.float64] | None) -> None:
    image = values[0, 0].numpy()
    if affine is not None:
        write_nifti(folder / f"{name}.nii.gz", image, affine)
        return
    low, high = float(image.min()), float(image.max())
    levels = np.round((image - low) / max(high - low, 1e-9) * 65535).astype(np.uint16)
    Image.fromarray(levels).save(folder / f"{name}.png")
    np.save(folder / f"{name}.npy", image)
