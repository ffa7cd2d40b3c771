"""GIFNet: one network that paints the fused luminance of any pair, and enhances a single image.

A painter, not a guide: every pixel leaves a convolution, and nothing bounds it by the sources.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from medfuse.errors import UsageError
from medfuse.methods.base import MethodInfo
from medfuse.methods.network import (
    NetworkMethod,
    build_seeded,
    check_bfloat16,
    check_pair,
    count_parameters,
)

Route = Literal["modal", "focus"]
ROUTES: Final[tuple[Route, Route]] = ("modal", "focus")
VARIANTS: Final = {
    "focus": "by the focus stream, as published",
    "symmetric": "mean of both input orders, at twice the time",
}

_WINDOW = 8  # side of an attention window, pixels
_SMALLEST = 16  # smaller images are padded to this: reflection needs something to reflect
_DIM, _HEADS = 98, 2
_MOST_PIXELS, _BYTES_A_PIXEL = 1_500_000, 11_000  # measured at 256 x 256, float32
_SLOPE = 1.2  # of the tanh at first, for each source


class GifNet(nn.Module):
    """Shared encoder, two streams that exchange queries, one decoder; 822,780 parameters.

    Parameters
    ----------
    route : {"modal", "focus"}
        Which stream paints at inference. As published the focus stream serves every task.
    parity : bool
        Repeat two slips of the published training: the depth-wise convolution of the auxiliary
        stream sees the main stream's values in modal steps, and the auxiliary stream's norm, MLP
        and embedding receive gradients. Nothing changes at inference on the focus route.

    Shape
    -----
    Two (N, 1, H, W) in [0, 1], functional or first, then anatomical or second -> (N, 1, H, W) in
    [0, 1], for every H and W. The order matters.

    References
    ----------
    Cheng et al., CVPR 2025 (arXiv 2502.19854), rebuilt from its description; Song et al., IEEE
    Trans. Image Process. 32 (2023), for the attention block.
    """

    def __init__(self, *, route: Route = "focus", parity: bool = False) -> None:
        super().__init__()
        if route not in ROUTES:
            raise ValueError(f"unknown route {route!r}; known are modal and focus")
        self.route = route
        self.encoder = SharedEncoder()
        self.gating = TwoStreamGate(parity=parity)
        self.decoder = GlobalDecoder()
        self.reconstruction = nn.Sequential(
            _conv(_DIM, 64), nn.ReLU(), _conv(64, 32), nn.ReLU(), _conv(32, 16), nn.ReLU(),
            _conv(16, 1), nn.Tanh(),
        )  # fmt: skip
        _start_as_mean([*self.decoder.join, *self.decoder.paint])

    def forward(self, first: Tensor, second: Tensor, route: Route | None = None) -> Tensor:
        shared = self.encoder(first, second)
        return self.paint(shared, shared, route or self.route)

    def paint(self, main: Tensor, auxiliary: Tensor, route: Route) -> Tensor:
        """Features (N, 98, H, W) of the task at hand and of the other one -> (N, 1, H, W)."""
        out: Tensor = self.decoder(main, self.gating(main, auxiliary, route))
        return out


class SharedEncoder(nn.Module):
    """Three densely connected convolutions; the raw pair stays among the 98 features."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(_conv(2 + 32 * k, 32) for k in range(3))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        x = torch.cat([first, second], dim=1).contiguous(memory_format=torch.channels_last)
        for conv in self.convs:
            x = _join(x, functional.relu(conv(x)))
        return x


