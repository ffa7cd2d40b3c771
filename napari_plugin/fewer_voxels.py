"""Large volumes with fewer voxels, for 3-D.

The graphics card gets a volume in the thread of the window, which stands still meanwhile.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from torch.nn.functional import avg_pool3d, max_pool3d

from medfuse.fusion import FusionResult
from napari_plugin import outputs
from napari_plugin.colors import napari_colormap
from napari_plugin.layers import shown
from napari_plugin.outputs import Output
from napari_plugin.source import Source

SMALL = (outputs.SOLID_UPTAKE, outputs.SOLID_ANATOMY)
MOST = 10_000_000  # voxels that 3-D shows as they are; 40 MB for the graphics card


def solid_outputs(
    result: FusionResult, source: Source, on_grid: MetaTensor, *, words: tuple[str, str]
) -> tuple[Output, ...]:
    """Both images of a large pair with fewer voxels; none where 3-D can show all of them.

    Of the uptake each block keeps its highest value, of the anatomy its mean.

    Parameters
    ----------
    result : FusionResult
    source : Source
        The anatomical layer.
    on_grid : (C, X, Y, Z) MetaTensor
        Functional image on its grid.
    words : (str, str)
        Modality of the functional and the anatomical image, for the names.
    """
    fewer, window = block(source), result.anatomical_window
    if fewer is None or result.colormap is None or window is None:
        return ()
    placed = _placed(source, fewer)
    hot = {"visible": False, "colormap": napari_colormap(result.colormap)}
    uptake = max_pool3d(_whole(shown(on_grid, source.order)), fewer, ceil_mode=True)
    anatomy = avg_pool3d(_whole(source.data), fewer, ceil_mode=True, count_include_pad=False)
    return (
        Output(outputs.SOLID_UPTAKE, f"Fusion: {words[0]} in 3-D", uptake[0].numpy(), hot, placed),
        Output(
            outputs.SOLID_ANATOMY,
            f"Fusion: {words[1]} in 3-D",
            anatomy[0].numpy(),
            {"visible": False},
            {**placed, "contrast_limits": (window.low, window.high)},
        ),
    )


def block(source: Source) -> tuple[int, int, int] | None:
    """Voxels along (slices, rows, columns) that become one in 3-D; None where all are shown."""
    is_turned = not np.array_equal(source.transform["rotate"], np.eye(3))
    if source.flat or source.rgb or is_turned or np.any(source.transform["shear"]):
        return None
    shape, step = np.array(source.data.shape), np.array(source.transform["scale"], dtype=float)
    fewer = np.ones(3, dtype=int)
    while np.prod(-(-shape // fewer)) > MOST:
        fewer[np.argmin(step * fewer)] += 1
    return None if (fewer == 1).all() else (int(fewer[0]), int(fewer[1]), int(fewer[2]))


def _placed(source: Source, fewer: tuple[int, int, int]) -> dict[str, Any]:
    """Scale and translate of the blocks, whose middles are between those of their voxels."""
    scale, start = (np.array(source.transform[name], float) for name in ("scale", "translate"))
    middle = start + scale * (np.array(fewer) - 1) / 2
    return {"scale": tuple((scale * fewer).tolist()), "translate": tuple(middle.tolist())}


def _whole(volume: NDArray[Any]) -> torch.Tensor:
    """(1, slices, rows, columns) float32, finite."""
    values = np.ascontiguousarray(volume, dtype=np.float32)
    return torch.from_numpy(np.nan_to_num(values, posinf=0.0, neginf=0.0))[None]
