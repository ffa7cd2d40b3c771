"""Guides without parameters: the baselines that every learned guide must beat."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from medfuse.kernel.pyramid import expand, gaussian_pyramid
from medfuse.methods.base import Entry, Method, Rule
from medfuse.methods.energy import LEVELS, bone_aware_weights, energy_logits
from medfuse.methods.fitted import KEEP_BONE, FittedGuide


def _mean(a: Tensor, b: Tensor) -> Tensor:
    return torch.full_like(b, 0.5)


def _maximum(a: Tensor, b: Tensor) -> Tensor:
    return (b > a).to(b.dtype)


def _anatomical(a: Tensor, b: Tensor) -> Tensor:
    return torch.ones_like(b)


def _saliency(a: Tensor, b: Tensor) -> Tensor:
    """Local energy of detail: B's part of the smoothed squared deviation from the local mean."""
    energy_a, energy_b = _local_energy(a), _local_energy(b)
    return (energy_b + 1e-6) / (energy_a + energy_b + 2e-6)


def _local_energy(x: Tensor) -> Tensor:
    detail = x - _blur(x, 2)
    return _blur(detail.square(), 2).clamp_min(0)


def _blur(x: Tensor, levels: int) -> Tensor:
    pyramid = gaussian_pyramid(x, levels)
    out = pyramid[-1]
    for finer in reversed(pyramid[:-1]):
        out = expand(out, finer.shape[2:])
    return out


def _local_energy_per_band(a: Tensor, b: Tensor) -> list[Tensor]:
    return [logit.sigmoid() for logit in energy_logits(a, b, LEVELS)]


LOCAL_ENERGY = Rule(
    "local-energy",
    "in every band the source with more energy there, softly",
    _local_energy_per_band,
    levels=LEVELS,
    maps=LEVELS + 1,
)
RULES = (
    Rule("mean", "half of each source", _mean),
    Rule("max", "the brighter source, voxel by voxel", _maximum, levels=0),
    Rule("anatomical-luma", "the anatomical image as luminance, no network", _anatomical),
    Rule("saliency", "the source with more local detail energy", _saliency),
    LOCAL_ENERGY,
    Rule(
        "ct-mri",
        "bone from the CT, brightness from the MRI, detail by energy; CT in -160 to 240 HU",
        bone_aware_weights,
        levels=LEVELS,
        maps=LEVELS + 1,
    ),
)


FITTED = (
    FittedGuide(
        "fitted",
        "weights per band fitted to the very pair so that both are kept; about 0.1 s a slice",
        start=LOCAL_ENERGY,
    ),
    FittedGuide(
        "fitted-ct",
        "the same for CT in a soft-tissue window over MRI: bone stays white",
        start=LOCAL_ENERGY,
        wanted=KEEP_BONE,
    ),
)


def catalogue() -> Iterator[Entry]:
    """The rules, and the fits that start from one, for the registry."""
    for method in (*RULES, *FITTED):
        yield method.name, partial(_same, method), method.summary


def _same(method: Method) -> Method:
    return method
