"""Files of a foreign fusion: two sources and a picture, brought onto one grid or refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from nibabel.orientations import apply_orientation, io_orientation, ornt_transform
from torch import Tensor

from medfuse.case.pipeline import load_pair
from medfuse.errors import GeometryError, InputError, UsageError, option
from medfuse.imaging.grid import Grid
from medfuse.imaging.located import is_located
from medfuse.imaging.nifti.stream import NiftiStream
from medfuse.imaging.pictures import IMAGE_SUFFIXES, open_picture, read_picture
from medfuse.imaging.volume import Place
from medfuse.registration.result import Registration
from medfuse.settings import CaseSettings

GRID_TOLERANCE_MM = 0.05  # at the corners; tools round affines to float32
COLOURED = 2.5 / 255  # channels that differ by more than this make a colour


@dataclass(frozen=True)
class SourcePair:
    """Sources on the anatomical grid: (1, X, Y, Z) MetaTensor, or (C, R, K, 1) of pictures.

    ``functional`` may be (3, ...) RGB in [0, 1]; ``matrix``: the transform that was applied.
    """

    anatomical: Tensor
    functional: Tensor
    matrix: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    @property
    def grid(self) -> Grid | None:
        """Of the scans; pictures have none."""
        image = self.anatomical
        return Grid.from_volume(image) if is_located(image) else None


@dataclass(frozen=True)
class Picture:
    """(1 or 3, X, Y, Z) float in [0, 1] on the anatomical grid."""

    values: Tensor
    notes: tuple[str, ...] = ()

    @property
    def is_coloured(self) -> bool:
        return len(self.values) == 3


def read_pair(
    anatomical: Path, functional: Path, matrix: np.ndarray | None, settings: CaseSettings
) -> SourcePair:
    """Read both sources; the functional one must lie on the anatomical grid or be brought there.

    Scans are read as the settings say (`case.pipeline.load_pair`).

    Raises
    ------
    UsageError
        ``E_KIND``: a picture and a scan.
    GeometryError
        ``E_GRID_MISMATCH``.
    """
    kinds = {_is_picture(path) for path in (anatomical, functional)}
    if len(kinds) > 1:
        raise UsageError(
            "E_KIND",
            what="Cannot audit",
            cause="one source is a 2-D picture and the other a scan",
            remedy="Give both as pictures or both as NIfTI or DICOM",
        )
    if kinds == {True}:
        files = open_picture(anatomical, "L"), open_picture(functional, "RGB")
        anat, func = (file.planes[0].unsqueeze(-1) for file in files)
        func = _grey_or_colour(func)
        _same_size(functional, func, anat)
        return SourcePair(anat, func, notes=files[0].notes + files[1].notes)
    anat, func = load_pair(anatomical, functional, settings)
    notes = tuple(anat.meta["notes"]) + tuple(func.meta["notes"])
    grid = Grid.from_volume(anat)
    if matrix is not None:
        func = Registration.given(matrix, grid).resample(func)
    elif not same_grid(Grid.from_volume(func), grid):
        raise _off_grid(
            "the functional image",
            functional,
            Grid.from_volume(func),
            grid,
            "Give the registered one (functional_on_anatomical.nii.gz of a medfuse result), or "
            f"the transform with {option('transform', 'transform.json')}",
        )
    return SourcePair(anat, func, matrix, notes)


def read_picture_or_volume(path: Path, pair: SourcePair) -> Picture:
    """Read a fused picture (or a weight map) and check that it lies on the anatomical grid.

    Volumes with other axes but the same voxels in the world are turned without interpolation.

    Raises
    ------
    GeometryError
        ``E_GRID_MISMATCH``.
    InputError
        ``E_TRUNCATED``, ``E_CORRUPT``, ``E_DTYPE``, ``E_NONFINITE`` and others.
    """
    grid = pair.grid
    if _is_picture(path) != (grid is None):
        kind = "scans" if _is_picture(path) else "2-D pictures"
        raise UsageError(
            "E_KIND",
            what="Cannot audit",
            where=path.name,
            cause=f"the sources are {kind}, this file is not",
            remedy="Give all as pictures, or all as volumes",
        )
    if grid is None:
        picture = _grey_or_colour(read_picture(path, "RGB")[0].unsqueeze(-1))
        _same_size(path, picture, pair.anatomical)
        return Picture(picture)
    turned, own = _turned(*_read_volume(path), grid)
    if not same_grid(own, grid):
        raise _off_grid(
            "the picture", path, own, grid, "Give the one that was made on the anatomical grid"
        )
    return _scaled(torch.from_numpy(turned))


def same_grid(one: Grid, other: Grid) -> bool:
    """Whether two grids hold the same voxels."""
    return one.same_as(other, tolerance_mm=GRID_TOLERANCE_MM)


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def _grey_or_colour(rgb: Tensor) -> Tensor:
    """(3, ...) -> (1, ...) where the three channels are the same."""
    return rgb if float((rgb.amax(0) - rgb.amin(0)).max()) > COLOURED else rgb[:1]


def _read_volume(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(C, X, Y, Z) float32 and affine of a NIfTI file: RGB24, trailing channels, or gray."""
    place = Place("Cannot read the picture", path.name)
    with NiftiStream(path, place) as stream:
        stream.read(348)
        stream.finish()  # the checksum, which nibabel does not reach
    try:
        image: Any = nib.load(path)
        stored = np.asarray(image.dataobj)
    except (OSError, EOFError, ValueError, nib.filebasedimages.ImageFileError) as error:
        cause = str(error).splitlines()[0][:120].replace(str(path), path.name)
        raise place.error(InputError, "E_NOT_NIFTI", cause, "Give a NIfTI volume") from error
    if stored.dtype.names:
        values = np.stack([stored[name] for name in ("R", "G", "B")]).astype(np.float32)
    else:
        values = stored.astype(np.float32).squeeze()
        if values.ndim == 4 and values.shape[-1] in (3, 4):
            values = np.moveaxis(values[..., :3], -1, 0)
        values = values[None] if values.ndim == 3 else values
    if values.ndim != 4 or len(values) not in (1, 3):
        cause = f"expected a volume, grey or with three channels, got shape {stored.shape}"
        raise place.error(InputError, "E_NOT_A_VOLUME", cause, "Give one fused volume")
    return values, np.asarray(image.affine, dtype=float)


