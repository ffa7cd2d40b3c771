"""A layer as it was when a job began."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from medfuse.imaging.grid import DisplayOrder, Grid, Matrix
from medfuse.imaging.pictures import over_black
from napari_plugin.placing import shape3, volume_shape


@dataclass(frozen=True)
class Source:
    """A layer as it was when a job began; safe to use in a thread.

    Attributes
    ----------
    name : str
    data : array (slices, rows, columns[, 3])
    affine : (4, 4) float64
        (X, Y, Z) index of the volume -> RAS mm.
    order : DisplayOrder
        (X, Y, Z) <-> (slices, rows, columns).
    rgb : bool
    meta : dict
        As ``medfuse.load`` gives it.
    flat : bool
        The layer has two axes.
    transform : dict
        Scale, translate, units, ... for further layers on this grid.
    path : str or None
        File or folder it was read from by medfuse, where the voxels are still those of the file.
    read_affine : (4, 4) float64
        That of the fingerprint in `meta`: of the file, or the identity.
    stated : dict
        ``modality`` and ``unit``, as far as the user stated them.
    opened : dict
        ``series`` and ``frame``, as far as they were chosen when it was read.
    """

    name: str
    data: Any
    affine: Matrix
    order: DisplayOrder
    rgb: bool
    meta: dict[str, Any]
    flat: bool
    transform: dict[str, Any]
    path: str | None = None
    read_affine: Matrix | None = None
    stated: dict[str, str] = field(default_factory=dict)
    opened: dict[str, Any] = field(default_factory=dict)

    @property
    def grid(self) -> Grid:
        """Grid of the volume."""
        shape = volume_shape(self.order, shape3(self.data, self.rgb))
        return Grid(shape=shape, affine=self.affine)

    def checksum(self) -> int:
        """Of all voxels: another number after an edit in place. For a thread."""
        return zlib.crc32(np.ascontiguousarray(self.data).data)

    def volume(self) -> MetaTensor:
        """(C, X, Y, Z) float32 MetaTensor; memory is shared where the layer holds float32."""
        array = np.asarray(self.data)
        if self.flat:
            array = array[None]
        channels = np.moveaxis(over_black(array), -1, 0) if self.rgb else array[None]
        voxels = self.order.invert(channels).astype(np.float32, copy=False)
        if any(step < 0 for step in voxels.strides):
            voxels = np.ascontiguousarray(voxels)
        tensor = MetaTensor(torch.from_numpy(voxels), affine=torch.from_numpy(self.affine.copy()))
        tensor.meta.update(self.meta)
        return tensor
