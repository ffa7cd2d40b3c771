"""Does the picture tell tissues apart as well as the better of its two sources? docs/colour.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

FOLDS = 5
MOST = 20_000  # values of a class that are looked at, evenly spread
FEWEST = 20  # values of a class below which nothing is said
RIDGE = 1e-6  # of the mean variance, added to every channel's


@dataclass(frozen=True)
class PairSeparability:
    """How well two classes are told apart, |2 AUC - 1| in [0, 1], by either source and the picture.

    ``kept`` is that of the picture over the better source; above 1 the picture joins both.
    """

    first: str
    second: str
    functional: float
    anatomical: float
    picture: float

    @property
    def kept(self) -> float:
        return self.picture / max(self.functional, self.anatomical, 1e-9)


@dataclass(frozen=True)
class Separability:
    """All pairs of classes; ``mean`` and ``worst`` are of what the picture keeps."""

    pairs: tuple[PairSeparability, ...]

    @property
    def mean(self) -> float:
        kept = [pair.kept for pair in self.pairs]
        return sum(kept) / len(kept) if kept else float("nan")

    @property
    def worst(self) -> float:
        return min((pair.kept for pair in self.pairs), default=float("nan"))


def measure_separability(
    picture: Tensor, functional: Tensor, anatomical: Tensor, classes: Mapping[str, Tensor]
) -> Separability:
    """Compare the picture with both sources for every pair of tissue classes.

    Parameters
    ----------
    picture : (N, C, ...) float
        C = 3 for RGB, 1 for a luminance.
    functional, anatomical : (N, 1, ...) float
        Both sources as the kernel saw them.
    classes : mapping of name to (N, 1, ...) bool
        Masks; a class with fewer than 20 voxels is left out.

    Returns
    -------
    Separability
    """
    images = (functional, anatomical, picture)
    values = {
        name: [_values(image, mask) for image in images]
        for name, mask in classes.items()
        if int(mask.sum()) >= FEWEST
    }
    pairs = []
    for first, second in combinations(values, 2):
        a, b, both = (tell_apart(x, y) for x, y in zip(values[first], values[second], strict=True))
        pairs.append(PairSeparability(first, second, a, b, both))
    return Separability(tuple(pairs))


def tell_apart(x: Tensor, y: Tensor) -> float:
    """|2 AUC - 1| of two classes by the best linear mixture of their channels.

    The mixture is Fisher's, of the other four fifths of the values (every fifth is left out in
    turn), so that noise of many channels is no merit; with one channel there is nothing to mix.

    Parameters
    ----------
    x, y : (M, C) float
        Values of either class, 20 or more.

    Returns
    -------
    float in [0, 1]

    References
    ----------
    Fisher, Annals of Eugenics 7, 1936; AUC as Mann-Whitney's U over the number of pairs.
    """
    x, y = x.double(), y.double()
    if x.shape[1] == 1:
        return abs(2 * _auc(x[:, 0], y[:, 0]) - 1)
    found = []
    for fold in range(FOLDS):
        (seen_x, left_x), (seen_y, left_y) = _parted(x, fold), _parted(y, fold)
        mixture = _fisher(seen_x, seen_y)
        found.append(abs(2 * _auc(left_x @ mixture, left_y @ mixture) - 1))
    return sum(found) / len(found)


def _values(image: Tensor, mask: Tensor) -> Tensor:
    """(M, C) values in the mask, at most 20 000."""
    chosen = image.movedim(1, -1)[mask[:, 0]]
    return chosen[:: -(-len(chosen) // MOST)]


def _parted(x: Tensor, fold: int) -> tuple[Tensor, Tensor]:
    left = torch.arange(len(x), device=x.device) % FOLDS == fold
    return x[~left], x[left]


def _fisher(x: Tensor, y: Tensor) -> Tensor:
    """(C,) direction in which the means are farthest apart beside the spread of both classes."""
    spread = (x.T.cov(correction=0) + y.T.cov(correction=0)) / 2
    ridge = RIDGE * spread.diagonal().mean() + 1e-12
    spread = spread + ridge * torch.eye(len(spread), dtype=x.dtype, device=x.device)
    mixture: Tensor = torch.linalg.solve(spread, x.mean(0) - y.mean(0))
    return mixture


def _auc(x: Tensor, y: Tensor) -> float:
    """Probability that a value of x is above one of y; equal values count half."""
    ordered = y.sort().values
    below = torch.searchsorted(ordered, x.contiguous(), side="left")
    not_above = torch.searchsorted(ordered, x.contiguous(), side="right")
    return float((below + not_above).double().mean() / (2 * len(y)))
