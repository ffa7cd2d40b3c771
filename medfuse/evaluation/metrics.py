"""Fusion metrics of whole batches, in two profiles.

``reference`` is correct; ``paper`` repeats the published code, slips included, so that published
tables can be compared. Definitions, ranges and differences: docs/metrics.md.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import torch
from torch import Tensor

from medfuse.evaluation.gradient import (
    Artifacts,
    EdgeTransfer,
    average_gradient,
    spatial_frequency,
)
from medfuse.evaluation.images import PROFILES, Picture, Profile, prepare
from medfuse.evaluation.statistics import Correlation, Information, entropy
from medfuse.evaluation.structure import Fidelity, Similarity
from medfuse.evaluation.uptake import Uptake

__all__ = ["CHUNK_PIXELS", "METRICS", "PROFILES", "Judge", "Metric", "Profile", "compute"]

# About what stays in a core's cache while it is judged: larger batches are cut into such chunks.
CHUNK_PIXELS: Final = 4 * 256 * 256

_SSIM_CONSTANTS = {"reference": (6.5025, 58.5225), "paper": (1e-4, 9e-4)}


@dataclass(frozen=True)
class Metric:
    """What a metric is: the text of tables."""

    text: str
    better: str  # "higher", "lower" or "" where neither is
    terms: bool = False  # has a value for each source, NAME_A and NAME_B
    alone: bool = False  # looks at the result only


METRICS: Final[dict[str, Metric]] = {
    "VIF": Metric("visual information fidelity, sum over the sources", "higher", terms=True),
    "Qabf": Metric("edges transferred from the sources", "higher", terms=True),
    "SSIM": Metric("structural similarity, sum over the sources", "higher", terms=True),
    "MS-SSIM": Metric("SSIM over five scales, sum over the sources", "higher", terms=True),
    "MI": Metric("mutual information, bits, sum over the sources", "higher", terms=True),
    "CC": Metric("correlation, mean over the sources", "higher", terms=True),
    "SCD": Metric("sum of correlations of differences", "higher"),
    "PSNR": Metric("peak signal to noise ratio, dB", "higher", terms=True),
    "MSE": Metric("mean squared error, mean over the sources", "lower", terms=True),
    "Nabf": Metric("edges that no source has", "lower"),
    "EN": Metric("entropy, bits", "", alone=True),
    "SD": Metric("standard deviation of gray", "", alone=True),
    "AG": Metric("average gradient", "", alone=True),
    "SF": Metric("spatial frequency", "", alone=True),
    "uptake_correlation": Metric("rank correlation of A with the result where A is", "higher"),
    "hot_spot_share": Metric("weight of A in its hottest 5 %", "higher"),
    "lesion_contrast": Metric("contrast of the hot spot that is left", "higher"),
}


def compute(
    a: Tensor,
    b: Tensor,
    fused: Tensor,
    *,
    profile: Profile,
    only: Collection[str] | None = None,
    uptake: Tensor | None = None,
    lesion: Tensor | None = None,
) -> dict[str, Tensor]:
    """Judge fused pictures against their two sources.

    Parameters
    ----------
    a, b, fused : (N, 1, H, W) or (N, 3, H, W) float in [0, 1]
        Functional (A, usually coloured), anatomical (B) and fused pictures; judged on the CPU.
    profile : {"reference", "paper"}
    only : names of :data:`METRICS`, optional
        Compute these alone; all if not given.
    uptake : (N, 1, H, W) float in [0, 1], optional
        The scalar behind A's colours; A's luminance if not given.
    lesion : (N, 1, H, W) bool, optional
        Lesion of ``lesion_contrast``; the hottest 5 % of A if not given.

    Returns
    -------
    dict of str to (N,) float64
        In the order of :data:`METRICS`, per-source terms (``VIF_A``, ``VIF_B``) behind their sum.
        NaN where undefined: everything that needs a source without contrast, VIF below 41 pixels,
        SSIM below 11, MS-SSIM below 176.

    Raises
    ------
    ValueError
        If shapes disagree, a name or the profile is unknown, or a value is not finite.
    """
    _check_sizes(a, b=b, fused=fused, uptake=uptake, lesion=lesion)
    step = max(1, CHUNK_PIXELS // max(1, math.prod(a.shape[2:])))
    parts = []
    for start in range(0, max(1, len(a)), step):
        part = slice(start, start + step)
        judge = Judge(
            a[part],
            b[part],
            profile=profile,
            only=only,
            uptake=None if uptake is None else uptake[part],
            lesion=None if lesion is None else lesion[part],
        )
        parts.append(judge(fused[part]))
    return {name: torch.cat([values[name] for values in parts]) for name in parts[0]}


class Judge:
    """Two sources, prepared once, against which any number of results is judged.

    Parameters, raises: as :func:`compute`.
    """

    def __init__(
        self,
        a: Tensor,
        b: Tensor,
        *,
        profile: Profile,
        only: Collection[str] | None = None,
        uptake: Tensor | None = None,
        lesion: Tensor | None = None,
    ) -> None:
        self._profile = profile
        self._only = _wanted(only)
        self._a, self._b = prepare(a, profile), prepare(b, profile)
        _check_sizes(a, b=b, uptake=uptake, lesion=lesion)
        self._uptake_scalar = None if uptake is None else uptake[:, 0].detach().to(a.device)
        self._lesion = None if lesion is None else lesion[:, 0].to(a.device)
        self._sources = torch.stack([self._a.gray, self._b.gray])
        self._blank = self._sources.amax(dim=(2, 3)) == self._sources.amin(dim=(2, 3))

    @property
    def blank(self) -> Tensor:
        """Pairs of which a source has no contrast, (N,) bool."""
        return self._blank.any(dim=0)

    @torch.no_grad()
    def __call__(self, fused: Tensor) -> dict[str, Tensor]:
        """Values of ``fused`` (N, 1 or 3, H, W) in [0, 1] by name, each (N,) float64."""
        _check_sizes(self._a.channels, fused=fused)
        picture = prepare(fused, self._profile)
        values: dict[str, Tensor] = {}
        for names, family in _FAMILIES:
            if self._only & names:
                values |= family(self, picture)
        out = {}
        for name in _columns(self._only):
            value = values[name].double()
            out[name] = value.masked_fill(self._undefined(name), torch.nan)
        return out

    def _undefined(self, name: str) -> Tensor:
        if name in METRICS:
            return self.blank & (not METRICS[name].alone)
        return self._blank["AB".index(name[-1])]

    @cached_property
    def _fidelity(self) -> Fidelity:
        return Fidelity(self._sources)

    @cached_property
    def _similarity(self) -> Similarity:
        scales = 5 if "MS-SSIM" in self._only else 1
        return Similarity(self._sources, _SSIM_CONSTANTS[self._profile], scales=scales)

    @cached_property
    def _edges(self) -> EdgeTransfer:
        return EdgeTransfer(self._sources, profile=self._profile)

    @cached_property
    def _artifacts(self) -> Artifacts:
        return Artifacts(self._sources, profile=self._profile)

    @cached_property
    def _information(self) -> Information:
        return Information(self._sources)

    @cached_property
    def _correlation(self) -> Correlation:
        return Correlation(self._sources)

    @cached_property
    def _uptake(self) -> Uptake:
        scalar = self._a.luminance if self._uptake_scalar is None else self._uptake_scalar
        return Uptake(scalar, self._b.luminance, lesion=self._lesion)

    def _judge_information(self, picture: Picture) -> dict[str, Tensor]:
        return _summed("MI", self._information(picture.gray))

    def _judge_fidelity(self, picture: Picture) -> dict[str, Tensor]:
        return _summed("VIF", self._fidelity(picture.gray))

    def _judge_similarity(self, picture: Picture) -> dict[str, Tensor]:
        ssim, ms_ssim = self._similarity(picture.gray)
        return _summed("SSIM", ssim) | _summed("MS-SSIM", ms_ssim)

    def _judge_edges(self, picture: Picture) -> dict[str, Tensor]:
        whole, terms = self._edges(picture.gray)
        return {"Qabf": whole, "Qabf_A": terms[0], "Qabf_B": terms[1]}

    def _judge_artifacts(self, picture: Picture) -> dict[str, Tensor]:
        return {"Nabf": self._artifacts(picture.gray)}

    def _judge_correlation(self, picture: Picture) -> dict[str, Tensor]:
        return self._correlation(picture.gray, self._profile)

    def _judge_picture(self, picture: Picture) -> dict[str, Tensor]:
        return {
            "EN": entropy(picture, self._profile),
            "AG": average_gradient(picture.gray),
            "SF": spatial_frequency(picture, self._profile),
        }

    def _judge_uptake(self, picture: Picture) -> dict[str, Tensor]:
        return self._uptake(picture.luminance)


_FAMILIES = (
    ({"VIF"}, Judge._judge_fidelity),
    ({"SSIM", "MS-SSIM"}, Judge._judge_similarity),
    ({"Qabf"}, Judge._judge_edges),
    ({"MI"}, Judge._judge_information),
    ({"CC", "SCD", "SD", "MSE", "PSNR"}, Judge._judge_correlation),
    ({"Nabf"}, Judge._judge_artifacts),
    ({"EN", "AG", "SF"}, Judge._judge_picture),
    ({"uptake_correlation", "hot_spot_share", "lesion_contrast"}, Judge._judge_uptake),
)


def _check_sizes(a: Tensor, **others: Tensor | None) -> None:
    """All pictures must be as many and as large as ``a``; channels may differ."""
    for name, other in others.items():
        if other is not None and (len(other), *other.shape[2:]) != (len(a), *a.shape[2:]):
            raise ValueError(f"{name} is {tuple(other.shape)} where a is {tuple(a.shape)}")


def _wanted(only: Collection[str] | None) -> frozenset[str]:
    names = frozenset(METRICS if only is None else only)
    unknown = names - METRICS.keys()
    if unknown:
        raise ValueError(
            f"unknown metric {', '.join(sorted(unknown))}; choose from {', '.join(METRICS)}"
        )
    return names


def _columns(names: Collection[str]) -> list[str]:
    out = []
    for name, metric in METRICS.items():
        if name in names:
            out += [name, f"{name}_A", f"{name}_B"] if metric.terms else [name]
    return out


def _summed(name: str, terms: Tensor) -> dict[str, Tensor]:
    return {name: terms.sum(dim=0), f"{name}_A": terms[0], f"{name}_B": terms[1]}
