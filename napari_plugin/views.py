"""Ways to look at the volume: three planes and 3-D."""

from __future__ import annotations

from typing import Any

import numpy as np

PLANES = {
    "axial": "Axial slices: front up, patient's left on the right.",
    "coronal": "Coronal slices: head up, patient's left on the right.",
    "sagittal": "Sagittal slices: head up, front on the left.",
    "3d": "3-D: shows the luminance, because colour pictures are slices only.",
}
# Letters that napari's menus do not use.
LABELS = {"axial": "&Axial", "coronal": "Coro&nal", "sagittal": "Sag&ittal", "3d": "&3-D"}
_ORDER = {"axial": (0, 1, 2), "coronal": (1, 0, 2), "sagittal": (2, 0, 1)}


def look(viewer: Any, plane: str) -> None:
    """Turn the viewer to a plane, or to 3-D.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        With three axes in the order inferior, posterior, left; other scenes are left alone.
    plane : {"axial", "coronal", "sagittal", "3d"}
    """
    from napari_plugin import outputs

    if viewer.dims.ndim != 3:
        return
    luminance = outputs.find(viewer, outputs.LUMINANCE)
    if plane == "3d":
        viewer.dims.order = _ORDER["axial"]
        viewer.dims.ndisplay = 3
        if luminance is not None:
            luminance.visible = True
            camera(viewer).angles = (0.0, 0.0, 90.0)
    else:
        viewer.dims.ndisplay = 2
        viewer.dims.order = _ORDER[plane]
        if luminance is not None:
            luminance.visible = False
    viewer.reset_view()
    picture = outputs.find(viewer, outputs.PICTURE)
    if picture is not None:
        _centre_on(viewer, picture)


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
