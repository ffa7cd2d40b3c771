"""What the manifest offers as widgets.

No ``from __future__ import annotations`` here: magicgui reads the annotations.
"""

from importlib import import_module
from pathlib import Path

import napari
from magicgui import magic_factory

from napari_plugin._qt.beside import beside, warm_up


def _panel_class() -> type:
    """Import the panel, with torch, measure colour maps, read cards: it takes seconds."""
    warm_up("napari_plugin._qt.panel", "medfuse.case.record")
    colors, cards = (import_module(f"napari_plugin.{name}") for name in ("colors", "cards"))
    for name in colors.COLORMAPS:
        colors.explain(name)
    for name, _ in import_module("medfuse.methods.registry").list_methods():
        cards.is_painter(name)
    return import_module("napari_plugin._qt.panel").FusePanel


FusePanel = beside(_panel_class)  # the window lives meanwhile


@magic_factory(
    folder={
        "mode": "d",
        "label": "Result folder",
        "tooltip": "A result folder, written by medfuse or by this panel.",
    },
    call_button="Open",
)
def open_result_folder(viewer: napari.Viewer, folder: Path) -> None:
    """Show a finished result folder: picture, weights, share and their record."""
    viewer.open(str(folder), plugin="medfuse")
