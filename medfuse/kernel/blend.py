"""Two sources and weights in, one luminance out, with the exact contribution of each source.

This is the only place where fused luminance is made, and it has no learned parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from medfuse.kernel.pyramid import (
    Kernel,
    collapse,
    expand_part,
    laplacian_pyramid,
    reduce_part,
    sample_part,
    weight_pyramid,
)
from medfuse.kernel.scratch import empty
from medfuse.kernel.threads import share_out

SLAB = 16  # slices at a time


@dataclass(frozen=True)
class Fused:
    """Fused luminance and what each source gave to it.

    ``luminance == from_a + from_b`` up to float rounding: the result holds nothing else.
    All have the shape of the sources. Values may leave the range of the sources where bands are
    weighted differently; nothing is clipped here.
    """

    luminance: Tensor
    from_a: Tensor
    from_b: Tensor

    def share(self) -> Tensor:
        """Part of each voxel that really came from source B, in [0, 1].

        ``|from_b| / (|from_a| + |from_b|)``; 0.5 where both sources gave nothing.
        """
        a, b = self.from_a.abs(), self.from_b.abs()
        total = a + b
        return torch.where(total > 1e-6, b / total.clamp_min(1e-6), torch.full_like(total, 0.5))


def blend(
    a: Tensor,
    b: Tensor,
    weights: Tensor | Sequence[Tensor],
    *,
    levels: int = 4,
    kernel: Kernel = "binomial",
) -> Tensor:
    """Blend two images band by band: ``F_k = (1 - w_k) A_k + w_k B_k`` (paper, section 3).

    Differentiable in all inputs; :func:`fuse_luminance` also gives the contributions.

    Parameters
    ----------
    a, b : (N, 1, H, W) or (N, 1, H, W, D) float
        Luminance of the functional (A) and the anatomical (B) image, usually in [0, 1].
    weights : Tensor of the same shape, or a sequence of ``levels + 1`` tensors, in [0, 1]
        1 takes B, 0 takes A. One full-resolution map is brought to every level; a sequence gives
        one map a level, finest first, base last.
    levels : int
        Number of band-pass levels above the base.
    kernel : {"binomial", "paper"}

    Returns
    -------
    Tensor of the shape of ``a``

    Raises
    ------
    ValueError
        If shapes disagree, or a weight is not a number or outside [0, 1].
    """
    maps = _weight_maps(a, b, weights, levels, kernel)
    bands_a = laplacian_pyramid(a, levels, kernel=kernel)
    bands_b = laplacian_pyramid(b, levels, kernel=kernel)
    return _blend_bands(bands_a, bands_b, maps, kernel)


def fuse_luminance(
    a: Tensor,
    b: Tensor,
    weights: Tensor | Sequence[Tensor],
    *,
    levels: int = 4,
    kernel: Kernel = "binomial",
) -> Fused:
    """Blend two images and return each source's exact contribution.

    Parameters, raises: as :func:`blend`.

    Returns
    -------
    Fused
        ``luminance`` is computed from the blended bands, ``from_a`` and ``from_b`` from the bands
        of one source alone; that they add up is therefore a check, not a definition.
    """
    maps = _weight_maps(a, b, weights, levels, kernel)
    bands_a = laplacian_pyramid(a, levels, kernel=kernel)
    bands_b = laplacian_pyramid(b, levels, kernel=kernel)
    return Fused(
        luminance=_blend_bands(bands_a, bands_b, maps, kernel),
        from_a=collapse([(1 - w) * x for w, x in zip(maps, bands_a, strict=True)], kernel=kernel),
        from_b=collapse([w * x for w, x in zip(maps, bands_b, strict=True)], kernel=kernel),
    )


def fuse_volume(
    a: Tensor,
    b: Tensor,
    weights: Tensor | Sequence[Tensor],
    *,
    levels: int = 4,
    kernel: Kernel = "binomial",
) -> Fused:
    """:func:`fuse_luminance` of a volume, a few slices at a time.

    No more than the low-pass levels is held beside sources and result, and the slices are shared
    out to all cores. Equal to the whole but for rounding; the slabs are the same on every machine.

    Parameters
    ----------
    a, b : (S, R, K) float
    weights : (S, R, K) float in [0, 1], or one such map a band
        Map k has ``ceil(n / 2^k)`` samples an axis, finest first, base last.
    levels, kernel : as in :func:`blend`
    """
    maps = _volume_maps(a, weights, levels, kernel)
    low_a, low_b = _low_passes(a, levels, kernel), _low_passes(b, levels, kernel)
    fused = _blend_level(low_a[levels:], low_b[levels:], maps[levels], None, kernel)
    for level in reversed(range(levels)):
        fused = _blend_level(low_a[level:], low_b[level:], maps[level], fused, kernel)
    return fused


def _volume_maps(
    a: Tensor, weights: Tensor | Sequence[Tensor], levels: int, kernel: Kernel
) -> list[Tensor]:
    given = [weights] if isinstance(weights, Tensor) else list(weights)
    for level in given:
        _check_range(level)
    if not isinstance(weights, Tensor):
        _check_levels(a[None, None], [level[None, None] for level in given], levels)
        return given
    return (_low_passes if kernel == "binomial" else _samples)(weights, levels, kernel)


def _low_passes(x: Tensor, levels: int, kernel: Kernel) -> list[Tensor]:
    out = [x]
    for _ in range(levels):
        fine = out[-1]
        out.append(_by_parts(_half(fine), partial(reduce_part, fine, kernel=kernel)))
    return out


def _samples(weights: Tensor, levels: int, kernel: Kernel) -> list[Tensor]:
    out = [weights]
    for _ in range(levels):
        half = _half(out[-1])
        out.append(_by_parts(half, partial(sample_part, weights, half.shape)))
    return out


def _half(fine: Tensor) -> Tensor:
    """Room for the next coarser level."""
    return empty([-(-n // 2) for n in fine.shape], fine.dtype, fine.device)


def _blend_level(
    a: Sequence[Tensor], b: Sequence[Tensor], w: Tensor, coarse: Fused | None, kernel: Kernel
) -> Fused:
    """The result at a level: its band, from the low-passes there and below, and what is coarser."""
    size = w.shape
    fused = Fused(*(empty(size, w.dtype, w.device) for _ in range(3)))

    def fill(part: slice) -> None:
        band_a, band_b, weight = a[0][part], b[0][part], w[part]
        lower: list[float] | list[Tensor] = [0.0, 0.0, 0.0]
        if coarse is not None:
            low_a, low_b, *lower = (
                expand_part(x, size, part, kernel=kernel)
                for x in (a[1], b[1], coarse.luminance, coarse.from_a, coarse.from_b)
            )
            band_a, band_b = band_a - low_a, band_b - low_b
        fused.luminance[part] = torch.lerp(band_a, band_b, weight) + lower[0]
        fused.from_a[part] = (1 - weight) * band_a + lower[1]
        fused.from_b[part] = weight * band_b + lower[2]

    share_out(fill, slabs(len(w)))
    return fused


def slabs(slices: int, size: int = SLAB) -> list[slice]:
    """A few slices at a time, of all."""
    return [slice(start, min(start + size, slices)) for start in range(0, slices, size)]


def _by_parts(out: Tensor, make: Callable[[slice], Tensor]) -> Tensor:
    def fill(part: slice) -> None:
        out[part] = make(part)

    share_out(fill, slabs(len(out)))
    return out


def local_bounds(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Lowest and highest value of either source in the voxel and its direct neighbours.

    Parameters
    ----------
    a, b : (N, 1, *spatial) float
        A neighbourhood has three voxels along every spatial axis; it ends at the border.

    Returns
    -------
    low, high : Tensor of the shape of ``a``
    """
    return (
        _spread(torch.minimum(a, b), torch.minimum),
        _spread(torch.maximum(a, b), torch.maximum),
    )


