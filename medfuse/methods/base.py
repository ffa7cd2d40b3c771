"""The registry of methods: guides that choose weights for the fixed kernel, and painters.

A guide sees both luminances and answers with weights; it cannot paint a voxel. A painter makes the
luminance itself; painters are here to be compared, and the audit says what they painted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor


@dataclass(frozen=True)
class MethodInfo:
    """What a method is, for lists, cards and provenance."""

    name: str
    summary: str
    kind: str  # "rule", "guide" (learned weights) or "synthesis" (a network makes the pixels)
    parameters: int = 0
    levels: int = 4  # band-pass levels of the kernel; 0 blends single pixels
    maps: int = 1  # of weights: one for all bands, or one a band
    weights_sha256: str | None = None
    card: dict[str, Any] = field(default_factory=dict)


# What a guide answers with, and the kernel takes: one map (N, 1, H, W) for all bands, or one map a
# band, finest first, base last; map k is (N, 1, ceil(H / 2^k), ceil(W / 2^k)).
Weights = Tensor | Sequence[Tensor]


@runtime_checkable
class Method(Protocol):
    """A guide: two luminance images in, weights out."""

    @property
    def info(self) -> MethodInfo:
        """Name, kind and origin."""
        ...

    def weights(self, a: Tensor, b: Tensor) -> Weights:
        """Choose weights; several threads ask at the same time, for other slices.

        Parameters
        ----------
        a, b : (N, 1, H, W) float32 in [0, 1]
            Luminance of the functional (A) and the anatomical (B) image.

        Returns
        -------
        (N, 1, H, W) float32 in [0, 1], or one such map a band
            1 takes B, 0 takes A. ``info.levels + 1`` maps, each at the size of its pyramid level,
            where the guide weighs bands apart; see :data:`Weights`.
        """
        ...


@runtime_checkable
class Painter(Protocol):
    """A network that makes the fused luminance itself, ``info.kind == "synthesis"``."""

    @property
    def info(self) -> MethodInfo:
        """Name, kind and origin; ``levels`` is 0, no kernel is behind it."""
        ...

    def luminance(self, a: Tensor, b: Tensor) -> Tensor:
        """Paint; several threads ask at the same time, for other slices.

        Parameters
        ----------
        a, b : (N, 1, H, W) float32 in [0, 1]
            Luminance of the functional (A) and the anatomical (B) image.

        Returns
        -------
        (N, 1, H, W) float32 in [0, 1]
        """
        ...


@dataclass(frozen=True)
class Rule:
    """A guide without parameters: a formula of the two images."""

    name: str
    summary: str
    formula: Callable[[Tensor, Tensor], Weights]
    levels: int = 4
    maps: int = 1

    @property
    def info(self) -> MethodInfo:
        return MethodInfo(self.name, self.summary, "rule", levels=self.levels, maps=self.maps)

    @torch.inference_mode()
    def weights(self, a: Tensor, b: Tensor) -> Weights:
        return self.formula(a, b)


BF16 = "+bf16"

M = TypeVar("M", bound=Method | Painter)


def on_device(method: M, device: torch.device) -> M:
    """The method computed on a device; one that cannot be moved computes where its images lie."""
    move = getattr(method, "to", None)
    if move is None or getattr(method, "device", None) == device:
        return method
    moved: M = move(device)
    return moved


#: A method as the registry lists it: name, what makes it when it is first used, one-line summary.
Entry = tuple[str, Callable[[], Method | Painter], str]
