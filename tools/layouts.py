"""Pictures of the panel in many sizes, scales and themes, and a list of texts that are cut off.

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
from pathlib import Path
from typing import Any

COMBINATIONS = (
    ("1280x800", "1", "dark"),
    ("1920x1080", "1", "light"),
    ("1920x1080", "1.5", "dark"),
    ("2560x1440", "1", "dark"),
    ("2560x1440", "2", "light"),
)
WAIT_S = 600


def shoot(size: str, theme: str, out: Path) -> list[str]:
    """Drive the window in this process; say what is cut off."""
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
    for index in range(panel.tabs.count()):
        name = panel.tabs.tabText(index)
        panel.tabs.setCurrentIndex(index)
        _settle()
        path = out / f"{size}-x{scale:g}-{theme}-{name.lower()}.png"
        viewer.window.screenshot(path=str(path), canvas_only=False, flash=False)
        found += [f"{path.name}: {text}" for text in _cut(panel)]
    viewer.close()
    return found


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
        print("\n".join(cut) if cut else f"{size}, {theme}: no text is cut off")
        return
    for size, scale, theme in COMBINATIONS:
        environment = {**os.environ, "QT_SCALE_FACTOR": scale}
        command = [sys.executable, __file__, str(options.out), "--one", size, theme]
        subprocess.run(command, check=True, env=environment)


if __name__ == "__main__":
    main()
