"""Sums and extremes over all voxels, gathered slab by slab so that nothing large is made."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from medfuse.audit.model import GREY_LEVEL, Evidence
from medfuse.kernel import blend
from medfuse.kernel.sources import count_by_slice

SLAB = 4  # slices at a time stay in the cache of a core
BINS = 1024  # of functional values, for the share by region
PATCH = 16  # voxels a side over which overshoot is averaged


@dataclass
class Excess:
    """How many values are beyond a grey level, and the largest."""

    count: int = 0
    largest: float = 0.0

    def add(self, change: Tensor) -> None:
        self.count += int(torch.count_nonzero(change > GREY_LEVEL))
        self.largest = max(self.largest, float(change.max()))


@dataclass
class Sums:
    """What the checks of single voxels need.

    ``voxels``, ``covered``: numbers; ``residual``: largest gap of the decomposition; ``values``
    and ``shares`` (BINS,): covered voxels and sum of their share by functional value;
    ``slice_share``: mean share of the covered voxels by slice.
    """

    voxels: int = 0
    covered: int = 0
    residual: float = 0.0
    weight_low: float = 1.0
    weight_high: float = 0.0
    weight_sum: float = 0.0
    bad: int = 0
    beyond: Excess = field(default_factory=Excess)
    beyond_local: Excess = field(default_factory=Excess)
    patch: float = 0.0
    bounded: Excess = field(default_factory=Excess)
    painted: Excess = field(default_factory=Excess)
    painted_sum: float = 0.0
    gamut: Excess = field(default_factory=Excess)
    chroma: Excess = field(default_factory=Excess)
    values: Tensor = field(default_factory=lambda: torch.zeros(BINS, dtype=torch.int64))
    shares: Tensor = field(default_factory=lambda: torch.zeros(BINS, dtype=torch.float64))
    slice_share: list[float] = field(default_factory=list)


def gather(e: Evidence) -> Sums:
    """Go through the evidence once."""
    sums = Sums()
    for part in slabs(e):
        _add_decomposition(sums, e, part)
        _add_overshoot(sums, e, part)
        _add_colour(sums, e, part)
        _add_share(sums, e, part)
        sums.voxels += e.a[part].numel()
    return sums


def slabs(e: Evidence) -> list[slice]:
    """A few slices at a time."""
    return blend.slabs(len(e.a), SLAB)


def uptake(e: Evidence, part: slice) -> Tensor:
    """Functional values of a slab in their window, (n, 1, R, K) in [0, 1]; luminance of RGB."""
    functional = e.functional
    if functional is None or functional.values.shape[1] != 1:
        return e.a[part]
    low, high = functional.window or (0.0, 1.0)
    return torch.sub(functional.values[part], low).div_(high - low).clamp_(0, 1).nan_to_num_(0)


def _add_decomposition(sums: Sums, e: Evidence, part: slice) -> None:
    luminance = e.luminance[part]
    sums.bad += _count_bad(luminance) + _count_bad(e.rgb[part])
    if e.weights is not None:
        weights = e.weights[part]
        low, high = torch.aminmax(weights)
        sums.weight_low = _min(sums.weight_low, float(low))
        sums.weight_high = _max(sums.weight_high, float(high))
        sums.weight_sum += float(weights.sum())
        sums.bad += _count_bad(weights)
    if e.painted is not None:
        painted = e.painted[part].abs()
        sums.painted.add(painted)
        sums.painted_sum += float(painted.sum(dtype=torch.float64))
    elif e.from_a is not None and e.from_b is not None:
        residual = torch.sub(luminance, e.from_a[part]).sub_(e.from_b[part])
        if e.bound_change is not None:
            residual.sub_(e.bound_change[part])
        sums.residual = _max(sums.residual, float(residual.abs_().max()))


def _add_overshoot(sums: Sums, e: Evidence, part: slice) -> None:
    a, b, luminance = e.a[part], e.b[part], e.luminance[part]
    within = torch.minimum(torch.maximum(luminance, torch.minimum(a, b)), torch.maximum(a, b))
    sums.beyond.add(within.sub_(luminance).abs_())
    if e.overshoot is not None:
        excess = e.overshoot[part].abs()
        sums.beyond_local.add(excess)
        size = [min(PATCH, n) for n in excess.shape[-2:]]
        steps = [max(1, n // 2) for n in size]
        sums.patch = max(sums.patch, float(avg_pool2d(excess, size, steps).max()))
    if e.bound_change is not None:
        sums.bounded.add(e.bound_change[part].abs())


def _add_colour(sums: Sums, e: Evidence, part: slice) -> None:
    if e.gamut_change is not None:
        sums.gamut.add(e.gamut_change[part])
    if e.chroma_change is not None:
        sums.chroma.add(e.chroma_change[part])


def _add_share(sums: Sums, e: Evidence, part: slice) -> None:
    if e.share is None:
        return
    share = e.share[part]
    index = uptake(e, part).mul(BINS - 1).round_().long()
    if e.coverage is None:
        counts = torch.full((len(share),), share[0].numel())
    else:
        inside = e.coverage[part]
        index.masked_fill_(~inside, BINS)  # one bin more, dropped below
        share = share * inside
        counts = count_by_slice(inside)
    flat = index.flatten()
    sums.values += torch.bincount(flat, minlength=BINS)[:BINS]
    sums.shares += torch.bincount(flat, share.flatten().double(), minlength=BINS)[:BINS]
    sums.slice_share += (share.sum((1, 2, 3)) / counts.clamp_min(1)).tolist()
    sums.covered += int(counts.sum())


def _min(old: float, new: float) -> float:
    return new if new < old or new != new else old  # a NaN wins and stays, so that it is seen


def _max(old: float, new: float) -> float:
    return new if new > old or new != new else old


def _count_bad(x: Tensor) -> int:
    """NaN or infinite values; the sum tells cheaply that there are none."""
    return 0 if bool(torch.isfinite(x.sum())) else int((~torch.isfinite(x)).sum())
