"""Two sources and weights in, one luminance out, with the exact contribution of each source.

This is the only place where fused luminance is made, and it has no learned parameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medfuse.kernel.pyramid import Kernel, collapse, laplacian_pyramid, weight_pyramid


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
        low, high = torch.aminmax(level.detach())
        if not (low >= 0 and high <= 1):  # also false for NaN
            raise ValueError(f"weights must lie in [0, 1], got {low:.4g} to {high:.4g}")
    return maps


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
