"""unfolding: weights that solve a choose-max rule with learned trust in the second source.

After the idea of the TPAMI 2026 paper; not the authors' model. For every pixel of A (y) and B (z),

    E(x) = (x - y)^2 / 2  +  M+ relu(z - x)^2 / 2  +  M- relu(x - z)^2 / 2

has its minimum at ``y + w (z - y)`` with ``w = M / (1 + M)``, where M is M+ if B is brighter and M-
if it is darker. M- = 0 and M+ -> inf is the rule "the brighter source". The network chooses M+ and
M-, no pixel: the result is a blend of the two values in the pixel and stays between them.
"""

from __future__ import annotations

import threading

import torch
from torch import Tensor, nn
from torch.nn import functional

from medfuse.methods.base import MethodInfo
from medfuse.methods.equilibrium import TOLERANCE, Solution, solve
from medfuse.methods.network import NetworkGuide, pad_to_multiple

_SCALES = 3
_START = 3.0  # trust of an untrained network in a brighter B, and 1 / trust in a darker B


class UnfoldingNet(nn.Module):
    """Two luminances in, the weights of the solved rule out.

    The trust is estimated from the state of the iteration, ``refreshes`` times; then it is frozen
    and the fixed point is unique. An untrained network is a soft form of "the brighter source",
    with weights of 0.75 and 0.25.

    Parameters
    ----------
    channels : int
        Width of the network that chooses the trust.
    trust : float
        Largest M; weights reach ``trust / (1 + trust)``.
    refreshes : int
        How often the trust is estimated anew.

    Shape
    -----
    (N, 2, H, W) in [-1, 1], A then B -> (N, 1, H, W) in [0, trust / (1 + trust)], any H and W.

    References
    ----------
    Wang, Deng, Cao & Vivone, IEEE TPAMI 2026, doi 10.1109/TPAMI.2026.3655694 (the idea).
    """

    def __init__(self, channels: int = 16, *, trust: float = 99.0, refreshes: int = 3) -> None:
        super().__init__()
        self.trust, self.refreshes = trust, refreshes
        self.estimate = TrustNet(4, channels, 2)
        with torch.no_grad():
            start = torch.tensor([_START, 1 / _START]) / trust
            self.estimate.near.bias.copy_(start.logit())  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        y, z = _sources(x)
        return self._choose(y, z)[0]

    def solved(self, x: Tensor) -> tuple[Tensor, Solution]:
        """Weights as of :meth:`forward`, and the fixed point that the solver finds with them."""
        y, z = _sources(x)
        weights, state = self._choose(y, z)
        trust = weights / (1 - weights)
        return weights, solve(lambda s: descend(s, y, z, trust, trust, 1 / (1 + trust)), state)

    def _choose(self, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """The last weights, and the state that they were estimated from."""
        state, weights = y, torch.zeros_like(y)
        for refresh in range(self.refreshes):
            if refresh:
                # One step of 1 / (1 + M) in each pixel reaches the minimum for the present trust.
                state = torch.lerp(y, z, weights)
            seen = torch.cat([(z - state).abs(), y, z, weights], dim=1) * 2 - 1
            sure = self.estimate(seen.to(self.estimate.enter.weight.dtype)).float().sigmoid()
            plus, minus = (self.trust * sure).chunk(2, dim=1)
            trust = torch.where(z >= y, plus, minus)
            weights = trust / (1 + trust)
        return weights, state


def descend(
    x: Tensor, y: Tensor, z: Tensor, plus: Tensor, minus: Tensor, size: Tensor | float
) -> Tensor:
    """One gradient step on the energy of this module.

    Parameters
    ----------
    x : Tensor
        State.
    y, z : Tensor
        A and B.
    plus, minus : Tensor >= 0
        Trust in a brighter and in a darker B.
    size : Tensor or float in (0, 1 / (1 + M)]
        With M the largest trust this contracts distances by ``1 - size`` or more. With M the trust
        that acts in each pixel, one step from anywhere between y and z reaches the minimum.
    """
    difference = z - x
    slope = (x - y) - plus * difference.relu() + minus * (-difference).relu()
    return x - size * slope


class TrustNet(nn.Module):
    """A small U-shaped network on half, quarter and eighth of the resolution, with a skip.

    Parameters
    ----------
    inputs, channels, outputs : int

    Shape
    -----
    (N, inputs, H, W) -> (N, outputs, H, W), any H and W.

    References
    ----------
    Liu et al., CVPR 2022 (ConvNeXt blocks); Shi et al., CVPR 2016 (pixel shuffle).
    """

    def __init__(self, inputs: int, channels: int, outputs: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(4 * inputs, channels, 3, padding=1)
        self.scales = nn.ModuleList(
            nn.Sequential(_Block(channels), _Block(channels)) for _ in range(_SCALES)
        )
        self.join = nn.Conv2d(_SCALES * channels, channels, 1)
        self.leave = nn.Conv2d(channels, 4 * outputs, 3, padding=1)
        self.near = nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="replicate")
        for layer in (self.leave, self.near):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        padded = pad_to_multiple(x, 2**_SCALES)
        level = self.enter(functional.pixel_unshuffle(padded, 2))
        found = []
        for k, blocks in enumerate(self.scales):
            level = blocks(functional.avg_pool2d(level, 2) if k else level)
            found.append(functional.interpolate(level, scale_factor=float(2**k), mode="bilinear"))
        logits = self.leave(functional.gelu(self.join(torch.cat(found, dim=1))))
        near: Tensor = self.near(x)
        return near + functional.pixel_shuffle(logits, 2)[:, :, :height, :width]


class _Block(nn.Module):
    """Look around (7 x 7, each channel alone), then mix channels; added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.around = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.mix = nn.Sequential(
            nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        seen = self.around(x).permute(0, 2, 3, 1)
        mixed: Tensor = self.mix(self.norm(seen))
        return x + mixed.permute(0, 3, 1, 2)


class SolverLog:
    """What a solver reached on the slices since somebody last asked; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: list[tuple[int, float]] = []

    def add(self, solution: Solution) -> None:
        """Note iterations and residual of every sample."""
        found = zip(solution.iterations.tolist(), solution.residual.tolist(), strict=True)
        with self._lock:
            self._found.extend(found)

    def take(self) -> dict[str, int | float | bool]:
        """Summarise and forget; empty where nothing was solved."""
        with self._lock:
            found, self._found = self._found, []
        if not found:
            return {}
        iterations, residuals = zip(*found, strict=True)
        return {
            "slices": len(found),
            "iterations_max": max(iterations),
            "residual_max": max(residuals),
            "tolerance": TOLERANCE,
            "converged": max(residuals) <= TOLERANCE,
        }


class UnfoldingGuide(NetworkGuide):
    """unfolding as a method; the kernel blends single pixels with its weights.

    Parameters
    ----------
    net : UnfoldingNet
    info : MethodInfo
        ``levels`` must be 0 for the bounds to hold.
    """

    net: UnfoldingNet

    def __init__(self, net: UnfoldingNet, info: MethodInfo) -> None:
        super().__init__(net, info)
        self._log = SolverLog()

    def diagnostics(self) -> dict[str, int | float | bool]:
        """What the solver reached on the slices since the last call, which this call forgets.

        Returns
        -------
        dict
            ``slices``, ``iterations_max``, ``residual_max`` (relative, see
            :class:`medfuse.methods.equilibrium.Solution`), ``tolerance`` and ``converged``; empty
            where nothing was solved.
        """
        return self._log.take()

    def _run(self, x: Tensor) -> Tensor:
        weights, solution = self.net.solved(x)
        self._log.add(solution)
        return weights


def _sources(x: Tensor) -> tuple[Tensor, Tensor]:
    """A and B in [0, 1] of the input in [-1, 1]."""
    y, z = ((x.float() + 1) / 2).chunk(2, dim=1)
    return y, z
