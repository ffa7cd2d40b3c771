"""Fused images read back: ``medfuse.load_picture``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from medfuse.errors import InputError

if TYPE_CHECKING:
    from monai.data.meta_tensor import MetaTensor

FUSED = "fused_rgb.nii.gz"


def load_picture(path: str | os.PathLike[str]) -> MetaTensor:
    """Read a fused image of medfuse, RGB24 or 4-D, or any NIfTI file with three bytes a voxel.

    nibabel gives RGB24 as records of three fields; this gives colors with the geometry. A 4-D file
    is taken for colors by its ``intent_name`` "RGB": three time frames would look the same.

    Parameters
    ----------
    path : path
        A result folder, or the file, e.g. ``result/fused_rgb.nii.gz``.

    Returns
    -------
    MetaTensor (3, X, Y, Z) float32 in [0, 1]
        `.affine` (4, 4) float64: voxel index to RAS mm. Colors are for viewing: they are no
        measurement.

    Raises
    ------
    InputError
        ``E_NOT_A_PICTURE``: no color volume lies there.

    Examples
    --------
    >>> picture = load_picture("result")  # doctest: +SKIP
    >>> picture.shape, picture.affine  # doctest: +SKIP
    """
    import numpy as np
    import torch
    from monai.data.meta_tensor import MetaTensor

    from medfuse.imaging.monai_reader import color_volume
    from medfuse.imaging.volume import display_name

    path = Path(path)
    file = path / FUSED if path.is_dir() else path
    found = color_volume(file)
    if found is None:
        raise InputError(
            "E_NOT_A_PICTURE",
            what="Cannot read a fused image",
            where=display_name(file),
            cause="it is no NIfTI file in color (RGB24, or 4-D with intent_name RGB)"
            if file.is_file()
            else "there is no such file",
            remedy=f"Give a result folder, or {FUSED} in it; medfuse.load reads other volumes",
        )
    values, meta = found
    colors = torch.from_numpy(np.moveaxis(values, -1, 0).copy())
    facts = {name: meta[name] for name in ("modality", "unit", "spacing", "notes")}
    return MetaTensor(colors, affine=torch.from_numpy(meta["affine"]), meta=facts)