def _scaled(values: Tensor) -> Picture:
    """To [0, 1]: as it is, of 255, or of its own range."""
    values = values.contiguous().float()
    if not torch.isfinite(values).all():
        return Picture(values)  # the audit counts them
    low, high = float(values.min()), float(values.max())
    if low >= -0.5 and high <= 1.5:
        return Picture(values.clamp(0, 1))
    if low >= 0 and high <= 255:
        return Picture(values / 255)
    note = f"the fused image: values from {low:g} to {high:g} were taken as black to white"
    return Picture((values - low) / (high - low), (note,))


def _turned(values: np.ndarray, affine: np.ndarray, grid: Grid) -> tuple[np.ndarray, Grid]:
    """Flip and permute axes as those of the grid run."""
    order = ornt_transform(io_orientation(affine), io_orientation(grid.affine))
    moved = np.moveaxis(values, 0, -1)
    turned = np.moveaxis(apply_orientation(moved, order), -1, 0)
    own = affine @ nib.orientations.inv_ornt_aff(order, values.shape[1:])
    return np.ascontiguousarray(turned), Grid(turned.shape[1:], own)


def _same_size(path: Path, image: Tensor, anatomical: Tensor) -> None:
    if image.shape[1:] == anatomical.shape[1:]:
        return
    sizes = [f"{x.shape[2]} x {x.shape[1]}" for x in (image, anatomical)]
    raise GeometryError(
        "E_GRID_MISMATCH",
        what="Cannot audit",
        where=path.name,
        cause=f"it has {sizes[0]} pixels, the anatomical image {sizes[1]}",
        remedy="Give pictures of one size that lie on each other",
    )


def _off_grid(what: str, path: Path, found: Grid, wanted: Grid, remedy: str) -> GeometryError:
    sizes = [" x ".join(map(str, g.shape)) for g in (found, wanted)]
    if found.shape == wanted.shape:
        gap = float(np.abs(found.corners() - wanted.corners()).max())
        cause = f"{what} has the size of the anatomical image but lies {gap:.1f} mm off"
    else:
        cause = f"{what} has {sizes[0]} voxels, the anatomical grid {sizes[1]}"
    return GeometryError(
        "E_GRID_MISMATCH", what="Cannot audit", where=path.name, cause=cause, remedy=remedy
    )
