"""How long does the napari window stand still, and how soon is the first picture there?

A timer in the window's event loop ticks every 10 ms. For every action the table says how long it
took, the longest silence of the timer (the window was frozen), how much of a silence the main
thread itself worked (the rest it waited for a core), and where it was then. Rows of "napari alone"
add the same arrays without medfuse.

    xvfb-run -a -s "-screen 0 1600x1200x24" python workflows/benchmarks/panel.py
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import napari
import numpy as np
import torch
from monai.data import MetaTensor
from qtpy.QtCore import QEventLoop, QObject, Qt, QTimer
from qtpy.QtWidgets import QMenu

from napari_plugin import outputs
from napari_plugin.layers import layer_data

TICK_MS = 10
LOOK_S = 0.05  # silence after which the watcher looks where the main thread is
WAIT_S = 1200
PREVIEWS = 10
LARGE = (512, 512, 300)


@dataclass(frozen=True)
class Row:
    """One action: how long it took, and the longest time without an event loop."""

    case: str
    action: str
    seconds: float
    longest_gap_ms: float
    longest_work_ms: float
    where: str


class Heartbeat(QObject):
    """Ticks in the main thread; remembers its longest silence and what was done in it."""

    def __init__(self) -> None:
        super().__init__()
        self._main = threading.get_ident()
        self._last = time.perf_counter()
        self.longest, self.own, self.where, self._seen = 0.0, 0.0, "", ""
        self._worked = time.thread_time()
        self._timer = QTimer(self)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._tick)
        self._timer.start()
        threading.Thread(target=self._watch, daemon=True).start()

    def restart(self) -> None:
        """Forget what was."""
        self._last = time.perf_counter()
        self.longest, self.own, self.where, self._seen = 0.0, 0.0, "", ""
        self._worked = time.thread_time()

    def _tick(self) -> None:
        now, work = time.perf_counter(), time.thread_time()
        gap, own = now - self._last, work - self._worked
        self._last, self._worked = now, work
        if gap > self.longest:
            self.longest, self.where = gap, self._seen
        self.own = max(self.own, own)
        self._seen = ""

    def _watch(self) -> None:
        while True:
            time.sleep(0.01)
            if time.perf_counter() - self._last > LOOK_S and not self._seen:
                frame = sys._current_frames().get(self._main)
                self._seen = _place(frame) if frame is not None else ""


def _place(frame: Any) -> str:
    """Innermost function outside the standard library, and the innermost one of ours."""
    inner = ours = outer = ""
    while frame is not None:
        path, name = frame.f_code.co_filename, frame.f_code.co_name
        package = path.split("site-packages/")[-1]
        if "site-packages" in path and not inner:
            inner = f"{package.removesuffix('.py')}:{name}"
        if "site-packages" in path and not outer and name != "event":
            outer = f"{package.removesuffix('.py')}:{name}"
        if "napari_plugin" in path and not ours:
            ours = f"napari_plugin/{package.split('napari_plugin/')[-1].removesuffix('.py')}:{name}"
        frame = frame.f_back
    return " in ".join(x for x in (inner, outer if outer != inner else "", ours) if x)


class Bench:
    """Does actions and writes down how the window fared."""

    def __init__(self, case: str) -> None:
        self.case, self.rows = case, []
        self.viewer = napari.Viewer(show=True)
        self.heart = Heartbeat()
        self.viewer.window.resize(1400, 900)
        self.rest(1.0)

    @contextmanager
    def measure(self, action: str) -> Iterator[None]:
        """Watch the window during what is done within, and a moment after."""
        self.rest(0.2)
        self.heart.restart()
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        self.rest(0.3)
        row = Row(
            self.case,
            action,
            seconds,
            1000 * self.heart.longest,
            1000 * self.heart.own,
            self.heart.where,
        )
        self.rows.append(row)
        print(
            f"{self.case:7} {action:32} {seconds:8.2f} s {row.longest_gap_ms:7.0f} ms "
            f"{row.longest_work_ms:7.0f} ms  {row.where}",
            flush=True,
        )

    def note(self, what: str, seconds: float) -> None:
        """Write down a time that is no gap."""
        self.rows.append(Row(self.case, what, seconds, 0.0, 0.0, ""))
        print(f"{self.case:7} {what:32} {seconds:8.3f} s", flush=True)

    def wait(self, until: Callable[[], bool]) -> None:
        """Run the event loop as ``napari.run`` does until something is so."""
        loop, timer = QEventLoop(), QTimer()
        end = time.perf_counter() + WAIT_S
        timer.timeout.connect(lambda: loop.quit() if until() or time.perf_counter() > end else None)
        timer.start(2)
        loop.exec()
        timer.stop()
        if not until():
            raise TimeoutError("the panel did not get ready")

    def rest(self, seconds: float) -> None:
        """Run the event loop for a while."""
        end = time.perf_counter() + seconds
        self.wait(lambda: time.perf_counter() > end)

    def menu(self, *path: str) -> None:
        """Choose an entry of the menu bar, as a click does."""
        menu: QMenu | Any = self.viewer.window._qt_window.menuBar()
        for text in path:
            action = next(a for a in menu.actions() if text in a.text().replace("&", ""))
            menu = action.menu()
            if menu is not None:
                menu.aboutToShow.emit()
        QTimer.singleShot(0, action.trigger)

    @property
    def panel(self) -> Any:
        """The docked panel."""
        dock = next(iter(self.viewer.window._wrapped_dock_widgets.values()))
        return dock.inner_widget()

    def find_panel(self) -> Any | None:
        return self.panel if self.viewer.window._wrapped_dock_widgets else None

    def drawn(self) -> Callable[[], bool]:
        """Whether the canvas was drawn since now with the fused picture in it."""
        count = [0]
        canvas = self.viewer.window._qt_viewer.canvas._scene_canvas

        def on_draw(event: Any) -> None:
            count[0] += outputs.find(self.viewer, outputs.PICTURE) is not None

        canvas.events.draw.connect(on_draw)
        return lambda: count[0] > 0


def use(bench: Bench, out: Path) -> None:
    """Everything that a person does with two open images."""
    panel = bench.panel
    tab = panel.fuse_tab

    def idle() -> bool:
        return not (panel.runner.is_busy or panel.views.is_busy)

    for name in ("fusion in place", "fusion in place again"):
        with bench.measure(name):
            panel.fuse.click()
            bench.wait(idle)
            bench.rest(0.5)
    if panel.model.fusion is None:
        raise RuntimeError(panel.status.text())
    for tab_index, name in ((1, "audit tab"), (2, "provenance tab"), (0, "fuse tab")):
        with bench.measure(name):
            panel.tabs.setCurrentIndex(tab_index)
            bench.rest(0.3)
    for plane in ("coronal", "sagittal", "3d", "axial"):
        with bench.measure(f"view {plane}"):
            panel.view_buttons[plane].click()
            bench.rest(0.3)
    _previews(bench, panel)
    for check in (tab.adjust.before, tab.adjust.checker, tab.adjust.edges):
        for way in ("on", "off"):
            with bench.measure(f"{check.text().replace('&', '')} {way}"):
                check.click()
                bench.wait(idle)
                bench.rest(0.3)
    with bench.measure("export"):
        panel.export(out / "result")
        bench.wait(idle)
    panel.fuse.click()
    bench.rest(1.0)
    with bench.measure("close during a run"):
        bench.viewer.close()


def _previews(bench: Bench, panel: Any) -> None:
    """Drag the emphasis slider; a preview is done when it is painted."""
    painted: list[float] = []
    panel.previews.ended.connect(lambda _: painted.append(time.perf_counter()))
    panel._refuse_timer.setInterval(10**8)  # the full run is measured by itself
    times = []
    with bench.measure(f"preview, {PREVIEWS} slider values"):
        for value in range(1, PREVIEWS + 1):
            painted.clear()
            start = time.perf_counter()
            panel.fuse_tab.bias.slider.setValue(value)
            bench.wait(lambda: bool(painted))
            times.append(painted[0] - start)
    panel._refuse_timer.stop()
    bench.note("preview, median", float(np.median(times)))
    bench.note("preview, longest", max(times))


def sample(out: Path) -> list[Row]:
    """The brain sample, from the first click on."""
    bench = Bench("sample")
    start = time.perf_counter()
    with bench.measure("open sample"):
        bench.menu("File", "Open Sample", "medfuse", "Brain")
        bench.wait(lambda: len(bench.viewer.layers) == 2)
    with bench.measure("open panel"):
        bench.menu("Plugins", "medfuse", "Fuse MRI+PET")
        bench.wait(lambda: bench.find_panel() is not None)
        bench.wait(lambda: not bench.panel.quiet.is_busy)
    drawn = bench.drawn()
    bench.panel.fuse.click()
    bench.wait(drawn)
    bench.note("first click to fused slice drawn", time.perf_counter() - start)
    bench.wait(lambda: not bench.panel.runner.is_busy)
    bench.note("first click to fused volume", time.perf_counter() - start)
    use(bench, out)
    return bench.rows


def large(out: Path) -> list[Row]:
    """Two volumes of 512 x 512 x 300."""
    bench = Bench("large")
    layers = _large_layers()
    plain, other = (np.array(data) for data, _, _ in layers)
    mask, picture = (plain > 200).astype(np.uint8), np.zeros((*plain.shape, 3), np.uint8)
    with bench.measure("napari alone: first image"):
        layer = bench.viewer.add_image(plain)
    with bench.measure("napari alone: second image"):
        bench.viewer.add_image(other, contrast_limits=(0, 6))
    with bench.measure("napari alone: new data"):
        layer.data = other
    with bench.measure("napari alone: labels"):
        bench.viewer.add_labels(mask)
    with bench.measure("napari alone: RGB"):
        bench.viewer.add_image(picture, rgb=True)
    bench.viewer.layers.clear()
    bench.rest(0.5)
    for data, options, _ in layers:
        with bench.measure(f"add {options['name']}"):
            bench.viewer.add_image(data, **options)
    with bench.measure("open panel"):
        bench.menu("Plugins", "medfuse", "Fuse MRI+PET")
        bench.wait(lambda: bench.find_panel() is not None)
        bench.wait(lambda: not bench.panel.quiet.is_busy)
    bench.panel.model.choose(
        registration="identity", method="mean", mode="slices", accept_suspect=True
    )
    use(bench, out)
    return bench.rows


def _large_layers() -> list[Any]:
    """Blocks of noise, as an MRI and a PET."""
    rng = np.random.default_rng(0)
    coarse = [-(-n // 8) for n in LARGE]
    noise = np.kron(rng.random(coarse, dtype=np.float32), np.ones((8, 8, 8), np.float32))
    noise = noise[tuple(slice(n) for n in LARGE)]
    out = []
    for values, modality, unit in ((noise * 500, "MRI", "a.u."), (noise[::-1] * 6, "PET", "SUVbw")):
        meta = {"modality": modality, "unit": unit, "spacing": [0.5, 0.5, 0.8]}
        volume = MetaTensor(
            torch.from_numpy(np.ascontiguousarray(values[None])),
            affine=torch.diag(torch.tensor([0.5, 0.5, 0.8, 1.0])),
            meta=meta | {"notes": [], "source": {}, "suv": None},
        )
        out.append(layer_data(volume, name=modality))
    return out


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", nargs="?", choices=("sample", "large"))
    parser.add_argument("--json", type=Path, help="write the table here too")
    options = parser.parse_args()
    rows = []
    for case in (sample, large):
        if options.case in (None, case.__name__):
            with tempfile.TemporaryDirectory() as scratch:
                rows += case(Path(scratch))
    longest = max((row for row in rows if row.where), key=lambda row: row.longest_work_ms)
    print(f"longest work of the main thread: {longest.longest_work_ms:.0f} ms, {longest.action}")
    if options.json:
        text = json.dumps([asdict(row) for row in rows], indent=1)
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
