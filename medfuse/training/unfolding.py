"""Train unfolding by sequential gradient transfer: focus, then exposure, then two modalities.

Each stage starts from the stage before it and is guided by it: the frozen network fuses the same
pair, and where its result has structure the new one must have the same. After the TPAMI 2026 paper
by Wang, Deng, Cao & Vivone; the synthetic tasks are made from the training images themselves.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from medfuse.methods.network import network_input
from medfuse.methods.objective import Losses, sobel
from medfuse.methods.unfolding_features import FeatureNet
from medfuse.training.loop import Run, precision
from medfuse.training.losses import fusion_loss, ssim_losses
from medfuse.training.recipes import UnfoldingRecipe
from medfuse.training.synthetic import exposure_pair, focus_pair

_REBUILD_EVERY = 20  # steps, where the network has features of its own


class UnfoldingRun(Run):
    """One stage of the sequence; the recipe's ``task`` and ``transfer`` say which."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        # Taken before a checkpoint is read, so these are the weights that the stage started from.
        self.teacher = copy.deepcopy(self.state.net).eval().requires_grad_(False)

    def objectives(self, a: Tensor, b: Tensor) -> Iterator[Losses]:
        seed = self.recipe.seed * 1_000_003 + self.state.step
        if isinstance(self.state.net, FeatureNet) and self.state.step % _REBUILD_EVERY == 0:
            yield self._rebuild(self.state.net, a, b)
        a, b, target = self._pose(a, b, torch.Generator().manual_seed(seed))
        with precision(self.recipe, self.device):
            found = self.state.net(network_input(a, b)).float()
        yield self._score(a, b, target, found)

    def judge(self, net: nn.Module, a: Tensor, b: Tensor) -> tuple[float, tuple[Tensor, ...]]:
        a, b, target = self._pose(a, b, torch.Generator().manual_seed(self.recipe.seed))
        found = net(network_input(a, b))
        loss = self._score(a, b, target, found)
        pictures = (a, b, self._blend(a, b, found), found)
        return float(loss.total), pictures if target is None else (*pictures, target)

    def _rebuild(self, net: FeatureNet, a: Tensor, b: Tensor) -> Losses:
        """Each source must come back from its own features."""
        features = net.encode(network_input(a, b))
        distances = [
            functional.l1_loss(net.decoder(x), image)
            for x, image in zip(features, (a, b), strict=True)
        ]
        return Losses(torch.stack(distances).sum(), {})

    @property
    def _recipe(self) -> UnfoldingRecipe:
        return cast(UnfoldingRecipe, self.recipe)

    def _pose(
        self, a: Tensor, b: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The pair to fuse, and the answer where the task has one."""
        if self._recipe.task == "modalities":
            return a, b, None
        make = focus_pair if self._recipe.task == "focus" else exposure_pair
        one, other = make(a.cpu(), generator)
        return one.to(a), other.to(a), a

    def _score(self, a: Tensor, b: Tensor, target: Tensor | None, found: Tensor) -> Losses:
        """Judge what the network found: weights, or a picture where it paints."""
        fused = self._blend(a, b, found)
        if target is None:
            losses = fusion_loss(a * 2 - 1, b * 2 - 1, fused * 2 - 1, self._recipe.loss)
        else:
            losses = answer_loss(target, fused)
        total, parts = losses.total, losses.parts
        if self._recipe.transfer:
            with torch.no_grad():
                taught = self._blend(a, b, self.teacher(network_input(a, b)))
            transfer = gradient_transfer_loss(taught, fused)
            total = total + self._recipe.transfer * transfer
            parts = parts | {"transfer": transfer.detach()}
        if self._recipe.doubt:
            # The logit of a weight is the logarithm of the trust; a saturated network cannot learn.
            doubt = found.logit(eps=1e-4).square().mean()
            total = total + self._recipe.doubt * doubt
            parts = parts | {"doubt": doubt.detach()}
        return Losses(total, parts)

    def _blend(self, a: Tensor, b: Tensor, found: Tensor) -> Tensor:
        return found if isinstance(self.teacher, FeatureNet) else torch.lerp(a, b, found)


def answer_loss(target: Tensor, fused: Tensor) -> Losses:
    """1 - SSIM with the true image plus mean distance to it; images in [0, 1]."""
    distance = functional.l1_loss(fused, target)
    unlike, _ = ssim_losses(target * 2 - 1, target * 2 - 1, fused * 2 - 1)
    return Losses(unlike + distance, {"unlike": unlike.detach(), "distance": distance.detach()})


def gradient_transfer_loss(taught: Tensor, fused: Tensor) -> Tensor:
    """Distance of the gradient strengths of teacher and student, weighted by the stronger one.

    Flat regions cost nothing, so structure is handed on and brightness is not.

    Parameters
    ----------
    taught, fused : (N, 1, H, W) float in [0, 1]
    """
    wanted, found = ((x.abs() + y.abs()) for x, y in (sobel(taught), sobel(fused)))
    return (torch.maximum(wanted, found) * (wanted - found).abs()).mean()
