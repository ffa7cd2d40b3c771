"""Measure regions: the functional image where it was acquired, the rest on the anatomical grid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from medfuse.errors import option
from medfuse.imaging.fingerprint import as_read
from medfuse.imaging.grid import Grid
from medfuse.kernel.threads import share_out
from medfuse.measurement.back import ReadBack
from medfuse.measurement.occupancy import Part, occupancy
from medfuse.measurement.one import row_of
from medfuse.measurement.region import Isocontour, Region, Sphere, Threshold
from medfuse.measurement.space import space_of
from medfuse.measurement.table import RegionTable, Row, joined
from medfuse.measurement.worlds import Volume, Worlds, beside_of, unusable, volume_of
from medfuse.registration.result import Registration

if TYPE_CHECKING:
    from monai.data.meta_tensor import MetaTensor

#: EANM 2.0 (Boellaard et al. 2015): the volume above 41 % of the maximum.
MTV = Threshold(0.41, relative=True)
Shape = Region | Sphere | Isocontour


def measure(
    functional: MetaTensor,
    regions: Iterable[Shape] | Mapping[str, Any],
    *,
    anatomical: MetaTensor | None = None,
    registration: Registration | None = None,
    share: ArrayLike | None = None,
    read_back: ReadBack | None = None,
    reference: str | None = None,
    mtv_threshold: Threshold | str = MTV,
) -> RegionTable:
    """Measure regions on a functional image, and what goes with them.

    The image is never interpolated: a region that was drawn elsewhere is brought to its voxels
    through the registration, and each voxel counts by the part of it inside. An image that
    `Registration.resample` made is measured on the anatomical grid, and every row says so.

    Parameters
    ----------
    functional : (1, X, Y, Z) MetaTensor
        As loaded, in its unit.
    regions : iterable of Region, Sphere or Isocontour; or mapping
        A mapping from names to masks, (1, X, Y, Z) MetaTensors on the lattice of one of the images.
    anatomical : (1, X', Y', Z') MetaTensor, optional
        For its mean and standard deviation.
    registration : Registration, optional
        Default: both images lie in one world.
    share : (1, X', Y', Z') array-like in [0, 1], optional
        `FusionResult.share`: contribution of the anatomical image.
    read_back : ReadBack, optional
        Of the fused image; see `medfuse.measurement.back`.
    reference : str, optional
        Name of the region to whose mean others are divided.
    mtv_threshold : Threshold or str
        Lowest value for `mtv_ml` and `tlg`, such as "41%" or "4".

    Returns
    -------
    RegionTable
        A row for each region; what cannot be measured is None, with a remark.

    Raises
    ------
    UsageError
        ``E_SETTINGS``: no single channel, a mask on the lattice of neither image, a `reference`
        that is no region, a grid of `share` that is not known.

    Examples
    --------
    >>> import medfuse
    >>> pet, mri = medfuse.load("pet/"), medfuse.load("t1.nii.gz")  # doctest: +SKIP
    >>> found = medfuse.register(fixed=mri, moving=pet)  # doctest: +SKIP
    >>> mask = medfuse.load("hippocampus.nii.gz")  # doctest: +SKIP
    >>> table = medfuse.measure(pet, {"hippocampus": mask}, anatomical=mri, registration=found)
    ... # doctest: +SKIP
    """
    functional = as_read(functional)
    worlds = Worlds.of(functional, anatomical, registration)
    volume = volume_of(functional, worlds)
    drawn = _named_apart([_region(shape, worlds, volume) for shape in _shapes(regions, worlds)])
    _require_reference(reference, drawn)
    if isinstance(mtv_threshold, str):
        mtv_threshold = Threshold.parse(mtv_threshold)
    beside = beside_of(anatomical, worlds, share, read_back)
    rows: list[Row | None] = [None] * len(drawn)

    def work(number: int) -> None:
        rows[number] = row_of(drawn[number], volume, worlds, beside, mtv_threshold)

    share_out(work, range(len(drawn)))
    return RegionTable(_with_ratio([row for row in rows if row is not None], reference))


def voxels_of(
    functional: MetaTensor, regions: Iterable[Shape], registration: Registration | None = None
) -> list[Part | None]:
    """The part of each voxel of a functional image that each region fills; None for none of any.

    Parameters are those of `measure`, whose rows come in the same order.
    """
    functional = as_read(functional)
    worlds = Worlds.of(functional, None, registration)
    volume = volume_of(functional, worlds)
    drawn = [_region(shape, worlds, volume) for shape in regions]
    placed = [worlds.brought(region, worlds.measured_in) for region in drawn]
    return [
        occupancy(region, worlds.functional, worlds.map(worlds.measured_in, region.space))
        for region in placed
    ]


def _shapes(regions: Iterable[Shape] | Mapping[str, Any], worlds: Worlds) -> Iterable[Shape]:
    if not isinstance(regions, Mapping):
        return list(regions)
    return [_of_mask(name, mask, worlds) for name, mask in regions.items()]


def _of_mask(name: str, mask: Any, worlds: Worlds) -> Region:
    values = np.asarray(mask)
    if values.ndim == 4 and len(values) == 1:
        values = values[0]
    if not hasattr(mask, "affine") or values.ndim != 3:
        raise unusable(
            f"the region {name} has shape {values.shape} or no affine",
            "Give a MetaTensor (1, X, Y, Z), or a Region",
        )
    grid = Grid.from_volume(mask)
    space = space_of(grid, functional=worlds.field, anatomical=worlds.anatomical, where=name)
    return Region.cut(name, values > 0, grid.affine, space)


def _region(shape: Shape, worlds: Worlds, volume: Volume) -> Region:
    if isinstance(shape, Sphere):
        return shape.region()
    if isinstance(shape, Isocontour):
        return shape.region(volume.values, worlds.functional, worlds.measured_in, volume.unit)
    return shape


def _named_apart(regions: list[Region]) -> list[Region]:
    """Every region with a name of its own."""
    seen: Counter[str] = Counter()
    apart = []
    for region in regions:
        seen[region.name] += 1
        number = seen[region.name]
        apart.append(region if number == 1 else replace(region, name=f"{region.name} ({number})"))
    return apart


def _require_reference(reference: str | None, regions: list[Region]) -> None:
    if reference is not None and reference not in [region.name for region in regions]:
        raise unusable(
            f"the reference {reference!r} is none of the regions",
            f"Name one of them with {option('reference', 'NAME')}: "
            f"{', '.join(sorted(r.name for r in regions)[:20]) or 'there are none'}",
        )


def _with_ratio(rows: list[Row], reference: str | None) -> tuple[Row, ...]:
    if reference is None:
        return tuple(rows)
    whole = next(row.mean for row in rows if row.region == reference)
    if whole is None or whole <= 0:
        text = f"no ratio: the reference {reference} has no positive mean"
        return tuple(replace(row, remark=joined([row.remark or text, text])) for row in rows)
    return tuple(
        replace(row, reference=reference, ratio=None if row.mean is None else row.mean / whole)
        for row in rows
    )
