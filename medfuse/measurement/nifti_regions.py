"""Regions of a NIfTI file: a mask, parts of voxels, or a label map."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfuse.errors import InputError
from medfuse.imaging.grid import Grid
from medfuse.imaging.memory import require_memory
from medfuse.imaging.nifti.header import NiftiHeader, parse_header
from medfuse.imaging.nifti.stream import NiftiStream
from medfuse.imaging.volume import Place, display_name
from medfuse.measurement.labels import freesurfer, names_for
from medfuse.measurement.mgh import SUFFIXES, read_mgh
from medfuse.measurement.region import Region, Space, cropped

MOST_LABELS = 5000
_SLICES = 16
_LABEL_MAX = 1 << 24  # exact in float32
_WHOLE = 1e-4  # that far from a whole number, a value is one: scaled labels


@dataclass(frozen=True, eq=False)
class LabelFile:
    """What a NIfTI file with regions holds.

    Attributes
    ----------
    values : (X, Y, Z) int32 labels, or float32 in [0, 1]: parts of voxels
    grid : Grid
    names : dict
        Label -> name, as far as something tells it.
    """

    values: NDArray[Any]
    grid: Grid
    names: dict[int, str]


def read_labels(path: Path, names: str | None = None) -> LabelFile:
    """Read a mask or label map, NIfTI or of FreeSurfer (``.mgz``), verified to the last byte.

    Parameters
    ----------
    path : Path
    names : str, optional
        Table of the names of its labels, or "freesurfer"; default what lies beside it.

    Raises
    ------
    MedfuseError
        As `medfuse.load`; ``E_REGION``: values that are neither labels nor parts.
    """
    place = Place("Cannot read the regions", display_name(path))
    if path.suffix.lower() in SUFFIXES:
        stored, grid = read_mgh(path, place)
        known = names_for(path, [], names) or (freesurfer() if stored.max() > 1 else {})
        return LabelFile(_labels_or_parts(stored, place), grid, known)
    with NiftiStream(path, place) as stream:
        raw, header = _header(stream, place)
        if header.frames > 1:
            raise _unfit(place, f"it holds {header.frames} volumes", "Give one label map, or masks")
        require_memory(header.shape, 8, place)
        stream.require_possible()
        extensions = _extensions(stream.read(header.offset - raw))
        values = _values(stream, header)
        stream.finish()
    return LabelFile(
        _labels_or_parts(values, place),
        Grid(header.shape, header.affine),
        names_for(path, extensions, names),
    )


def regions_of(file: LabelFile, space: Space, *, name: str | None, where: str) -> list[Region]:
    """A region for each label, or the one of a mask.

    Parameters
    ----------
    file : LabelFile
    space : {"anatomical", "functional"}
    name : str, optional
        What a file with one region is called; several get it before their own names.
    where : str
        For errors.

    Raises
    ------
    InputError
        ``E_REGION``: more labels than regions make sense.
    """
    affine = file.grid.affine
    if file.values.dtype.kind == "f":
        return [Region.cut(name or "region", file.values, affine, space, kind="mask (parts)")]
    found = boxes(file.values)
    if not found:
        return [Region.cut(name or "region", file.values, affine, space)]
    if len(found) > MOST_LABELS:
        place = Place("Cannot read the regions", where)
        raise _unfit(place, f"it holds {len(found)} labels", f"Give at most {MOST_LABELS}")
    is_mask = len(found) == 1 and not file.names
    regions = []
    for label, (start, stop) in found.items():
        part = file.values[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] == label
        known = file.names.get(label)
        called = known or f"label {label}"
        if is_mask:
            called = name or called
        elif name is not None:
            called = f"{name} {called}"
        notes = () if known or is_mask else ("its label has no name",)
        grid = cropped(affine, start, part.shape)
        regions.append(Region(called, part.astype(np.uint8), grid, space, label, "mask", notes))
    return regions


def boxes(labels: NDArray[np.int32]) -> dict[int, tuple[list[int], list[int]]]:
    """Label -> first voxel and the first behind, of all labels but 0 in ascending order."""
    count = int(labels.max(initial=0)) + 1
    found: dict[int, tuple[list[int], list[int]]] = {}
    for axis in range(3):
        there = np.array(
            [
                np.bincount(np.take(labels, n, axis=axis).ravel(), minlength=count) > 0
                for n in range(labels.shape[axis])
            ]
        )
        first, last = there.argmax(axis=0), len(there) - there[::-1].argmax(axis=0)
        for label in np.flatnonzero(there.any(axis=0))[int(there[:, 0].any()) :]:
            start, stop = found.setdefault(int(label), ([], []))
            start.append(int(first[label]))
            stop.append(int(last[label]))
    return found


def _header(stream: NiftiStream, place: Place) -> tuple[int, NiftiHeader]:
    """The header, and how many bytes of the file it takes; a label map may call itself one."""
    raw = stream.read(348)
    if int.from_bytes(raw[:4], "little") == 540 or int.from_bytes(raw[:4], "big") == 540:
        raw += stream.read(192)
        raw[504:508] = bytes(4)  # intent_code
    else:
        raw[68:70] = bytes(2)
    header = parse_header(raw, place)
    stream.expected = header.offset + header.frame_bytes * header.frames
    return len(raw), header


def _extensions(raw: bytearray) -> list[bytes]:
    """Contents of the header extensions: after four flag bytes, size, code and text of each."""
    found, at = [], 4
    while raw[:1] != b"\0" and at + 8 <= len(raw):
        sizes = [int.from_bytes(raw[at : at + 4], order) for order in ("little", "big")]
        size = next((n for n in sizes if 16 <= n <= len(raw) - at and n % 16 == 0), 0)
        if not size:
            break
        found.append(bytes(raw[at + 8 : at + size]).rstrip(b"\0"))
        at += size
    return found


def _values(stream: NiftiStream, header: NiftiHeader) -> NDArray[np.float32]:
    values = np.empty(header.shape, dtype=np.float32)
    for z in range(0, header.shape[2], _SLICES):
        part = values[..., z : z + _SLICES]
        raw = stream.read(part.size * header.dtype.itemsize)
        stored = np.frombuffer(raw, header.dtype).reshape(part.shape, order="F")
        with np.errstate(over="ignore", invalid="ignore"):
            part[...] = stored * np.float64(header.slope) + header.intercept
    return values


def _labels_or_parts(values: NDArray[np.float32], place: Place) -> NDArray[Any]:
    low, high = float(values.min()), float(values.max())
    whole = all(
        float(np.abs(part - np.rint(part)).max()) <= _WHOLE
        for part in (values[..., z : z + _SLICES] for z in range(0, values.shape[2], _SLICES))
    )
    if not np.isfinite([low, high]).all():
        raise _unfit(place, "it holds NaN or infinite values", "Write the mask with numbers")
    if low < 0 or high > _LABEL_MAX or (not whole and high > 1):
        raise _unfit(
            place,
            f"its values go from {low:g} to {high:g}{'' if whole else ' and are no whole numbers'}",
            "Give a mask (0 and 1), parts of voxels (0 to 1) or a label map (whole numbers)",
        )
    return np.rint(values).astype(np.int32) if whole else values


def _unfit(place: Place, cause: str, remedy: str) -> Exception:
    return place.error(InputError, "E_REGION", cause, remedy)