class TwoStreamGate(nn.Module):
    """Two window transformers side by side, one a task; the main one takes in the other.

    Block 0: the auxiliary stream is asked by the main stream's queries, and its answer enters the
    main stream times a learned scalar. Block 1, with shifted windows: the main stream alone.
    """

    def __init__(self, *, parity: bool) -> None:
        super().__init__()
        self.parity = parity
        self.embed = nn.ModuleList(_conv(_DIM, _DIM) for _ in ROUTES)
        self.blocks = nn.ModuleList(nn.ModuleList(Block() for _ in ROUTES) for _ in range(2))
        self.bias = nn.ModuleList(RelativeBias() for _ in range(2))
        # One scalar a route and block, as stored in the published file; block 1 has no use for it.
        self.gate = nn.Parameter(torch.rand(2, 2))
        self.leave = _conv(_DIM, _DIM)

    def shares(self) -> dict[str, Tensor]:
        """How much of the other stream each route takes in, ``gate_modal`` and ``gate_focus``."""
        return {f"gate_{name}": self.gate[k, 0].detach() for k, name in enumerate(ROUTES)}

    def forward(self, main: Tensor, auxiliary: Tensor, route: Route) -> Tensor:
        here = ROUTES.index(route)
        there = 1 - here
        height, width = main.shape[2:]
        main, auxiliary = (_reflect_to_multiple(x, 4) for x in (main, auxiliary))
        x = self.embed[here](main)
        bias = [table() for table in self.bias]
        streams, after = self.blocks
        x, queries, values = streams[here](x, bias[0], shift=0)  # type: ignore[index]
        with torch.set_grad_enabled(self.parity and torch.is_grad_enabled()):
            other, _, _ = streams[there](  # type: ignore[index]
                self.embed[there](auxiliary),
                bias[0],
                shift=0,
                queries=queries,
                local=values if self.parity and route == "modal" else None,
            )
        x = x + self.gate[here, 0] * other
        x, _, _ = after[here](x, bias[1], shift=_WINDOW // 2)  # type: ignore[index]
        out: Tensor = self.leave(x)
        return out[:, :, :height, :width]


class Block(nn.Module):
    """Attention between a norm and its undoing, then a per-pixel MLP, both with a skip.

    The norm takes mean and deviation of the whole sample away; two learned maps of them are put
    back behind the attention.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(_DIM, 1, 1))
        self.shift = nn.Parameter(torch.zeros(_DIM, 1, 1))
        self.rescale, self.rebias = Pixelwise(1, _DIM), Pixelwise(1, _DIM)
        for conv, start in ((self.rescale, 1.0), (self.rebias, 0.0)):
            nn.init.normal_(conv.weight, std=0.02)
            nn.init.constant_(conv.bias, start)
        self.attention = WindowAttention()
        self.mlp = nn.Sequential(Pixelwise(_DIM, 2 * _DIM), nn.ReLU(), Pixelwise(2 * _DIM, _DIM))

    def forward(
        self,
        x: Tensor,
        bias: Tensor,
        *,
        shift: int,
        queries: Tensor | None = None,
        local: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Features, and the queries and values of this stream for the other one."""
        mean = x.mean((1, 2, 3), keepdim=True)
        spread = (x - mean).square().mean((1, 2, 3), keepdim=True).add(1e-5).sqrt()
        normal = (x - mean) / spread * self.scale + self.shift
        found, own_queries, values = self.attention(
            normal, bias, shift=shift, queries=queries, local=local
        )
        x = x + found * self.rescale(spread) + self.rebias(mean)
        return x + self.mlp(x), own_queries, values


class WindowAttention(nn.Module):
    """Attention in windows of 8 x 8 pixels, beside a depth-wise 5 x 5 convolution of the values."""

    def __init__(self) -> None:
        super().__init__()
        self.value = Pixelwise(_DIM, _DIM)
        self.query_key = Pixelwise(_DIM, 2 * _DIM)
        self.local = nn.Conv2d(_DIM, _DIM, 5, padding=2, padding_mode="reflect", groups=_DIM)
        self.out = Pixelwise(_DIM, _DIM)

    def forward(
        self,
        x: Tensor,
        bias: Tensor,
        *,
        shift: int,
        queries: Tensor | None = None,
        local: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        height, width = x.shape[2:]
        value = self.value(x)
        own_queries, keys = self.query_key(x).chunk(2, dim=1)
        asked = own_queries if queries is None else queries
        padded = [_pad_to_windows(t, shift) for t in (asked, keys, value)]
        q, k, v = (_windows(t) for t in padded)
        found = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        found = _image(found, padded[0].shape)[:, :, shift : shift + height, shift : shift + width]
        near = self.local(value if local is None else local)
        return self.out(found + near), own_queries, value


class RelativeBias(nn.Module):
    """Bias of attention from the signed logarithm of the distance between two pixels."""

    positions: Tensor

    def __init__(self) -> None:
        super().__init__()
        axis = torch.arange(_WINDOW)
        place = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1).reshape(-1, 2)
        offset = (place[:, None] - place[None]).float()
        signed = offset.sign() * offset.abs().log1p()
        self.register_buffer("positions", signed, persistent=False)
        self.mlp = nn.Sequential(nn.Linear(2, 256), nn.ReLU(), nn.Linear(256, _HEADS))

    def forward(self) -> Tensor:
        """(1, heads, 64, 64), for all windows."""
        out: Tensor = self.mlp(self.positions).permute(2, 0, 1)[None]
        return out


class Pixelwise(nn.Linear):
    """A 1 x 1 convolution; as a matrix product it is faster on one thread."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class GlobalDecoder(nn.Module):
    """Shared features and those of the transformer -> one image in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.join = nn.Sequential(
            Pixelwise(2 * _DIM, _DIM, bias=False), nn.ReLU(), Pixelwise(_DIM, 128, bias=False)
        )
        self.paint = nn.Sequential(
            _conv(128, 64), nn.ReLU(), _conv(64, 32), nn.ReLU(), _conv(32, 16), nn.ReLU(),
            _conv(16, 1), nn.Tanh(),
        )  # fmt: skip

    def forward(self, shared: Tensor, deep: Tensor) -> Tensor:
        out: Tensor = self.paint(self.join(_join(shared, deep)))
        return out / 2 + 0.5


class GifnetPainter(NetworkMethod):
    """GIFNet as a method: slice by slice, so that no slice depends on its neighbours.

    Parameters
    ----------
    net : GifNet, optional
        Trained network, taken over; without one an untrained network is made.
    info : MethodInfo, optional
    seed : int
        Initial values of an untrained network.
    """

    net: GifNet

    def __init__(
        self, net: GifNet | None = None, info: MethodInfo | None = None, *, seed: int = 0
    ) -> None:
        net_ = build_seeded(GifNet, seed) if net is None else net
        untrained = MethodInfo(
            "gifnet", "GIFNet, untrained", "synthesis", count_parameters(net_), levels=0
        )
        super().__init__(net_, info or untrained)
        self._route: Route = self.net.route
        self._both_orders = False

    def diagnostics(self) -> dict[str, Any]:
        """Which stream paints, and how much of the other one each takes in."""
        gates = {name: float(value) for name, value in self.net.gating.shares().items()}
        return {"route": self._route, "both_orders": self._both_orders, **gates}

    def variant(self, name: str) -> GifnetPainter:
        """One of :data:`VARIANTS` of the same weights, under a name that says so."""
        painter = copy.copy(self)
        painter._info = replace(self._info, name=f"{self._info.name}-{name}")
        if name == "symmetric":
            painter._both_orders = True
        else:
            painter._route = "focus"
        return painter

    def luminance(self, a: Tensor, b: Tensor) -> Tensor:
        """Paint; see :class:`medfuse.methods.base.Painter`; raises as a guide does."""
        check_pair(a, b)
        return self._by_slice(a, b, self._route)

    def enhance(self, image: Tensor) -> Tensor:
        """Paint an image again from itself, given twice to the focus stream.

        Parameters
        ----------
        image : (N, 1, H, W) float32 in [0, 1]

        Returns
        -------
        (N, 1, H, W) float32 in [0, 1]
        """
        check_pair(image, image)
        return self._by_slice(image, image, "focus")

    @torch.inference_mode()
    def _by_slice(self, a: Tensor, b: Tensor, route: Route) -> Tensor:
        check_bfloat16(self._info.name, self._dtype, self.device)
        _check_size(a)
        out = torch.empty(a.shape, device=a.device)
        for k in range(len(a)):
            first, second = (
                _at_least_smallest(x[k : k + 1].to(self.device, self._dtype)) for x in (a, b)
            )
            painted = self.net(first, second, route).float()
            if self._both_orders:
                painted = (painted + self.net(second, first, route).float()) / 2
            out[k] = painted[0, :, : a.shape[2], : a.shape[3]]
        return out


def _check_size(image: Tensor) -> None:
    height, width = image.shape[2:]
    if height * width > _MOST_PIXELS:
        needed = height * width * _BYTES_A_PIXEL / 1e9
        raise UsageError(
            "E_TOO_LARGE",
            what="Cannot paint the image",
            cause=f"{width} x {height} pixels at once would need {needed:.0f} GB of memory, and "
            "pieces of it would be painted otherwise",
            remedy=f"Make it smaller than {_MOST_PIXELS / 1e6:g} million pixels",
        )


def _at_least_smallest(x: Tensor) -> Tensor:
    rows, columns = (max(_SMALLEST - side, 0) for side in x.shape[2:])
    return functional.pad(x, (0, columns, 0, rows), mode="replicate") if rows or columns else x


@torch.no_grad()
def _start_as_mean(layers: Sequence[nn.Module]) -> None:
    """Let a decoder begin as the mean of the raw pair, its first two features.

    From random values the tanh saturates at black before it has learned to pass detail on.
    """
    convs = [layer for layer in layers if isinstance(layer, nn.Conv2d | nn.Linear)]
    for conv in convs:
        last = conv is convs[-1]
        rows = 1 if last else 2
        conv.weight[:rows] = 0
        if conv.bias is not None:
            conv.bias[:rows] = -_SLOPE if last else 0
        mix = conv.weight[..., 1, 1] if isinstance(conv, nn.Conv2d) else conv.weight
        mix[:rows, :2] = _SLOPE if last else torch.eye(2)


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="reflect")


