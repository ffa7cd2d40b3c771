"""What a guide would see of a study, slice by slice: training data of one's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from torch import Tensor

from medfuse.case.pipeline import CaseSettings, align, load_pair
from medfuse.errors import InputError, MedfuseError
from medfuse.fusion import fuse
from medfuse.imaging.grid import DisplayOrder, Grid
from medfuse.results.export import to_bytes
from medfuse.study import Case, discover

if TYPE_CHECKING:
    from monai.data import MetaTensor

CONTRAST = 8  # of 255; slices with less in either image teach nothing
DIGITS = 3  # of the slice number at the end of names; what stands before is the case


def write_study_slices(
    study: Path,
    folder: Path,
    *,
    progress: Callable[[float, str], None] | None = None,
) -> tuple[Path, Path, list[str]]:
    """Register every case of a study and write both luminances as pictures.

    Parameters
    ----------
    study : Path
        Folder, BIDS data set or CSV of cases; see :func:`medfuse.study.discover`.
    folder : Path
        Existing empty folder for the pictures, ``a/CASEnnn.png`` and ``b/CASEnnn.png``.
    progress : callable, optional
        Gets the part that is done, in [0, 1], and the case that comes next.

    Returns
    -------
    a, b : Path
    notes : list of str
        One line a case: how many slices it gave, or why it was left out.

    Raises
    ------
    InputError
        If no case gave a slice.
    """
    sides = folder / "a", folder / "b"
    for side in sides:
        side.mkdir()
    cases = discover(study).cases
    counts, notes = 0, []
    for k, case in enumerate(cases):
        if progress:
            progress(k / len(cases), f"registering {case.name}")
        try:
            count = write_slices(case, folder)
            notes.append(f"{case.name}: {count} slices")
            counts += count
        except MedfuseError as error:
            notes.append(f"{case.name}: left out. {error}")
    if not counts:
        raise InputError(
            "E_NO_IMAGES",
            what="Cannot train on this study",
            where=study.name,
            cause="; ".join(notes) or "it has no case",
            remedy="Run medfuse batch on it and correct what it reports",
        )
    return *sides, notes


def write_slices(case: Case, folder: Path) -> int:
    """Register a case and write both luminances below ``a`` and ``b``; how many slices.

    Raises
    ------
    MedfuseError
        If the case cannot be read or aligned.
    """
    settings = CaseSettings(**case.overrides)
    anatomical, functional = load_pair(case.anatomical, case.functional, settings)
    on_grid = align(anatomical, functional, settings).resample(functional)
    # "mean" needs no network; what counts here is how windows and colours prepare both images.
    seen = fuse(functional=on_grid, anatomical=anatomical, method="mean")
    a, b = (slices(image, anatomical) for image in (seen.functional_luminance, seen.anatomical))
    kept = [k for k in range(len(a)) if min(np.ptp(a[k]), np.ptp(b[k])) >= CONTRAST]
    for name, images in (("a", a), ("b", b)):
        for k in kept:
            Image.fromarray(images[k]).save(folder / name / f"{case.name}{k:0{DIGITS}d}.png")
    return len(kept)


def slices(image: Tensor, grid: MetaTensor) -> np.ndarray:
    """(1, X, Y, Z) in [0, 1] -> (S, R, C) uint8 in display order."""
    order = DisplayOrder.from_grid(Grid.from_volume(grid))
    return np.ascontiguousarray(order.apply(to_bytes(np.asarray(image)[0])))
