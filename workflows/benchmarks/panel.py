"""How long does the napari window stand still, and how soon is the fused picture there?

A timer in the window's event loop ticks every 10 ms. For every action the table says how long it
took, the longest silence of the timer (the window stood still), the longest stretch that the main
thread itself worked (of a silence, the rest is waiting for a core or for the graphics), and both
for napari alone: the same arrays, the same layers, the same clicks, without medfuse, in a process
of its own.

    xvfb-run -a -s "-screen 0 1600x1200x24" python workflows/benchmarks/panel.py
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
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
from qtpy.QtCore import QEvent, QEventLoop, QObject, Qt, QTimer
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QMainWindow, QMenu

from napari_plugin import outputs
from napari_plugin.layers import layer_data
from napari_plugin.sample import brain

TICK_MS = 10
LOOK_S = 0.05  # silence after which the watcher looks where the main thread is
WAIT_S = 1200
PREVIEWS = 10
LARGE = (512, 512, 300)
CASES = ("sample", "sarcoma", "large")
PLANES = ("coronal", "sagittal", "3d", "axial")
ORDERS = {"coronal": (1, 0, 2), "sagittal": (2, 0, 1)}
COLUMNS = (
    "case", "action", "takes, s", "still, ms", "at work, ms",
    "napari alone: still, ms", "at work, ms",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One action: how long it took, and the longest time without an event loop."""

    action: str
    seconds: float
    still_ms: float = 0.0
    work_ms: float = 0.0
    where: str = ""


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
    """Does actions in a napari window and writes down how the window fared."""

    def __init__(self, case: str) -> None:
        self.case, self.rows = case, []
        self.viewer = napari.Viewer(show=True)
        self.window: QMainWindow = self.viewer.window.main_menu.window()
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
        heart = self.heart
        self._keep(Row(action, seconds, 1000 * heart.longest, 1000 * heart.own, heart.where))

    def note(self, what: str, seconds: float) -> None:
        """Write down a time in which the window was not watched."""
        self._keep(Row(what, seconds))

    def _keep(self, row: Row) -> None:
        self.rows.append(row)
        print(
            f"{self.case:7} {row.action:34} {row.seconds:8.2f} s {row.still_ms:6.0f} ms "
            f"{row.work_ms:6.0f} ms  {row.where}",
            file=sys.stderr,
            flush=True,
        )

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
        menu: QMenu | Any = self.window.menuBar()
        for text in path:
            action = next(a for a in menu.actions() if text in a.text().replace("&", ""))
            menu = action.menu()
            if menu is not None:
                menu.aboutToShow.emit()
        QTimer.singleShot(0, action.trigger)

    @property
    def panel(self) -> Any | None:
        """The docked panel; None before it is there."""
        return next(iter(self.viewer.window.dock_widgets.values()), None)

    def open_panel(self) -> None:
        """Choose the panel in the menu."""
        with self.measure("open panel"):
            self.menu("Plugins", "medfuse", "Fuse MRI+PET")
            self.wait(lambda: self.panel is not None)
            self.wait(lambda: not self.panel.quiet.is_busy)

    def fuse_first(self, start: float) -> None:
        """Click the button of a panel that has not fused yet; the notes count from ``start``."""
        panel, drawn, done = self.panel, [], []
        canvas = self.window.findChild(QOpenGLWidget)
        canvas.frameSwapped.connect(
            lambda: outputs.find(self.viewer, outputs.PICTURE) and drawn.append(time.perf_counter())
        )
        panel.runner.ended.connect(lambda _: done.append(time.perf_counter()))
        clicked = time.perf_counter()
        with self.measure("first fusion"):
            panel.fuse.click()
            self.wait(lambda: not panel.runner.is_busy)
            self.rest(0.5)
        self.note("click on Fuse to fused slice seen", drawn[0] - clicked)
        if panel.model.result is None and panel.fuse_tab.accept.isEnabled():
            return  # suspect: shown, and not fused
        self.note("first click to fused slice seen", drawn[0] - start)
        self.note("first click to fused volume", done[0] - start)

    def close(self, action: str) -> None:
        """Close the window; what is done after it has gone, nobody sees."""
        gone = Gone(self.window)
        with self.measure(action):
            start = time.perf_counter()
            self.viewer.close()
        self.note(f"{action}: until it is gone", gone.at - start)


