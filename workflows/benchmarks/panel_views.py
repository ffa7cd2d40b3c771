"""Three linked planes: painted by Qt (as the panel does) against three canvases of napari.

Needs a display: ``.ci/with-display python workflows/benchmarks/panel_views.py``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
from napari.components import ViewerModel
from napari.qt import QtViewer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QHBoxLayout, QWidget

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from medfuse.imaging.grid import DisplayOrder
from napari_plugin._qt.plane_view import PlaneView
from napari_plugin.furniture import SLICED, palette
from napari_plugin.sight import ANATOMICAL, FUNCTIONAL, FUSED, Sight
from napari_plugin.source import Source

SIZES = {"168 x 198 x 165": (165, 198, 168), "512 x 512 x 300": (300, 512, 512)}
STEPS = 30
WIDTH, HEIGHT = 1200, 400
ORDERS = {"axial": (0, 1, 2), "coronal": (1, 0, 2), "sagittal": (2, 0, 1)}


def volumes(shape: tuple[int, int, int]) -> dict[str, Any]:
    """Blocks of noise: anatomical, functional and fused."""
    coarse = np.random.default_rng(0).random([-(-n // 8) for n in shape], np.float32)
    noise = np.kron(coarse, np.ones((8, 8, 8), np.float32))[tuple(slice(n) for n in shape)]
    noise = np.ascontiguousarray(noise)
    fused = np.repeat((255 * noise).astype(np.uint8)[..., None], 3, axis=-1)
    return {ANATOMICAL: noise, FUNCTIONAL: 6 * noise[::-1], FUSED: fused}


def painted(made: dict[str, Any]) -> tuple[QWidget, Callable[[int], None]]:
    """Three views of the panel, and how they are turned to a step."""
    shape = made[ANATOMICAL].shape
    order = DisplayOrder("axial", (2, 1, 0), (True, True, True), (1.0, 1.0, 1.0))
    source = Source("a", made[ANATOMICAL], np.eye(4), order, False, {}, False, {})
    limits = {ANATOMICAL: (0.0, 1.0), FUNCTIONAL: (0.0, 6.0)}
    units = {ANATOMICAL: "a.u.", FUNCTIONAL: "SUVbw"}
    words = {ANATOMICAL: "MRI", FUNCTIONAL: "PET", FUSED: "PET + MRI"}
    sight = Sight(source, made, limits, units, words, palette("glow"))
    widget, row, views = QWidget(), QHBoxLayout(), []
    widget.setLayout(row)
    for plane in SLICED:
        view = PlaneView(FUSED, plane)
        row.addWidget(view)
        views.append(view)

    def turn(step: int) -> None:
        at = tuple(float((n // 2 + step) % n) for n in shape)
        for view in views:
            view.show_sight(sight, (at[0], at[1], at[2]))
            view.repaint()

    turn(0)
    return widget, turn


def canvases(made: dict[str, Any]) -> tuple[QWidget, Callable[[int], None]]:
    """Three canvases of napari, each with the two images hidden under the fused one."""
    shape = made[ANATOMICAL].shape
    widget, row, models = QWidget(), QHBoxLayout(), []
    widget.setLayout(row)
    for order in ORDERS.values():
        model = ViewerModel()
        for kind in (ANATOMICAL, FUNCTIONAL):
            model.add_image(made[kind], contrast_limits=(0, 6), visible=False)
        model.add_image(made[FUSED], rgb=True)
        model.dims.order = order
        row.addWidget(QtViewer(model))
        models.append(model)

    def turn(step: int) -> None:
        for model in models:
            model.dims.set_point(range(3), [(n // 2 + step) % n for n in shape])
        QApplication.processEvents()
        for canvas in widget.findChildren(QtViewer):
            canvas.canvas.native.repaint()

    return widget, turn


def measure(make: Callable[..., Any], made: dict[str, Any]) -> tuple[float, float, float]:
    """Seconds to the first drawing; median and longest of a step through all planes."""
    start = time.perf_counter()
    widget, turn = make(made)
    widget.resize(WIDTH, HEIGHT)
    widget.show()
    QTest.qWaitForWindowExposed(widget)
    turn(0)
    QApplication.processEvents()
    first, steps = time.perf_counter() - start, []
    for step in range(1, STEPS + 1):
        start = time.perf_counter()
        turn(step)
        QApplication.processEvents()
        steps.append(time.perf_counter() - start)
    widget.close()
    QApplication.processEvents()
    return first, float(np.median(steps)), max(steps)


def main() -> None:
    """Measure and print the table."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    napari.Viewer(show=False)  # fonts, shaders and settings, which both find loaded
    print("| volume | views | first drawing, ms | a step: median, ms | longest, ms |")
    print("| --- | --- | ---: | ---: | ---: |")
    for name, shape in SIZES.items():
        made = volumes(shape)
        for title, make in (("painted by Qt", painted), ("canvases of napari", canvases)):
            first, median, longest = (1000 * s for s in measure(make, made))
            print(f"| {name} | {title} | {first:.0f} | {median:.1f} | {longest:.0f} |")


if __name__ == "__main__":
    main()
