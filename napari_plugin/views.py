"""Ways to look at the volume: three planes and 3-D."""

from __future__ import annotations

from collections.abc import Callable
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
# Letters that napari's menus do not use.
LABELS = {"axial": "&Axial", "coronal": "Coro&nal", "sagittal": "Sag&ittal", "3d": "&3-D"}
_ORDER = {"axial": (0, 1, 2), "coronal": (1, 0, 2), "sagittal": (2, 0, 1)}


def at_once(action: Callable[[], None]) -> None:
    """Do it now."""
    action()


def look(
    viewer: Any,
    plane: str,
    *,
    anatomical: Any | None = None,
    later: Callable[[Callable[[], None]], None] = at_once,
) -> None:
    """Turn the viewer to a plane, or to 3-D.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        With three axes in the order inferior, posterior, left; other scenes are left alone.
    plane : {"axial", "coronal", "sagittal", "3d"}
    anatomical : layer, optional
        What is seen through in 3-D.
    later : callable
        Gets what may be done in another turn of the event loop.
    """
    if viewer.dims.ndim != 3:
        return
    if plane == "3d":
        to_solid(viewer, anatomical)  # before napari draws it
        viewer.dims.order = _ORDER["axial"]
        viewer.dims.ndisplay = 3
        camera(viewer).angles = (0.0, 0.0, 90.0)
    else:
        viewer.dims.ndisplay = 2
        viewer.dims.order = _ORDER[plane]
    later(lambda: arrange(viewer, anatomical))
    viewer.reset_view()
    picture = outputs.find(viewer, outputs.PICTURE)
    if picture is not None:
        _centre_on(viewer, picture)


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


def arrange(viewer: Any, anatomical: Any | None = None) -> None:
    """In 3-D show uptake over anatomy, in slices all images as they were seen before."""
    if viewer.dims.ndisplay == 3:
        to_solid(viewer, anatomical)
    else:
        to_slices(viewer)


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
