"""The edge between napari and medfuse: volumes become layers, and layers are read again.

medfuse has (C, X, Y, Z) with a RAS affine, napari (slices, rows, columns); `placing` says where.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from medfuse.errors import GeometryError, UnitError, UsageError
from medfuse.imaging.fingerprint import CHANGED, FINGERPRINT
from medfuse.imaging.grid import DisplayOrder, Grid, Matrix
from napari_plugin.colors import napari_colormap
from napari_plugin.placing import (
    RAS_FROM_NAPARI,
    TRANSFORM,
    axial_order,
    is_length,
    place,
    placed_by_napari,
    shape3,
    volume_shape,
    world_map,
)
from napari_plugin.private import opened_of, path_of, remember, shareable, whole
from napari_plugin.source import Source

TAG = "medfuse"  # key in layer.metadata
META_KEYS = ("modality", "unit", "spacing", "source", "suv", "notes", FINGERPRINT, CHANGED)
LayerData = tuple[Any, dict[str, Any], str]
PLAIN_NOTE = "orientation taken from napari's axes: inferior, posterior, left"


def layer_data(
    volume: MetaTensor,
    *,
    name: str,
    path: str | None = None,
    opened: dict[str, Any] | None = None,
) -> LayerData:
    """Turn a loaded volume into a napari LayerData tuple with its facts in the metadata.

    `path`, what was `opened` of it (series, frame),
    names of files and UIDs are remembered (`napari_plugin.private`) and not in the layer.
    """
    grid = Grid.from_volume(volume)
    order = axial_order(grid)
    kwargs = place(grid, order)
    data = shown(volume, order)
    kwargs["name"] = name
    if volume.shape[0] == 3:
        kwargs["rgb"] = True
    else:
        sample = data[:: max(1, data.shape[0] // 32), ::4, ::4]
        low, high = np.percentile(sample, (0.5, 99.7))
        kwargs["contrast_limits"] = (float(low), float(max(high, low + 1e-6)))
        if volume.meta.get("modality") in ("PET", "SPECT"):  # to be seen over the MRI
            kwargs |= {"colormap": napari_colormap("ember"), "opacity": 0.5}
    entry = {
        "meta": shareable({key: volume.meta[key] for key in META_KEYS if key in volume.meta}),
        "affine": grid.affine.tolist(),
        "shape": list(grid.shape),
        "order": asdict(order),
        "scale": kwargs["scale"],
        "translate": kwargs["translate"],
        **remember(volume.meta, path, opened),
    }
    kwargs["metadata"] = {TAG: entry}
    return data, kwargs, "image"


def shown(volume: Any, order: DisplayOrder, *, flat: bool = False) -> NDArray[Any]:
    """(C, X, Y, Z) -> (slices, rows, columns) or, for C = 3, with the colours last. No copy."""
    voxels = order.apply(_plain(volume))
    voxels = np.moveaxis(voxels, 0, -1) if len(voxels) == 3 else voxels[0]
    return voxels[0] if flat else voxels


def read_layer(layer: Any) -> Source:
    """Read a napari image layer, ours or anybody's.

    Parameters
    ----------
    layer : napari.layers.Image
        Two or three axes, scalar or RGB.

    Raises
    ------
    UnitError
        ``E_NO_UNITS`` where modality, unit or voxel size are unknown; `values.state` says them.
    UsageError
        ``E_NOT_A_VOLUME`` for time series and other shapes.
    GeometryError
        ``E_BAD_AFFINE`` for a layer that was scaled to nothing.
    """
    if layer.ndim not in (2, 3):
        raise UsageError(
            "E_NOT_A_VOLUME",
            what="Cannot use the layer",
            where=layer.name,
            cause=f"it has {layer.ndim} axes",
            remedy='Choose a frame, or the mean, in "Frame" below the layer',
        )
    absent = missing(layer)
    if absent:
        raise UnitError(
            "E_NO_UNITS",
            what="Cannot use the layer",
            where=layer.name,
            cause=f"it does not say its {', '.join(absent)}",
            remedy="State it in the panel, below the layer",
        )
    data = layer.data[0] if layer.multiscale else layer.data
    ours = _is_ours(layer)
    affine, order, read = _placed_by_us(layer, data) if ours else placed_by_napari(layer)
    meta = {"modality": "unknown", "suv": None, "source": {"kind": "array", "name": layer.name}}
    meta |= {"notes": [] if ours else [f"{layer.name}: {PLAIN_NOTE}"], **facts(layer)}
    meta["spacing"] = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    transform = {name: getattr(layer, name) for name in TRANSFORM}
    entry = layer.metadata.get(TAG) or {}
    return _checked(
        Source(
            layer.name, data, affine, order, layer.rgb, meta, layer.ndim == 2, transform,
            path_of(entry), read, dict(entry.get("stated") or {}), opened_of(entry),
        )
    )  # fmt: skip


def read_placed(layer: Any) -> Source | None:
    """Grid and order of a layer of three axes, whatever its voxels mean; None where it has none."""
    data = layer.data[0] if layer.multiscale else layer.data
    placed = _placed_by_us if _is_ours(layer) and "scale" in layer.metadata[TAG] else None
    if placed is None and _is_ours(layer):  # an output of ours
        entry = layer.metadata[TAG]
        plain = {k: v if k == "plane" else tuple(v) for k, v in entry["order"].items()}
        affine, order = np.array(entry["affine"], dtype=np.float64), DisplayOrder(**plain)
    else:
        affine, order, _ = placed(layer, data) if placed else placed_by_napari(layer)
    source = Source(layer.name, data, affine, order, layer.rgb, {}, False, {})
    try:
        _ = source.grid
    except GeometryError:
        return None
    return source


def missing(layer: Any) -> tuple[str, ...]:
    """Name what a layer leaves unsaid: "frame", "modality", "unit", "voxel size in mm"."""
    meta = facts(layer)
    out = ["frame"] if layer.ndim == 4 else []
    if meta.get("modality", "unknown") == "unknown":
        out.append("modality")
    if not layer.rgb and meta.get("unit") is None:
        out.append("unit")
    if not is_length(layer):
        out.append("voxel size in mm")
    return ("frame",) if "frame" in out else tuple(out)  # the others are asked of the frame


def index_frame(layer: Any) -> tuple[Any, Matrix, Any]:
    """How the array of a layer becomes (X, Y, Z), the affine of its file or 1, and the array."""
    data = layer.data[0] if layer.multiscale else layer.data
    placed = _placed_by_us(layer, data) if _is_ours(layer) else placed_by_napari(layer)
    return placed[1].invert, placed[2], data


def facts(layer: Any) -> dict[str, Any]:
    """What is known of a layer's content (``meta`` of ``medfuse.load``), else an empty dict."""
    entry = layer.metadata.get(TAG)
    found = entry.get("meta") if isinstance(entry, dict) else None
    return whole(entry, layer.name) if isinstance(found, dict) else {}


