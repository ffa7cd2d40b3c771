"""Readers for napari: DICOM folders, NIfTI files and finished medfuse result folders."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medfuse.errors import MedfuseError

if TYPE_CHECKING:
    from napari_plugin.layers import LayerData

Reader = Callable[[Any], "list[LayerData]"]
NIFTI = (".nii", ".nii.gz")
LOOK_AT = 64  # files of a folder that are opened to recognise it


def get_reader(path: str | list[str]) -> Reader | None:
    """Choose a reader, or decline.

    Parameters
    ----------
    path : str or list of str
        What was dropped or opened; of several paths each must be ours.

    Returns
    -------
    callable or None
        Takes the path and gives napari LayerData tuples.
    """
    paths = [Path(p) for p in ([path] if isinstance(path, str | os.PathLike) else path)]
    if not paths or not all(_is_ours(p) for p in paths):
        return None
    return read_paths


def read_paths(path: str | list[str]) -> list[LayerData]:
    """Read one or several paths.

    Raises
    ------
    MedfuseError
        One line; napari shows it as a notification.
    """
    paths = [path] if isinstance(path, str | os.PathLike) else path
    return while_window_lives(lambda: _read_parts([Path(p) for p in paths]))


def while_window_lives(work: Callable[[], list[LayerData]]) -> list[LayerData]:
    """Do work that napari waits for; where there is a window, it is painted meanwhile."""
    try:
        return _while_window_lives(work)
    except MedfuseError as error:  # napari prints it
        from napari_plugin.settings import reworded

        raise reworded(error) from error


def _while_window_lives(work: Callable[[], list[LayerData]]) -> list[LayerData]:
    if "qtpy.QtWidgets" not in sys.modules:
        return work()
    from napari_plugin._qt.beside import beside, warm_up

    def work_and_warm_up() -> list[LayerData]:
        import numpy as np
        from napari.layers import Image

        warm_up("medfuse.imaging.reader", "napari_plugin.layers")
        layers = work()
        Image(np.zeros((2, 2)), units=("mm", "mm"))  # napari's first layer with units takes 0.2 s
        return layers

    return beside(work_and_warm_up)


def _read_parts(parts: list[Path]) -> list[LayerData]:
    folders = {p.parent for p in parts}
    # A DICOM series that was dropped file by file is one volume.
    if len(parts) > 1 and len(folders) == 1 and all(_has_dicom_mark(p) for p in parts):
        return _read_dicom(folders.pop())
    return [layer for part in parts for layer in _read_one(part)]


def is_result(path: Path) -> bool:
    """Whether a folder is a finished medfuse result."""
    return (path / "provenance.json").is_file() and (path / "fused_rgb.nii.gz").is_file()


def _is_ours(path: Path) -> bool:
    if path.is_dir():
        return is_result(path) or any(_has_dicom_mark(p) for p in islice(_files(path), LOOK_AT))
    return path.is_file() and (path.name.lower().endswith(NIFTI) or _has_dicom_mark(path))


def _files(folder: Path) -> Iterator[Path]:
    """Files of a folder and of its direct subfolders; never a whole disk."""
    try:
        entries = sorted(islice(folder.iterdir(), 10 * LOOK_AT))
        yield from (p for p in entries if p.is_file())
        for sub in islice((p for p in entries if p.is_dir()), 8):
            yield from (p for p in sorted(islice(sub.iterdir(), LOOK_AT)) if p.is_file())
    except OSError:
        return


def _has_dicom_mark(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _read_one(path: Path) -> list[LayerData]:
    if path.is_dir() and is_result(path):
        from napari_plugin.results import read_result

        return read_result(path)
    if path.is_dir() or _has_dicom_mark(path):
        return _read_dicom(path)
    return [_load(path, path.name.removesuffix(".gz").removesuffix(".nii"))]


def _read_dicom(path: Path) -> list[LayerData]:
    """Every readable image series of a folder; one that fails alone raises its error."""
    from medfuse.imaging.reader import describe

    found = describe(path)
    sound = [series for series in found if not series["problems"]]
    if len(sound) < 2:
        return [_load(path, _series_name(*sound))]
    return [_load(path, _series_name(series), series["uid_end"]) for series in sound]


def _series_name(series: dict[str, Any] | None = None) -> str:
    """Name without that of the folder, which people name after patients."""
    number = series["series"] if series else None
    return "DICOM" if number is None else f"series {number}"


def _load(path: Path, name: str, series: str | None = None) -> LayerData:
    from medfuse.imaging.reader import load
    from napari_plugin.layers import layer_data

    volume = load(path, series=series)
    for note in volume.meta.get("notes") or ():
        _say(f"{name}: {note}")
    modality = volume.meta["modality"]
    label = name if modality == "unknown" else f"{modality} {name}"
    return layer_data(volume, name=label, path=str(path))


def _say(text: str) -> None:
    from napari.utils.notifications import show_info

    show_info(text)
