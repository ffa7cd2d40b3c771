"""Commands of the manifest that need a window."""

import napari
from qtpy.QtWidgets import QFileDialog


def open_panel(viewer: napari.Viewer) -> None:
    """Show the panel."""
    viewer.window.add_plugin_dock_widget("medfuse", "Fuse MRI+PET")


def open_result(viewer: napari.Viewer) -> None:
    """Ask for a finished result folder and open it."""
    path = QFileDialog.getExistingDirectory(viewer.window._qt_window, "Open medfuse result folder")
    if path:
        viewer.open(path, plugin="medfuse")
