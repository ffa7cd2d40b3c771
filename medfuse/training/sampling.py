"""Batches: which pairs, which crops, which random changes. Step k depends on (seed, k) alone."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor

from medfuse.kernel.pyramid import expand, gaussian_pyramid
from medfuse.training.data import Pairs
from medfuse.training.recipes import Recipe


class Sampler:
    """Draws batches of one size from pairs of mixed sizes.

    Parameters
    ----------
    pairs : Pairs
    recipe : Recipe
    """

    def __init__(self, pairs: Pairs, recipe: Recipe) -> None:
        self.pairs = pairs
        self.recipe = recipe
        buckets: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, image in enumerate(pairs.a):
            buckets[tuple(image.shape)].append(index)
        self.buckets = list(buckets.values())

    def draw(self, step: int, *, full: bool = False) -> tuple[Tensor, Tensor]:
        """The batch of one step.

        Parameters
        ----------
        step : int
        full : bool
            Whole images, ``full_batch`` of them, instead of crops.

        Returns
        -------
        a, b : (N, 1, H, W) float32 in [0, 1]
        """
        generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + step)
        sizes = torch.tensor([float(len(bucket)) for bucket in self.buckets])
        bucket = self.buckets[int(torch.multinomial(sizes, 1, generator=generator))]
        count = self.recipe.full_batch if full else self.recipe.batch
        chosen = torch.randint(len(bucket), (count,), generator=generator)
        crop = None if full else self.recipe.crop
        images = [self._cut(bucket[i], crop, generator) for i in chosen.tolist()]
        a = torch.stack([pair[0] for pair in images]).unsqueeze(1).float() / 255
        b = torch.stack([pair[1] for pair in images]).unsqueeze(1).float() / 255
        return augment(a, b, self.recipe, generator)

    def _cut(
        self, index: int, crop: int | None, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        a, b = self.pairs.a[index], self.pairs.b[index]
        if crop is None:
            return a, b
        window = []
        for side in a.shape:
            start = torch.randint(max(side - crop, 0) + 1, (1,), generator=generator)
            window.append(slice(int(start), int(start) + crop))
        return a[window[0], window[1]], b[window[0], window[1]]


def augment(
    a: Tensor, b: Tensor, recipe: Recipe, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Random flips, exchanged roles, tone changes and PET-like images, as the recipe says.

    Parameters
    ----------
    a, b : (N, 1, H, W) float in [0, 1]

    Returns
    -------
    a, b : (N, 1, H, W) float in [0, 1]
    """
    if recipe.flips:
        a, b = _flip(a, b, generator)
    if recipe.role_swap:
        swap = _chance(a, recipe.role_swap, generator)
        a, b = torch.where(swap, b, a), torch.where(swap, a, b)
    if recipe.emission:
        chosen = _chance(a, recipe.emission, generator)
        like_a, like_b = _emission_like(a, b, recipe.emission_gain, generator)
        if recipe.palette:
            recoloured = _recolour(like_a, generator)
            like_a = torch.where(_chance(a, recipe.palette, generator), recoloured, like_a)
        a, b = torch.where(chosen, like_a, a), torch.where(chosen, like_b, b)
    if recipe.tone:
        chosen = _chance(a, recipe.tone, generator)
        a, b = (torch.where(chosen, _retone(x, 0.5, 2.0, generator), x) for x in (a, b))
    if recipe.cysts:
        like_a, like_b = _cyst(a, b, generator)
        chosen = _chance(a, recipe.cysts, generator)
        a, b = torch.where(chosen, like_a, a), torch.where(chosen, like_b, b)
    if recipe.rims:
        like_a, like_b = _rim(a, b, generator)
        chosen = _chance(a, recipe.rims, generator)
        a, b = torch.where(chosen, like_a, a), torch.where(chosen, like_b, b)
    return a, b


