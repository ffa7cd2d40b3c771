"""A guide whose weights the user shifts toward one source."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from medfuse.methods.base import Method, MethodInfo


@dataclass(frozen=True)
class BiasedGuide:
    """Shift the weights of a guide; they stay in [0, 1].

    ``w + bias (1 - w)`` for a bias toward the anatomical image, ``w (1 + bias)`` toward the
    functional one; ±1 takes one source alone, 0 changes nothing.

    Parameters
    ----------
    guide : Method
    bias : float in [-1, 1]
        Recorded in the card, hence in the provenance.
    """

    guide: Method
    bias: float

    def __post_init__(self) -> None:
        if not -1 <= self.bias <= 1:
            raise ValueError(f"the weight bias must lie in [-1, 1], got {self.bias:g}")

    @property
    def info(self) -> MethodInfo:
        """As the guide's own, with the bias in the card."""
        info = self.guide.info
        return replace(info, card={**info.card, "weight_bias": self.bias})

    @torch.inference_mode()
    def weights(self, a: Tensor, b: Tensor) -> Tensor:
        """Weights of the guide, shifted; (N, 1, H, W) in [0, 1]."""
        weights = self.guide.weights(a, b)
        return shift_weights(weights, self.bias)


@dataclass(eq=False)
class RememberingGuide:
    """A guide that answers the same question only once; for sliders that change what follows."""

    guide: Method
    _asked: tuple[Tensor, Tensor] | None = None
    _answer: Tensor | None = None

    @property
    def info(self) -> MethodInfo:
        """As the guide's own."""
        return self.guide.info

    def weights(self, a: Tensor, b: Tensor) -> Tensor:
        """Weights of the guide; (N, 1, H, W) in [0, 1]."""
        same = self._asked is not None and all(
            torch.equal(x, y) for x, y in zip(self._asked, (a, b), strict=True)
        )
        if not same or self._answer is None:
            self._asked, self._answer = (a.clone(), b.clone()), self.guide.weights(a, b)
        return self._answer


def shift_weights(weights: Tensor, bias: float) -> Tensor:
    """Move weights in [0, 1] toward 1 (bias > 0) or 0 (bias < 0)."""
    if bias >= 0:
        return torch.lerp(weights, torch.ones_like(weights), bias)
    return weights * (1 + bias)
