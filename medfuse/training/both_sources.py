"""Train a band guide to keep both sources; see :mod:`medfuse.methods.objective`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import cast

from torch import Tensor, nn

from medfuse.kernel.blend import blend
from medfuse.methods.network import network_input
from medfuse.methods.objective import Losses, SourcePair, source_loss
from medfuse.training.loop import Run, precision
from medfuse.training.recipes import BandRecipe


class BandRun(Run):
    """A run whose network answers with a map a band, and whose recipe says what is to be kept."""

    def judge(self, net: nn.Module, a: Tensor, b: Tensor) -> tuple[float, tuple[Tensor, ...]]:
        fused = self._blend(net, a, b)
        recipe = cast(BandRecipe, self.recipe)
        return float(source_loss(SourcePair(a, b, recipe.sources), fused).total), (a, b, fused)

    def objectives(self, a: Tensor, b: Tensor) -> Iterator[Losses]:
        recipe = cast(BandRecipe, self.recipe)
        yield source_loss(SourcePair(a, b, recipe.sources), self._blend(self.state.net, a, b))

    def _blend(self, net: nn.Module, a: Tensor, b: Tensor) -> Tensor:
        training = precision(self.recipe, self.device) if net.training else nullcontext()
        with training:
            maps = net(network_input(a, b))
        return blend(a, b, maps, levels=self.recipe.levels, kernel=self.recipe.kernel)
