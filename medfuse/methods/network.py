"""Run a guide network on stacks of slices: padding, chunks of bounded memory, folded norms."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from medfuse.errors import UsageError
from medfuse.kernel.pyramid import gaussian_pyramid
from medfuse.methods.base import BF16, MethodInfo, Weights

# Samples of one forward pass: activations of this size still fit the caches of a laptop CPU.
CHUNK_PIXELS = 4 * 256 * 256


class NetworkMethod:
    """A network that answers with one map a slice.

    Parameters
    ----------
    net : nn.Module
        (N, 2, H, W) in [-1, 1], A then B -> (N, 1, H, W) in [0, 1], for every H and W. It is
        taken over: switched to evaluation, batch norms folded, laid out as channels-last.
    info : MethodInfo
    """

    def __init__(self, net: nn.Module, info: MethodInfo) -> None:
        self.net = fold_batch_norm(net.eval()).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._info = info
        self._dtype = torch.float32

    @property
    def info(self) -> MethodInfo:
        return self._info

    @property
    def device(self) -> torch.device:
        """Where the network lies and computes; answers come back to where the images lie."""
        place: torch.device = next(self.net.parameters()).device
        return place

    def to(self, device: torch.device) -> Self:
        """The same method computed on another device."""
        method = copy.copy(self)
        method.net = copy.deepcopy(self.net).to(device)
        return method

    def in_bfloat16(self) -> Self:
        """The same method computed in bfloat16, under a name that says so."""
        method = copy.copy(self)
        method.net = copy.deepcopy(self.net).to(torch.bfloat16)
        method._info = replace(self._info, name=self._info.name + BF16)
        method._dtype = torch.bfloat16
        return method

    @torch.inference_mode()
    def _answer(self, a: Tensor, b: Tensor) -> Tensor:
        out = torch.empty(a.shape, device=a.device)
        for part, x in self._chunks(a, b):
            out[part] = self._run(x)
        return out

    def _chunks(self, a: Tensor, b: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Input of the network, a few slices at a time."""
        check_pair(a, b)
        check_bfloat16(self._info.name, self._dtype, self.device)
        count = max(1, CHUNK_PIXELS // (a.shape[2] * a.shape[3]))
        for start in range(0, len(a), count):
            part = slice(start, start + count)
            x = network_input(a[part].float(), b[part].float())
            yield part, x.to(self.device, self._dtype)

    def _run(self, x: Tensor) -> Any:
        """Answer to one chunk of input: a map, or one a band."""
        return self.net(x)


class NetworkGuide(NetworkMethod):
    """A network whose answer is a weight map."""

    def weights(self, a: Tensor, b: Tensor) -> Tensor:
        """Choose weights; see :class:`medfuse.methods.base.Method`.

        Raises
        ------
        ValueError
            If the images are not (N, 1, H, W) of one shape.
        UsageError
            ``E_PRECISION`` for bfloat16 on a processor without it.
        """
        return self._answer(a, b)


class NetworkPainter(NetworkMethod):
    """A network whose answer is the fused luminance."""

    def luminance(self, a: Tensor, b: Tensor) -> Tensor:
        """Paint; see :class:`medfuse.methods.base.Painter`; raises as a guide does."""
        return self._answer(a, b)


def check_pair(a: Tensor, b: Tensor) -> None:
    """Raise ValueError unless both are (N, 1, H, W) of one shape."""
    if a.shape != b.shape or a.ndim != 4 or a.shape[1] != 1:
        raise ValueError(
            f"a and b must both be (N, 1, H, W), got {tuple(a.shape)} and {tuple(b.shape)}"
        )


def check_bfloat16(name: str, dtype: torch.dtype, device: torch.device) -> None:
    """Raise ``E_PRECISION`` for a method in bfloat16 on a processor without it."""
    if dtype == torch.bfloat16 and device.type == "cpu" and not has_bfloat16():
        raise UsageError(
            "E_PRECISION",
            what=f"Cannot run {name}",
            cause="this processor has no bfloat16 arithmetic; it would be slower, not faster",
            remedy=f"Leave {BF16} out",
        )


def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware, as far as torch can tell."""
    # torch 2.6 has no such question.
    found: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(found.get(name) for name in ("avx512_bf16", "amx_bf16", "arm_bf16", "bf16"))


def network_input(a: Tensor, b: Tensor) -> Tensor:
    """(N, 1, H, W) in [0, 1] twice -> (N, 2, H, W) in [-1, 1], channels-last."""
    x = torch.cat([a, b], dim=1) * 2 - 1
    return x.contiguous(memory_format=torch.channels_last)


def level_maps(maps: Tensor | Sequence[Tensor]) -> Weights:
    """What the kernel takes for (N, M, H, W): the one map, or map k brought to pyramid level k.

    Maps that are at their levels already are passed through.
    """
    if not isinstance(maps, Tensor):
        return maps
    if maps.shape[1] == 1:
        return maps
    return [gaussian_pyramid(maps[:, k : k + 1], k)[k] for k in range(maps.shape[1])]


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column until both sides are multiples."""
    rows, columns = -x.shape[2] % multiple, -x.shape[3] % multiple
    if not (rows or columns):
        return x
    return functional.pad(x, (0, columns, 0, rows), mode="replicate")


def fold_batch_norm(net: nn.Module) -> nn.Module:
    """Put every batch norm of an evaluated network into the convolution before it, in place.

    Works where convolution and norm are neighbours in an ``nn.Sequential``.

    References
    ----------
    Jacob et al., CVPR 2018, section 3.2.
    """
    for module in net.modules():
        if isinstance(module, nn.Sequential):
            layers = list(module.named_children())
            for (name, conv), (norm_name, norm) in pairwise(layers):
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