def overshoot(luminance: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """By how much a luminance leaves :func:`local_bounds`.

    Bands with different weights do that at edges: the fused luminance is a sum of blends, not a
    blend of the two values in a voxel.

    Parameters
    ----------
    luminance, a, b : (N, 1, *spatial) float

    Returns
    -------
    Tensor of the shape of ``a``
        Positive where brighter than everything nearby, negative where darker, else 0.
    """
    low, high = local_bounds(a, b)
    return luminance - torch.minimum(torch.maximum(luminance, low), high)


def bound_luminance(luminance: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Project a fused luminance into :func:`local_bounds`, the nearest picture without overshoot.

    Parameters
    ----------
    luminance, a, b : (N, 1, *spatial) float

    Returns
    -------
    bounded, change : Tensor of the shape of ``a``
        ``bounded == luminance + change``; what a source gave stays what it was, so that
        ``from_a + from_b + change`` accounts for every value.
    """
    low, high = local_bounds(a, b)
    bounded = torch.minimum(torch.maximum(luminance, low), high)
    return bounded, bounded - luminance


def _spread(x: Tensor, extreme: Callable[..., Tensor]) -> Tensor:
    """Extreme over three neighbours along every spatial axis; far faster than max_pool."""
    for axis in range(2, x.ndim):
        if (size := x.shape[axis]) > 1:
            out = x.clone()
            first, last = out.narrow(axis, 0, size - 1), out.narrow(axis, 1, size - 1)
            extreme(first, x.narrow(axis, 1, size - 1), out=first)
            extreme(last, x.narrow(axis, 0, size - 1), out=last)
            x = out
    return x


def _blend_bands(
    bands_a: Sequence[Tensor], bands_b: Sequence[Tensor], maps: Sequence[Tensor], kernel: Kernel
) -> Tensor:
    mixed = [torch.lerp(x, y, w) for x, y, w in zip(bands_a, bands_b, maps, strict=True)]
    return collapse(mixed, kernel=kernel)


def _weight_maps(
    a: Tensor, b: Tensor, weights: Tensor | Sequence[Tensor], levels: int, kernel: Kernel
) -> list[Tensor]:
    if a.shape != b.shape or a.ndim not in (4, 5) or a.shape[1] != 1:
        raise ValueError(
            "a and b must both be (N, 1, H, W) or (N, 1, H, W, D), "
            f"got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    if isinstance(weights, Tensor):
        if weights.shape != a.shape:
            raise ValueError(
                f"weights must have the shape of the sources {tuple(a.shape)}, "
                f"got {tuple(weights.shape)}"
            )
        maps = weight_pyramid(weights, levels, kernel=kernel)
        given = [weights]
    else:
        maps = given = list(weights)
        _check_levels(a, maps, levels)
    for level in given:
        _check_range(level)
    return maps


def _check_range(weights: Tensor) -> None:
    low, high = torch.aminmax(weights.detach())
    if not (low >= 0 and high <= 1):  # also false for NaN
        raise ValueError(f"weights must lie in [0, 1], got {low:.4g} to {high:.4g}")


def _check_levels(a: Tensor, maps: Sequence[Tensor], levels: int) -> None:
    if len(maps) != levels + 1:
        raise ValueError(f"expected {levels + 1} weight maps for {levels} levels, got {len(maps)}")
    size = list(a.shape[2:])
    for k, level in enumerate(maps):
        if list(level.shape) != [a.shape[0], 1, *size]:
            raise ValueError(
                f"weight map {k} must be {(a.shape[0], 1, *size)}, got {tuple(level.shape)}"
            )
        size = [-(-n // 2) for n in size]
