"""The U-Net of the HybridFusion paper, built from its description, for comparison."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from medfuse.methods.base import MethodInfo
from medfuse.methods.network import NetworkGuide, build_seeded, count_parameters, pad_to_multiple

MULTIPLE = 16


class UNet(nn.Module):
    """Classic U-Net at full resolution; 17,262,466 parameters with base 64.

    The head has two outputs as published: the weight map and a log-variance, which nothing uses.

    Parameters
    ----------
    base : int
        Channels at full resolution: 64 as published; 12, 16 and 32 are the smaller variants.
    paints : bool
        The output is the fused luminance itself instead of weights for the kernel: the paper's
        ablation without a kernel.

    Shape
    -----
    (N, 2, H, W) in [-1, 1], A then B -> (N, 1, H, W) in [0, 1]. Sides that are no multiple of
    16 are padded by replication and the map is cropped.

    References
    ----------
    HybridFusion, arXiv 2602.20851; Ronneberger et al., MICCAI 2015.
    """

    def __init__(self, base: int = 64, *, paints: bool = False) -> None:
        super().__init__()
        self.paints = paints
        c = base
        self.enter = _double(2, c, c)
        self.down = nn.ModuleList(
            _double(i, o, o)
            for i, o in ((c, 2 * c), (2 * c, 4 * c), (4 * c, 8 * c), (8 * c, 8 * c))
        )
        self.up = nn.ModuleList(
            _double(i, i // 2, o)
            for i, o in ((16 * c, 4 * c), (8 * c, 2 * c), (4 * c, c), (2 * c, c))
        )
        self.leave = nn.Conv2d(c, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        x = self.enter(pad_to_multiple(x, MULTIPLE))
        skips = []
        for stage in self.down:
            skips.append(x)
            x = stage(functional.max_pool2d(x, 2))
        for stage, skip in zip(self.up, reversed(skips), strict=True):
            x = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
            x = stage(torch.cat([skip, x], dim=1))
        weights: Tensor = self.leave(x)[:, :1, :height, :width].sigmoid()
        return weights


class UnetGuide(NetworkGuide):
    """The paper's U-Net as a method.

    Parameters
    ----------
    base : int
        Width of an untrained network; ignored if ``net`` is given.
    seed : int
        Initial values of an untrained network.
    net : UNet, optional
    info : MethodInfo, optional
    """

    def __init__(
        self,
        base: int = 64,
        seed: int = 0,
        *,
        net: UNet | None = None,
        info: MethodInfo | None = None,
    ) -> None:
        net_ = build_seeded(lambda: UNet(base), seed) if net is None else net
        untrained = MethodInfo("unet", "the paper's U-Net", "guide", count_parameters(net_))
        super().__init__(net_, info or untrained)


def _double(inputs: int, middle: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, middle, 3, padding=1, bias=False),
        nn.BatchNorm2d(middle),
        nn.ReLU(inplace=True),
        nn.Conv2d(middle, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
