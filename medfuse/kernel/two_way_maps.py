"""The two-way colour maps as numbers; how they were found is told in docs/colour.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Stop:
    """The colour of one uptake; all is linear between two stops.

    Attributes
    ----------
    uptake : float in [0, 1]
    hue : (R, G, B)
        A full hue: the largest 1, the smallest 0.
    saturation : float in [0, 1]
        Largest less smallest channel.
    low, high : float in [0, 1]
        Luminance where the anatomy is black and where it is white. The colour must exist there
        (``medfuse.kernel.color.luminance_band``).
    """

    uptake: float
    hue: tuple[float, float, float]
    saturation: float
    low: float
    high: float


@dataclass(frozen=True)
class TwoWayMap:
    """What the map is for, and its stops from uptake 0 to 1; no chroma comes twice."""

    summary: str
    stops: tuple[Stop, ...]

    @property
    def neutral(self) -> float:
        """The uptake that is drawn grey: for places where nothing was measured."""
        return float(next(stop.uptake for stop in self.stops if stop.saturation == 0))


MAPS: Final[dict[str, TwoWayMap]] = {
    "glow": TwoWayMap(
        "PET and SPECT: grey, rose, orange, yellow; the hottest is bright",
        (
            Stop(0, (1, 0, 0.76), 0, 0, 0.823),
            Stop(0.1, (1, 0, 0.76), 0.035, 0.014, 0.752),
            Stop(0.337, (1, 0, 0.51), 0.309, 0.111, 0.766),
            Stop(0.558, (1, 0.59, 0), 0.506, 0.341, 0.82),
            Stop(1, (1, 0.91, 0), 0.684, 0.57, 0.885),
        ),
    ),
    "glow-safe": TwoWayMap(
        "the same for colour-blind readers: grey, gold, yellow, in order of saturation",
        (
            Stop(0, (1, 0.84, 0), 0, 0, 0.805),
            Stop(0.1, (1, 0.84, 0), 0.035, 0.028, 0.743),
            Stop(0.495, (1, 0.9, 0), 0.31, 0.267, 0.912),
            Stop(0.635, (1, 1, 0), 0.558, 0.508, 0.931),
            Stop(1, (1, 1, 0), 0.775, 0.694, 0.91),
        ),
    ),
    "bone": TwoWayMap(
        "CT over MRI: fat faintly blue, soft tissue grey, bone ivory; window -160 to 240 HU",
        (
            Stop(0, (0, 0, 1), 0.08, 0.0092, 0.929),
            Stop(0.525, (0, 0, 1), 0, 0, 1),
            Stop(0.7, (1, 1, 0), 0.06, 0.0532, 0.993),
            Stop(1, (1, 1, 0), 0.12, 0.92, 0.986),
        ),
    ),
}
