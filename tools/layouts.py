"""Pictures of the panel in many sizes, scales and themes; what is cut off or lies over another.

Each combination runs in a process of its own, because Qt takes its scale at the start. Needs a
display as large as the largest window:

    xvfb-run -a -s "-screen 0 2600x1500x24" python tools/layouts.py OUT
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

SIZES = (
    ("1280x800", "1"),
    ("1920x1080", "1"),
    ("1920x1080", "1.5"),
    ("2560x1440", "1"),
    ("2560x1440", "2"),
)
THEMES = ("dark", "light")
WAIT_S = 600


def shoot(size: str, theme: str, out: Path) -> list[str]:
    """Drive the window in this process; say what is cut off or lies over another widget."""
    import napari
    from napari.settings import get_settings

    wide, high = (int(n) for n in size.split("x"))
    scale = float(os.environ.get("QT_SCALE_FACTOR", "1"))
    get_settings().appearance.theme = theme
    viewer = napari.Viewer(show=True)
    viewer.theme = theme
    viewer.window.resize(round(wide / scale), round(high / scale))
    viewer.open_sample("medfuse", "ct-mri")
    _, panel = viewer.window.add_plugin_dock_widget("medfuse", "Fuse MRI+PET")
    panel.model.choose(registration="identity", method="mean", accept_suspect=True)
    panel.fuse.click()
    _settle(lambda: not (panel.runner.is_busy or panel.quiet.is_busy))
    panel.view_bar.link.click()
    found = []
    for name in _pages(panel):
        _settle(lambda: not panel.runner.is_busy)
        path = out / f"{size}-x{scale:g}-{theme}-{name}.png"
        viewer.window.screenshot(path=str(path), canvas_only=False, flash=False)
        found += [f"{path.name}: {text}" for text in (*_cut(panel), *_over_another(panel))]
    viewer.close()
    return found


def _pages(panel: Any) -> Iterator[str]:
    """Turn to every tab, also with what is closed or empty at first."""
    for index in range(panel.tabs.count()):
        panel.tabs.setCurrentIndex(index)
        name = panel.tabs.tabText(index).lower()
        yield name
        if name == "fuse":
            panel.fuse_tab.adjust.toggle.click()
            panel.fuse_tab.more.toggle.click()
            _settle()
            panel.tabs.widget(index).ensureWidgetVisible(panel.fuse_tab.more.widgets["png"])
            yield "fuse-opened"
        elif name == "regions":
            panel.regions_tab.sphere.click()
            panel.regions_tab.isocontour.click()
            _settle(lambda: panel.regions_tab.table.rowCount() == 2)
            panel.regions_tab.table.selectRow(0)
            yield "regions-measured"


def _settle(until: Callable[[], bool] = lambda: True) -> None:
    from qtpy.QtWidgets import QApplication

    end, moment = time.monotonic() + WAIT_S, time.monotonic() + 0.5
    while time.monotonic() < moment or not until():
        QApplication.processEvents()
        time.sleep(0.01)
        if time.monotonic() > end:
            raise TimeoutError("the panel did not get ready")


def _cut(panel: Any) -> Iterator[str]:
    """Texts of labels and buttons that have less room than they need."""
    from qtpy.QtWidgets import QAbstractButton

    from napari_plugin._qt.fields import WrappedLabel

    for label in panel.findChildren(WrappedLabel):
        if label.isVisible() and label.height() < label.heightForWidth(label.width()):
            yield label.text()
    for button in panel.findChildren(QAbstractButton):
        room = button.minimumSizeHint()
        if button.isVisible() and button.text() and button.width() < room.width():
            yield button.text()


def _over_another(panel: Any) -> Iterator[str]:
    """Widgets of one layout that share some place."""
    from qtpy.QtWidgets import QAbstractScrollArea, QAbstractSpinBox, QComboBox, QTabWidget, QWidget

    from napari_plugin._qt.focus_ring import FocusRing

    made_of_parts = (QAbstractScrollArea, QAbstractSpinBox, QComboBox, QTabWidget)
    for parent in panel.findChildren(QWidget):
        if isinstance(parent, made_of_parts) or not parent.isVisible():
            continue
        direct = [w for w in parent.children() if isinstance(w, QWidget) and w.isVisible()]
        parts = [w for w in direct if not isinstance(w, FocusRing) and not w.isWindow()]
        for number, one in enumerate(parts):
            for other in parts[number + 1 :]:
                if one.geometry().intersects(other.geometry()):
                    yield f"{_named(one)} lies over {_named(other)}"


def _named(widget: Any) -> str:
    text = widget.accessibleName() or getattr(widget, "text", str)()
    return f"{type(widget).__name__} {text[:40]!r}"


def main() -> None:
    """Make all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--one", nargs=2, metavar=("SIZE", "THEME"), help="in this process")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.one:
        size, theme = options.one
        cut = shoot(size, theme, options.out)
        print("\n".join(cut) if cut else f"{size}, {theme}: nothing is cut off")
        return
    for (size, scale), theme in product(SIZES, THEMES):
        environment = {**os.environ, "QT_SCALE_FACTOR": scale}
        command = [sys.executable, __file__, str(options.out), "--one", size, theme]
        subprocess.run(command, check=True, env=environment)


if __name__ == "__main__":
    main()
