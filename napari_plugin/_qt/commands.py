"""Commands of the manifest that need a window."""

import napari
from qtpy.QtWidgets import QFileDialog


def open_result(viewer: napari.Viewer) -> None:
    """Ask for a finished result folder and open it."""
    path = QFileDialog.getExistingDirectory(viewer.window.main_menu, "Open medfuse result folder")
    if path:
        viewer.open(path, plugin="medfuse")
