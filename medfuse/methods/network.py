"""Run a guide network on stacks of slices: padding, chunks of bounded memory, folded norms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from medfuse.methods.base import MethodInfo

# Samples of one forward pass. Larger chunks are not faster on a CPU, they only need more memory.
CHUNK_PIXELS = 4 * 256 * 256


@dataclass(frozen=True)
class NetworkGuide:
    """A trained (or untrained) network that answers with one weight map a slice.

    Parameters
    ----------
    net : nn.Module
        (N, 2, H, W) in [-1, 1] -> (N, 1, H, W) in [0, 1]; H and W multiples of ``multiple``.
        Switched to evaluation, its batch norms folded and laid out as channels-last.
    info : MethodInfo
    multiple : int
        Sides are padded to this multiple by repeating the last row and column.
    """

    net: nn.Module
    info: MethodInfo
    multiple: int

    def __post_init__(self) -> None:
        fold_batch_norm(self.net.eval()).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def weights(self, a: Tensor, b: Tensor) -> Tensor:
        """Choose weights; see :class:`medfuse.methods.base.Method`.

        Raises
        ------
        ValueError
            If the images are not (N, 1, H, W) of one shape.
        """
        if a.shape != b.shape or a.ndim != 4 or a.shape[1] != 1:
            raise ValueError(
                f"a and b must both be (N, 1, H, W), got {tuple(a.shape)} and {tuple(b.shape)}"
            )
        count = max(1, CHUNK_PIXELS // (a.shape[2] * a.shape[3]))
        out = torch.empty_like(a, memory_format=torch.contiguous_format)
        for start in range(0, len(a), count):
            part = slice(start, start + count)
            out[part] = self._forward(a[part], b[part])
        return out

    def _forward(self, a: Tensor, b: Tensor) -> Tensor:
        height, width = a.shape[2:]
        x = torch.cat([a, b], dim=1) * 2 - 1
        x = functional.pad(
            x, (0, -width % self.multiple, 0, -height % self.multiple), mode="replicate"
        )
        result: Tensor = self.net(x.contiguous(memory_format=torch.channels_last))
        return result[:, :, :height, :width]


def fold_batch_norm(net: nn.Module) -> nn.Module:
    """Put every batch norm of an evaluated network into the convolution before it, in place.

    Relies on the convolution and its norm being neighbours in one ``nn.Sequential``.

    References
    ----------
    Jacob et al., CVPR 2018, section 3.2.
    """
    for module in net.modules():
        if isinstance(module, nn.Sequential):
            layers = list(module.named_children())
            for (name, conv), (norm_name, norm) in zip(layers, layers[1:], strict=False):
                if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    module.register_module(name, fuse_conv_bn_eval(conv, norm))
                    module.register_module(norm_name, nn.Identity())
    return net


def count_parameters(net: nn.Module) -> int:
    """Number of trained values."""
    return sum(p.numel() for p in net.parameters())


def build_seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Build a network whose initial values depend on the seed alone, not on earlier draws."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()
