"""Make the pictures of the napari panel in docs/images from the sample data.

Needs a display: ``xvfb-run -a -s "-screen 0 1600x1200x24" python tools/screenshots.py``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
from napari.settings import get_settings
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QDockWidget

from napari_plugin import outputs, views

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
SIZE = (1400, 900)
NARROW, WIDE = 375, 620  # width of the panel, pixels
WAIT_S = 600
INSIDE_LESION = (-20.0, -26.0, 30.0)  # S 20, A 26, R -30: the hot lesion of the brain sample


class Scene:
    """A napari window with a sample and the panel, driven as a person would."""

    def __init__(self, sample: str) -> None:
        self.viewer = napari.Viewer(show=True)
        self.viewer.window.resize(*SIZE)
        self.viewer.open_sample("medfuse", sample)
        self.dock, self.panel = self.viewer.window.add_plugin_dock_widget("medfuse", "Fuse MRI+PET")
        self.settle(lambda: not self.panel.quiet.is_busy)

    def fuse(self) -> None:
        """Click the button and wait; a suspect registration is accepted, as a user could."""
        self._click_fuse()
        if self.panel.model.fusion is None and not self.panel.fuse_tab.accept.isHidden():
            self.panel.fuse_tab.accept.click()
            self._click_fuse()
        if self.panel.model.fusion is None:
            raise RuntimeError(self.panel.status.text())

    def width(self, pixels: int) -> None:
        """Make the panel so wide."""
        window = self.panel.window()
        dock = next(d for d in window.findChildren(QDockWidget) if d.isAncestorOf(self.panel))
        window.resizeDocks([dock], [pixels], Qt.Orientation.Horizontal)

    def look_at(self, point: tuple[float, float, float]) -> None:
        """Go to a point of napari's world and put the cursor there."""
        for axis, value in enumerate(point):
            self.viewer.dims.set_point(axis, value)
        self.viewer.cursor.position = point

    def tab(self, name: str) -> None:
        """Turn to a tab by its name."""
        tabs = self.panel.tabs
        names = [tabs.tabText(index) for index in range(tabs.count())]
        tabs.setCurrentIndex(names.index(name))

    def shoot(self, name: str) -> None:
        """Write the whole window as docs/images/napari-<name>.png."""
        self.settle(lambda: not (self.panel.runner.is_busy or self.panel.views.is_busy))
        IMAGES.mkdir(parents=True, exist_ok=True)
        path = IMAGES / f"napari-{name}.png"
        self.viewer.window.screenshot(path=str(path), canvas_only=False, flash=False)
        print(path.relative_to(IMAGES.parent.parent))

    def settle(self, until: Callable[[], bool] = lambda: True) -> None:
        """Let events run for a moment, and until something is so."""
        end, moment = time.monotonic() + WAIT_S, time.monotonic() + 0.6
        while time.monotonic() < moment or not until():
            QApplication.processEvents()
            time.sleep(0.01)
            if time.monotonic() > end:
                raise TimeoutError("the panel did not get ready")

    def _click_fuse(self) -> None:
        self.panel.fuse.click()
        self.settle(lambda: not self.panel.runner.is_busy)


def brain() -> None:
    """The tutorial: opened, fused, looked at from every side, narrow and wide, dark and light."""
    scene = Scene("brain")
    panel, viewer = scene.panel, scene.viewer
    scene.look_at(INSIDE_LESION)
    scene.shoot("opened")
    scene.fuse()
    scene.look_at(INSIDE_LESION)
    scene.shoot("fused")
    panel.overlay.click()
    scene.shoot("overlay")
    panel.overlay.click()
    views.look(viewer, "coronal")
    scene.look_at(INSIDE_LESION)
    scene.shoot("coronal")
    views.look(viewer, "axial")
    panel.fuse_tab.adjust.toggle.click()
    panel.fuse_tab.adjust.edges.click()
    scene.look_at(INSIDE_LESION)
    scene.shoot("adjust")
    panel.fuse_tab.adjust.edges.click()
    panel.fuse_tab.adjust.toggle.click()
    scene.tab("Audit")
    scene.width(WIDE)
    scene.shoot("audit-wide")
    scene.tab("Provenance")
    scene.width(NARROW)
    scene.shoot("provenance-narrow")
    _regions(scene)
    _linked(scene)
    scene.tab("Fuse")
    scene.width(WIDE)
    scene.shoot("wide")
    scene.width(NARROW)
    _theme(viewer, "light")
    panel.audit_tab.refresh()
    scene.shoot("light")
    scene.tab("Audit")
    scene.shoot("light-audit")
    _theme(viewer, "dark")
    viewer.close()


def _regions(scene: Scene) -> None:
    """A sphere and a contour about the hottest voxel."""
    panel = scene.panel
    scene.tab("Regions")
    scene.width(WIDE)
    panel.model.jumps()["Hottest voxel"]()
    panel.regions_tab.sphere.click()
    panel.regions_tab.threshold.setCurrentText("8")
    panel.regions_tab.isocontour.click()
    scene.settle(lambda: not panel.runner.is_busy and panel.regions_tab.table.rowCount() == 2)
    panel.regions_tab.table.selectRow(1)
    scene.shoot("regions")
    panel.regions_tab.table.selectAll()
    panel.regions_tab.remove.click()
    scene.width(NARROW)


def _linked(scene: Scene) -> None:
    """The linked views, and 3-D."""
    panel = scene.panel
    scene.tab("Fuse")
    panel.view_bar.link.click()
    scene.settle()
    scene.look_at(INSIDE_LESION)
    panel.view_bar.linked.layout_choice.setCurrentText("Images side by side")
    scene.shoot("linked")
    panel.view_bar.link.click()
    panel.view_buttons["3d"].click()
    scene.shoot("3d")
    panel.view_buttons["axial"].click()
    scene.settle()


def sarcoma() -> None:
    """Clinical DICOM: far apart, turned, thick slices."""
    scene = Scene("sarcoma")
    scene.fuse()
    picture = outputs.find(scene.viewer, outputs.PICTURE)
    middle = picture.data_to_world([n / 2 for n in picture.data.shape[:3]])
    scene.look_at(tuple(float(x) for x in middle))
    scene.shoot("sarcoma")
    scene.viewer.close()


def _theme(viewer: Any, name: str) -> None:
    get_settings().appearance.theme = name
    viewer.theme = name


def main() -> None:
    """Make all pictures, or those of one scene."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scene", nargs="?", choices=("brain", "sarcoma"))
    chosen = parser.parse_args().scene
    for scene in (brain, sarcoma):
        if chosen in (None, scene.__name__):
            scene()


if __name__ == "__main__":
    main()
