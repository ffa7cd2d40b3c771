"""Open a finished result folder: its layers, and what the panel needs to go on with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from pydantic import ValidationError

from medfuse.audit import Audit, Check
from medfuse.case.focus import stored_region
from medfuse.errors import InputError
from medfuse.fusion import FusionResult
from medfuse.imaging.grid import Grid
from medfuse.imaging.nifti.colors import color_bytes
from medfuse.imaging.windows import Window
from medfuse.methods.base import MethodInfo
from medfuse.registration.result import Registration
from medfuse.settings import CaseSettings, option_of
from napari_plugin import outputs
from napari_plugin.colors import WEIGHTS, napari_colormap
from napari_plugin.layers import TAG, LayerData, shown
from napari_plugin.placing import axial_order, place
from napari_plugin.private import keep, kept
from napari_plugin.records import Aligned, Fusion, Pair
from napari_plugin.source import Source

HIDDEN = {"visible": False}
UNIT_RANGE = {"contrast_limits": (0.0, 1.0)}
FILES: dict[str, tuple[str, dict[str, Any]]] = {
    "functional_on_anatomical": (outputs.ON_GRID, HIDDEN),
    "luminance": (outputs.LUMINANCE, HIDDEN | UNIT_RANGE),
    "weight_map": (outputs.WEIGHTS_MAP, HIDDEN | UNIT_RANGE | {"colormap": WEIGHTS}),
    "anatomical_share": (outputs.SHARE, HIDDEN | UNIT_RANGE | {"colormap": WEIGHTS}),
    "fused_rgb": (outputs.PICTURE, {"rgb": True}),
}
OPENED = "opened"  # word of a layer by which its folder's content is found
_LARGEST = 64 * 2**20  # bytes of a JSON file of a result
Volumes = dict[str, tuple[NDArray[Any], NDArray[Any]]]


@dataclass(frozen=True, eq=False)
class Opened:
    """A result folder that was opened.

    Attributes
    ----------
    name : str
        Of the folder.
    fusion : Fusion
        Without the voxels of the anatomical image, which the folder does not hold.
    inputs : (str or None, str or None)
        Content hashes of the anatomical and the functional image.
    """

    name: str
    fusion: Fusion
    inputs: tuple[str | None, str | None]

    def is_of(self, pair: Pair) -> bool:
        """Whether a pair is what the result was made of."""
        sources = (pair.anatomical, pair.functional)
        found = tuple((source.meta.get("source") or {}).get("sha256") for source in sources)
        same = None not in found and found == self.inputs
        return same and pair.anatomical.grid.same_as(self.fusion.registration.fixed_grid)


def read_result(folder: Path) -> list[LayerData]:
    """Layers of a result folder; the picture is on top.

    Raises
    ------
    InputError
        ``E_BAD_RESULT`` where a file is missing, unreadable or not what medfuse writes.
    """
    try:
        record, audit, transform = (
            _json(folder / f"{name}.json") for name in ("provenance", "audit", "transform")
        )
        images = {name: _read(folder / f"{name}.nii.gz") for name in FILES}
        opened = _opened(folder, record, audit, transform, images)
    except (
        OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError,
        StopIteration, ValidationError, nib.filebasedimages.ImageFileError,
    ) as error:  # fmt: skip
        raise InputError(
            "E_BAD_RESULT",
            what="Cannot open the result",
            where=folder.name,
            cause=f"a file is missing or unreadable ({type(error).__name__})",
            remedy="Copy the folder again, or fuse the pair again",
        ) from error
    word = keep(opened)
    return [_layer(name, *images[name], opened, record, word) for name in FILES]


def opened_by(layer: Any) -> Opened | None:
    """What a layer of an opened folder belongs to, once all its layers are there."""
    entry = layer.metadata.get(TAG)
    if not isinstance(entry, dict) or entry.get("result_of") != outputs.PICTURE:
        return None
    found = kept(entry.get(OPENED))
    return found if isinstance(found, Opened) else None


def adopt(viewer: Any, picture: Any, opened: Opened) -> None:
    """Make the layers of an opened folder outputs of the panel."""
    word, source = picture.metadata[TAG][OPENED], opened.fusion.pair.anatomical
    for layer in viewer.layers:
        entry = layer.metadata.get(TAG)
        if isinstance(entry, dict) and entry.get(OPENED) == word and "result_of" in entry:
            outputs.claim(layer, entry["result_of"], source, opened.fusion.token)


def _opened(folder: Path, record: Any, audit: Any, transform: Any, images: Volumes) -> Opened:
    checks = tuple(
        Check(**{key: check[key] for key in Check.__dataclass_fields__ if key in check})
        for check in audit["checks"]
    )
    registration = Registration.from_dict(transform)
    settings = _settings(record["settings"])
    pair = _pair(record, images)
    volumes = {key: torch.from_numpy(value[0]) for key, value in images.items()}
    on_grid = MetaTensor(
        volumes["functional_on_anatomical"].float(),
        affine=torch.from_numpy(images["fused_rgb"][1]),
        meta=dict(pair.functional.meta),
    )
    fusion = Fusion(
        Aligned(pair, registration, on_grid, stored_region(folder, record)),
        settings,
        _result(record, volumes),
        Audit(checks),
        tuple(_outputs(images, pair.anatomical)),
        charts=None,
        record=json.dumps(record, indent=2, ensure_ascii=False),
        opened=folder.name,
    )
    inputs = record["inputs"]
    hashes = tuple(inputs[role].get("sha256") for role in ("anatomical", "functional"))
    return Opened(folder.name, fusion, hashes)


def _settings(values: dict[str, Any]) -> CaseSettings:
    """Settings of a record that this version knows; files of the user are not opened again."""
    known = {
        key: value
        for key, value in values.items()
        if key in CaseSettings.model_fields and not option_of(key).is_path
    }
    return CaseSettings(**known)


def _pair(record: Any, images: Volumes) -> Pair:
    """The two images as far as the folder tells of them; no voxel of the anatomical one."""
    affine = np.asarray(images["fused_rgb"][1], dtype=np.float64)
    grid = Grid(shape=images["fused_rgb"][0].shape[-3:], affine=affine)
    order = axial_order(grid)
    nothing = np.broadcast_to(np.float32(np.nan), [grid.shape[axis] for axis in order.axes])
    sources = []
    for role in ("anatomical", "functional"):
        said = record["inputs"][role]
        meta = {"modality": str(said["modality"]), "unit": str(said["unit"]), "notes": []}
        transform = place(grid, order)
        sources.append(
            Source(meta["modality"], nothing, affine, order, False, meta, False, transform)
        )
    return Pair(sources[0], sources[1], (None, None))


def _result(record: Any, volumes: dict[str, torch.Tensor]) -> FusionResult:
    steps = {step["name"]: step["parameters"] for step in record["steps"]}
    windows = {key: Window(**value) if value else None for key, value in steps["window"].items()}
    how, spent = steps["fuse"], torch.empty(0)
    unused = (
        "from_functional", "from_anatomical", "functional_luminance", "anatomical", "coverage",
        "gamut_change",
    )  # fmt: skip
    return FusionResult(
        rgb=volumes["fused_rgb"].float() / 255,
        luminance=volumes["luminance"],
        weights=volumes["weight_map"],
        share=volumes["anatomical_share"],
        **dict.fromkeys(unused, spent),
        band_weights=(),
        overshoot=None,
        bound_change=None,
        painted=None,
        audit=None,
        method=MethodInfo(str(how["method"]), "", "rule", levels=0),
        mode=how["mode"],
        kernel=how["kernel"],
        levels=int(how["levels"]),
        window=windows["functional"],
        anatomical_window=windows["anatomical"],
        colormap=steps["colour"]["colormap"],
        gamut=how["gamut"],
        bias=float(how["bias"]),
        chosen="",
        diagnostics={},
    )


def _outputs(images: Volumes, source: Source) -> Iterator[outputs.Output]:
    for name, (role, _) in FILES.items():
        data = np.ascontiguousarray(shown(images[name][0], source.order))
        yield outputs.Output(role, name, data)


def _layer(
    name: str,
    volume: NDArray[Any],
    affine: NDArray[Any],
    opened: Opened,
    record: dict[str, Any],
    word: str,
) -> LayerData:
    role, look = FILES[name]
    fusion = opened.fusion
    data = next(output.data for output in fusion.outputs if output.role == role)
    title = f"{opened.name}: {name.replace('_', ' ')} ({fusion.audit.verdict.upper()})"
    entry: dict[str, Any] = {"result_of": role, OPENED: word}
    if role == outputs.PICTURE:
        entry |= {"provenance": record, "verdict": fusion.audit.verdict}
    kwargs = {**fusion.pair.anatomical.transform, **look, "name": title, "metadata": {TAG: entry}}
    result = fusion.result
    if role == outputs.ON_GRID and result.window is not None and result.colormap is not None:
        kwargs["contrast_limits"] = (result.window.low, result.window.high)
        kwargs["colormap"] = napari_colormap(result.colormap)
    if role == outputs.ON_GRID and len(volume) == 3:
        kwargs["rgb"] = True
    return data, kwargs, "image"


def _json(path: Path) -> Any:
    if path.stat().st_size > _LARGEST:
        raise ValueError("too large")
    return json.loads(path.read_text("utf-8"))


def _read(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    image = nib.load(path)
    colors = color_bytes(image)
    if colors is not None:
        return np.moveaxis(colors, -1, 0), np.asarray(image.affine)
    array = np.asarray(image.dataobj).astype(np.float32)[None]
    return array, np.asarray(image.affine)
