"""swift, the default guide: a small U-Net on pixel-unshuffled images."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from medfuse.methods.base import MethodInfo
from medfuse.methods.network import NetworkGuide, build_seeded, count_parameters, pad_to_multiple

_STEEP = 8.0  # logit of a difference of half the range


class SwiftNet(nn.Module):
    """Two luminances in, one map of weights out.

    Pixel-unshuffle puts blocks of ``shuffle`` x ``shuffle`` pixels into channels, so that the
    convolutions run on few pixels; pixel-shuffle brings the map back to full resolution.

    Parameters
    ----------
    widths : sequence of int
        Channels at 1/shuffle of the resolution, at half of that, and so on.
    shuffle : int
        Side of the blocks.
    skip : bool
        Add to the logit what a 3 x 3 filter sees at full resolution in both images and in their
        local contrast. It starts as a soft form of the rule "the brighter source".
    maps : int
        Output maps; the guides of the package have one.

    Shape
    -----
    (N, 2, H, W) in [-1, 1], A then B -> (N, 1, H, W) in [0, 1]. Sides that are no multiple of
    ``shuffle * 2 ** (len(widths) - 1)`` are padded by replication and the map is cropped.

    References
    ----------
    Shi et al., CVPR 2016 (pixel shuffle); Ronneberger et al., MICCAI 2015 (U-Net).
    """

    def __init__(
        self,
        widths: Sequence[int] = (32, 48, 64, 96),
        shuffle: int = 4,
        *,
        skip: bool = False,
        maps: int = 1,
    ) -> None:
        super().__init__()
        self.shuffle = shuffle
        self.multiple = shuffle * 2 ** (len(widths) - 1)
        self.enter = conv_pair(2 * shuffle**2, widths[0])
        self.down = nn.ModuleList(conv_pair(i, o, stride=2) for i, o in pairwise(widths))
        self.up = nn.ModuleList(
            conv_pair(below + skip, skip) for below, skip in pairwise(reversed(widths))
        )
        self.leave = nn.Conv2d(widths[0], maps * shuffle**2, 1)
        self.near = _brighter(maps) if skip else None

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        images = x
        padded = pad_to_multiple(x, self.multiple)
        x = self.enter(functional.pixel_unshuffle(padded, self.shuffle))
        skips = []
        for stage in self.down:
            skips.append(x)
            x = stage(x)
        for stage, skip in zip(self.up, reversed(skips), strict=True):
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = stage(join(x, skip))
        logits = functional.pixel_shuffle(self.leave(x), self.shuffle)[:, :, :height, :width]
        if self.near is not None:
            plain = images.contiguous()  # pooling two channels-last channels is slow
            smooth = functional.avg_pool2d(plain, 3, 1, 1, count_include_pad=False)
            contrast = (images - smooth).abs()
            logits = logits + self.near(torch.cat([images, contrast], dim=1))
        return logits.sigmoid()


class SwiftGuide(NetworkGuide):
    """swift as a method.

    Parameters
    ----------
    net : SwiftNet, optional
        Trained network; without one an untrained network is made.
    info : MethodInfo, optional
    seed : int
        Initial values of an untrained network.
    """

    def __init__(
        self, net: SwiftNet | None = None, info: MethodInfo | None = None, *, seed: int = 0
    ) -> None:
        net_ = build_seeded(SwiftNet, seed) if net is None else net
        untrained = MethodInfo("swift", "swift, untrained", "guide", count_parameters(net_))
        super().__init__(net_, info or untrained)


def _brighter(maps: int) -> nn.Conv2d:
    """3 x 3 filter of A, B and their local contrast that starts as a steep step of B - A."""
    filter_ = nn.Conv2d(4, maps, 3, padding=1, padding_mode="replicate")
    with torch.no_grad():
        filter_.weight.zero_()
        filter_.weight[:, :2, 1, 1] = torch.tensor([-_STEEP, _STEEP])
    return filter_


def join(x: Tensor, skip: Tensor) -> Tensor:
    """Concatenate channels; the last axis of channels-last memory is the fast one."""
    joined = torch.cat([x.permute(0, 2, 3, 1), skip.permute(0, 2, 3, 1)], dim=3)
    return joined.permute(0, 3, 1, 2)


def conv_pair(inputs: int, outputs: int, *, stride: int = 1) -> nn.Sequential:
    """Two 3x3 convolutions, each with batch norm and ReLU; the first may halve the resolution."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
