"""SSIM, MS-SSIM and VIF of pictures against fixed sources.

What depends on the sources alone is computed once, so that many results can be judged. Moments are
float64 where the constants ask for it: a variance is a small difference of large numbers. Once it
is known, float32 holds it, and the rest of the formula is float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from medfuse.evaluation.images import gaussian, smooth

_SSIM_TAPS = gaussian(11, 1.5)
_MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_VIF_NOISE = 2.0
_VIF_EPS = 1e-10


@dataclass(frozen=True)
class _Local:
    """A picture with its windowed means and variances."""

    image: Tensor
    mean: Tensor  # of the type of the image
    variance: Tensor  # float32

    def covariance(self, other: _Local, taps: tuple[float, ...]) -> Tensor:
        """Windowed covariance, float32."""
        return _spread(self.image * other.image, self.mean * other.mean, taps)


def _local(image: Tensor, taps: tuple[float, ...]) -> _Local:
    mean = smooth(image, taps)
    return _Local(image, mean, _spread(image * image, mean * mean, taps))


def _spread(product: Tensor, of_means: Tensor, taps: tuple[float, ...]) -> Tensor:
    return smooth(product, taps).sub_(of_means).float()


class Similarity:
    """SSIM and MS-SSIM against fixed sources.

    Gaussian window of 11 taps, sigma 1.5, no padding, population statistics, mean of the map.

    Parameters
    ----------
    sources : (S, N, H, W) float in [0, 255]
    constants : (float, float)
        C1 and C2. They decide the precision: with the tiny constants of the paper profile a
        variance of 1e-3 in a flat area counts, which float32 cannot tell from rounding.
    scales : int
        1 for SSIM alone, 5 for MS-SSIM too.

    References
    ----------
    Wang et al. 2004, IEEE Trans. Image Process. 13(4); Wang, Simoncelli, Bovik 2003 (MS-SSIM).
    """

    def __init__(self, sources: Tensor, constants: tuple[float, float], *, scales: int) -> None:
        self._c1, self._c2 = constants
        self._dtype = torch.float64 if self._c2 < 1 else torch.float32
        self._scales: list[_Local] = []
        image = sources.to(self._dtype)
        while len(self._scales) < scales and min(image.shape[-2:]) >= len(_SSIM_TAPS):
            self._scales.append(_local(image, _SSIM_TAPS))
            image = avg_pool2d(image, 2)

    def __call__(self, fused: Tensor) -> tuple[Tensor, Tensor]:
        """SSIM and MS-SSIM, (S, N) each, of ``fused`` (N, H, W); NaN where it is too small."""
        image = fused.to(self._dtype)
        full: list[Tensor] = []
        contrast: list[Tensor] = []
        for source in self._scales:
            similarity, structure = self._compare(source, image)
            full.append(similarity)
            contrast.append(structure)
            image = avg_pool2d(image, 2)
        count = len(self._scales[0].image) if self._scales else 2
        nothing = fused.new_full((count, len(fused)), torch.nan, dtype=torch.float64)
        if not full:
            return nothing, nothing
        if len(full) < len(_MS_SSIM_WEIGHTS):
            return full[0], nothing
        factors = [*contrast[:-1], full[-1]]
        powers = [x.clamp_min(0) ** w for x, w in zip(factors, _MS_SSIM_WEIGHTS, strict=True)]
        return full[0], torch.stack(powers).prod(dim=0)

    def _compare(self, source: _Local, image: Tensor) -> tuple[Tensor, Tensor]:
        fused = _local(image, _SSIM_TAPS)
        structure = source.covariance(fused, _SSIM_TAPS).mul_(2).add_(self._c2)
        structure /= (source.variance + fused.variance).add_(self._c2)
        own, other = source.mean.float(), fused.mean.float()
        luminance = (own * other).mul_(2).add_(self._c1)
        luminance /= (own * own + other * other).add_(self._c1)
        mean_structure = structure.mean(dim=(-2, -1), dtype=torch.float64)
        return (luminance.mul_(structure).mean(dim=(-2, -1), dtype=torch.float64), mean_structure)


class Fidelity:
    """Visual information fidelity in the pixel domain, four scales, against fixed sources.

    Parameters
    ----------
    sources : (S, N, H, W) float in [0, 255]
        Sides of at least 41 pixels; smaller pictures give NaN.
    where : (N, H, W) bool, optional
        Count information inside this region alone.

    Attributes
    ----------
    information : (S, N) float64
        What the sources hold, of which VIF is the part kept.

    References
    ----------
    Sheikh & Bovik 2006, IEEE Trans. Image Process. 15(2); their pixel-domain variant (vifp).
    """

    def __init__(self, sources: Tensor, *, where: Tensor | None = None) -> None:
        self._scales: list[tuple[tuple[float, ...], _Local, Tensor | None]] = []
        self.information = sources.new_zeros(sources.shape[:2], dtype=torch.float64)
        image = sources.double()
        for scale in range(1, 5):
            size = 2 ** (5 - scale) + 1
            taps = gaussian(size, size / 5)
            if scale > 1:
                image = smooth(image, taps, step=2)
                where = None if where is None else _inner(where, size)[..., ::2, ::2]
            if min(image.shape[-2:]) < size:
                self.information.fill_(torch.nan)
                self._scales.clear()
                break
            local = _local(image, taps)
            local.variance.clamp_(min=0)
            here = None if where is None else _inner(where, size)
            self._scales.append((taps, local, here))
            self.information += _total(torch.log10(1 + local.variance / _VIF_NOISE), here)

    def __call__(self, fused: Tensor) -> Tensor:
        """VIF, (S, N), of ``fused`` (N, H, W); NaN where the source holds no information."""
        image = fused.double()
        kept = torch.zeros_like(self.information)
        for scale, (taps, source, here) in enumerate(self._scales):
            if scale > 0:
                image = smooth(image, taps, step=2)
            kept += _total(_information_kept(source, image, taps), here)
        return kept / self.information


def _information_kept(source: _Local, image: Tensor, taps: tuple[float, ...]) -> Tensor:
    fused = _local(image, taps)
    own = source.variance
    other = fused.variance.clamp_(min=0).expand_as(own)
    shared = source.covariance(fused, taps)
    # The three exceptions of the reference code, in its order: flat source, flat result, contrast
    # turned round. In all of them nothing is kept, so only the gain has to be right.
    gain = shared / (own + _VIF_EPS)
    gain.masked_fill_((own < _VIF_EPS) | (other < _VIF_EPS), 0).clamp_(min=0)
    noise = torch.sub(other, gain * shared).clamp_(min=_VIF_EPS).add_(_VIF_NOISE)
    return gain.square_().mul_(own).div_(noise).add_(1).log10_()


def _inner(mask: Tensor, size: int) -> Tensor:
    """The part of a mask that a filter of ``size`` taps without padding leaves."""
    rim = size // 2
    return mask[..., rim : mask.shape[-2] - rim, rim : mask.shape[-1] - rim]


def _total(x: Tensor, where: Tensor | None) -> Tensor:
    x = x if where is None else x * where
    return x.sum(dim=(-2, -1), dtype=torch.float64)
