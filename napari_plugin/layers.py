"""The edge between napari and medfuse: the one place where the axis order changes.

napari shows arrays (slices, rows, columns) in a world of its own; medfuse has (C, X, Y, Z) with a
RAS affine. Here napari's world is (inferior, posterior, left) in mm: with napari's default camera
all three planes and the 3-D view then look as a radiologist expects, and nothing is mirrored.
"""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from medfuse.errors import GeometryError, UnitError, UsageError
from medfuse.imaging.fingerprint import CHANGED, FINGERPRINT
from medfuse.imaging.grid import DisplayOrder, Grid, Matrix, transform_points
from medfuse.imaging.pictures import over_black
from napari_plugin.colors import napari_colormap
from napari_plugin.private import opened_of, path_of, remember, shareable, whole

AXIS_LABELS = ("S-I", "A-P", "R-L")
UNIT = "mm"
TAG = "medfuse"  # key in layer.metadata
RAS_FROM_NAPARI = np.array(
    [[0.0, 0.0, -1.0, 0.0], [0.0, -1.0, 0.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)
META_KEYS = ("modality", "unit", "spacing", "source", "suv", "notes", FINGERPRINT, CHANGED)
TRANSFORM = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
LayerData = tuple[Any, dict[str, Any], str]
PLAIN_NOTE = "orientation taken from napari's axes: inferior, posterior, left"


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
        shape = _volume_shape(self.order, _shape3(self.data, self.rgb))
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


def axial_order(grid: Grid) -> DisplayOrder:
    """Order with slices from superior to inferior, rows to posterior, columns to left."""
    found = [DisplayOrder.from_grid(grid, axis=axis) for axis in range(3)]
    order = next(order for order in found if order.plane == "axial")
    return replace(order, flips=(not order.flips[0], *order.flips[1:]))


def place(grid: Grid, order: DisplayOrder) -> dict[str, Any]:
    """Scale, translate, units and axis labels that put a grid in napari's world.

    Oblique grids are turned upright about their centre, because napari does not slice rotated
    layers fully; the true affine stays in the layer's metadata.
    """
    centre = transform_points(np.linalg.inv(RAS_FROM_NAPARI), grid.centre)
    scale = np.array(order.spacing)
    size = np.array([grid.shape[axis] for axis in order.axes])
    translate = centre - scale * (size - 1) / 2
    return {
        "scale": tuple(scale.tolist()),
        "translate": tuple(translate.tolist()),
        "units": (UNIT,) * 3,
        "axis_labels": AXIS_LABELS,
    }


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
    affine, order, read = _placed_by_us(layer, data) if ours else _placed_by_napari(layer)
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
        affine, order, _ = placed(layer, data) if placed else _placed_by_napari(layer)
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
    placed = _placed_by_us(layer, data) if _is_ours(layer) else _placed_by_napari(layer)
    return placed[1].invert, placed[2], data


def facts(layer: Any) -> dict[str, Any]:
    """What is known of a layer's content (``meta`` of ``medfuse.load``), else an empty dict."""
    entry = layer.metadata.get(TAG)
    found = entry.get("meta") if isinstance(entry, dict) else None
    return whole(entry, layer.name) if isinstance(found, dict) else {}


def linear_map(layer: Any) -> Matrix:
    """(n + 1, n + 1) matrix data index -> napari world of a layer, in the layer's own units."""
    n = layer.ndim
    origin = np.asarray(layer.data_to_world(np.zeros(n)), dtype=np.float64)
    matrix = np.eye(n + 1)
    matrix[:n, n] = origin
    for axis, step in enumerate(np.eye(n)):
        matrix[:n, axis] = np.asarray(layer.data_to_world(step)) - origin
    return matrix


def world_map(layer: Any) -> Matrix:
    """(4, 4) matrix (slice, row, column) -> napari world in mm; 2-D layers lie at slice 0."""
    matrix = linear_map(layer)
    factors = _length_factors(layer)
    matrix[:-1] *= factors[:, None]
    if layer.ndim == 3:
        return matrix
    full = np.eye(4)
    full[1:, 1:] = matrix
    # Thick, so that the plane of the picture is its slice plane whatever the pixels.
    full[0, 0] = 2 * max(np.linalg.norm(matrix[:2, :2], axis=0))
    return full


def _is_ours(layer: Any) -> bool:
    entry = layer.metadata.get(TAG)
    return layer.ndim == 3 and isinstance(entry, dict) and "affine" in entry


def is_length(layer: Any) -> bool:
    """Whether the units of a layer are lengths."""
    return all(unit.is_compatible_with(UNIT) for unit in layer.units)


def _placed_by_us(layer: Any, data: Any) -> tuple[Matrix, DisplayOrder, Matrix]:
    """Affine where the layer lies, its order, and the affine of its file."""
    entry = layer.metadata[TAG]
    order = DisplayOrder(**{k: v if k == "plane" else tuple(v) for k, v in entry["order"].items()})
    affine = np.array(entry["affine"], dtype=np.float64)
    shape = _volume_shape(order, _shape3(data, layer.rgb))
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


def _placed_by_napari(layer: Any) -> tuple[Matrix, DisplayOrder, Matrix]:
    order = DisplayOrder("axial", (2, 1, 0), (False, False, False), (1.0, 1.0, 1.0))
    affine = RAS_FROM_NAPARI @ world_map(layer)
    affine[:, :3] = affine[:, [2, 1, 0]]
    return affine, order, np.eye(4)


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


def _length_factors(layer: Any) -> NDArray[np.float64]:
    if not is_length(layer):
        return np.ones(layer.ndim)
    return np.array([(1 * unit).to(UNIT).magnitude for unit in layer.units], dtype=np.float64)


def _shape3(data: Any, rgb: bool) -> tuple[int, int, int]:
    shape = tuple(data.shape[:-1] if rgb else data.shape)
    slices, rows, columns = (1, *shape) if len(shape) == 2 else shape
    return int(slices), int(rows), int(columns)


def _volume_shape(order: DisplayOrder, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    out = [0, 0, 0]
    for axis, size in zip(order.axes, shape, strict=True):
        out[axis] = size
    return out[0], out[1], out[2]


def _plain(volume: Any) -> NDArray[Any]:
    if isinstance(volume, MetaTensor):
        volume = volume.as_tensor()
    return volume.numpy() if isinstance(volume, torch.Tensor) else np.asarray(volume)
