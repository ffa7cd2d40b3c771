"""What every reader expects around an image: letters, scale, color bar, cross hair, place.

Plain numbers; `_qt/paint.py` draws them, on the screen and in figures alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfuse.kernel.colormaps import COLORMAPS
from napari_plugin.source import Source

#: Axes (down, right) of the display order (slices, rows, columns) that a plane shows.
AXES = {"axial": (1, 2), "coronal": (0, 2), "sagittal": (0, 1)}
SLICED = {"axial": 0, "coronal": 1, "sagittal": 2}
_ENDS = (("L", "R"), ("P", "A"), ("I", "S"))  # at the negative and the positive end of RAS
_SIDEWAYS = 0.34  # sine of 20 degrees: a second letter says that a plane is oblique
_STEPS = (1.0, 2.0, 5.0)


@dataclass(frozen=True)
class Letters:
    """Which side of the patient lies where: at most two letters each."""

    left: str
    right: str
    top: str
    bottom: str


@dataclass(frozen=True)
class Bar:
    """A color bar: ``colors`` (256, 3) uint8 from ``low`` to ``high``, in ``unit``."""

    colors: NDArray[np.uint8]
    low: float
    high: float
    unit: str

    def ticks(self, most: int = 5) -> list[float]:
        """Round numbers inside the bar."""
        step = nice((self.high - self.low) / most, up=True)
        first = np.ceil(self.low / step - 1e-9)
        last = np.floor(self.high / step + 1e-9)
        return [float(step * n) + 0.0 for n in np.arange(first, last + 1)]  # no -0


@dataclass(frozen=True)
class Furniture:
    """All that is drawn over one view; None leaves it out.

    Attributes
    ----------
    title : str
        What is shown, and what it is of.
    letters : Letters or None
    px_per_mm : float
        For the scale bar; 0 leaves it out.
    bar : Bar or None
    cross : (float, float) or None
        Cross hair, pixels from the left and the top.
    place : str
        Coordinates of the cross hair.
    """

    title: str = ""
    letters: Letters | None = None
    px_per_mm: float = 0.0
    bar: Bar | None = None
    cross: tuple[float, float] | None = None
    place: str = ""


def letters(source: Source, plane: str) -> Letters:
    """Letters of a plane of a layer, from the affine of its image."""
    down, right = AXES[plane]
    ways = _ways(source)
    return Letters(
        left=_letters(-ways[right]),
        right=_letters(ways[right]),
        top=_letters(-ways[down]),
        bottom=_letters(ways[down]),
    )


def _ways(source: Source) -> NDArray[np.float64]:
    """(3, 3) unit vectors in RAS along slices, rows and columns of the display."""
    ways = []
    for axis, flip in zip(source.order.axes, source.order.flips, strict=True):
        step = source.affine[:3, axis] * (-1 if flip else 1)
        ways.append(step / max(float(np.linalg.norm(step)), 1e-12))
    return np.array(ways)


def _letters(way: NDArray[np.float64]) -> str:
    found = sorted(range(3), key=lambda axis: -abs(way[axis]))
    named = [_ENDS[axis][int(way[axis] > 0)] for axis in found if abs(way[axis]) > _SIDEWAYS]
    return "".join(named[:2])


def nice(value: float, *, up: bool = False) -> float:
    """A length of 1, 2 or 5 times a power of ten, at most (or at least) so large."""
    if not np.isfinite(value) or value <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(value))
    steps = [step * power for step in (*_STEPS, 10.0)]
    if up:
        return float(next(step for step in steps if step >= value * (1 - 1e-9)))
    return float(next(step for step in reversed(steps) if step <= value * (1 + 1e-9)))


def scale_length(px_per_mm: float, width_px: float) -> tuple[float, str]:
    """Length of a scale bar in mm, about a quarter of the width, and how it is called."""
    length = nice(width_px / 4 / max(px_per_mm, 1e-9))
    return length, f"{length / 10:g} cm" if length >= 10 else f"{length:g} mm"


def palette(name: str) -> NDArray[np.uint8]:
    """(256, 3) uint8 of a color map of medfuse."""
    table = np.asarray(COLORMAPS[name], dtype=np.float32)
    index = np.linspace(0, len(table) - 1, 256).round().astype(int)
    return np.rint(255 * table[index].clip(0, 1)).astype(np.uint8)


def place_words(source: Source, index: Any) -> str:
    """Where a voxel is in the patient: "R 12.0  A 30.5  S 8.0 mm", by the affine of its image."""
    voxel = np.zeros(3)
    shape = source.grid.shape
    index = (0, *index) if source.flat else index
    for axis, flip, i in zip(source.order.axes, source.order.flips, index, strict=True):
        voxel[axis] = shape[axis] - 1 - i if flip else i
    point = source.affine[:3, :3] @ voxel + source.affine[:3, 3]
    words = [f"{_ENDS[axis][int(value >= 0)]} {abs(value):.1f}" for axis, value in enumerate(point)]
    return f"{'  '.join(words)} mm"