class Gone(QObject):
    """Remembers when a window was hidden."""

    def __init__(self, window: QMainWindow) -> None:
        super().__init__()
        self.at = 0.0
        window.installEventFilter(self)

    def eventFilter(self, watched: Any, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        if event.type() == QEvent.Type.Hide:
            self.at = time.perf_counter()
        return False


def use(bench: Bench, out: Path) -> None:
    """Everything that a person does with a fused pair."""
    panel = bench.panel
    tab = panel.fuse_tab

    def idle() -> bool:
        return not (panel.runner.is_busy or panel.views.is_busy)

    with bench.measure("fusion in place"):
        panel.fuse.click()
        bench.wait(idle)
        bench.rest(0.5)
    names = [panel.tabs.tabText(index) for index in range(panel.tabs.count())]
    for name in ("Audit", "Regions", "Provenance", "Fuse"):
        with bench.measure(f"{name.lower()} tab"):
            panel.tabs.setCurrentIndex(names.index(name))
            bench.rest(0.3)
    _linked(bench, panel)
    with bench.measure("measure a sphere"):
        panel.regions_tab.sphere.click()
        bench.wait(idle)
    for plane in PLANES:
        with bench.measure(f"view {plane}"):
            panel.view_buttons[plane].click()
            bench.wait(lambda: not panel.view_bar.is_turning)
            bench.rest(0.3)
    _previews(bench, panel)
    for check in (tab.adjust.before, tab.adjust.checker, tab.adjust.edges):
        for way in ("on", "off"):
            with bench.measure(f"{check.text().replace('&', '').lower()} {way}"):
                check.click()
                bench.wait(idle)
                bench.rest(0.3)
    with bench.measure("export"):
        panel.export(out / "result")
        bench.wait(idle)
    panel.fuse.click()
    bench.rest(1.0)
    bench.close("close")


def _linked(bench: Bench, panel: Any) -> None:
    """Open the linked views and go through all slices with one cross hair."""
    with bench.measure("linked views on"):
        panel.view_bar.link.click()
        bench.rest(0.5)
    dims = bench.viewer.dims
    with bench.measure("linked views, 20 steps"):
        for step in range(20):
            dims.set_current_step(0, dims.nsteps[0] // 2 + step)
            bench.rest(0.02)
    panel.view_bar.link.click()


def _previews(bench: Bench, panel: Any) -> None:
    """Drag the emphasis slider; a preview is done when it is painted."""
    painted: list[float] = []
    panel.previews.ended.connect(lambda _: painted.append(time.perf_counter()))
    panel.runs.refuse_timer.setInterval(10**8)  # the full run is measured by itself
    times = []
    with bench.measure("preview"):
        for value in range(1, PREVIEWS + 1):
            painted.clear()
            start = time.perf_counter()
            panel.fuse_tab.bias.slider.setValue(value)
            bench.wait(lambda: bool(painted))
            times.append(painted[0] - start)
    panel.fuse_tab.bias.slider.setValue(
        0
    )  # else the export asks whether an earlier result is meant
    bench.rest(0.3)
    panel.runs.refuse_timer.stop()
    bench.note(f"preview: median of {PREVIEWS}", float(np.median(times)))
    bench.note("preview: longest", max(times))


def sample(out: Path) -> list[Row]:
    """The brain sample, from the first click on."""
    bench = Bench("sample")
    start = time.perf_counter()
    with bench.measure("open images"):
        bench.menu("File", "Open Sample", "medfuse", "Brain")
        bench.wait(lambda: len(bench.viewer.layers) == 2)
    bench.open_panel()
    bench.fuse_first(start)
    use(bench, out)
    return bench.rows


def sarcoma(out: Path) -> list[Row]:
    """Clinical DICOM: the first fusion alone."""
    bench = Bench("sarcoma")
    start = time.perf_counter()
    with bench.measure("open images"):
        bench.menu("File", "Open Sample", "medfuse", "Thigh sarcoma")
        bench.wait(lambda: len(bench.viewer.layers) == 2)
    bench.open_panel()
    bench.fuse_first(start)
    bench.close("close")
    return bench.rows


def large(out: Path) -> list[Row]:
    """Two volumes of 512 x 512 x 300, whose positions are right."""
    layers, bench = _large_layers(), Bench("large")
    start = time.perf_counter()
    with bench.measure("open images"):
        for data, options, _ in layers:
            bench.viewer.add_image(data, **options)
    bench.open_panel()
    bench.panel.model.choose(registration="identity", accept_suspect=True)
    bench.fuse_first(start)
    use(bench, out)
    return bench.rows


def plain(images: list[Any]) -> list[Row]:
    """The same with napari alone: the arrays of two images, and nine layers as medfuse shows."""
    bench = Bench("napari")
    viewer, layers = bench.viewer, bench.viewer.layers
    arrays = [np.array(data) for data, _, _ in images]
    with bench.measure("open images"):
        for data, (_, options, _) in zip(arrays, images, strict=True):
            viewer.add_image(data, contrast_limits=options["contrast_limits"])
    volume, mask = arrays[0], (arrays[0] > arrays[0].mean()).astype(np.uint8)
    rgb = np.stack([mask] * 3, axis=-1)
    hidden = [volume] * 4 + [mask] * 2
    with bench.measure("first fusion"):
        viewer.add_image(rgb, rgb=True)
        for data in hidden:
            bench.rest(0.1)
            viewer.add_image(data, visible=False)
    layers[1].visible = False
    with bench.measure("fusion in place"):
        for layer in list(layers)[2:]:
            bench.rest(0.1)
            layer.data = layer.data.copy()
    _turn(bench)
    with bench.measure("preview"):
        for value in range(PREVIEWS):
            bench.rest(0.05)
            layers[2].data[len(rgb) // 2] = value
            layers[2].refresh()
    with bench.measure("edges on"):
        viewer.add_image(mask, opacity=0.7)
    with bench.measure("edges off"):
        layers[-1].visible = False
    with bench.measure("checkerboard on"):
        viewer.add_image(rgb, rgb=True)
    with bench.measure("checkerboard off"):
        layers[-1].visible = False
    bench.close("close")
    return bench.rows


def _turn(bench: Bench) -> None:
    """Turn a viewer that holds one visible volume under a picture to every side."""
    viewer = bench.viewer
    for plane in PLANES:
        with bench.measure(f"view {plane}"):
            is_solid = plane == "3d"
            viewer.layers[2].visible = not is_solid
            viewer.dims.ndisplay = 3 if is_solid else 2
            viewer.dims.order = ORDERS.get(plane, (0, 1, 2))
            viewer.reset_view()
            bench.rest(0.3)


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


def measure_case(name: str) -> dict[str, Any]:
    """Rows of one case, and the most memory that it needed."""
    case, _, alone = name.partition("-")
    with tempfile.TemporaryDirectory() as scratch:
        if alone:
            rows = plain(brain() if case == "sample" else _large_layers())
        else:
            rows = {"sample": sample, "sarcoma": sarcoma, "large": large}[case](Path(scratch))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2  # kB on Linux
    return {"case": name, "peak_gb": peak, "rows": [asdict(row) for row in rows]}


def measure_in_process(name: str) -> dict[str, Any]:
    """The same in a process of its own, so that no case finds shaders or imports of another."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [sys.executable, "-W", "ignore", __file__, "--only", name, "--json", file.name]
        subprocess.run(command, check=True)
        return json.loads(Path(file.name).read_text("utf-8"))[0]


def table(found: list[dict[str, Any]]) -> str:
    """Markdown: a line for every action, beside it napari alone."""
    by_name = {each["case"]: each for each in found}
    lines = ["| " + " | ".join(COLUMNS) + " |", "| --- | --- |" + " ---: |" * (len(COLUMNS) - 2)]
    for name in (n for n in by_name if "-" not in n):
        alone = {row["action"]: row for row in by_name.get(f"{name}-alone", {}).get("rows", [])}
        for row in by_name[name]["rows"]:
            cells = [name, row["action"], f"{row['seconds']:.2f}", *_gaps(row)]
            cells += _gaps(alone.get(row["action"], {}))
            lines.append("| " + " | ".join(cells) + " |")
        lines.append(f"| {name} | memory at most, GB | {by_name[name]['peak_gb']:.1f} | | | | |")
    return "\n".join(lines)


def _gaps(row: dict[str, Any]) -> list[str]:
    gaps = [row.get(key, 0.0) for key in ("still_ms", "work_ms")]
    return [f"{gap:.0f}" if gaps[0] else "" for gap in gaps]


def main() -> None:
    """Measure and print the table."""
    names = [f"{case}{alone}" for case in CASES for alone in ("", "-alone")]
    names.remove("sarcoma-alone")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", nargs="?", choices=CASES)
    parser.add_argument("--only", choices=names, help="one case, in this process")
    parser.add_argument("--json", type=Path, help="write the rows here too")
    options = parser.parse_args()
    if options.only:
        found = [measure_case(options.only)]
    else:
        chosen = [name for name in names if options.case in (None, name.split("-")[0])]
        found = [measure_in_process(name) for name in chosen]
        print(table(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
