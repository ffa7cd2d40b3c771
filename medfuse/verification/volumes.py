"""Volumes of a result, read by what the record says they are and not by what they say themselves.

The record tells shape and place; a file whose header, length or compression is another one than
`write_nifti` makes is refused before its voxels are unpacked.
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medfuse.errors import InputError
from medfuse.fusion.bands import level_affine, level_shape
from medfuse.imaging.grid import DisplayOrder, Grid
from medfuse.imaging.memory import require_memory
from medfuse.imaging.nifti.colors import LAYOUTS, RGB24, UINT8, ColorLayout
from medfuse.imaging.nifti.stream import MAX_RATIO
from medfuse.imaging.volume import Place
from medfuse.registration.deformation import FILE as DEFORMATION_FILE
from medfuse.registration.region import REGION_FILE
from medfuse.results.described import VOLUMES, Facts, about, describe_header, volume_list
from medfuse.results.export import OFFSET, band_files, nifti_head, nifti_header
from medfuse.results.vectors import vector_header
from medfuse.verification.finding import Finding, agreement, not_a_result, read_json

MAX_SIDE = 1 << 15  # voxels; NIfTI-1 holds no more
GZIP_HEAD = b"\x1f\x8b\x08" + bytes(5) + b"\x04\xff"
RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
_COLOURED, _FUNCTIONAL = "fused_rgb", "functional_on_anatomical"
_SUFFIX = ".nii.gz"
_REGION = REGION_FILE.removesuffix(_SUFFIX)
_CHUNK = 1 << 20
#: Bytes of memory for each node of a deformation that is measured again.
LATTICE_BYTES = 600


def result_grid(folder: Path) -> Grid:
    """The anatomical grid of a result, from its transform, judged before anything is allocated.

    Raises
    ------
    InputError
        ``E_NOT_A_RESULT``, ``E_TOO_LARGE``.
    """
    stored = read_json(folder, "transform.json")["fixed_grid"]
    return _sound_grid(folder, stored, "grid", RGB.itemsize + 12)


def stored_lattice(folder: Path) -> Grid:
    """The lattice of the deformation that the record states, judged as `result_grid` does it.

    Raises
    ------
    InputError
        ``E_NOT_A_RESULT``, ``E_TOO_LARGE``.
    """
    told = (read_json(folder, "transform.json").get("deformation") or {}).get("lattice")
    if not told:
        raise not_a_result(folder, f"{DEFORMATION_FILE} (transform.json knows of none)")
    return _sound_grid(folder, told, "lattice", LATTICE_BYTES)


def _sound_grid(folder: Path, stored: dict[str, Any], what: str, item_bytes: int) -> Grid:
    shape, affine = stored["shape"], np.asarray(stored["affine"], dtype=np.float64)
    sound = len(shape) == 3 and all(type(n) is int and 0 < n < MAX_SIDE for n in shape)
    if not sound or affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise not_a_result(folder, f"transform.json holds no {what}")
    require_memory(tuple(shape), item_bytes, Place("Cannot verify", folder.name))
    return Grid((shape[0], shape[1], shape[2]), affine)


def check_headers(folder: Path, provenance: dict[str, Any]) -> Iterator[Finding]:
    """Shape, affine and every other header field of all volumes are those of the record."""
    grid = result_grid(folder)
    wrong, names = [], sorted(path.name for path in folder.glob(f"*{_SUFFIX}"))
    for name in names:
        try:
            _require_header(folder, name.removesuffix(_SUFFIX), grid, provenance)
        except InputError as error:
            wrong.append(error.cause)
    if (folder / VOLUMES).is_file():  # older versions wrote none
        listed = volume_list((name.removesuffix(_SUFFIX) for name in names), _facts(provenance))
        wrong += [] if read_json(folder, VOLUMES) == listed else [VOLUMES]
    yield agreement(
        "headers of the volumes", wrong, says="not as written", fine=f"all {len(names)}"
    )


def stored(folder: Path, name: str, *, grid: Grid | None = None) -> np.ndarray:
    """Voxels of a volume of the result folder, (X, Y, Z) float32, or records R, G, B of bytes.

    Raises
    ------
    InputError
        ``E_NOT_A_RESULT``: it is not there, damaged, or not of the size that it should have.
    """
    shape, _ = _place(folder, name, grid or result_grid(folder))
    layout = _layout(folder, name) if name in (_COLOURED, _FUNCTIONAL) else None
    kind = RGB if layout else np.dtype("<f4")
    content = unpacked(folder, name, OFFSET + math.prod(shape) * kind.itemsize)
    if layout == "4d":
        channels = np.frombuffer(content, "u1", offset=OFFSET).reshape((*shape, 3), order="F")
        return np.ascontiguousarray(channels).view(RGB)[..., 0]
    found = np.frombuffer(content, kind, offset=OFFSET).reshape(shape, order="F")
    return found.copy() if layout else np.array(found, dtype=np.float32, order="C")


def stored_maps(folder: Path) -> list[torch.Tensor]:
    """Weights (1, X, Y, Z) of a result: the one map, or one map a band, finest first."""
    names = [path.name.removesuffix(_SUFFIX) for path in band_files(folder)] or ["weight_map"]
    return [torch.from_numpy(stored(folder, name)[None]) for name in names]


def _layout(folder: Path, name: str) -> ColorLayout | None:
    """How a volume holds colors, by its header; None for one of numbers."""
    head = unpacked(folder, name, OFFSET, whole=False)
    layouts: dict[int, ColorLayout] = {RGB24: "rgb24", UINT8: "4d"}
    return layouts.get(int.from_bytes(head[70:72], "little"))


def _require_header(folder: Path, name: str, grid: Grid, provenance: dict[str, Any]) -> None:
    if name == DEFORMATION_FILE.removesuffix(_SUFFIX):
        lattice = stored_lattice(folder)
        allowed = [nifti_head(vector_header(lattice.shape, lattice.affine))]
    else:
        shape, affine = _place(folder, name, grid, provenance)
        coloured = name == _COLOURED or (name == _FUNCTIONAL and not provenance["colormap"])
        kind = np.dtype("u1" if name == _REGION else "<f4")
        facts = _facts(provenance)
        header = nifti_header(shape, affine, None if coloured else kind, facts.colors)
        plain = nifti_head(header)  # of versions that described nothing
        described = nifti_head(describe_header(header, about(name, facts)))
        allowed = [plain, described]
    if unpacked(folder, name, OFFSET, whole=False) not in allowed:
        raise not_a_result(folder, f"{name}{_SUFFIX} (header)")
    with (folder / f"{name}{_SUFFIX}").open("rb") as file:
        if file.read(len(GZIP_HEAD)) != GZIP_HEAD:
            raise not_a_result(folder, f"{name}{_SUFFIX} (gzip header)")


def _facts(provenance: dict[str, Any]) -> Facts:
    """What the record says of the volumes; older versions wrote RGB24 alone."""
    steps = {step["name"]: step["parameters"] for step in provenance["steps"]}
    func = provenance["inputs"]["functional"]
    colors = provenance["settings"].get("rgb", LAYOUTS[0])
    return Facts(steps["window"]["functional"], str(func["modality"]), str(func["unit"]), colors)


def _place(
    folder: Path, name: str, grid: Grid, provenance: dict[str, Any] | None = None
) -> tuple[tuple[int, ...], np.ndarray]:
    """Shape and affine of a volume: the anatomical grid, or a level of its pyramid."""
    if name == _REGION and provenance:
        steps = {step["name"]: step["parameters"] for step in provenance["steps"]}
        region = steps["register"]["region"]
        return tuple(region["shape"]), np.asarray(region["affine"])
    if not name.startswith("weights_level"):
        return grid.shape, grid.affine
    level = int(name.removeprefix("weights_level"))
    if not 0 <= level < 16:
        raise not_a_result(folder, f"{name}{_SUFFIX} (no such level)")
    record = provenance or read_json(folder, "provenance.json")
    fuse = next(step for step in record["steps"] if step["name"] == "fuse")
    volume = fuse["parameters"]["mode"] == "volume" and min(grid.shape) > 1
    order = DisplayOrder.from_grid(grid)
    slices, rows, columns = (grid.shape[axis] for axis in order.axes)
    small = level_shape((slices, 1, rows, columns), level, volume=volume)
    shape = [0, 0, 0]
    for axis, size in zip(order.axes, (small[0], small[2], small[3]), strict=True):
        shape[axis] = size
    return tuple(shape), level_affine(grid, order, level, volume=volume)


def unpacked(folder: Path, name: str, size: int, *, whole: bool = True) -> bytes:
    """Exactly `size` bytes of a gzip file, its first ones or all; nothing may follow."""
    path = folder / f"{name}{_SUFFIX}"
    refuse = not_a_result(folder, f"{path.name} cannot be read")
    try:
        if path.is_symlink() or not path.is_file() or size > MAX_RATIO * path.stat().st_size:
            raise refuse
        with path.open("rb") as file:
            return _inflate(file, size, whole=whole)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise refuse from error


def _inflate(file: io.BufferedReader, size: int, *, whole: bool) -> bytes:
    unpacker, content = zlib.decompressobj(zlib.MAX_WBITS | 16), bytearray()
    limit = size + 1 if whole else size
    while not unpacker.eof and len(content) < limit:
        part = unpacker.unconsumed_tail or file.read(_CHUNK)
        if not part:
            raise EOFError
        content += unpacker.decompress(part, limit - len(content))
    if whole and (len(content) != size or not _ends(unpacker, file)):
        raise ValueError("not of the expected length")
    return bytes(content)


def _ends(unpacker: Any, file: io.BufferedReader) -> bool:
    """Whether the stream is complete, its checksum right, and nothing stands behind it."""
    while not unpacker.eof:
        part = unpacker.unconsumed_tail or file.read(_CHUNK)
        if not part or unpacker.decompress(part, 1):
            return False
    return not unpacker.unused_data and not file.read(1)
