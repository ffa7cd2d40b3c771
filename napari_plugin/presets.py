"""Windows that readers know by name."""

from __future__ import annotations

from dataclasses import dataclass

LEAST = 1e-3  # of the width of a window, which a drag never closes


@dataclass(frozen=True)
class Preset:
    """A window by name, for a modality in a unit."""

    name: str
    modality: str
    unit: str
    low: float
    high: float


PRESETS = (
    Preset("FDG body, SUV 0 to 6", "PET", "SUVbw", 0.0, 6.0),
    Preset("FDG body, SUV 0 to 10", "PET", "SUVbw", 0.0, 10.0),
    Preset("FDG brain, SUV 0 to 15", "PET", "SUVbw", 0.0, 15.0),
    Preset("Amyloid brain, SUV 0 to 3", "PET", "SUVbw", 0.0, 3.0),
    Preset("CT soft tissue", "CT", "HU", -160.0, 240.0),
    Preset("CT bone", "CT", "HU", -500.0, 1300.0),
    Preset("CT brain", "CT", "HU", 0.0, 80.0),
    Preset("CT lung", "CT", "HU", -1350.0, 150.0),
)


def presets_for(modality: str, unit: str) -> list[Preset]:
    """Those that fit an image; none where its unit does not say what its values mean."""
    return [p for p in PRESETS if (p.modality, p.unit) == (modality, unit)]


def dragged(window: tuple[float, float], right: float, down: float) -> tuple[float, float]:
    """A window after a drag, as every reader has it: to the right wider, down brighter.

    Parameters
    ----------
    window : (low, high)
    right, down : float
        Way of the mouse, in heights of the view.
    """
    low, high = window
    width, middle = high - low, (low + high) / 2
    middle -= down * width
    width = max(width * 2.0 ** (2 * right), LEAST * max(abs(middle), abs(width)))
    return middle - width / 2, middle + width / 2
