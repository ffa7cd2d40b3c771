"""Measures on gray values alone: EN, MI, SD, CC, SCD, MSE, PSNR."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medfuse.evaluation.images import Picture, Profile

_LEVELS = 256


def entropy(picture: Picture, profile: Profile) -> Tensor:
    """EN in bits, (N,): of gray (``reference``), of all channels pooled (``paper``)."""
    values = picture.gray if profile == "reference" else picture.channels
    counts = _histogram(values.flatten(1).long(), _LEVELS)
    p = counts / counts.sum(dim=1, keepdim=True)
    if profile == "paper":
        return -(p * torch.log2(p + 1e-7)).sum(dim=1)
    return -torch.xlogy(p, p).sum(dim=1) / math.log(2)


class Information:
    """MI: mutual information in bits, from 256 x 256 joint histograms of whole gray levels.

    Parameters
    ----------
    sources : (S, N, H, W) float in [0, 255]
    """

    def __init__(self, sources: Tensor) -> None:
        self._rows = sources.long().mul_(_LEVELS)
        # c log2 c of every count that can occur: H = log2 n - sum(c log2 c) / n.
        most = sources[0, 0].numel()
        counts = torch.arange(most + 1, dtype=torch.float64, device=sources.device)
        self._terms = torch.xlogy(counts, counts) / math.log(2)

    def __call__(self, fused: Tensor) -> Tensor:
        """I(source; fused), (S, N), of ``fused`` (N, H, W)."""
        cells = (self._rows + fused.long()).flatten(2).flatten(0, 1)
        joint = _histogram(cells, _LEVELS**2).view(-1, _LEVELS, _LEVELS)
        marginals = self._sum(joint.sum(dim=2)) + self._sum(joint.sum(dim=1))
        pixels = len(self._terms) - 1
        information = math.log2(pixels) - (marginals - self._sum(joint.flatten(1))) / pixels
        return information.view(self._rows.shape[:2])

    def _sum(self, counts: Tensor) -> Tensor:
        return self._terms[counts].sum(dim=1)


def _histogram(values: Tensor, bins: int) -> Tensor:
    """Counts, (N, bins) int64, of (N, M) whole numbers below ``bins``."""
    offset = torch.arange(len(values), device=values.device).unsqueeze(1) * bins
    flat = (values + offset).flatten()
    return torch.bincount(flat, minlength=len(values) * bins).view(-1, bins)


class Correlation:
    """SD, CC, SCD, MSE and PSNR against fixed sources.

    All of them follow from means and inner products, so a result is read once.

    Parameters
    ----------
    sources : (2, N, H, W) float in [0, 255]
        A and B.
    """

    def __init__(self, sources: Tensor) -> None:
        self._mean, self._centred = _centre(sources)
        self._power = _dot(self._centred, self._centred)
        self._shared = _dot(self._centred[0], self._centred[1])

    def __call__(self, fused: Tensor, profile: Profile) -> dict[str, Tensor]:
        """Values of ``fused`` (N, H, W) by name, each (N,); PSNR in dB, MSE for peak 1."""
        mean, centred = _centre(fused)
        power, product = _dot(centred, centred), _dot(self._centred, centred)
        both = power + self._power
        left = both - 2 * product  # |F - X|^2, in which rounding must not pass for a difference
        left = torch.where(left > 1e-12 * both, left, 0)
        pixels = centred.shape[-1]
        mse = (left / pixels + (mean - self._mean) ** 2) / 255**2
        out = {"SD": torch.sqrt(power / pixels)}
        out |= _with_terms("CC", product / torch.sqrt(power * self._power))
        # What is left of F without B must be like A, and the other way round; an exact copy of B
        # leaves nothing, which is like nothing.
        norm = torch.sqrt(left.flip(0) * self._power)
        out["SCD"] = torch.where(norm > 0, (product - self._shared) / norm, 0).sum(dim=0)
        out |= _with_terms("MSE", mse)
        peak = 255.0 if profile == "paper" else 1.0
        for name in ("MSE", "MSE_A", "MSE_B"):
            out[name.replace("MSE", "PSNR")] = 10 * torch.log10(peak**2 / out[name])
        return out


def _with_terms(name: str, terms: Tensor) -> dict[str, Tensor]:
    return {name: terms.mean(dim=0), f"{name}_A": terms[0], f"{name}_B": terms[1]}


def _centre(x: Tensor) -> tuple[Tensor, Tensor]:
    """Means (...) and centred pixels (..., H * W), float64, of (..., H, W)."""
    flat = x.double().flatten(-2)
    mean = flat.mean(dim=-1, keepdim=True)
    return mean.squeeze(-1), flat - mean


def _dot(x: Tensor, y: Tensor) -> Tensor:
    out: Tensor = torch.linalg.vecdot(x, y)
    return out
