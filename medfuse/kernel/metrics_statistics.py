"""Measures on gray values alone: EN, MI, SD, CC, SCD, MSE, PSNR."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medfuse.kernel.metrics_images import Picture, Profile

_LEVELS = 256


def entropy(picture: Picture, profile: Profile) -> Tensor:
    """EN in bits, (N,): of gray (``reference``), of all channels pooled (``paper``)."""
    values = picture.gray if profile == "reference" else picture.channels
    counts = _histogram(values.flatten(1).long(), _LEVELS)
    p = counts / counts.sum(dim=1, keepdim=True)
    if profile == "paper":
        return -(p * torch.log2(p + 1e-7)).sum(dim=1)
    return -torch.xlogy(p, p).sum(dim=1) / math.log(2)


def mutual_information(sources: Tensor, fused: Tensor) -> Tensor:
    """I(source; fused) in bits from 256 x 256 joint histograms of whole gray levels.

    Parameters
    ----------
    sources : (S, N, H, W) float in [0, 255]
    fused : (N, H, W) float in [0, 255]

    Returns
    -------
    (S, N) float64
    """
    pair = sources.long().mul_(_LEVELS).add_(fused.long()).flatten(2)
    joint = _histogram(pair.flatten(0, 1), _LEVELS**2).view(-1, _LEVELS, _LEVELS)
    total = joint[0].sum()
    # H(a) + H(f) - H(a, f), in counts: log2(n) - sum(c log2 c) / n for each of the three.
    marginal = _count_entropy(joint.sum(dim=2)) + _count_entropy(joint.sum(dim=1))
    own = _count_entropy(joint.flatten(1))
    information = torch.log2(total) - (marginal - own) / total
    return information.view(sources.shape[:2])


def _count_entropy(counts: Tensor) -> Tensor:
    return torch.xlogy(counts, counts).sum(dim=1) / math.log(2)


def _histogram(values: Tensor, bins: int) -> Tensor:
    """Counts, (N, bins) float64, of (N, M) whole numbers below ``bins``."""
    offset = torch.arange(len(values)).unsqueeze(1) * bins
    flat = (values + offset).flatten()
    return torch.bincount(flat, minlength=len(values) * bins).view(-1, bins).double()


class Correlation:
    """SD, CC, SCD, MSE and PSNR against fixed sources.

    Parameters
    ----------
    sources : (2, N, H, W) float in [0, 255]
        A and B.
    """

    def __init__(self, sources: Tensor) -> None:
        self._sources = sources.double().flatten(2)
        self._centred = _centre(self._sources)

    def __call__(self, fused: Tensor, profile: Profile) -> dict[str, Tensor]:
        """Values of ``fused`` (N, H, W) by name, each (N,); PSNR in dB, MSE for peak 1."""
        f = fused.double().flatten(1)
        mse = (f - self._sources).square().mean(dim=-1) / 255**2
        peak = 255.0 if profile == "paper" else 1.0
        out = {"SD": f.std(dim=1, correction=0)}
        out |= _with_terms("CC", _pearson(self._centred, _centre(f)), mean=True)
        # What is left of F without B must be like A, and the other way round.
        left = _centre(f - self._sources.flip(0))
        out["SCD"] = _pearson(self._centred, left).nan_to_num(nan=0.0).sum(dim=0)
        out |= _with_terms("MSE", mse, mean=True)
        for name in ("MSE", "MSE_A", "MSE_B"):
            out[name.replace("MSE", "PSNR")] = 10 * torch.log10(peak**2 / out[name])
        return out


def _with_terms(name: str, terms: Tensor, *, mean: bool = False) -> dict[str, Tensor]:
    whole = terms.mean(dim=0) if mean else terms.sum(dim=0)
    return {name: whole, f"{name}_A": terms[0], f"{name}_B": terms[1]}


def _centre(x: Tensor) -> Tensor:
    return x - x.mean(dim=-1, keepdim=True)


def _pearson(x: Tensor, y: Tensor) -> Tensor:
    norm = torch.sqrt((x * x).sum(dim=-1) * (y * y).sum(dim=-1))
    return torch.where(norm > 1e-12, (x * y).sum(dim=-1) / norm, torch.nan)
