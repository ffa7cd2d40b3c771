"""unfolding-features: the same rule in a learned feature space; a network paints the result.

After the idea of the TPAMI 2026 paper; not the authors' model. Features Y of A and Z of B, and

    X  <-  X / 2  +  (keep(X) + inject(Y) + m * lift(relu(Z - X))) / 2

with a mask m in (0, 1) that is estimated from the state and then frozen. ``keep`` and ``lift`` are
bounded so that the frozen map contracts: it has one fixed point, which a solver finds.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from medfuse.methods.base import MethodInfo
from medfuse.methods.equilibrium import Backward, Solution, equilibrium
from medfuse.methods.network import check_pair, network_input
from medfuse.methods.unfolding import SolverLog, TrustNet

_KEEP, _LIFT = 0.45, 0.5  # Lipschitz bounds; their sum below 1 makes the map contract
_REFRESHES = 3
_ROUGH = {"tolerance": 1e-3, "limit": 15}  # while training


class FeatureNet(nn.Module):
    """Two luminances in, a fused luminance out.

    Parameters
    ----------
    channels : int
        Width of the feature space.
    backward : {"phantom", "implicit"}
        How gradients pass the fixed point.

    Shape
    -----
    (N, 2, H, W) in [-1, 1], A then B -> (N, 1, H, W), about [0, 1] but not clipped; any H and W.

    References
    ----------
    Wang, Deng, Cao & Vivone, IEEE TPAMI 2026, doi 10.1109/TPAMI.2026.3655694 (the idea).
    """

    def __init__(self, channels: int = 16, *, backward: Backward = "phantom") -> None:
        super().__init__()
        self.backward = backward
        self.encoders = nn.ModuleList(
            nn.Sequential(_conv(1, channels), _Residual(channels)) for _ in range(2)
        )
        self.decoder = nn.Sequential(_Residual(channels), _conv(channels, 1))
        self.inject = _conv(channels, channels)
        self.keep = BoundedConv(channels, channels, _KEEP)
        self.lift = nn.Sequential(
            BoundedConv(channels, 2 * channels, _LIFT),
            nn.ReLU(),
            BoundedConv(2 * channels, channels, 1.0),
        )
        self.mask = TrustNet(channels + 1, channels, 1)
        # Both sources start in the same feature space, and the map as a soft maximum of the two.
        self.encoders[1].load_state_dict(self.encoders[0].state_dict())
        nn.init.dirac_(self.inject.weight)
        with torch.no_grad():
            self.inject.weight.mul_(1 - _KEEP)

    def forward(self, x: Tensor) -> Tensor:
        return self.solved(x)[0]

    def solved(self, x: Tensor) -> tuple[Tensor, Solution]:
        """The picture as of :meth:`forward`, and what the solver reached."""
        step, start = self.frozen(x)
        accuracy = _ROUGH if self.training else {}
        state, solution = equilibrium(step, start, backward=self.backward, **accuracy)  # type: ignore[arg-type]
        return self.decoder(state), solution

    def frozen(self, x: Tensor) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        """The map to solve, its mask estimated and frozen, and the state to start from."""
        y, z = self.encode(x)
        injected = self.inject(y)
        state, mask = y, torch.zeros_like(y[:, :1])

        def step(state: Tensor) -> Tensor:
            risen = mask * self.lift((z - state).relu())
            moved: Tensor = state + self.keep(state) + injected + risen
            return moved / 2

        for _ in range(_REFRESHES):
            mask = self.mask(torch.cat([(z - state).relu(), mask], dim=1)).sigmoid()
            state = step(state)
        return step, state

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features of A and of B."""
        a, b = ((x + 1) / 2).chunk(2, dim=1)
        return self.encoders[0](a), self.encoders[1](b)


class BoundedConv(nn.Conv2d):
    """A 3 x 3 convolution that stretches no difference of two inputs by more than ``bound``.

    Each of its nine taps shifts the image and mixes the channels by a matrix, so its norm is at
    most the sum of the norms of these matrices. Borders are zero, which the bound needs. It starts
    as ``bound`` times the image.
    """

    def __init__(self, inputs: int, outputs: int, bound: float) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=False)
        self.bound = bound
        nn.init.dirac_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        norm = torch.linalg.matrix_norm(self.weight.permute(2, 3, 0, 1), 2).sum()
        weight = self.weight * (self.bound / norm.clamp_min(self.bound))
        return functional.conv2d(x, weight, padding=1)


class FeaturePainter:
    """unfolding-features as a method.

    Parameters
    ----------
    net : FeatureNet
        Taken over: switched to evaluation, laid out as channels-last.
    info : MethodInfo
    """

    def __init__(self, net: FeatureNet, info: MethodInfo) -> None:
        self.net = net.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._info = info
        self._log = SolverLog()

    @property
    def info(self) -> MethodInfo:
        return self._info

    @torch.inference_mode()
    def luminance(self, a: Tensor, b: Tensor) -> Tensor:
        """Paint; see :class:`medfuse.methods.base.Painter`. Slices go one by one.

        Raises
        ------
        ValueError
            If the images are not (N, 1, H, W) of one shape.
        """
        check_pair(a, b)
        out = torch.empty(a.shape, device=a.device)
        for k in range(len(a)):
            pair = network_input(a[k : k + 1].float(), b[k : k + 1].float()).to(self.device)
            painted, solution = self.net.solved(pair)
            self._log.add(solution)
            out[k] = painted[0].clamp(0, 1)
        return out

    @property
    def device(self) -> torch.device:
        """Where the network lies and computes."""
        place: torch.device = next(self.net.parameters()).device
        return place

    def to(self, device: torch.device) -> FeaturePainter:
        """The same method computed on another device."""
        return FeaturePainter(copy.deepcopy(self.net).to(device), self._info)

    def diagnostics(self) -> dict[str, int | float | bool]:
        """As :meth:`medfuse.methods.unfolding.UnfoldingGuide.diagnostics`."""
        return self._log.take()


class _Residual(nn.Module):
    """Two convolutions, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(_conv(channels, channels), nn.ReLU(), _conv(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.layers(x)
        return x + added


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="replicate")
