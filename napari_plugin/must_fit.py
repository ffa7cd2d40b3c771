"""What a registration must get right above all: painted labels, or a structure of a file."""

from __future__ import annotations

import weakref
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from napari.layers import Labels
from numpy.typing import NDArray

from medfuse.imaging.grid import DisplayOrder, Matrix
from medfuse.settings import CaseSettings, file_of
from napari_plugin.layers import read_placed
from napari_plugin.placing import linear_map, placed_by_napari

if TYPE_CHECKING:
    from medfuse.registration.region import Region

#: The volumes of a pair, anatomical and functional: (C, X, Y, Z) MetaTensors.
Volumes = tuple[MetaTensor, MetaTensor]

_PROBES = 24  # voxels along an axis that are compared
_CHANGED = ("paint", "data")


class RegionKey(NamedTuple):
    """What the region was: a layer or a file with its content and place."""

    what: str
    content: int
    place: bytes


@dataclass(frozen=True)
class MustFit:
    """A region as it was chosen when a job began; ``read`` is for its thread."""

    key: RegionKey
    read: Callable[[CaseSettings, Volumes], Region | None]


class RegionChoice:
    """A labels layer of a viewer that was chosen as the region of the registration.

    A file is a setting; this knows whether either is still what it was.
    """

    def __init__(self, viewer: Any) -> None:
        self.viewer = viewer
        self._layer: weakref.ref[Any] | None = None
        self._painted = 0
        self._known: tuple[Any, int] = (None, 0)

    def candidates(self) -> list[Any]:
        """Labels layers of three axes."""
        return [
            layer
            for layer in self.viewer.layers
            if isinstance(layer, Labels) and layer.ndim == 3 and not layer.multiscale
        ]

    @property
    def layer(self) -> Any | None:
        """The layer that was chosen; None where there is none, or where it is gone."""
        layer = self._layer() if self._layer is not None else None
        return layer if layer is not None and layer in self.viewer.layers else None

    @layer.setter
    def layer(self, layer: Any | None) -> None:
        before = self._layer() if self._layer is not None else None
        for name in _CHANGED:
            if before is not None:
                getattr(before.events, name).disconnect(self._on_painted)
            if layer is not None:
                getattr(layer.events, name).connect(self._on_painted)
        self._layer = None if layer is None else weakref.ref(layer)

    def key(self, settings: CaseSettings) -> RegionKey | None:
        """Equal as long as the region is the same; None without one."""
        layer = self.layer
        if layer is not None:
            return RegionKey(
                str(layer.unique_id), self._content(layer), linear_map(layer).tobytes()
            )
        path = file_of(settings, "region")
        return None if path is None else RegionKey(str(settings.region), _written(path), b"")

    def chosen(self, settings: CaseSettings, layers: tuple[Any, Any]) -> MustFit | None:
        """The region as it is now, for a job on both chosen layers."""
        key, layer = self.key(settings), self.layer
        if key is None:
            return None
        if layer is None:
            return MustFit(key, _from_file)
        affine, order = _place(layer, layers)
        return MustFit(key, _Painted(layer.name, np.asarray(layer.data) > 0, affine, order).read)

    def _on_painted(self, event: Any = None) -> None:
        self._painted += 1

    def _content(self, layer: Any) -> int:
        """Checksum of all voxels; taken again once something may have been painted."""
        data = np.asarray(layer.data)
        probes = data[tuple(slice(None, None, max(1, n // _PROBES)) for n in data.shape)]
        # To undo a stroke is told by no event of its own.
        steps = [len(getattr(layer, name, ())) for name in ("_undo_history", "_redo_history")]
        asked = (id(layer), id(data), self._painted, *steps, _checksum(probes))
        if asked != self._known[0]:
            self._known = (asked, _checksum(data))
        return self._known[1]


@dataclass(frozen=True, eq=False)
class _Painted:
    name: str
    inside: NDArray[np.bool_]  # (slices, rows, columns)
    affine: Matrix
    order: DisplayOrder

    def read(self, settings: CaseSettings, volumes: Volumes) -> Region:
        from medfuse.registration.region import region_of

        mask = np.ascontiguousarray(self.order.invert(self.inside[None]), dtype=np.float32)
        given = MetaTensor(torch.from_numpy(mask), affine=torch.from_numpy(self.affine.copy()))
        return region_of(given, *volumes, self.name)


def _from_file(settings: CaseSettings, volumes: Volumes) -> Region | None:
    from medfuse.case.focus import case_region

    return case_region(settings, *volumes)


def _place(layer: Any, images: tuple[Any, Any]) -> tuple[Matrix, DisplayOrder]:
    """Where labels lie: as the image on whose grid they were painted, whose file may be oblique."""
    for image in images:
        shape = image.data.shape[:3] if image.ndim == 3 else ()
        if layer.data.shape == shape and np.allclose(linear_map(layer), linear_map(image)):
            source = read_placed(image)
            if source is not None:
                return source.affine, source.order
    affine, order, _ = placed_by_napari(layer)
    return affine, order


def _checksum(data: NDArray[Any]) -> int:
    return zlib.crc32(np.ascontiguousarray(data).data)


def _written(path: Path) -> int:
    """When a file was written, and how long it is; 0 where it is not there."""
    try:
        told = path.stat()
    except OSError:
        return 0
    return hash((told.st_mtime_ns, told.st_size))
