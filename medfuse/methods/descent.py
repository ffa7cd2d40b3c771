"""The descent guide: a few learned steps along the slope of what is asked of the picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from medfuse.kernel.pyramid import collapse, laplacian_pyramid
from medfuse.methods.bands import CLUES, band_clues, silent
from medfuse.methods.energy import bone_aware_weights, energy_logits
from medfuse.methods.objective import SourcePair, SourceWeights, source_loss

_FURTHEST = 4.6  # logit; weights start no nearer to 0 and 1 than a hundredth
_STATE = 3  # channels beside the clues: the slope, softly signed at two scales, and the logit
_NEAR, _FAR = 0.1, 3.0  # these scales, in root mean squares of the slope
_MOST = 64  # rounds, and channels of a hidden layer
_RATE = 0.8  # of the first steps, before anything is learned


class DescentNet(nn.Module):
    """Two luminances in, weights of every band out, by learned gradient steps on the very pair.

    The logits start at a formula, ``local-energy`` or ``ct-mri``. In each round the slope of the
    objective at the present weights is computed, and a 3 x 3 filter and a hidden layer turn it, the
    present logits and the clues of :class:`~medfuse.methods.bands.BandNet` into the next ones.
    Filters start as a plain step against the sign of the slope, hidden layers at zero, so training
    starts from a short fit (:mod:`medfuse.methods.fitted`) and learns where to go further.

    Parameters
    ----------
    wanted : mapping
        What is asked of the picture: fields of :class:`~medfuse.methods.objective.SourceWeights`.
    levels : int
        Band-pass levels of the kernel.
    rounds : int
        Steps.
    hidden : int
        Channels of the hidden layer of each level and round.
    start : {"local-energy", "ct-mri"}
        The formula.

    Shape
    -----
    (N, 2, H, W) in [-1, 1], A then B -> ``levels + 1`` maps (N, 1, ceil(H / 2^k), ceil(W / 2^k))
    in [0, 1]. A slice is solved alone, whatever stack it comes in.

    References
    ----------
    Andrychowicz et al., NIPS 2016, and Adler & Oktem, Inverse Problems 33 (2017), for learned
    gradient steps.
    """

    def __init__(
        self,
        wanted: Mapping[str, Any],
        levels: int = 4,
        rounds: int = 3,
        hidden: int = 16,
        start: str = "local-energy",
    ) -> None:
        super().__init__()
        if start not in _STARTS:
            raise ValueError(f"start must be one of {', '.join(_STARTS)}, got {start}")
        if not (1 <= rounds <= _MOST and 1 <= hidden <= _MOST):
            raise ValueError(f"rounds and hidden must be 1 to {_MOST}, got {rounds} and {hidden}")
        self.levels, self.start = levels, _STARTS[start]
        self.wanted = SourceWeights.model_validate(wanted)
        self.rounds = nn.ModuleList(
            nn.ModuleList(_Step(hidden) for _ in range(levels + 1)) for _ in range(rounds)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        clues = [clue.float() for clue in band_clues(x, self.levels)]
        a, b = x.detach().float().contiguous().mul(0.5).add(0.5).split(1, dim=1)
        slopes = _Slopes(a, b, self.wanted, self.levels)
        with torch.no_grad():
            logits = [y.clamp(-_FURTHEST, _FURTHEST) for y in self.start(a, b, self.levels)]
        for steps in self.rounds:
            assert isinstance(steps, nn.ModuleList)
            seen = zip(logits, slopes(logits), clues, strict=True)
            logits = [step(*one) for step, one in zip(steps, seen, strict=True)]
        return [logit.float().sigmoid() for logit in logits]


def _bone_logits(a: Tensor, b: Tensor, levels: int) -> list[Tensor]:
    return [w.clamp(1e-4, 1 - 1e-4).logit() for w in bone_aware_weights(a, b, levels)]


_STARTS = {"local-energy": energy_logits, "ct-mri": _bone_logits}


class _Step(nn.Module):
    """The next logits of one level."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        channels = CLUES + _STATE
        self.near = nn.Conv2d(channels, 1, 3, padding=1, padding_mode="replicate")
        self.look = nn.Sequential(
            nn.Conv2d(channels, hidden, 3, padding=1, padding_mode="replicate"),
            nn.ReLU(inplace=True),
            silent(hidden, 1),
        )
        with torch.no_grad():
            self.near.weight.zero_()
            self.near.weight[0, CLUES, 1, 1] = -_RATE
            assert self.near.bias is not None
            self.near.bias.zero_()

    def forward(self, logit: Tensor, signs: Tensor, clue: Tensor) -> Tensor:
        seen = torch.cat([clue, signs, logit / _FURTHEST], dim=1).to(self.near.weight.dtype)
        change: Tensor = self.near(seen) + self.look(seen)
        return logit + change.float()


class _Slopes:
    """Slopes of the objective of a batch, each slice alone, softly signed."""

    def __init__(self, a: Tensor, b: Tensor, wanted: SourceWeights, levels: int) -> None:
        with torch.inference_mode(False), torch.no_grad():
            a, b = a.clone(), b.clone()
            self.pairs = [SourcePair(a[k : k + 1], b[k : k + 1], wanted) for k in range(len(a))]
            of_a, of_b = laplacian_pyramid(a, levels), laplacian_pyramid(b, levels)
            self.bands = [(x, y - x) for x, y in zip(of_a, of_b, strict=True)]

    def __call__(self, logits: list[Tensor]) -> list[Tensor]:
        """(N, 2, ...) a level, in [-1, 1]."""
        with torch.inference_mode(False), torch.enable_grad():
            at = [y.detach().float().clone().requires_grad_() for y in logits]
            steps = zip(at, self.bands, strict=True)
            fused = collapse([x + y.sigmoid() * step for y, (x, step) in steps])
            losses = [
                source_loss(pair, fused[k : k + 1]).total for k, pair in enumerate(self.pairs)
            ]
            found = torch.autograd.grad(torch.stack(losses).sum(), at)
        return [_signs(slope) for slope in found]


def _signs(slope: Tensor) -> Tensor:
    usual = slope.square().mean((2, 3), keepdim=True).sqrt() + 1e-12
    return torch.cat([slope / (slope.abs() + scale * usual) for scale in (_NEAR, _FAR)], dim=1)
