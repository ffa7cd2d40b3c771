"""Ways to look at the volume: three planes and 3-D."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from napari_plugin import outputs
from napari_plugin.solid import to_slices, to_solid

PLANES = {
    "axial": "Axial slices: front up, patient's left on the right.",
    "coronal": "Coronal slices: head up, patient's left on the right.",
    "sagittal": "Sagittal slices: head up, front on the left.",
    "3d": "3-D: the brightest uptake along each line of sight, over a translucent anatomy.",
}
# Letters that neither napari's menus nor its actions (Alt+S, Alt+C, Alt+T) use.
LABELS = {"axial": "&Axial", "coronal": "Coro&nal", "sagittal": "Sag&ittal", "3d": "&3-D"}
_ORDER = {"axial": (0, 1, 2), "coronal": (1, 0, 2), "sagittal": (2, 0, 1)}


def look(viewer: Any, plane: str, *, anatomical: Any | None = None) -> None:
    """Turn the viewer to a plane, or to 3-D, at once; see `turning`."""
    for _ in turning(viewer, plane, anatomical):
        pass


def turning(viewer: Any, plane: str, anatomical: Any | None = None) -> Iterator[None]:
    """Turn the viewer to a plane, or to 3-D, in steps between which its window can live.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        With three axes in the order inferior, posterior, left; other scenes are left alone.
    plane : {"axial", "coronal", "sagittal", "3d"}
    anatomical : layer, optional
        What is seen through in 3-D.
    """
    if viewer.dims.ndim != 3:
        return
    steps = arranging(viewer, anatomical, solid=plane == "3d")
    if plane == "3d":
        next(steps, None)  # what is hidden goes first: napari draws no volume that nobody sees
        viewer.dims.order = _ORDER["axial"]
        viewer.dims.ndisplay = 3
        camera(viewer).angles = (0.0, 0.0, 90.0)
    else:
        viewer.dims.ndisplay = 2
        viewer.dims.order = _ORDER[plane]
    viewer.reset_view()
    picture = outputs.find(viewer, outputs.PICTURE)
    if picture is not None:
        _centre_on(viewer, picture)
    yield
    yield from steps


def plane_of(viewer: Any) -> str:
    """Which of `PLANES` is shown."""
    if viewer.dims.ndisplay == 3:
        return "3d"
    order = tuple(viewer.dims.order)
    return next((plane for plane, axes in _ORDER.items() if axes == order), "axial")


def set_point(viewer: Any, layer: Any, index: tuple[float, ...]) -> None:
    """Put the sliders, and with them the cross hair, on a voxel of a layer."""
    place = np.asarray(layer.data_to_world(index), dtype=float)
    first = viewer.dims.ndim - len(place)
    for axis, value in enumerate(place):
        viewer.dims.set_point(first + axis, value)


def go_to(viewer: Any, layer: Any, index: tuple[float, ...]) -> None:
    """Turn to a voxel of a layer and put it into the middle; the zoom stays."""
    set_point(viewer, layer, index)
    centre = [float(viewer.dims.point[axis]) for axis in viewer.dims.displayed]
    camera(viewer).center = (*([0.0] * (3 - len(centre))), *centre)


def arranging(
    viewer: Any, anatomical: Any | None = None, *, solid: bool | None = None
) -> Iterator[None]:
    """Show in 3-D uptake over anatomy, in slices all images as they were seen before; in steps.

    ``solid``: whether it is for 3-D; None for what the viewer shows now.
    """
    is_solid = viewer.dims.ndisplay == 3 if solid is None else solid
    return to_solid(viewer, anatomical) if is_solid else to_slices(viewer)


def _centre_on(viewer: Any, layer: Any) -> None:
    """Fill the canvas with one layer, where the view was fitted to all layers."""
    whole, part = (np.asarray(x.extent.world) for x in (viewer.layers, layer))
    shown = list(viewer.dims.displayed)
    step = np.maximum(part[1] - part[0], 1e-6)[shown]
    view = camera(viewer)
    view.zoom = view.zoom * float(np.min((whole[1] - whole[0])[shown] / step))
    centre = part.mean(axis=0)[shown]
    view.center = (*([0.0] * (3 - len(centre))), *(float(x) for x in centre))


def camera(viewer: Any) -> Any:
    """The camera of a viewer; napari 0.9 moved it to the scene."""
    scene = getattr(viewer, "scene", None)
    return viewer.camera if scene is None else scene.camera
