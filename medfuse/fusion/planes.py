"""What the stages of a fusion hand on: named planes in slice order, each (S, C, R, K)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from medfuse.fusion.sources import plain
from medfuse.imaging.grid import DisplayOrder
from medfuse.kernel.blend import slabs
from medfuse.kernel.scratch import empty


@dataclass
class Windowed:
    """The pair as the kernel sees it.

    Attributes
    ----------
    a, b : (S, 1, R, K) float32 in [0, 1]
        Luminance of the functional and of the anatomical image.
    coverage : (S, 1, R, K) bool or None
        Inside the functional field of view; None where that is everywhere.
    saturated : int
        Number of covered voxels above the functional window.
    """

    a: Tensor
    b: Tensor
    coverage: Tensor | None
    saturated: int = 0


@dataclass
class Colour:
    """The colour of the functional image.

    Attributes
    ----------
    cbcr : (S, 2, R, K) float32
        Cb and Cr of the coloured functional image, centred at 0.5.
    uptake : (S, 1, R, K) float32 in [0, 1] or None
        In its window; only where it paints the picture (``band``, ``overlay``). In an overlay it is
        negative where nothing was measured.
    room : (S, 3, R, K) float32
        In which both lie; `paint` puts the picture there, a few slices at a time.
    """

    cbcr: Tensor
    uptake: Tensor | None
    room: Tensor


@dataclass
class Weights:
    """What a guide asked for: 1 anatomical, 0 functional.

    Attributes
    ----------
    maps : list of float32 in [0, 1]
        One map (S, 1, R, K), which the kernel brings to every level, or one map a band, finest
        first: map k has ``ceil(n / 2^k)`` samples along rows and columns, in volume mode along
        slices too.
    shown : (S, 1, R, K) float32 in [0, 1]
        For people: the one map, or the mean over the bands.
    """

    maps: list[Tensor]
    shown: Tensor


@dataclass
class Painting:
    """What a network painted.

    Attributes
    ----------
    luminance : (S, 1, R, K) float32
    weights : Weights
        As given, or those that explain the painting best.
    """

    luminance: Tensor
    weights: Weights


@dataclass
class Blended:
    """Luminance and what it is made of.

    Attributes
    ----------
    luminance : (S, 1, R, K) float32
        ``from_a + from_b``, with ``bound_change`` and ``painted`` where these are; may leave
        [0, 1] slightly.
    from_a, from_b : (S, 1, R, K) float32
        What the functional and the anatomical image gave.
    share : (S, 1, R, K) float32 in [0, 1]
        The anatomical part.
    painted, bound_change : (S, 1, R, K) float32 or None
        What a network, what the projection into the local bounds added.
    overshoot : (S, 1, R, K) float32 or None
        See :func:`medfuse.kernel.blend.overshoot`; None until the audit needs it.
    """

    luminance: Tensor
    from_a: Tensor
    from_b: Tensor
    share: Tensor
    painted: Tensor | None = None
    bound_change: Tensor | None = None
    overshoot: Tensor | None = None


@dataclass
class Picture:
    """Colours and what bringing them into the RGB range has changed.

    Attributes
    ----------
    rgb : (S, 3, R, K) float32 in [0, 1]
    gamut_change : (S, 1, R, K) float32 >= 0
        Of the luminance (``fit``, ``band``), of the channel that changed most (``clip``), or the
        part of the chroma that is lost (``desaturate``).
    chroma_change : (S, 1, R, K) float32 >= 0
        Of Cb or Cr, whichever changed more.
    chroma_change_before : float >= 0
        Largest such change, of all voxels, before the gamut policy.
    """

    rgb: Tensor
    gamut_change: Tensor
    chroma_change: Tensor
    chroma_change_before: float


@dataclass
class Planes:
    """All planes of one fusion, and the way back to the axes of the image."""

    order: DisplayOrder
    windowed: Windowed
    weights: Weights
    blended: Blended
    picture: Picture

    def volume(self, plane: Tensor) -> Tensor:
        """One of the planes as (C, X, Y, Z): a view where nothing is flipped, else a copy."""
        return image_axes(plane, self.order)

    def release(self, plane: Tensor) -> Tensor:
        """Give a plane away: its name is gone here, its memory when the caller lets go.

        Parameters
        ----------
        plane : Tensor
            One of the planes, e.g. ``planes.picture.rgb``.

        Raises
        ------
        ValueError
            If it is none of them.
        """
        for part in (self.windowed, self.blended, self.picture):
            for name in [name for name, held in vars(part).items() if held is plane]:
                delattr(part, name)
                return plane
        if all(plane is not one for one in (self.weights.shown, *self.weights.maps)):
            raise ValueError("only a plane that is held can be released")
        if plane is self.weights.shown:
            del self.weights.shown
        self.weights.maps = [one for one in self.weights.maps if one is not plane]
        return plane


def in_slices(image: Tensor, order: DisplayOrder) -> Tensor:
    """(C, X, Y, Z) -> (S, C, R, K): a view where nothing is flipped, else a copy."""
    return _turned(order.cut(plain(image), slice(None)).transpose(0, 1), order)


def image_axes(plane: Tensor, order: DisplayOrder) -> Tensor:
    """(S, C, R, K) -> (C, X, Y, Z): undoes `in_slices`, also without a copy if it can."""
    unflipped = replace(order, flips=(False, False, False))
    return unflipped.invert(_turned(plane, order).transpose(0, 1))


def covered_slices(coverage: Tensor | None, order: DisplayOrder) -> Tensor | None:
    """(X, Y, Z) bool -> (S, 1, R, K), a copy."""
    return None if coverage is None else order.apply(coverage).unsqueeze(1).contiguous()


def _turned(planes: Tensor, order: DisplayOrder) -> Tensor:
    """Flip (S, C, R, K) where the order does, a few slices at a time."""
    if not any(order.flips):
        return planes
    out, count = empty(planes.shape, planes.dtype), len(planes)
    for part in slabs(count):
        there = slice(count - part.stop, count - part.start) if order.flips[0] else part
        out[there] = order.turned(planes[part].transpose(0, 1)).transpose(0, 1)
    return out
