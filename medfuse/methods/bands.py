"""The band guide: weights for every band, by local energy and a small U-Net that corrects it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from medfuse.kernel.pyramid import gaussian_pyramid, laplacian_pyramid
from medfuse.methods.energy import STEP, band_energy, local_product
from medfuse.methods.network import NetworkMethod, pad_to_multiple
from medfuse.methods.swift import conv_pair, join

CLUES = 7  # of a level: energies, brightnesses and bands of A and B, and how alike the bands are


class BandNet(nn.Module):
    """Two luminances in, weights of every band out.

    A U-Net on pixel-unshuffled images has a stage at the size of every level of the kernel's
    pyramid, so that each map is made where it is used. To what its stage says, a level adds what a
    3 x 3 filter and a hidden layer see in its clues: logarithms of the local energy of both sources
    in that band, their brightness, the bands themselves and their local correlation (the match
    measure of Burt & Kolczynski). The filter starts as the formula ``local-energy`` and all else at
    zero, so training starts from the formula.

    Parameters
    ----------
    widths : sequence of int
        Channels at 1/2 of the resolution, at 1/4, and so on; as many as there are bands, or more.
        None at all leaves the U-Net out: then every weight is decided by its clues alone.
    levels : int
        Band-pass levels of the kernel.
    hidden : int
        Channels of the hidden layer of each level.

    Shape
    -----
    (N, 2, H, W) in [-1, 1], A then B -> ``levels + 1`` maps (N, 1, ceil(H / 2^k), ceil(W / 2^k))
    in [0, 1]. Sides that are no multiple of ``2 ** len(widths)`` are padded by replication.

    References
    ----------
    Shi et al., CVPR 2016 (pixel shuffle); Ronneberger et al., MICCAI 2015 (U-Net); Burt &
    Kolczynski, ICCV 1993.
    """

    def __init__(
        self, widths: Sequence[int] = (16, 24, 48, 64, 96), levels: int = 4, hidden: int = 16
    ) -> None:
        super().__init__()
        self.levels = levels
        self.multiple = 2 ** len(widths)
        if widths:
            self._build_far(widths)
        self.near = nn.ModuleList(_formula(base=k == levels) for k in range(levels + 1))
        self.look = nn.ModuleList(_look(hidden) for _ in range(levels + 1))

    def _build_far(self, widths: Sequence[int]) -> None:
        self.enter = conv_pair(8, widths[0])
        self.down = nn.ModuleList(conv_pair(i, o, stride=2) for i, o in pairwise(widths))
        self.up = nn.ModuleList(
            conv_pair(below + skip, skip) for below, skip in pairwise(reversed(widths))
        )
        outputs = [(widths[0], 4), *((width, 1) for width in widths[: self.levels])]
        self.leave = nn.ModuleList(silent(width, maps) for width, maps in outputs)

    def forward(self, x: Tensor) -> list[Tensor]:
        logits = [
            near(clues) + look(clues)
            for near, look, clues in zip(
                self.near, self.look, band_clues(x, self.levels), strict=True
            )
        ]
        if self.multiple > 1:
            logits = [
                logit + far[:, :, : logit.shape[2], : logit.shape[3]]
                for logit, far in zip(logits, self._far(x), strict=True)
            ]
        return [logit.float().sigmoid() for logit in logits]

    def _far(self, x: Tensor) -> list[Tensor]:
        """What the U-Net says of each level, on padded sides."""
        padded = pad_to_multiple(x, self.multiple)
        x = self.enter(functional.pixel_unshuffle(padded, 2))
        skips = []
        for stage in self.down:
            skips.append(x)
            x = stage(x)
        stages = []
        for stage, skip in zip(self.up, reversed(skips), strict=True):
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = stage(join(x, skip))
            stages.append(x)
        fine_first = [x, *reversed(stages)]
        outputs = [leave(y) for leave, y in zip(self.leave, fine_first, strict=False)]
        return [functional.pixel_shuffle(outputs[0], 2), *outputs[1:]]


class BandGuide(NetworkMethod):
    """A network whose answer is one map of weights a band."""

    @torch.inference_mode()
    def weights(self, a: Tensor, b: Tensor) -> list[Tensor]:
        """Choose weights; see :class:`medfuse.methods.base.Method`.

        Raises
        ------
        ValueError
            If the images are not (N, 1, H, W) of one shape.
        UsageError
            ``E_PRECISION`` for bfloat16 on a processor without it.
        """
        chunks = [self._run(x) for _, x in self._chunks(a, b)]
        return [torch.cat(maps).float().to(a.device) for maps in zip(*chunks, strict=True)]


def band_clues(x: Tensor, levels: int) -> list[Tensor]:
    """What is seen of each level: (N, 7, ...) each, of (N, 2, H, W) in [-1, 1]."""
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        images = x.float().contiguous().mul(0.5).add(0.5)
        low = gaussian_pyramid(images, levels)
        *bands, base = laplacian_pyramid(images, levels)
        clues = [torch.cat([*_of_bands(y), z], dim=1) for y, z in zip(bands, low, strict=False)]
        clues.append(functional.pad(base, (0, 0, 0, 0, CLUES - 2, 0)))  # brightness alone
    return [clue.to(x.dtype, memory_format=torch.channels_last) for clue in clues]


def _of_bands(bands: Tensor) -> list[Tensor]:
    """Bands, energies and match of one level, (N, 2, ...), about in [-1, 1] each."""
    energies = band_energy(bands)
    match = local_product(bands[:, :1], bands[:, 1:]) * energies.prod(1, keepdim=True).rsqrt()
    return [match, 10 * bands, 2 + energies.log() / 4]


def silent(width: int, maps: int) -> nn.Conv2d:
    """1 x 1 filter that says nothing yet."""
    leave = nn.Conv2d(width, maps, 1)
    with torch.no_grad():
        leave.weight.zero_()
        assert leave.bias is not None
        leave.bias.zero_()
    return leave


def _formula(*, base: bool) -> nn.Conv2d:
    """3 x 3 filter of the clues of a level that starts as ``local-energy``."""
    filter_ = nn.Conv2d(CLUES, 1, 3, padding=1, padding_mode="replicate")
    steep = torch.zeros(CLUES)
    steep[-2:] = torch.tensor([-STEP, STEP]) if base else steep[-2:]
    steep[3:5] = steep[3:5] if base else torch.tensor([-8.0, 8.0])
    with torch.no_grad():
        filter_.weight.zero_()
        filter_.weight[0, :, 1, 1] = steep
        assert filter_.bias is not None
        filter_.bias.zero_()
    return filter_


def _look(hidden: int) -> nn.Sequential:
    """One hidden layer over the clues of a level, silent at first."""
    see = nn.Conv2d(CLUES, hidden, 3, padding=1, padding_mode="replicate")
    return nn.Sequential(see, nn.ReLU(inplace=True), silent(hidden, 1))