def _is_ours(layer: Any) -> bool:
    entry = layer.metadata.get(TAG)
    return layer.ndim == 3 and isinstance(entry, dict) and "affine" in entry


def _placed_by_us(layer: Any, data: Any) -> tuple[Matrix, DisplayOrder, Matrix]:
    """Affine where the layer lies, its order, and the affine of its file."""
    entry = layer.metadata[TAG]
    order = DisplayOrder(**{k: v if k == "plane" else tuple(v) for k, v in entry["order"].items()})
    affine = np.array(entry["affine"], dtype=np.float64)
    shape = volume_shape(order, shape3(data, layer.rgb))
    if shape != tuple(entry["shape"]):  # cropped: count from the end where an axis is flipped
        shift = np.eye(4)
        for axis, flip in zip(order.axes, order.flips, strict=True):
            shift[axis, 3] = flip * (entry["shape"][axis] - shape[axis])
        affine = affine @ shift
    read = affine
    placed = np.diag([*entry["scale"], 1.0])
    placed[:3, 3] = entry["translate"]
    moved = world_map(layer) @ np.linalg.inv(placed)
    if not np.allclose(moved, np.eye(4), atol=1e-6):  # the user moved the layer by hand
        affine = RAS_FROM_NAPARI @ moved @ np.linalg.inv(RAS_FROM_NAPARI) @ affine
    return affine, order, read


def _checked(source: Source) -> Source:
    try:
        _ = source.grid
    except GeometryError as error:
        raise GeometryError(
            error.code,
            what="Cannot use the layer",
            where=source.name,
            cause=error.cause,
            remedy="Reset the layer's scale and affine",
        ) from error
    return source


def _plain(volume: Any) -> NDArray[Any]:
    if isinstance(volume, MetaTensor):
        volume = volume.as_tensor()
    return volume.numpy() if isinstance(volume, torch.Tensor) else np.asarray(volume)
