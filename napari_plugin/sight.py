"""What the linked views show: slices of the two images, the fused one and the overlay, in color."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfuse.fusion.choice import OVERLAY_MAP
from medfuse.fusion.paint import HALF
from medfuse.settings import CaseSettings
from napari_plugin import outputs
from napari_plugin.furniture import SLICED, Bar, palette
from napari_plugin.records import Fusion
from napari_plugin.source import Source

ANATOMICAL, FUNCTIONAL, FUSED, OVERLAID = "anatomical", "functional", "fused", "overlay"
GRAY = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
Limits = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Sight:
    """Volumes in display order and how they are colored.

    Attributes
    ----------
    source : Source
        The anatomical layer; its grid is that of all volumes.
    volumes : dict
        By kind: (slices, rows, columns) values; of the fused image (..., 3) uint8.
    limits : dict
        Windows of the anatomical and the functional image.
    units, words : dict
        By kind.
    colors : (256, 3) uint8
        Of the functional image.
    opacity : float
        Of the colors of the overlay.
    remark : str
        What it is of, where that is not what is chosen.
    """

    source: Source
    volumes: dict[str, Any]
    limits: dict[str, Limits]
    units: dict[str, str]
    words: dict[str, str]
    colors: NDArray[np.uint8]
    opacity: float = HALF
    remark: str = ""
    hot: NDArray[np.uint8] = field(default_factory=lambda: palette(OVERLAY_MAP))

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Step between slices, rows, columns, mm."""
        return self.source.order.spacing

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        shape = self.volumes[FUSED].shape[:3]
        return int(shape[0]), int(shape[1]), int(shape[2])

    def picture(self, kind: str, plane: str, number: int) -> NDArray[np.uint8]:
        """(down, right, 3) uint8 of one slice."""
        if kind == OVERLAID:
            return self._overlaid(plane, number)
        values = self._cut(kind, plane, number)
        if values.ndim == 3:
            return np.ascontiguousarray(values)
        colors = GRAY if kind == ANATOMICAL else self.colors
        return colors[_levels(values, self.limits[kind])]

    def bar(self, kind: str) -> Bar | None:
        """Color bar of a view; the fused image has that of the functional one."""
        if kind == ANATOMICAL:
            return Bar(GRAY, *self.limits[ANATOMICAL], self.units[ANATOMICAL])
        if self.volumes[FUNCTIONAL].ndim == 4:
            return None
        colors = self.hot if kind == OVERLAID else self.colors
        return Bar(colors, *self.limits[FUNCTIONAL], self.units[FUNCTIONAL])

    def title(self, kind: str) -> str:
        """What a view shows."""
        return f"{self.words[kind]}{self.remark}"

    def _cut(self, kind: str, plane: str, number: int) -> NDArray[Any]:
        volume, axis = self.volumes[kind], SLICED[plane]
        where: list[Any] = [slice(None)] * 3
        where[axis] = int(np.clip(number, 0, volume.shape[axis] - 1))
        return np.asarray(volume[tuple(where)])

    def _overlaid(self, plane: str, number: int) -> NDArray[np.uint8]:
        """Hot colors laid over the gray image, as strong as the emphasis has them."""
        gray = self.picture(ANATOMICAL, plane, number).astype(np.float32)
        values = self._cut(FUNCTIONAL, plane, number)
        hot = values if values.ndim == 3 else self.hot[_levels(values, self.limits[FUNCTIONAL])]
        mixed = gray + self.opacity * (hot.astype(np.float32) - gray)
        return np.rint(mixed).astype(np.uint8)


def sight_of(fusion: Fusion, picture: Any, chosen: CaseSettings, remark: str = "") -> Sight | None:
    """What can be seen of a fusion; None of flat images.

    Parameters
    ----------
    fusion : Fusion
    picture : (slices, rows, columns, 3) uint8
        Of the layer, with its previews.
    chosen : CaseSettings
        Windows, and the emphasis, which the overlay follows too.
    remark : str
        What it is of, where that is not what is chosen.
    """
    source, result = fusion.pair.anatomical, fusion.result
    if source.flat:
        return None
    on_grid = next(o.data for o in fusion.outputs if o.role == outputs.ON_GRID)
    window, gray = result.window, result.anatomical_window
    functional, anatomical = fusion.pair.words
    limits = {
        ANATOMICAL: chosen.anatomical_window or ((gray.low, gray.high) if gray else (0.0, 1.0)),
        FUNCTIONAL: chosen.window or ((window.low, window.high) if window else (0.0, 1.0)),
    }
    return Sight(
        source=source,
        volumes={ANATOMICAL: source.data, FUNCTIONAL: on_grid, FUSED: picture},
        limits=limits,
        units={
            ANATOMICAL: str(source.meta.get("unit", "")),
            FUNCTIONAL: str(fusion.pair.functional.meta.get("unit", "")),
        },
        words={
            ANATOMICAL: anatomical,
            FUNCTIONAL: functional,
            FUSED: f"{functional} + {anatomical}",
            OVERLAID: f"Overlay: {functional} on {anatomical}",
        },
        colors=palette(result.colormap or "gray"),
        opacity=HALF * (1 - chosen.bias),
        remark=remark,
    )


def _levels(values: NDArray[Any], limits: Limits) -> NDArray[np.uint8]:
    """Numbers of colors; what is no number is the first."""
    low, high = limits
    scaled = (np.nan_to_num(values, nan=low).astype(np.float32) - low) * (
        255.0 / max(high - low, 1e-12)
    )
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
