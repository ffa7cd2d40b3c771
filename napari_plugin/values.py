"""What the voxels of a layer mean: what users state of them, and whether that is still true."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfuse.imaging.fingerprint import CHANGED, FINGERPRINT, Fingerprint, true_facts
from medfuse.imaging.pairing import TOLD, restated
from medfuse.imaging.volume import AIR_HU, Place, fill_nonfinite, require_contrast
from napari_plugin.layers import TAG, facts, index_frame
from napari_plugin.placing import UNIT, is_length
from napari_plugin.private import shareable
from napari_plugin.source import Source

#: Notes that a statement of the unit answers.
_ANSWERED = ("SUV not available", "unit ", "CT without values of air", "the values were changed")


def state(
    layer: Any,
    *,
    modality: str | None = None,
    unit: str | None = None,
    scale_is_mm: bool = False,
) -> None:
    """Write on a layer what the user says about it; it goes before what the file says.

    Both are kept: what the user stated stands in the notes, and a header that says otherwise is
    still compared with the role of the image.
    """
    entry = dict(layer.metadata.get(TAG) or {})
    meta, stated = facts(layer), dict(entry.get("stated") or {})
    if modality and modality != meta.get("modality"):
        source = meta.get("source") or {"kind": "array", "name": layer.name}
        meta |= {"modality": modality, "source": _told(source, modality)}
        stated["modality"] = modality
    if unit and not layer.rgb and (unit != meta.get("unit") or meta.get(CHANGED)):
        notes = [note for note in meta.get("notes") or () if not note.startswith(_ANSWERED)]
        meta |= {"notes": [*notes, f"unit {unit} is as stated by the user"], "unit": unit}
        meta |= {"suv": None}
        meta.pop(CHANGED, None)
        stated["unit"] = unit
        meta[FINGERPRINT] = print_of(layer, unit)
    layer.metadata[TAG] = entry | {"meta": shareable(meta), "stated": stated}
    if scale_is_mm and not is_length(layer):
        layer.units = (UNIT,) * layer.ndim


def checked(source: Source) -> Source:
    """The same source, as a file is read: background without data filled, facts true of the voxels.

    Raises
    ------
    InputError
        ``E_NONFINITE``, ``E_CONSTANT``.
    """
    if source.rgb:
        return source
    place = Place("Cannot use the layer", source.name)
    data, notes = _filled(source, place)
    require_contrast(data, place)
    meta = {**source.meta, "notes": [*source.meta["notes"], *notes]}
    voxels = _voxels(source.order.invert, source.data)
    if not _can_be_compared(source, voxels):
        return replace(source, data=data, meta=meta)
    true = true_facts(meta, voxels, np.asarray(source.read_affine))
    if true is not meta and Fingerprint.from_text(meta[FINGERPRINT]).shape != voxels.shape:
        true = true_facts(meta, voxels, source.affine)  # cropped, and placed accordingly
    is_changed = true is not meta
    true = {key: value for key, value in true.items() if key != FINGERPRINT}
    return replace(source, data=data, meta=true, path=None if is_changed else source.path)


def _can_be_compared(source: Source, voxels: NDArray[np.float32]) -> bool:
    """Whether there is a fingerprint, and for arrays of other software of this very shape."""
    if FINGERPRINT not in source.meta:
        return False
    taken = Fingerprint.from_text(source.meta[FINGERPRINT])
    return taken.shape == voxels.shape or not np.array_equal(taken.affine, np.eye(4))


def _filled(source: Source, place: Place) -> tuple[Any, list[str]]:
    """Values where NaN outside the body, and what is masked, is no data."""
    data = source.data
    if isinstance(data, np.ma.MaskedArray):
        data = data.astype(np.float32).filled(np.nan)
    data = np.asarray(data)
    if data.dtype.kind != "f" or np.isfinite(data).all():
        return data, []
    values = data.astype(np.float32)
    fill = AIR_HU if source.meta.get("unit") == "HU" else 0.0
    return values, fill_nonfinite(values, fill, place)


def print_of(layer: Any, unit: str) -> str:
    """Fingerprint of the voxels of a layer at their indices."""
    invert, affine, data = index_frame(layer)
    return Fingerprint.of(_voxels(invert, data), affine, unit).to_text()


def _voxels(invert: Any, data: Any) -> NDArray[np.float32]:
    """(slices, rows, columns) as (X, Y, Z), with 0 where there is no data."""
    array = np.asarray(data)
    array = array[None] if array.ndim == 2 else array
    volume = np.asarray(invert(array[None])[0], dtype=np.float32)
    return volume if np.isfinite(volume).all() else np.nan_to_num(volume, posinf=0, neginf=0)


def _told(source: dict[str, Any], modality: str) -> dict[str, Any]:
    return {**source, TOLD: restated(str(source.get(TOLD) or ""), modality)}
