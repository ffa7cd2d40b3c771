"""From the planes of a fusion to what the audit looks at."""

from __future__ import annotations

import numpy as np
from monai.data import MetaTensor
from numpy.typing import NDArray
from torch import Tensor

from medfuse.audit import Evidence, Functional
from medfuse.fusion.slices import Planes, Sources, in_slices, read_back_sample
from medfuse.imaging.grid import DisplayOrder, Grid
from medfuse.kernel.blend import overshoot, slabs
from medfuse.kernel.scratch import empty


def evidence_of(planes: Planes, sources: Sources) -> Evidence:
    """Put together the evidence of one fusion; adds ``overshoot`` to the planes."""
    v = planes.values
    v["overshoot"] = _overshoot(v)
    image, func = sources.anatomical, sources.functional
    values = in_slices(func, planes.order)
    facts = func.meta if isinstance(func, MetaTensor) else {}
    window = sources.window
    stored = Grid.from_volume(image) if isinstance(image, MetaTensor) and not sources.flat else None
    return Evidence(
        a=v["a"],
        b=v["b"],
        weights=v["weights"],
        luminance=v["luminance"],
        from_a=v["from_a"],
        from_b=v["from_b"],
        share=v["share"],
        rgb=v["rgb"],
        overshoot=v["overshoot"],
        bound_change=v.get("bound_change"),
        painted=v.get("painted"),
        gamut_change=v["gamut"],
        chroma_change=v["chroma"],
        chroma_change_before=float(v["chroma_before"]),
        coverage=v.get("coverage"),
        saturated=int(v["saturated"]),
        window_by_design=window is not None and window.unit == "HU",
        gamut=sources.gamut,
        read_back=read_back_sample(planes, sources, values),
        functional=Functional(
            values=values,
            window=(window.low, window.high) if window else None,
            colormap=sources.colormap,
            unit=window.unit if window else "",
            modality=facts.get("modality", "unknown"),
        ),
        affine=slice_affine(planes.order, stored) if stored else None,
        stored_affine=np.asarray(stored.affine) if stored else None,
    )


def slice_affine(order: DisplayOrder, grid: Grid) -> NDArray[np.float64]:
    """(4, 4) map from a (slice, row, column) index of the display order to RAS mm."""
    voxel_from_slice = np.zeros((4, 4))
    voxel_from_slice[3, 3] = 1
    for place, (axis, flip) in enumerate(zip(order.axes, order.flips, strict=True)):
        voxel_from_slice[axis, place] = -1 if flip else 1
        voxel_from_slice[axis, 3] = grid.shape[axis] - 1 if flip else 0
    return np.asarray(grid.affine @ voxel_from_slice)


def _overshoot(v: dict[str, Tensor]) -> Tensor:
    out = empty(v["luminance"].shape)
    for part in slabs(len(out)):
        out[part] = overshoot(v["luminance"][part], v["a"][part], v["b"][part])
    return out
