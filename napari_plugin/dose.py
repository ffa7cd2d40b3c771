"""SUVbw of a layer in Bq/ml from what the user knows of the injection."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from medfuse.errors import SuvUnavailable
from medfuse.imaging.fingerprint import FINGERPRINT
from medfuse.imaging.pet.header import PetHeader, suv_unavailable
from medfuse.imaging.pet.nuclides import HALF_LIVES_S
from medfuse.imaging.pet.suv import SuvScale, compute_suv_scale
from napari_plugin.layers import TAG, facts
from napari_plugin.private import FROM_FILE, shareable
from napari_plugin.values import print_of

NUCLIDES = ("F-18", "C-11", "Ga-68", "O-15", "N-13", "Cu-64", "Zr-89", "Rb-82", "I-124", "Y-86")
_ZERO = datetime(2000, 1, 1, 12)  # only differences count
_SAID = "as stated by the user"


@dataclass(frozen=True)
class Injection:
    """What a user says of an injection.

    Attributes
    ----------
    dose_mbq, weight_kg : float
    nuclide : str
        One of `NUCLIDES`.
    minutes : float or None
        From the injection to the time to which the voxels are decay-corrected, which is the start
        of the scan as a rule; None where they are corrected to the injection itself.
    """

    dose_mbq: float
    weight_kg: float
    nuclide: str = "F-18"
    minutes: float | None = None

    def header(self) -> PetHeader:
        """The same as a header of a series would say it."""
        at = None if self.minutes is None else _ZERO + timedelta(minutes=self.minutes)
        fields = ("weight_kg", "dose_bq", "nuclide", "half_life_s", "injection")
        words = ("weight", "injected dose", "nuclide", "nuclide", "time of the injection")
        return PetHeader(
            units="BQML",
            corrected_image=("ATTN", "DECY"),
            decay_correction="ADMIN" if at is None else "START",
            weight_kg=self.weight_kg,
            dose_bq=self.dose_mbq * 1e6,
            nuclide=self.nuclide,
            half_life_s=HALF_LIVES_S[self.nuclide],
            injection=_ZERO,
            decay_corrected_to=_ZERO if at is None else at,
            first_acquisition=at,
            series_start=at,
            names={field: f"{word} {_SAID}" for field, word in zip(fields, words, strict=True)},
        )

    def words(self) -> str:
        """One line for the record."""
        when = (
            "corrected to the injection"
            if self.minutes is None
            else f"corrected to {self.minutes:g} min after the injection"
        )
        return (
            f"unit SUVbw from {self.dose_mbq:g} MBq {self.nuclide}, {self.weight_kg:g} kg and "
            f"values {when}, {_SAID}"
        )


def scale_of(layer: Any, injection: Injection) -> SuvScale:
    """SUVbw per Bq/ml.

    Raises
    ------
    SuvUnavailable
        ``E_SUV``: the layer is not in Bq/ml, or a number is not plausible.
    """
    unit = facts(layer).get("unit")
    if unit != "Bq/ml":
        raise suv_unavailable(
            f"the layer is in {unit or 'no unit'}, expected Bq/ml",
            what="Cannot compute SUV",
            where=layer.name,
        )
    scale = compute_suv_scale(injection.header())
    if scale.refusal:
        raise SuvUnavailable(
            "E_SUV",
            what="Cannot compute SUV",
            where=layer.name,
            cause=scale.refusal,
            remedy="Correct dose, weight, nuclide or time",
        )
    return scale


def to_suv(layer: Any, injection: Injection) -> None:
    """Bring the values of a layer in Bq/ml to SUVbw, and say on it how.

    Raises
    ------
    SuvUnavailable
        As `scale_of`; nothing was changed.
    """
    scale = scale_of(layer, injection)
    limits = [limit * scale.factor for limit in layer.contrast_limits]
    layer.data = np.asarray(layer.data) * np.float32(scale.factor)
    layer.contrast_limits = limits
    entry, meta = dict(layer.metadata.get(TAG) or {}), facts(layer)
    notes = [note for note in meta.get("notes") or () if not note.startswith(("SUV not", "unit "))]
    meta |= {"unit": "SUVbw", "suv": scale.record, "notes": [*notes, injection.words()]}
    meta[FINGERPRINT] = print_of(layer, "SUVbw")
    stated = {**(entry.get("stated") or {}), "unit": "SUVbw"}
    layer.metadata[TAG] = {**entry, "meta": shareable(meta), "stated": stated, FROM_FILE: False}
