"""What of this computer matters to medfuse, for a report of a fault: nothing that names anybody."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil

import medfuse

#: What is installed with medfuse, and what its extras bring.
PACKAGES = (
    *("torch", "monai", "numpy", "SimpleITK", "nibabel", "pydicom", "safetensors", "typer"),
    *("pydantic", "matplotlib", "pillow", "pooch"),
)
EXTRAS = {
    "napari": ("napari", "PyQt6", "PySide6", "PyQt5"),
    "codecs": ("pylibjpeg", "pylibjpeg-openjpeg", "pyjpegls", "python-gdcm"),
    "dicom": ("highdicom",),
    "sign": ("py-minisign",),
    "cluster": ("distributed", "dask-jobqueue"),
    "export": ("onnx", "onnxruntime"),
}
LEAST_TEMP_GB = 2.0


def examine() -> dict[str, Any]:
    """Versions, processor, devices, codecs, display, fonts, memory, folders and what is missing.

    Folders of the user are shown with ``~``; there is no user name, host name or path of data.

    Returns
    -------
    dict
        By topic; ``problems`` lists what will not work, in sentences.
    """
    found: dict[str, Any] = {
        "medfuse": medfuse.__version__,
        "python": f"{platform.python_version()} ({sys.implementation.name})",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "packages": {name: _version(name) for name in PACKAGES},
        "extras": {extra: _installed(names) for extra, names in EXTRAS.items()},
        "processor": _processor(),
        "devices": _devices(),
        "codecs": _codecs(),
        "display": _display(),
        "fonts": _fonts(),
        "terminal": {
            "encoding": sys.stdout.encoding or "unknown",
            "interactive": sys.stdout.isatty(),
        },
        "folders": _folders(),
        "sample": _sample(),
    }
    return found | {"problems": list(_problems(found))}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _installed(names: tuple[str, ...]) -> dict[str, str]:
    versions = {name: _version(name) for name in names}
    return {name: version for name, version in versions.items() if version}


def _processor() -> dict[str, Any]:
    memory = psutil.virtual_memory()
    return {
        "cores": os.cpu_count(),
        "memory_gb": round(memory.total / 2**30, 1),
        "memory_available_gb": round(memory.available / 2**30, 1),
    }


def _devices() -> dict[str, str]:
    import torch

    from medfuse.kernel.devices import devices_here

    names = {"cpu": torch.backends.cpu.get_cpu_capability()}
    for name in devices_here():
        if name == "cuda":
            names[name] = torch.cuda.get_device_name()
        names.setdefault(name, "available")
    return names


def _codecs() -> dict[str, list[str]]:
    """Decoders by compressed transfer syntax of DICOM."""
    from pydicom.pixels.decoders.base import get_decoder

    from medfuse.imaging.dicom.codecs import EXTRA_READS

    return {
        syntax.name: sorted(get_decoder(syntax).available_plugins)
        for syntax in sorted(EXTRA_READS, key=lambda uid: uid.name)
    }


def _display() -> dict[str, Any]:
    variables = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM", "SSH_CONNECTION")
    modules = ("PyQt6", "PySide6", "PyQt5", "PySide2")
    return {
        "variables_set": [name for name in variables if os.environ.get(name)],
        "qt": [name for name in modules if importlib.util.find_spec(name)],
    }


def _fonts() -> dict[str, Any]:
    """Figures bring their own font; a report shows file names in fonts of the browser."""
    from PIL import features

    return {"freetype": bool(features.check("freetype2"))}


def _folders() -> dict[str, Any]:
    from medfuse.imaging.downloads import download_folder

    downloads = download_folder()
    return {
        "temporary": _folder(Path(tempfile.gettempdir())),
        "downloads": {"place": _without_home(downloads), "files": _count(downloads)},
    }


def _folder(path: Path) -> dict[str, Any]:
    return {
        "place": _without_home(path),
        "writable": os.access(path, os.W_OK),
        "free_gb": round(shutil.disk_usage(path).free / 2**30, 1),
    }


def _count(folder: Path) -> int:
    return sum(path.is_file() for path in folder.glob("*")) if folder.is_dir() else 0


def _without_home(path: Path) -> str:
    """A folder as text: that of the user as ``~``; of others, which may name projects, no name."""
    home = Path.home()
    if path.is_relative_to(home):
        return (Path("~") / path.relative_to(home)).as_posix()
    usual = {Path("/tmp"), Path("/var/tmp"), Path("/usr/tmp")}
    return path.as_posix() if path in usual else "another folder, set by a variable"


def _sample() -> bool:
    from medfuse.errors import InputError
    from medfuse.imaging.sample import sample_folder

    try:
        return sample_folder().is_dir()
    except InputError:
        return False


def _problems(found: dict[str, Any]) -> list[str]:
    """What will not work here, and the remedy; a sentence each."""
    told = [
        f"{name} is not installed; run pip install medfuse again."
        for name, version in found["packages"].items()
        if version is None
    ]
    without = [name for name, plugins in found["codecs"].items() if not plugins]
    if without:
        told.append(
            f"No decoder for {len(without)} kinds of compressed DICOM ({', '.join(without)}); "
            "pip install 'medfuse[codecs]' brings them."
        )
    if found["extras"]["napari"].get("napari") and not found["display"]["qt"]:
        told.append("napari is installed without Qt; pip install 'napari[pyqt6]' brings it.")
    temporary = found["folders"]["temporary"]
    if not temporary["writable"] or temporary["free_gb"] < LEAST_TEMP_GB:
        told.append(
            f"The folder for temporary files has {temporary['free_gb']} GB free"
            f"{'' if temporary['writable'] else ' and cannot be written'}; TMPDIR sets another one."
        )
    if not found["fonts"]["freetype"]:
        told.append("Pillow was built without FreeType; letters in figures are small.")
    if not found["sample"]:
        told.append("The sample brain is missing, so medfuse demo will not run.")
    return told
