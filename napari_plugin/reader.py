"""Readers for napari: DICOM folders, NIfTI files and finished medfuse result folders."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medfuse.errors import MedfuseError
from medfuse.settings import CaseSettings
from napari_plugin.picking import (
    FUNCTIONAL,
    NIFTI,
    Item,
    Pick,
    dicom_items,
    holds_nifti,
    must_choose,
    nifti_item,
    nifti_items,
    unasked,
)
from napari_plugin.settings import READING, unusual_reading

if TYPE_CHECKING:
    from napari_plugin.layers import LayerData

Reader = Callable[[Any], "list[LayerData]"]
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
    paths = [Path(p) for p in ([path] if isinstance(path, str | os.PathLike) else path)]
    results, others = split(paths)
    items = while_window_lives(lambda: items_of(others)) if others else []
    picks = _picks(items)
    if items and not picks:
        return [(None,)]  # napari's word for nothing to add
    return while_window_lives(lambda: read_results(results) + read_picks(picks))


def split(paths: list[Path]) -> tuple[list[Path], list[Path]]:
    """Result folders, and all other paths."""
    results = [p for p in paths if p.is_dir() and is_result(p)]
    return results, [p for p in paths if p not in results]


def _picks(items: list[Item]) -> list[Pick]:
    """What is opened: asked where there is something to choose and somebody to answer."""
    if must_choose(items) and "qtpy.QtWidgets" in sys.modules:
        from napari_plugin._qt.chooser import ask, can_ask

        if can_ask():
            return ask(items)
    return unasked(items)


def while_window_lives(work: Callable[[], list[Any]]) -> list[Any]:
    """Do work that napari waits for; where there is a window, it is painted meanwhile."""
    try:
        return _while_window_lives(work)
    except MedfuseError as error:  # napari prints it
        from napari_plugin.settings import reworded

        raise reworded(error) from error


def _while_window_lives(work: Callable[[], list[Any]]) -> list[Any]:
    if "qtpy.QtWidgets" not in sys.modules:
        return work()
    from napari_plugin._qt.beside import beside, warm_up

    def work_and_warm_up() -> list[Any]:
        import numpy as np
        from napari.layers import Image

        warm_up("medfuse.imaging.reader", "napari_plugin.layers")
        layers = work()
        Image(np.zeros((2, 2)), units=("mm", "mm"))  # napari's first layer with units takes 0.2 s
        return layers

    return beside(work_and_warm_up)


def items_of(paths: list[Path]) -> list[Item]:
    """Images that lie at paths, to choose from; result folders are none."""
    folders = {p.parent for p in paths}
    # A DICOM series that was dropped file by file is one volume.
    if len(paths) > 1 and len(folders) == 1 and all(_has_dicom_mark(p) for p in paths):
        return dicom_items(folders.pop())
    return [item for path in paths for item in _items_at(path)]


def _items_at(path: Path) -> list[Item]:
    if path.is_dir():
        return dicom_items(path) if _holds_dicom(path) else nifti_items(path)
    return dicom_items(path) if _has_dicom_mark(path) else [nifti_item(path)]


def read_picks(picks: list[Pick], settings: CaseSettings | None = None) -> list[LayerData]:
    """Load what was chosen, as the settings of a panel say."""
    return [_load(pick, settings or CaseSettings()) for pick in picks]


def read_results(paths: list[Path]) -> list[LayerData]:
    """Layers of finished result folders."""
    if not paths:
        return []
    from napari_plugin.results import read_result

    return [layer for path in paths for layer in read_result(path)]


def is_result(path: Path) -> bool:
    """Whether a folder is a finished medfuse result."""
    return (path / "provenance.json").is_file() and (path / "fused_rgb.nii.gz").is_file()


def _is_ours(path: Path) -> bool:
    if path.is_dir():
        return is_result(path) or _holds_dicom(path) or holds_nifti(path)
    return path.is_file() and (path.name.lower().endswith(NIFTI) or _has_dicom_mark(path))


def _holds_dicom(folder: Path) -> bool:
    return any(_has_dicom_mark(p) for p in islice(_files(folder), LOOK_AT))


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


def _load(pick: Pick, settings: CaseSettings) -> LayerData:
    from medfuse.imaging.reader import load
    from napari_plugin.layers import layer_data

    item = pick.item
    chosen = {name: getattr(settings, name) for name in READING}
    if item.modality not in (*FUNCTIONAL, "unknown"):
        chosen["unit"] = "auto"  # an MRI has no SUV to insist on
    volume = load(item.path, series=item.series, frame=pick.frame, **chosen)
    name = item.name if pick.frame is None else f"{item.name}, {_frame_words(pick.frame)}"
    for note in volume.meta.get("notes") or ():
        _say(f"{name}: {note}")
    modality = volume.meta["modality"]
    label = name if modality == "unknown" else f"{modality} {name}"
    opened = {"series": item.series, "frame": pick.frame, **unusual_reading(chosen)}
    return layer_data(volume, name=label, path=str(item.path), opened=opened)


def _frame_words(frame: int | str) -> str:
    return "mean of frames" if frame == "mean" else f"frame {frame}"


def _say(text: str) -> None:
    from napari.utils.notifications import show_info

    show_info(text)
