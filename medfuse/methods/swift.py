"""swift, the default guide: a U-Net at a quarter of the resolution, about 0.49 M parameters."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from medfuse.methods.base import MethodInfo
from medfuse.methods.network import NetworkGuide, build_seeded, count_parameters, pad_to_multiple

SHUFFLE = 4
MULTIPLE = 8 * SHUFFLE


class SwiftNet(nn.Module):
    """Two luminances in, one map of weights out.

    Pixel-unshuffle puts 4 x 4 pixels into 16 channels, so that all convolutions run on a
    sixteenth of the pixels; pixel-shuffle brings the map back to full resolution.

    Parameters
    ----------
    widths : four int
        Channels at 1/4, 1/8, 1/16 and 1/32 of the resolution.

    Shape
    -----
    (N, 2, H, W) in [-1, 1], A then B -> (N, 1, H, W) in [0, 1]. Sides that are no multiple of
    32 are padded by replication and the map is cropped.

    References
    ----------
    Shi et al., CVPR 2016 (pixel shuffle); Ronneberger et al., MICCAI 2015 (U-Net).
    """

    def __init__(self, widths: tuple[int, int, int, int] = (32, 48, 64, 96)) -> None:
        super().__init__()
        first, second, third, fourth = widths
        self.enter = _pair(2 * SHUFFLE**2, first)
        self.down = nn.ModuleList(
            _pair(i, o, stride=2) for i, o in ((first, second), (second, third), (third, fourth))
        )
        self.up = nn.ModuleList(
            _pair(below + skip, skip)
            for below, skip in ((fourth, third), (third, second), (second, first))
        )
        self.leave = nn.Conv2d(first, SHUFFLE**2, 1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        x = self.enter(functional.pixel_unshuffle(pad_to_multiple(x, MULTIPLE), SHUFFLE))
        skips = []
        for stage in self.down:
            skips.append(x)
            x = stage(x)
        for stage, skip in zip(self.up, reversed(skips), strict=True):
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = stage(_join(x, skip))
        weights = functional.pixel_shuffle(self.leave(x), SHUFFLE).sigmoid()
        return weights[:, :, :height, :width]


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


def _join(x: Tensor, skip: Tensor) -> Tensor:
    """Concatenate channels; the last axis of channels-last memory is the fast one."""
    joined = torch.cat([x.permute(0, 2, 3, 1), skip.permute(0, 2, 3, 1)], dim=3)
    return joined.permute(0, 3, 1, 2)


def _pair(inputs: int, outputs: int, *, stride: int = 1) -> nn.Sequential:
    """Two 3x3 convolutions, each with batch norm and ReLU; the first may halve the resolution."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
