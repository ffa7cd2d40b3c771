"""Open a finished result folder as layers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from medfuse.errors import InputError
from medfuse.imaging.grid import Grid
from napari_plugin import outputs
from napari_plugin.colors import WEIGHTS
from napari_plugin.layers import TAG, LayerData, axial_order, place, shown

HIDDEN = {"visible": False}
UNIT_RANGE = {"contrast_limits": (0.0, 1.0)}
FILES: dict[str, tuple[str, dict[str, Any]]] = {
    "functional_on_anatomical": (outputs.ON_GRID, HIDDEN),
    "luminance": (outputs.LUMINANCE, HIDDEN | UNIT_RANGE),
    "weight_map": (outputs.WEIGHTS_MAP, HIDDEN | UNIT_RANGE | {"colormap": WEIGHTS}),
    "anatomical_share": (outputs.SHARE, HIDDEN | UNIT_RANGE | {"colormap": WEIGHTS}),
    "fused_rgb": (outputs.PICTURE, {"rgb": True}),
}


def read_result(folder: Path) -> list[LayerData]:
    """Layers of a result folder; the picture is on top, its record in the metadata.

    Raises
    ------
    InputError
        ``E_BAD_RESULT`` where a file is missing or unreadable.
    """
    try:
        record = json.loads((folder / "provenance.json").read_text("utf-8"))
        images = {name: _read(folder / f"{name}.nii.gz") for name in FILES}
        verdict = record["audit"]["verdict"]
    except (OSError, ValueError, KeyError, nib.filebasedimages.ImageFileError) as error:
        raise InputError(
            "E_BAD_RESULT",
            what="Cannot open the result",
            where=folder.name,
            cause=f"a file is missing or unreadable ({type(error).__name__})",
            remedy="Run medfuse verify on the folder, or make it again",
        ) from error
    return [
        _layer(name, *images[name], folder.name, {"provenance": record, "verdict": verdict})
        for name in FILES
    ]


def _layer(
    name: str, volume: NDArray[Any], affine: NDArray[Any], case: str, more: dict[str, Any]
) -> LayerData:
    role, look = FILES[name]
    grid = Grid(shape=volume.shape[-3:], affine=affine)
    order = axial_order(grid)
    title = f"{case}: {name.replace('_', ' ')} ({more['verdict'].upper()})"
    entry = {"result_of": role, **(more if role == outputs.PICTURE else {})}
    kwargs = {**place(grid, order), **look, "name": title, "metadata": {TAG: entry}}
    return np.ascontiguousarray(shown(volume, order)), kwargs, "image"


def _read(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    image = nib.load(path)
    array = np.asarray(image.dataobj)
    if array.dtype.names:  # RGB24
        array = np.stack([array[name] for name in array.dtype.names])
    else:
        array = array.astype(np.float32)[None]
    return array, np.asarray(image.affine)
