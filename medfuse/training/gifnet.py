"""Train GIFNet: a multi-modal and a multi-focus step in turn, on scenes seen four times."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from medfuse.methods.gifnet import GifNet
from medfuse.methods.objective import Losses
from medfuse.training.loop import Run, precision
from medfuse.training.losses import fusion_loss, gaussian_filter
from medfuse.training.recipes import GifnetRecipe
from medfuse.training.synthetic import focus_pair

_SHARES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales of MS-SSIM, fine to coarse
_C1, _C2 = 0.01**2, 0.03**2
_QUIET = 1e-6  # energy of detail of less than a grey level
_SOFT, _REACH = (0.4, 1.0), 3  # blur of enhancement pairs: sigma and radius, pixels
_NEAR = 7  # side of the windows of local energy, pixels


class GifnetRun(Run):
    """One batch is two steps of the optimiser, each on its own stream of the network.

    ``a``, the visible or functional image, is what the reconstruction decoder must return and
    what the two defocused images are made of. Some of these pairs are the same image twice, softly
    blurred: what enhancement will be asked for.
    """

    def objectives(self, a: Tensor, b: Tensor) -> Iterator[Losses]:
        net, recipe = cast(GifNet, self.state.net), self._recipe
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + self.state.step)
        near, far = (x.to(a.device) for x in focus_pair(a.cpu(), generator))
        if twins := ceil(recipe.twins * len(a)):
            near[:twins] = far[:twins] = soften(a[:twins], generator)
        logged: dict[str, Tensor] = {}
        for route, pair, other in (("modal", (a, b), (near, far)), ("focus", (near, far), (a, b))):
            with precision(recipe, self.device):
                shared = net.encoder(*pair)
                with torch.no_grad():
                    auxiliary = net.encoder(*other)
                painted = net.paint(shared, auxiliary, route).float()  # type: ignore[arg-type]
                rebuilt = net.reconstruction(shared).float()
            likeness = ms_ssim(rebuilt, a, published=net.gating.parity)
            parts = {f"rebuilt_{route}": 1 - likeness + functional.mse_loss(rebuilt, a)}
            if route == "focus":
                parts["focus"] = functional.mse_loss(painted, a)
            else:
                parts |= self._modal(a, b, painted)
            logged |= {name: part.detach() for name, part in parts.items()}
            yield Losses(torch.stack(list(parts.values())).sum(), logged | net.gating.shares())

    def judge(self, net: nn.Module, a: Tensor, b: Tensor) -> tuple[float, tuple[Tensor, ...]]:
        with precision(self.recipe, self.device):
            painted = net(a, b).float()
        return float(sum(self._modal(a, b, painted).values())), (a, b, painted)

    def fraction(self) -> float:
        done = super().fraction()
        return done if done < self._recipe.until else 1.0

    @property
    def _recipe(self) -> GifnetRecipe:
        return cast(GifnetRecipe, self.recipe)

    def _modal(self, a: Tensor, b: Tensor, painted: Tensor) -> dict[str, Tensor]:
        """Terms of the multi-modal step: distance to the sources, and what a fusion should keep."""
        recipe = self._recipe
        weight = activity_weight(a, b, temperature=recipe.temperature, local=recipe.local)
        distance = weight * (painted - a).square() + (1 - weight) * (painted - b).square()
        parts = {"modal": distance.mean()}
        if recipe.detail:
            found = fusion_loss(a * 2 - 1, b * 2 - 1, painted * 2 - 1, recipe.loss)
            parts["detail"] = recipe.detail * found.total
        return parts


def soften(images: Tensor, generator: torch.Generator) -> Tensor:
    """Blur (N, 1, H, W) slightly, all by the same random Gaussian."""
    low, high = _SOFT
    sigma = low + (high - low) * float(torch.rand(1, generator=generator))
    padded = functional.pad(images, (_REACH,) * 4, mode="replicate")
    return gaussian_filter(padded, window=2 * _REACH + 1, sigma=sigma)


def activity_weight(a: Tensor, b: Tensor, *, temperature: float, local: bool) -> Tensor:
    """Weight of ``a``: softmax of the logarithms of both energies of detail over a temperature.

    Published are the energies of ImageNet features, one number a batch; these are of the images
    themselves.

    Parameters
    ----------
    a, b : (N, 1, H, W) float in [0, 1]
    temperature : float
        Towards 0 the more active image takes all, towards infinity both count the same.
    local : bool
        A weight for each pixel, not one for all.

    Returns
    -------
    (N, 1, H, W) or (1, 1, 1, 1) float in [0, 1]
    """

    def energy(image: Tensor) -> Tensor:
        detail = functional.avg_pool2d(image, 3, 1, 1, count_include_pad=False) - image
        power = (9 / 8 * detail).square()
        if not local:
            return power.mean().view(1, 1, 1, 1)
        return functional.avg_pool2d(power, _NEAR, 1, _NEAR // 2, count_include_pad=False)

    with torch.no_grad():
        ratio = (energy(a) + _QUIET).log() - (energy(b) + _QUIET).log()
        return torch.sigmoid(ratio / temperature)


def ms_ssim(x: Tensor, y: Tensor, *, published: bool = False) -> Tensor:
    """Multi-scale SSIM of five scales, mean over the images, with gradients.

    Every factor is mapped from [-1, 1] to [0, 1] as published, so that inverted contrast has a
    gradient too. Windows shrink with small images.

    Parameters
    ----------
    x, y : (N, 1, H, W) float in [0, 1], sides of 16 pixels or more
    published : bool
        Repeat the slip of the published code: the last SSIM counts four times.

    References
    ----------
    Wang, Simoncelli, Bovik, Asilomar 2003, eq. 7.
    """
    powers = []
    for scale, share in enumerate(_SHARES):
        full, structure = _similarity(x, y)
        last = scale == len(_SHARES) - 1
        powers.append(((full if last else structure) + 1).div(2) ** share)
        if not last:
            x, y = functional.avg_pool2d(x, 2), functional.avg_pool2d(y, 2)
    if published:
        powers += 3 * powers[-1:]
    return torch.stack(powers).prod(0)


def _similarity(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """SSIM and its contrast and structure term, means."""
    side = min(11, *x.shape[2:])
    window = side - (side + 1) % 2

    def smooth(image: Tensor) -> Tensor:
        return gaussian_filter(image, window=window)

    mean_x, mean_y = smooth(x), smooth(y)
    spread_x, spread_y = smooth(x * x) - mean_x.square(), smooth(y * y) - mean_y.square()
    structure = (2 * (smooth(x * y) - mean_x * mean_y) + _C2) / (spread_x + spread_y + _C2)
    light = (2 * mean_x * mean_y + _C1) / (mean_x.square() + mean_y.square() + _C1)
    return (light * structure).mean(), structure.mean()
