"""Weights fitted to the very pair: a guide's answer, moved a few steps toward keeping both."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from medfuse.kernel.devices import CPU
from medfuse.kernel.pyramid import collapse, laplacian_pyramid
from medfuse.methods.base import Method, MethodInfo, on_device
from medfuse.methods.objective import SourcePair, SourceWeights, source_loss

# Asked of every pair alike, whatever its modalities; chosen on street scenes and on held-out
# persons of the atlas (docs/guides.md).
KEEP_BOTH = SourceWeights(
    gradient=10.0,
    edges=8.0,
    detail=2.0,
    weaker=3.0,
    keep_a=0.85,
    keep_b=0.85,
    base=3.0,
    beyond=40.0,
    thick=0.4,
    own=150.0,
)
# For scalar CT that saturates at bone: bone stays white, and detail counts below it.
KEEP_BONE = KEEP_BOTH.model_copy(
    update={
        "thick": 20.0,
        "thick_pixels": 1,
        "signal_to": 0.7,
        "keep_b": 0.95,
        "beyond": 100.0,
    }
)
STEPS, RATE = 12, 0.8
_DECAYS = (0.8, 0.95)  # of the means of the gradient and of its square
_START = 0.01  # weights start no nearer to 0 and 1: a sigmoid does not learn there


@dataclass(frozen=True)
class FittedGuide:
    """A guide without parameters, or a trained one, and gradient steps on the pair itself.

    The logits of its weights take ``steps`` steps of Adam on what is asked of the picture, which
    is a function of both images alone: no truth, no training data. The kernel and its promise stay.
    A slice is fitted alone, whatever stack it comes in. ``start`` has a map a band.

    The terms are close to the measures by which guides are judged (*detail kept*, Qabf,
    *contradiction*), so these measures flatter it: look at the pictures as well.

    References
    ----------
    Kingma & Ba, ICLR 2015 (Adam); Ma et al., Information Fusion 31 (2016), for fusion as a
    variational problem of the pair.
    """

    name: str
    summary: str
    start: Method
    wanted: SourceWeights = field(default=KEEP_BOTH)
    steps: int = STEPS
    rate: float = RATE
    device: torch.device = CPU

    @property
    def info(self) -> MethodInfo:
        start = self.start.info
        kind = "rule" if start.kind == "rule" else "guide"
        return MethodInfo(
            self.name,
            self.summary,
            kind,
            parameters=start.parameters,
            levels=start.levels,
            maps=start.maps,
            weights_sha256=start.weights_sha256,
            card=start.card,
        )

    def weights(self, a: Tensor, b: Tensor) -> list[Tensor]:
        """Choose weights; see :class:`medfuse.methods.base.Method`."""
        back, a, b = a.device, a.to(self.device), b.to(self.device)
        maps = self.start.weights(a, b)
        slices = [
            self._fit(a[k : k + 1], b[k : k + 1], [level[k : k + 1] for level in maps])
            for k in range(len(a))
        ]
        return [torch.cat(level).to(back) for level in zip(*slices, strict=True)]

    def to(self, device: torch.device) -> FittedGuide:
        """The same method computed on another device."""
        return replace(self, start=on_device(self.start, device), device=device)

    def _fit(self, a: Tensor, b: Tensor, maps: list[Tensor]) -> list[Tensor]:
        with torch.inference_mode(False), torch.enable_grad():
            pair = SourcePair(a.float().clone(), b.float().clone(), self.wanted)
            bands = [laplacian_pyramid(x, len(maps) - 1) for x in (pair.a, pair.b)]
            steps = [(of_a, of_b - of_a) for of_a, of_b in zip(*bands, strict=True)]
            logits = [x.float().clone().clamp(_START, 1 - _START).logit() for x in maps]
            means = [torch.zeros_like(x) for x in logits]
            squares = [torch.zeros_like(x) for x in logits]
            for count in range(1, self.steps + 1):
                for x in logits:
                    x.requires_grad_()
                fused = collapse(
                    [
                        of_a + x.sigmoid() * step
                        for x, (of_a, step) in zip(logits, steps, strict=True)
                    ]
                )
                loss = source_loss(pair, fused).total
                slopes = torch.autograd.grad(loss, logits)
                logits = [x.detach() for x in logits]
                self._adam(logits, list(slopes), means, squares, count)
            return [x.sigmoid() for x in logits]

    def _adam(
        self,
        logits: list[Tensor],
        slopes: list[Tensor],
        means: list[Tensor],
        squares: list[Tensor],
        count: int,
    ) -> None:
        """One step of Adam on all maps, in place."""
        first, second = _DECAYS
        for x, slope, mean, square in zip(logits, slopes, means, squares, strict=True):
            mean.lerp_(slope, 1 - first)
            square.lerp_(slope.square(), 1 - second)
            size = (square / (1 - second**count)).sqrt_().add_(1e-8)
            x.sub_(mean / size, alpha=self.rate / (1 - first**count))