def _flip(a: Tensor, b: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    across, down, turned = (torch.rand(3, generator=generator) < 0.5).tolist()
    if across:
        a, b = a.flip(-1), b.flip(-1)
    if down:
        a, b = a.flip(-2), b.flip(-2)
    if turned and a.shape[-1] == a.shape[-2]:
        a, b = a.mT, b.mT
    return a, b


def _emission_like(
    a: Tensor, b: Tensor, gain: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Make a pair look like PET and MRI: blurred bright A, both inside an ellipse on black."""
    blurs = int(torch.randint(1, 4, (1,), generator=generator))
    pyramid = gaussian_pyramid(a, blurs)
    smooth = pyramid[-1]
    for finer in reversed(pyramid[:-1]):
        smooth = expand(smooth, finer.shape[2:])
    body = _ellipse(a, generator)
    other = torch.where(_chance(a, 0.7, generator), body, _ellipse(a, generator))
    like_a = _retone(_stretch(smooth), 0.5, 2.0, generator, gain) * body
    like_b = _retone(_stretch(b), 0.4, 1.6, generator, gain) * other
    return like_a, like_b


def _recolour(x: Tensor, generator: torch.Generator) -> Tensor:
    """The luminance of an image in random colours: customary maps rise and fall in brightness.

    A broken line through five random values, the first of them 0, so that black stays black.
    """
    knots = torch.rand((len(x), 5), generator=generator)
    knots[:, 0] = 0
    position = (4 * x).clamp(0, 4 - 1e-4)
    lower = position.long()
    values = knots.gather(1, torch.cat([lower, lower + 1], dim=1).flatten(1)).view(len(x), 2, -1)
    low, high = (part.reshape(x.shape) for part in values.unbind(1))
    return torch.lerp(low, high, position - lower)


def _cyst(a: Tensor, b: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """An ellipse of a few pixels to a quarter of the image, flat in both, of any two values.

    Values are drawn apart, so that the two images mostly disagree there, as on a cyst that is dark
    on CT and bright on T2; a little of the texture stays.
    """
    rows = torch.arange(a.shape[2]).view(1, 1, -1, 1)
    columns = torch.arange(a.shape[3]).view(1, 1, 1, -1)
    u = columns - a.shape[3] * _uniform(a, generator)
    v = rows - a.shape[2] * _uniform(a, generator)
    angle = torch.pi * _uniform(a, generator)
    radii = [6 + (a.shape[2] / 4 - 6) * _uniform(a, generator).square() for _ in range(2)]
    first = (angle.cos() * u + angle.sin() * v) / radii[0]
    second = (angle.cos() * v - angle.sin() * u) / radii[1]
    distance = (first.square() + second.square()).sqrt()
    inside = ((1.1 - distance) / 0.2).clamp(0, 1)  # an edge of a pixel or two
    texture = 0.15 * _uniform(a, generator)
    flat_a, flat_b = (_uniform(a, generator) * (1 - texture) + texture * x for x in (a, b))
    return torch.lerp(a, flat_a, inside), torch.lerp(b, flat_b, inside)


def _rim(a: Tensor, b: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A head of both images: black outside an ellipse, and a rim bright in A and dark in B."""
    distance = _ellipse_square(a, generator).sqrt()
    thick = 0.05 + 0.2 * _uniform(a, generator)
    rim = ((distance > 1 - thick) & (distance < 1)).to(a.dtype)
    body = (distance < 1).to(a.dtype)
    bright, dark = 1 - 0.2 * _uniform(a, generator), 0.2 * _uniform(a, generator)
    return torch.lerp(a * body, bright, rim), torch.lerp(b * body, dark, rim)


def _stretch(x: Tensor) -> Tensor:
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    return ((x - low) / (high - low + 1e-3)).clamp(0, 1)


def _retone(
    x: Tensor, low: float, high: float, generator: torch.Generator, gain: float = 1.0
) -> Tensor:
    """Random gamma in [low, high] and gain in [0.5, gain]; what exceeds 1 is clipped."""
    gamma = low + (high - low) * _uniform(x, generator)
    strength = 0.5 + (gain - 0.5) * _uniform(x, generator)
    return (strength * x.clamp_min(1e-6) ** gamma).clamp(0, 1)


def _ellipse(x: Tensor, generator: torch.Generator) -> Tensor:
    """(N, 1, H, W) of 0 and 1: a tilted ellipse, 45 to 95 % of the image wide."""
    return (_ellipse_square(x, generator) < 1).to(x.dtype)


def _ellipse_square(x: Tensor, generator: torch.Generator) -> Tensor:
    """(N, 1, H, W): squared distance to the middle of such an ellipse, 1 at its border."""
    rows = torch.linspace(-1, 1, x.shape[2]).view(1, 1, -1, 1)
    columns = torch.linspace(-1, 1, x.shape[3]).view(1, 1, 1, -1)
    angle = torch.pi * _uniform(x, generator)
    u = columns - 0.4 * (_uniform(x, generator) - 0.5)
    v = rows - 0.4 * (_uniform(x, generator) - 0.5)
    radii = [0.45 + 0.5 * _uniform(x, generator) for _ in range(2)]
    first = (angle.cos() * u + angle.sin() * v) / radii[0]
    second = (angle.cos() * v - angle.sin() * u) / radii[1]
    return first.square() + second.square()


def _uniform(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand((len(x), 1, 1, 1), generator=generator)


def _chance(x: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    return _uniform(x, generator) < probability
