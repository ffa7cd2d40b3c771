"""The pair that is fused, checked and before it is windowed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from medfuse.errors import GeometryError
from medfuse.imaging.grid import Grid
from medfuse.imaging.located import is_located
from medfuse.imaging.pictures import over_black
from medfuse.imaging.windows import Window, default_window
from medfuse.kernel.color import rgb_to_ycbcr
from medfuse.kernel.colormaps import COLORMAPS
from medfuse.kernel.devices import CPU
from medfuse.registration.deformation import covered

Gamut = Literal["band", "desaturate", "fit", "clip", "overlay"]


@dataclass(frozen=True)
class Sources:
    """The pair before windowing: (C, X, Y, Z); 2-D images have Z = 1.

    Attributes
    ----------
    functional : (1 or 3, X, Y, Z) float32
        In its unit, or RGB in [0, 1].
    anatomical : (1, X, Y, Z) float32
    window, anatomical_window : Window or None
        None where values lie in [0, 1] already.
    colormap : str or None
        None for RGB, or where it is not known.
    coverage : (X, Y, Z) bool or None
        Inside the functional field of view.
    gamut, bias, bounded
        As in :func:`medfuse.fuse`.
    weights : tuple of float32 in [0, 1] or None
        Used instead of those of the guide: one map (1, X, Y, Z), or one a band, finest first.
    flat : bool
        The images came without a third axis.
    table : (256, 3) float32 in [0, 1] or None
        RGB of the colour map, where it is not that of the name.
    device : torch.device
        Where guide and kernel compute. All planes lie in the memory of the processor.
    """

    functional: Tensor
    anatomical: Tensor
    window: Window | None
    anatomical_window: Window | None
    colormap: str | None
    coverage: Tensor | None
    gamut: Gamut = "fit"
    bias: float = 0.0
    weights: tuple[Tensor, ...] | None = None
    flat: bool = False
    table: Tensor | None = None
    bounded: bool = False
    device: torch.device = CPU

    @property
    def grid(self) -> Grid | None:
        """Of the anatomical image; None for arrays and 2-D images."""
        image = self.anatomical
        return Grid.from_volume(image) if is_located(image) and not self.flat else None

    def ycbcr(self, functional: Tensor) -> Tensor:
        """(N, C, R, K) functional values -> (N, 3, R, K) Y, Cb, Cr."""
        if self.colormap is None:
            return rgb_to_ycbcr(functional)
        # Colour conversion is affine, so a table of YCbCr interpolates like the table of RGB.
        colours = COLORMAPS[self.colormap] if self.table is None else self.table
        table = rgb_to_ycbcr(colours.T[None])[0].T.contiguous()
        position = windowed(functional[:, 0], self.window).mul_(len(table) - 1)
        index = position.floor().clamp_max_(len(table) - 2)
        fraction = position.sub_(index)
        index = index.long()
        steps = table.diff(dim=0)
        planes = [torch.addcmul(table[:, c][index], steps[:, c][index], fraction) for c in range(3)]
        return torch.stack(planes, dim=1)

    def count_above(self, functional: Tensor, covered: Tensor | None) -> int:
        """Number of (N, C, R, K) functional values above the window, of those that are covered."""
        if self.window is None or functional.shape[1] != 1:
            return 0
        above = functional > self.window.high
        return int(torch.count_nonzero(above if covered is None else above & covered))


def windowed(x: Tensor, window: Window | None) -> Tensor:
    """Values of any shape to [0, 1], clipped at both ends; always a copy."""
    if window is None:
        return x.clone()
    return torch.sub(x, window.low).div_(window.high - window.low).clamp_(0, 1)


def plain(x: Tensor) -> Tensor:
    """The same values without geometry."""
    return x.as_tensor() if is_located(x) else x


def channel_first(image: Any, role: str, *, has_window: bool = False) -> Tensor:
    """(C, X, Y, Z) float32 of what :func:`medfuse.fuse` takes; a 2-D image gets a last axis.

    Integers of 8 bits without sign become [0, 1], unless a window or a unit says what they are.
    """
    if not isinstance(image, Tensor):
        array = np.asarray(image)
        image = torch.from_numpy(np.ascontiguousarray(array, array.dtype.newbyteorder("=")))
    if image.ndim in (2, 3):
        image = _from_picture(plain(image), role)
    if image.ndim != 4 or image.shape[0] not in (1, 3):
        raise ValueError(
            f"the {role} image must be (H, W), (H, W, 3), (C, H, W) or (C, H, W, D) with C = 1 or "
            f"3, got shape {tuple(image.shape)}"
        )
    if image.dtype == torch.uint8 and not (has_window or _has_unit(image)):
        image = _from_bytes(image, role)
    if role == "anatomical" and image.shape[0] == 3:
        if not (torch.equal(image[0], image[1]) and torch.equal(image[1], image[2])):
            raise ValueError("the anatomical image must have one channel, got 3 that differ")
        image = image[:1]
    values: Tensor = image.float()
    return values


def _from_picture(image: Tensor, role: str) -> Tensor:
    """(C, H, W, 1) of (H, W), of (H, W, 1, 3 or 4) as readers of pictures give it, or (C, H, W)."""
    if image.ndim == 2:
        return image[None, ..., None]
    first = image.shape[0] in (1, 3)
    last = image.shape[-1] in ((1, 3) if first else (1, 3, 4))
    if first and last:
        raise ValueError(
            f"the {role} image of shape {tuple(image.shape)} may have its channels first or last: "
            "give it as (C, H, W, 1)"
        )
    if last and image.shape[-1] == 4:
        image = torch.from_numpy(over_black(image.numpy()))
    planes: Tensor = image.movedim(-1, 0) if last else image
    return planes.unsqueeze(-1)


def _from_bytes(image: Tensor, role: str) -> Tensor:
    if image.max() <= 1 and image.any():
        raise ValueError(
            f"the {role} image holds 8-bit integers of 0 and 1 alone, which are nearly black or a "
            "mask: give it as bool or as float in [0, 1]"
        )
    values: Tensor = image.float() / 255
    return values


def _has_unit(image: Tensor) -> bool:
    return is_located(image) and image.meta.get("unit") is not None


def given_weights(weights: Any, anat: Tensor) -> tuple[Tensor, ...]:
    """Maps (1, X, Y, Z) float32 in [0, 1] that the caller has, checked: one, or one a band."""
    listed = weights if isinstance(weights, list | tuple) else [weights]
    # The channel of a map comes first, also where a coarse one has three columns.
    stacks = [w[..., None] if np.ndim(w) == 3 else w for w in listed]
    maps = tuple(plain(channel_first(w, "weight")) for w in stacks)
    if maps[0].shape != (1, *anat.shape[1:]):
        raise ValueError(
            f"weights must be {(1, *anat.shape[1:])} like the anatomical image, "
            f"got {tuple(maps[0].shape)}"
        )
    for given in maps:
        low, high = torch.aminmax(given)
        if not (low >= 0 and high <= 1):
            raise ValueError(f"weights must lie in [0, 1], got {low:g} to {high:g}")
    return maps


def check_pair(func: Tensor, anat: Tensor) -> None:
    """Refuse a pair that does not lie on one grid."""
    if func.shape[1:] != anat.shape[1:]:
        raise ValueError(
            f"both images must be on one grid, got {tuple(func.shape[1:])} functional and "
            f"{tuple(anat.shape[1:])} anatomical; use registration.resample(functional)"
        )
    if not (is_located(func) and is_located(anat)):
        return
    if not Grid.from_volume(func).same_as(Grid.from_volume(anat)):
        raise GeometryError(
            "E_GRID_MISMATCH",
            what="Cannot fuse",
            cause="functional and anatomical image have the same shape but another affine",
            remedy="Pass registration.resample(functional), which puts it on the anatomical grid",
        )


def window_of(image: Tensor, given: tuple[float, float] | None, role: str) -> Window | None:
    """The window that is given, or that of unit and modality; None for values in [0, 1]."""
    unit = image.meta.get("unit") if is_located(image) else None
    if given is not None:
        low, high = given
        if not low < high:
            raise ValueError(f"the {role} window must rise, got {low:g} to {high:g}")
        return Window(float(low), float(high), unit or "a.u.", "given")
    if is_located(image) and unit is not None and image.shape[0] == 1:
        return default_window(image)
    low, high = (float(x) for x in torch.aminmax(plain(image)))
    if not (low >= 0 and high <= 1):  # also catches NaN
        raise ValueError(
            f"values of the {role} image without a unit must lie in [0, 1], got {low:g} to "
            f"{high:g}; give {'window' if role == 'functional' else 'anatomical_window'}"
            "=(low, high), or load the image with medfuse.load"
        )
    return None


def coverage_of(func: Tensor, anat: Tensor) -> Tensor | None:
    """(X, Y, Z) bool from the geometry that ``Registration.resample`` recorded, else None."""
    if not is_located(func) or not (view := func.meta.get("field_of_view")):
        return None
    grid = Grid.from_volume(anat if is_located(anat) else func)
    return torch.from_numpy(covered(grid, view))
