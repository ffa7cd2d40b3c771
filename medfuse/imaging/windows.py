"""Display windows: which values of a scan become black and white, and by which rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from medfuse.errors import InputError, option

if TYPE_CHECKING:
    import torch
    from monai.data.meta_tensor import MetaTensor

    ArrayT = TypeVar("ArrayT", np.ndarray, torch.Tensor)

#: FDG PET is read at 0 to 5..7 g/ml; brains and therapy tracers need more. The least of these that
#: leaves at most 5 % of the voxels saturated: a brain, but no bladder, moves it.
SUV_HIGHS = (6.0, 8.0, 10.0, 12.0, 15.0, 20.0)
_SATURATED_SHARE = 0.05
#: Soft tissue (level 40, width 400): air black, fat dark, organs and brain mid-grey, bone white.
HU_WINDOW = (-160.0, 240.0)
_EMISSION_PERCENTILE = 99.0
_CUBE_MM = 10.0  # side of a cubic centimetre
_MOST_OF_MEDIAN = 8.0  # as SUV 8 of a body, in which SUV is 1 on average
_PERCENTILES = (0.5, 99.5)
_FULL_RANGE = (0.1, 99.9)
_FOREGROUND_SHARE = 0.05
_MAX_SAMPLES = 2_000_000


@dataclass(frozen=True)
class Window:
    """Values `low` and below become 0, `high` and above 1, linearly between.

    Attributes
    ----------
    low, high : float
        In `unit`.
    rule : str
        Where the numbers come from, for audit and report.
    """

    low: float
    high: float
    unit: str
    rule: str


def default_window(volume: MetaTensor) -> Window:
    """Choose the window of a scan by its modality and unit.

    PET in SUVbw: 0 to 6 g/ml, or the least customary upper end that leaves at most 5 % of the
    voxels above it (a brain needs 10 or more). CT in HU: -160 to 240, the soft-tissue window; it is
    the one in which no tissue of the whole body but lung is lost, and bone stays apart by being
    white.
    Other PET and SPECT: 0 to the 99th percentile of the voxels above half the mean, or to the
    hottest cubic centimetre where that is higher, so that a small hot lesion keeps its contrast;
    at most eight times the median of these voxels, so that a bladder does not set the scale.
    Everything else: 0.5th to 99.5th
    percentile of the foreground (above 5 % of the range between the 0.1th and 99.9th percentile),
    so that metal or flow artefacts do not.

    Parameters
    ----------
    volume : MetaTensor (1, X, Y, Z)
        With ``meta["modality"]`` and ``meta["unit"]``, as `medfuse.load` gives it.

    Returns
    -------
    Window

    Raises
    ------
    InputError
        ``E_CONSTANT``: there is no contrast to window.
    """
    modality = str(volume.meta.get("modality", "unknown"))
    unit = str(volume.meta.get("unit", "a.u."))
    if modality == "PET" and unit == "SUVbw":
        return _suv_window(_sample(volume), unit)
    if modality == "CT" and unit == "HU":
        return Window(*HU_WINDOW, unit, "CT in HU: soft tissue, level 40, width 400")
    values = _sample(volume)
    if modality in ("PET", "SPECT"):
        high, until = _emission_high(values, _hottest(volume))
        low, rule = 0.0, f"{modality} in {unit}: 0 to {until}"
    else:
        low, high = _foreground_range(values)
        rule = f"{modality} in {unit}: 0.5th to 99.5th percentile of the foreground"
    if not high > low:
        raise InputError(
            "E_CONSTANT",
            what="Cannot choose a display window",
            where=modality,
            cause=f"the foreground has the single value {high:g} {unit}",
            remedy=f"Check the image, or state a window with {option('window', 'LOW HIGH')}",
        )
    return Window(low, high, unit, rule)


def apply_window(array: ArrayT, window: Window) -> ArrayT:
    """Map values to [0, 1], clipped at both ends.

    Parameters
    ----------
    array : numpy array or torch tensor, any shape
        In ``window.unit``.

    Returns
    -------
    Same kind and shape as `array`.
    """
    return ((array - window.low) / (window.high - window.low)).clip(0, 1)


def _suv_window(values: np.ndarray, unit: str) -> Window:
    needed = float(np.quantile(values, 1 - _SATURATED_SHARE))
    high = next((h for h in SUV_HIGHS if h >= needed), SUV_HIGHS[-1])
    rule = f"PET in SUVbw: 0 to {high:g} g/ml"
    if high > SUV_HIGHS[0]:
        rule += (
            f" (0 to {SUV_HIGHS[0]:g} would saturate {100 * (values > SUV_HIGHS[0]).mean():.0f} %)"
        )
    return Window(0.0, high, unit, rule)


def _sample(volume: Any) -> np.ndarray:
    """All voxels, or of a large volume an even and always the same part of them."""
    values = np.asarray(volume, dtype=np.float32).reshape(-1)
    return values[:: max(1, -(-values.size // _MAX_SAMPLES))]


def _emission_high(values: np.ndarray, hottest: float) -> tuple[float, str]:
    """Upper end of an emission window, and what it is."""
    foreground = values[values > max(0.0, float(values.mean(dtype=np.float64)) / 2)]
    if not foreground.size:
        return 0.0, "nothing"
    usual = float(np.percentile(foreground, _EMISSION_PERCENTILE))
    most = _MOST_OF_MEDIAN * float(np.median(foreground))
    if min(hottest, most) <= usual:
        return usual, "the 99th percentile of voxels above half the mean"
    if hottest <= most:
        return hottest, "the hottest cubic centimetre"
    return most, f"{_MOST_OF_MEDIAN:g} times the median of voxels above half the mean"


def _hottest(volume: MetaTensor) -> float:
    """Highest mean in a cube of 1 cm3, on a grid of half its side; of 2-D images in a square."""
    spacing = np.linalg.norm(np.asarray(volume.affine, dtype=float)[:3, :3], axis=0)
    values = np.asarray(volume, dtype=np.float32)[0]
    values = values if values.ndim == 3 else values[..., None]
    sides = [
        int(min(max(1, round(_CUBE_MM / mm)), n))
        for mm, n in zip(spacing, values.shape, strict=True)
    ]
    means = np.lib.stride_tricks.sliding_window_view(values, sides)[
        tuple(slice(None, None, max(1, side // 2)) for side in sides)
    ].mean(axis=(-3, -2, -1))
    return float(np.nanmax(means))


def _foreground_range(values: np.ndarray) -> tuple[float, float]:
    bottom, top = np.percentile(values, _FULL_RANGE)
    foreground = values[values > bottom + _FOREGROUND_SHARE * (top - bottom)]
    if foreground.size == 0:
        return float(bottom), float(bottom)
    low, high = np.percentile(foreground, _PERCENTILES)
    return float(low), float(high)
