"""A headless Chromium that is driven as a person would: real mouse, real keys, real pixels.

It speaks the DevTools protocol over a pipe, so that no further package is needed.
"""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from PIL import Image

SOFTWARE_GL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
QUIET = ("quic", "background-networking", "component-update", "sync", "dev-shm-usage")


def find_browser() -> str | None:
    """Path of a Chromium, None where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


class Browser:
    """One browser with one page; `complaints` and `requests` collect what the page did."""

    def __init__(self, executable: str, *, with_gl: bool = True) -> None:
        self._executable = executable
        self._gl = SOFTWARE_GL if with_gl else ("--disable-gpu", "--disable-3d-apis")
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._buffer, self._count, self._session = b"", 0, ""
        self.complaints: list[str] = []
        self.requests: list[str] = []

    def __enter__(self) -> Self:
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()

        def connect() -> None:
            # Chromium reads from 3 and writes to 4; the copies keep each other's numbers free.
            here, there = os.dup(to_browser), os.dup(from_browser)
            os.dup2(here, 3)
            os.dup2(there, 4)

        self._process = subprocess.Popen(
            [
                self._executable,
                *("--headless", "--no-sandbox", "--no-first-run", "--remote-debugging-pipe"),
                *(f"--disable-{name}" for name in QUIET),
                *self._gl,
                *(f"--user-data-dir={self._profile.name}", "about:blank"),
            ],
            preexec_fn=connect, close_fds=False, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_browser)
        os.close(from_browser)
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self(f"{domain}.enable")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)
        self._profile.cleanup()

    def __call__(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer["error"]
                return dict(answer["result"])

    def open(self, page: Path, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Show a page in a window of this size."""
        self.complaints.clear()
        self.requests.clear()
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self("Emulation.setEmulatedMedia", features=features)
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self("Emulation.setDeviceMetricsOverride", **size)
        self("Page.navigate", url=page.as_uri())
        while self._next().get("method") != "Page.loadEventFired":
            pass

    def run(self, script: str) -> Any:
        """Value of a JavaScript expression."""
        found = self("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def place(self, selector: str) -> tuple[float, float, float, float]:
        """Left, top, width and height of an element, scrolled into the window."""
        x, y, width, height = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect();"
            "return [b.left, b.top, b.width, b.height]; })()"
        )
        return x, y, width, height

    def wait(self, script: str, seconds: float = 30) -> None:
        """Until a JavaScript expression is true."""
        end = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < end, f"in vain: {script}"
            time.sleep(0.05)

    def move(self, x: float, y: float) -> None:
        """Put the mouse at a place without pressing it."""
        self("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def drag(self, *points: tuple[float, float]) -> None:
        """Press the mouse at the first point, move over the others, let it go at the last."""
        kinds = ["mousePressed", *["mouseMoved"] * (len(points) - 1), "mouseReleased"]
        for kind, (x, y) in zip(kinds, [*points, points[-1]], strict=True):
            held = {"button": "left", "buttons": 1, "clickCount": 1}
            self("Input.dispatchMouseEvent", type=kind, x=x, y=y, **held)

    def click(self, selector: str) -> None:
        """Click the middle of an element."""
        x, y, width, height = self.place(selector)
        self.drag((x + width / 2, y + height / 2))

    def key(self, name: str, code: int) -> None:
        """Press and release a key, e.g. ``("ArrowRight", 39)``."""
        text = {"text": "\r"} if name == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self("Input.dispatchKeyEvent", type=kind, key=name, code=name,
                 windowsVirtualKeyCode=code, **text)  # fmt: skip

    def look(self, selector: str) -> np.ndarray:
        """The pixels of an element as they are on the screen, (rows, columns, 3) uint8."""
        x, y, width, height = self.place(selector)
        content = base64.b64decode(self("Page.captureScreenshot", format="png")["data"])
        with Image.open(io.BytesIO(content)) as picture:
            box = (round(x), round(y), round(x + width), round(y + height))
            return np.asarray(picture.convert("RGB").crop(box))

    def print(self) -> bytes:
        """The page as PDF."""
        return base64.b64decode(self("Page.printToPDF", preferCSSPageSize=True)["data"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            got = os.read(self._read, 1 << 20)
            assert got, "the browser has gone"
            self._buffer += got
        raw, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(raw)
        method, content = message.get("method"), message.get("params")
        if method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            self.complaints.append(json.dumps(content))
        if method == "Network.requestWillBeSent":
            self.requests.append(content["request"]["url"])
        return message