def _join(x: Tensor, more: Tensor) -> Tensor:
    """Concatenate channels; the last axis of channels-last memory is the fast one."""
    joined = torch.cat([x.permute(0, 2, 3, 1), more.permute(0, 2, 3, 1).to(x.dtype)], dim=3)
    return joined.permute(0, 3, 1, 2)


def _reflect_to_multiple(x: Tensor, multiple: int) -> Tensor:
    rows, columns = -x.shape[2] % multiple, -x.shape[3] % multiple
    return functional.pad(x, (0, columns, 0, rows), mode="reflect") if rows or columns else x


def _pad_to_windows(x: Tensor, shift: int) -> Tensor:
    """Whole windows, the first ones ``shift`` pixels before the image."""
    rows, columns = (-(side + shift) % _WINDOW for side in x.shape[2:])
    if not (shift or rows or columns):
        return x
    return functional.pad(x, (shift, columns, shift, rows), mode="reflect")


def _windows(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N H/8 W/8, heads, 64, C/heads)."""
    n, channels, height, width = x.shape
    s = _WINDOW
    x = x.permute(0, 2, 3, 1).reshape(n, height // s, s, width // s, s, _HEADS, channels // _HEADS)
    return x.permute(0, 1, 3, 5, 2, 4, 6).reshape(-1, _HEADS, s * s, channels // _HEADS)


def _image(windows: Tensor, shape: torch.Size) -> Tensor:
    """Undo :func:`_windows`."""
    n, channels, height, width = shape
    s = _WINDOW
    x = windows.reshape(n, height // s, width // s, _HEADS, s, s, channels // _HEADS)
    return x.permute(0, 1, 4, 2, 5, 3, 6).reshape(n, height, width, channels).permute(0, 3, 1, 2)
