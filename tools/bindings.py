"""Test the panel with other versions of napari and with the other binding of Qt.

    python tools/bindings.py [NAME ...] [--venvs DIR] [--tests PYTEST ARGUMENTS]

Each of the environments below is a thin one: it holds only what differs, and takes the rest (torch,
MONAI, ...) from the environment that runs this script. A new release of napari is tried with
``napari-newest`` before users have it. Run it on a display (``.ci/with-display``); ``make
panel-bindings`` does that.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Binding:
    """What is installed beside the packages of this environment, and what the tests are told."""

    packages: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


PYSIDE = {"QT_API": "pyside6", "PYTEST_QT_API": "pyside6"}
# PySide6 6.12 ends the process on Python 3.11 (docs/napari.md).
PYSIDE_RANGE = "PySide6<6.12" if sys.version_info < (3, 12) else "PySide6"
BINDINGS = {
    "napari-oldest": Binding(("napari==0.6.*",)),
    "napari-newest": Binding(("napari",)),
    "pyside6": Binding((PYSIDE_RANGE,), PYSIDE),
    "napari-oldest-pyside6": Binding(("napari==0.6.*", PYSIDE_RANGE), PYSIDE),
}


def prepare(folder: Path, packages: tuple[str, ...]) -> Path:
    """Make a thin environment; return its interpreter."""
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        ask = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
        place = subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip()
        base = sysconfig.get_path("purelib")
        Path(place, "_base.pth").write_text(f"{base}\n", encoding="utf-8")
    # Packages of the base count as installed; only what does not fit is installed anew.
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"]
    pinned = [f"torch=={_version('torch')}", f"numpy=={_version('numpy')}"]
    subprocess.run([str(python), *install, *packages, *pinned], check=True)
    return python


def _version(name: str) -> str:
    from importlib.metadata import version

    return version(name).partition("+")[0]


def run(name: str, venvs: Path, tests: list[str]) -> int:
    """Test one binding; the exit code is that of the tests."""
    binding = BINDINGS[name]
    python = prepare(venvs / name, binding.packages)
    told = "import napari, qtpy; print(napari.__version__, qtpy.API_NAME, qtpy.QT_VERSION)"
    environment = {**os.environ, **binding.environment, "PYTHONPATH": str(ROOT)}
    print(f"{name}: ", end="", flush=True)
    subprocess.run([str(python), "-c", told], check=True, env=environment, cwd=ROOT)
    call = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    return subprocess.run(call, env=environment, cwd=ROOT, check=False).returncode


def main() -> int:
    """Test the bindings that are named, or all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BINDINGS))
    parser.add_argument("--venvs", type=Path, help="folder to keep (default: a temporary one)")
    parser.add_argument("--tests", nargs=argparse.REMAINDER, default=[], help="for pytest")
    given = parser.parse_args()
    if unknown := set(given.names) - BINDINGS.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(BINDINGS)}")
    with tempfile.TemporaryDirectory() as folder:
        venvs = given.venvs or Path(folder)
        codes = {
            name: run(name, venvs, given.tests or ["tests/napari_plugin"])
            for name in given.names or BINDINGS
        }
    for name, code in codes.items():
        print(f"{name}: {'passed' if code == 0 else f'failed ({code})'}")
    return max(codes.values())


if __name__ == "__main__":
    raise SystemExit(main())
