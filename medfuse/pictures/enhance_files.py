"""An enhanced image on disk: the image, what was done as JSON, and a page to look at."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import medfuse
from medfuse.errors import NOTICE, UsageError, option
from medfuse.evaluation.images import SMALLEST
from medfuse.imaging.pictures import IMAGE_SUFFIXES, common_size, open_picture
from medfuse.imaging.reader import load
from medfuse.pictures.enhance import (
    UNIT,
    WARNING,
    Enhancement,
    enhance,
    measures,
    remarks,
)
from medfuse.report.page import data_uri, render
from medfuse.results.described import About
from medfuse.results.export import encode_png, square_pixels, to_bytes, write_nifti
from medfuse.results.folder import file_sha256, input_files, write_through
from medfuse.settings import Progress

SCHEMA = "medfuse-enhancement/1"
FULL_DIFFERENCE = 50 / 255  # shown in the brightest colour
MOST = 3  # slices of a volume that the page shows


def enhance_file(
    path: Path,
    out: Path,
    *,
    method: str = "gifnet",
    window: tuple[float, float] | None = None,
    modality: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Enhance a picture or a scan; write the image and, beside it, ``.json`` and ``.html``.

    Parameters
    ----------
    path : Path
        Picture (PNG, JPEG, TIFF, WebP, BMP), NIfTI file or DICOM folder.
    out : Path
        ``.png`` for a picture, ``.nii`` or ``.nii.gz`` for a scan. The image appears last, so that
        where it is, all is.
    method : str
    window : (low, high), optional
        Of a scan, in its unit.
    modality : str, optional
        Of a NIfTI file.
    progress : callable (fraction, text), optional

    Returns
    -------
    dict
        The content of the JSON file.

    Raises
    ------
    UsageError
        ``E_UNSAFE_PATH`` if a file to be written is, or lies in, the input; ``E_FORMAT`` for
        another suffix; ``E_SIZE``.
    InputError, OutputError, WeightsError and others of ``medfuse.load``
    """
    is_picture = path.suffix.lower() in IMAGE_SUFFIXES
    stem = _check(path, out, (".png",) if is_picture else (".nii.gz", ".nii"))
    if is_picture and window is not None:
        raise _cannot(path, "E_USAGE", "a picture has no window", f"Leave {option('window')} out")
    if is_picture:
        common_size(path.name, [path], SMALLEST)
        picture = open_picture(path, "RGB")
        image, notes, facts = picture.planes[0], list(picture.notes), {}
        if bool((image[0] == image[1]).all() and (image[1] == image[2]).all()):
            image = image[:1]
    else:
        image = load(path, modality=modality)
        notes, facts = list(image.meta["notes"]), {k: image.meta[k] for k in ("modality", "unit")}
    found = enhance(image, method=method, window=window, progress=progress)
    content = _png(found.image) if is_picture else _nifti(found, out)
    record = _record(found, facts, notes)
    record["input"]["sha256"] = [file_sha256(file) for file in input_files(path)]
    record["output"] = {"sha256": hashlib.sha256(content).hexdigest(), "unit": UNIT}
    page = render(
        "enhance.html.j2", "enhance.js", record=record, pictures=_pictures(found), notice=NOTICE
    )
    write_through(out.with_name(f"{stem}.html"), page.encode())
    text = json.dumps(record, indent=2, allow_nan=False) + "\n"
    write_through(out.with_name(f"{stem}.json"), text.encode())
    write_through(out, content)
    return record


def _check(path: Path, out: Path, suffixes: tuple[str, ...]) -> str:
    """Name of ``out`` without suffix, if everything may be written."""
    suffix = next((s for s in suffixes if out.name.lower().endswith(s)), None)
    if suffix is None:
        listed = " or ".join(suffixes)
        raise _cannot(out, "E_FORMAT", f"the name does not end in {listed}", "Choose one that does")
    stem = out.name[: -len(suffix)]
    source = path.resolve()
    for name in (out.name, f"{stem}.json", f"{stem}.html"):
        target = out.with_name(name).resolve()
        if target == source or (path.is_dir() and target.is_relative_to(source)):
            cause = "it would be written over or into the input"
            raise _cannot(out, "E_UNSAFE_PATH", cause, "Choose another name or folder")
    return stem


def _record(found: Enhancement, facts: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    info, window = found.method, found.window
    numbers = measures(found)
    if not np.isfinite(found.psnr_db):  # nothing changed
        numbers["psnr_db"] = None
    return {
        "schema": SCHEMA,
        "medfuse": medfuse.__version__,
        "warning": WARNING,
        **numbers,
        "invented_text": found.invented.text,
        "method": {"name": info.name, "kind": info.kind, "weights_sha256": info.weights_sha256},
        "input": {**facts, "window": vars(window) if window else None},
        "notes": [*remarks(found), *notes],
    }


def _png(image: Tensor) -> bytes:
    return encode_png(to_bytes(image.permute(1, 2, 0).squeeze(2)))


def _nifti(found: Enhancement, out: Path) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = write_nifti(
            Path(folder) / f"image{'.nii.gz' if out.name.endswith('.gz') else '.nii'}",
            found.image[0].numpy(),
            found.image.affine.numpy(),  # type: ignore[attr-defined]
            what=About(
                "medfuse enhance: painted by a network; no measurement", "windowed 0..1", (0.0, 1.0)
            ),
        )
        return path.read_bytes()


def _pictures(found: Enhancement) -> list[dict[str, str]]:
    """Before, after and difference of the middle of an image, as data URIs."""
    count = len(found.before)
    chosen = sorted({round(count * part) for part in torch.linspace(0.3, 0.7, MOST).tolist()})
    rows = []
    for k in (min(k, count - 1) for k in (chosen if count > 1 else [0])):
        before, after = found.before[k, 0], found.after[k, 0]
        change = ((after - before) / FULL_DIFFERENCE).clamp(-1, 1)
        over, under = change.clamp(min=0), (-change).clamp(min=0)
        colours = torch.stack([over, 0.4 * (over + under), under], dim=-1)
        row = {"slice": str(k) if count > 1 else ""}
        for name, plane in (("before", before), ("after", after), ("difference", colours)):
            row[name] = data_uri(_shown(plane, found.spacing), "image/png")
        rows.append(row)
    return rows


def _shown(plane: Tensor, spacing: tuple[float, float]) -> bytes:
    return encode_png(square_pixels(to_bytes(plane), spacing))


def _cannot(path: Path, code: str, cause: str, remedy: str) -> UsageError:
    return UsageError(code, what="Cannot enhance", where=path.name, cause=cause, remedy=remedy)
