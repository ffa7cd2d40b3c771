"""Fuse one registered pair: window, colour, guide, fixed kernel, colour again, audit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

from medfuse.audit import Audit, Evidence, ReadBack, audit_fusion
from medfuse.errors import GeometryError
from medfuse.imaging.grid import DisplayOrder, Grid, coverage
from medfuse.imaging.windows import Window, default_window
from medfuse.kernel.color import COLORMAPS, clip_gamut, fit_gamut, rgb_to_ycbcr, ycbcr_to_rgb
from medfuse.kernel.fusion import fuse_luminance
from medfuse.kernel.pyramid import Kernel
from medfuse.methods.base import Method, MethodInfo, get_method

Mode = Literal["slices", "volume"]
Gamut = Literal["fit", "clip"]
Progress = Callable[[float, str], None]

CHUNK = 16  # slices at a time: large enough for the cores, small enough for their caches
SAMPLES = 200_000  # voxels in which the audit reads uptake back
DEFAULT_COLORMAP = {"CT": "gray"}  # CT is read in grey, uptake in a colour that can be read back


@dataclass(frozen=True)
class FusionResult:
    """A fused image or volume and everything needed to account for it.

    Spatial axes are those of the anatomical image; MetaTensors with its affine where it had one.

    Attributes
    ----------
    rgb : (3, ...) float32 in [0, 1]
    luminance : (1, ...) float32
        Fused luminance before it was brought into the RGB gamut; may leave [0, 1] slightly.
    weights : (1, ...) float32 in [0, 1]
        What the guide asked for: 1 anatomical, 0 functional.
    share : (1, ...) float32 in [0, 1]
        What really came from the anatomical image.
    from_functional, from_anatomical : (1, ...) float32
        The two contributions; they sum to ``luminance``.
    functional_luminance, anatomical : (1, ...) float32 in [0, 1]
        The two sources as the kernel saw them.
    coverage : (1, ...) bool
        Inside the functional field of view.
    window, anatomical_window : Window or None
        None where the values came in [0, 1] already.
    colormap : str or None
        None where the functional image came as RGB.
    """

    rgb: Tensor
    luminance: Tensor
    weights: Tensor
    share: Tensor
    from_functional: Tensor
    from_anatomical: Tensor
    functional_luminance: Tensor
    anatomical: Tensor
    coverage: Tensor
    audit: Audit
    method: MethodInfo
    mode: Mode
    kernel: Kernel
    levels: int
    window: Window | None
    anatomical_window: Window | None
    colormap: str | None
    gamut: Gamut


def fuse(
    *,
    functional: Any,
    anatomical: Any,
    method: str | Path | Method = "swift",
    mode: Mode = "slices",
    colormap: str | None = None,
    kernel: Kernel = "binomial",
    gamut: Gamut = "fit",
    window: tuple[float, float] | None = None,
    anatomical_window: tuple[float, float] | None = None,
    bias: float = 0.0,
    weights: Any = None,
    progress: Progress | None = None,
) -> FusionResult:
    """Fuse the luminance of two images on one grid; keep the functional colour.

    Parameters
    ----------
    functional : (C, H, W) or (C, H, W, D) array, tensor or MetaTensor
        C = 1: scalar, coloured here; C = 3: RGB in [0, 1]. For volumes from ``medfuse.load`` pass
        ``registration.resample(functional)``. Outside its field of view the result is the
        anatomical image.
    anatomical : (1, H, W) or (1, H, W, D) array, tensor or MetaTensor
        Same spatial shape.
    method : str, Path or Method
        Guide: a name (``medfuse methods`` lists them), safetensors weights, or an object.
    mode : {"slices", "volume"}
        ``slices`` guides and blends slice by slice; ``volume`` averages the guide over the three
        axes and blends in 3-D, without steps between slices.
    colormap : str, optional
        For C = 1. Default ``gray`` for CT, else ``ember``, from which uptake can be read back.
    kernel : {"binomial", "paper"}
        ``binomial`` is exact for constants; ``paper`` reproduces the published kernel.
    gamut : {"fit", "clip"}
        Where fused luminance and functional chroma make no RGB colour: ``fit`` moves luminance to
        the nearest value that does, so that chroma survives; ``clip`` cuts the channels (paper).
    window, anatomical_window : (low, high), optional
        Display window in the unit of the image. Default: by unit and modality where the image
        carries a unit; images without one must lie in [0, 1].
    bias : float in [-1, 1]
        Shift of the weights toward the anatomical (positive) or the functional image (negative);
        1 takes the anatomical alone, -1 the functional alone.
    weights : (1, H, W) or (1, H, W, D) array or tensor in [0, 1], optional
        Use this map instead of asking the guide, e.g. a stored one to replay a fusion.
    progress : callable (fraction, text), optional
        Raise from it to cancel.

    Returns
    -------
    FusionResult

    Raises
    ------
    ValueError
        If shapes disagree, values without a unit leave [0, 1], or an option is out of its range.
    GeometryError
        If both images carry geometry and the grids differ.
    UsageError, WeightsError
        If the method is unknown or its weights cannot be trusted.

    References
    ----------
    Hybrid Fusion, arXiv 2602.20851, section 3; Burt & Adelson 1983.
    """
    flat = len(np.shape(anatomical)) == 3
    func, anat = _channel_first(functional, "functional"), _channel_first(anatomical, "anatomical")
    _check_pair(func, anat)
    if colormap is not None and colormap not in COLORMAPS:
        raise ValueError(f"unknown colour map {colormap!r}; choose one of {', '.join(COLORMAPS)}")
    if not -1 <= bias <= 1:
        raise ValueError(f"bias must lie in [-1, 1], got {bias:g}")
    guide = get_method(method)
    sources = _Sources(
        functional=func,
        anatomical=anat,
        window=_window(func, window, "functional"),
        anatomical_window=_window(anat, anatomical_window, "anatomical"),
        colormap=_colormap(func, colormap),
        coverage=_coverage(func, anat),
        gamut=gamut,
        bias=bias,
        weights=None if weights is None else _given_weights(weights, anat),
        flat=flat,
    )
    notify = progress or (lambda fraction, text: None)
    planes = _run(sources, guide, mode, kernel, notify)
    result = _result(planes, sources, guide, mode, kernel)
    notify(1.0, "fused")
    return result


@dataclass(frozen=True)
class _Sources:
    """The pair before windowing: (C, X, Y, Z); 2-D images have Z = 1."""

    functional: Tensor
    anatomical: Tensor
    window: Window | None
    anatomical_window: Window | None
    colormap: str | None
    coverage: Tensor | None  # (X, Y, Z) bool
    gamut: Gamut
    bias: float
    weights: Tensor | None  # (1, X, Y, Z)
    flat: bool  # the images came without a third axis

    def ycbcr(self, functional: Tensor) -> Tensor:
        """(N, C, R, K) functional values -> (N, 3, R, K) Y, Cb, Cr."""
        if self.colormap is None:
            return rgb_to_ycbcr(functional)
        # Colour conversion is affine, so a table of YCbCr interpolates like the table of RGB.
        table = rgb_to_ycbcr(COLORMAPS[self.colormap].T[None])[0].T.contiguous()
        position = _windowed(functional[:, 0], self.window).mul_(len(table) - 1)
        index = position.floor().clamp_max_(len(table) - 2)
        fraction = position.sub_(index)
        index = index.long()
        steps = table.diff(dim=0)
        planes = [torch.addcmul(table[:, c][index], steps[:, c][index], fraction) for c in range(3)]
        return torch.stack(planes, dim=1)


@dataclass(frozen=True)
class _Planes:
    """Outputs in slice order, each (S, C, R, K), and the way back to (C, X, Y, Z)."""

    order: DisplayOrder
    values: dict[str, Tensor]
    saturated: int

    def volume(self, name: str) -> Tensor:
        return self.order.invert(self.values[name].transpose(0, 1))


def _run(sources: _Sources, guide: Method, mode: Mode, kernel: Kernel, notify: Progress) -> _Planes:
    orders = _orders(sources, mode)
    planes = _allocate(sources, orders[0])
    slices = planes.values["a"].shape[0]
    for start in range(0, slices, CHUNK):
        notify(0.2 * start / slices, "colour")
        _prepare_chunk(sources, planes, slice(start, start + CHUNK))
    if sources.weights is None:
        _choose_weights(guide, planes, orders, notify)
        _shift(planes.values["weights"], sources.bias)
    else:
        planes.values["weights"] = orders[0].apply(sources.weights).transpose(0, 1).contiguous()
    covered = planes.values.get("coverage")
    if covered is not None:
        planes.values["weights"].masked_fill_(~covered, 1.0)
    _blend(planes, guide.info.levels, mode, kernel, notify)
    for start in range(0, slices, CHUNK):
        notify(0.8 + 0.1 * start / slices, "picture")
        _paint_chunk(planes, slice(start, start + CHUNK), sources.gamut)
    notify(0.9, "audit")
    return planes


def _orders(sources: _Sources, mode: Mode) -> list[DisplayOrder]:
    """Slice order of the guide: one, or one for each axis in volume mode."""
    image = sources.anatomical
    if isinstance(image, MetaTensor):
        grid = Grid.from_volume(image)
        first = DisplayOrder.from_grid(grid)
        others = [DisplayOrder.from_grid(grid, axis=a) for a in range(3) if a != first.axes[0]]
    else:
        plain = ((2, 0, 1), (0, 1, 2), (1, 0, 2))
        first, *others = (
            DisplayOrder("axial", axes, (False, False, False), (1.0, 1.0, 1.0)) for axes in plain
        )
    return [first, *others] if mode == "volume" and min(image.shape[1:]) > 1 else [first]


def _allocate(sources: _Sources, order: DisplayOrder) -> _Planes:
    slices, rows, columns = (sources.anatomical.shape[1 + axis] for axis in order.axes)
    one, three = (slices, 1, rows, columns), (slices, 3, rows, columns)
    names = ("a", "b", "weights", "luminance", "from_a", "from_b", "share", "gamut", "chroma")
    values = {name: torch.empty(one) for name in names}
    values["rgb"] = torch.empty(three)
    values["cbcr"] = torch.empty((slices, 2, rows, columns))
    values["chroma_before"] = torch.zeros(())
    if sources.coverage is not None:
        values["coverage"] = order.apply(sources.coverage).unsqueeze(1).contiguous()
    func = order.apply(_plain(sources.functional)).transpose(0, 1)
    anat = order.apply(_plain(sources.anatomical)).transpose(0, 1)
    saturated = 0
    if sources.window is not None and sources.functional.shape[0] == 1:
        above = func > sources.window.high
        if sources.coverage is not None:
            above &= values["coverage"]
        saturated = int(above.sum())
    values |= {"functional": func, "anatomical": anat}
    return _Planes(order, values, saturated)


def _prepare_chunk(sources: _Sources, planes: _Planes, part: slice) -> None:
    v = planes.values
    ycbcr = sources.ycbcr(v["functional"][part])
    v["b"][part] = _windowed(v["anatomical"][part], sources.anatomical_window)
    if "coverage" in v:
        outside = ~v["coverage"][part]
        ycbcr[:, :1].masked_fill_(outside, 0.0)
        ycbcr[:, 1:].masked_fill_(outside, 0.5)
    v["a"][part], v["cbcr"][part] = ycbcr[:, :1], ycbcr[:, 1:]


def _choose_weights(
    guide: Method, planes: _Planes, orders: list[DisplayOrder], notify: Progress
) -> None:
    """Ask the guide along every order; average in the slice order of the result."""
    v = planes.values
    total = v["weights"].zero_()
    for number, order in enumerate(orders):
        a, b = (_reorder(v[name], planes.order, order) for name in ("a", "b"))
        chosen = torch.empty_like(a)
        for start in range(0, len(a), CHUNK):
            part = slice(start, start + CHUNK)
            chosen[part] = guide.weights(a[part].contiguous(), b[part].contiguous())
            notify(0.2 + 0.4 * (number + start / len(a)) / len(orders), "guide")
        total += _reorder(chosen, order, planes.order)
    if len(orders) > 1:
        total /= len(orders)


def _shift(weights: Tensor, bias: float) -> None:
    """Move weights in place toward 1 (bias > 0) or 0 (bias < 0); they stay in [0, 1]."""
    if bias > 0:
        weights.lerp_(torch.ones(()), bias)
    elif bias < 0:
        weights.mul_(1 + bias)


def _reorder(x: Tensor, old: DisplayOrder, new: DisplayOrder) -> Tensor:
    return x if old is new else new.apply(old.invert(x.transpose(0, 1))).transpose(0, 1)


def _blend(planes: _Planes, levels: int, mode: Mode, kernel: Kernel, notify: Progress) -> None:
    """Fixed kernel, then the anatomical image alone where nothing functional was measured."""
    v = planes.values
    if mode == "volume":
        a, b, w = (v[name].transpose(0, 1).unsqueeze(0) for name in ("a", "b", "weights"))
        notify(0.6, "kernel")
        fused = fuse_luminance(a, b, w, levels=levels, kernel=kernel)
        for name in ("luminance", "from_a", "from_b"):
            v[name] = getattr(fused, name)[0].transpose(0, 1)
        v["share"] = fused.share()[0].transpose(0, 1)
    else:
        for start in range(0, len(v["a"]), CHUNK):
            part = slice(start, start + CHUNK)
            notify(0.6 + 0.2 * start / len(v["a"]), "kernel")
            fused = fuse_luminance(
                v["a"][part], v["b"][part], v["weights"][part], levels=levels, kernel=kernel
            )
            v["luminance"][part], v["share"][part] = fused.luminance, fused.share()
            v["from_a"][part], v["from_b"][part] = fused.from_a, fused.from_b
    if "coverage" in v:
        outside = ~v["coverage"]
        v["from_a"].masked_fill_(outside, 0.0)
        v["share"].masked_fill_(outside, 1.0)
        for name in ("luminance", "from_b"):
            v[name] = torch.where(outside, v["b"], v[name])


def _paint_chunk(planes: _Planes, part: slice, gamut: Gamut) -> None:
    v = planes.values
    luminance, cbcr = v["luminance"][part], v["cbcr"][part]
    exact = ycbcr_to_rgb(torch.cat([luminance, cbcr], dim=1))
    v["chroma_before"] = torch.maximum(v["chroma_before"], _chroma_drift(exact, cbcr).amax())
    rgb, v["gamut"][part] = clip_gamut(exact) if gamut == "clip" else fit_gamut(luminance, cbcr)
    v["chroma"][part] = _chroma_drift(rgb, cbcr)
    v["rgb"][part] = rgb


def _chroma_drift(rgb: Tensor, cbcr: Tensor) -> Tensor:
    return rgb_to_ycbcr(rgb)[:, 1:].sub_(cbcr).abs_().amax(dim=1, keepdim=True)


def _result(
    planes: _Planes, sources: _Sources, guide: Method, mode: Mode, kernel: Kernel
) -> FusionResult:
    v = planes.values
    evidence = Evidence(
        a=v["a"],
        b=v["b"],
        weights=v["weights"],
        luminance=v["luminance"],
        from_a=v["from_a"],
        from_b=v["from_b"],
        share=v["share"],
        rgb=v["rgb"],
        gamut_change=v["gamut"],
        chroma_change=v["chroma"],
        chroma_change_before=float(v["chroma_before"]),
        coverage=v.get("coverage"),
        saturated=planes.saturated,
        gamut=sources.gamut,
        read_back=_read_back_sample(planes, sources),
    )
    v.setdefault("coverage", torch.ones_like(v["a"], dtype=torch.bool))

    def out(name: str) -> Tensor:
        return _finish(planes.volume(name), sources)

    return FusionResult(
        rgb=out("rgb"),
        luminance=out("luminance"),
        weights=out("weights"),
        share=out("share"),
        from_functional=out("from_a"),
        from_anatomical=out("from_b"),
        functional_luminance=out("a"),
        anatomical=out("b"),
        coverage=out("coverage"),
        audit=audit_fusion(evidence),
        method=guide.info,
        mode=mode,
        kernel=kernel,
        levels=guide.info.levels,
        window=sources.window,
        anatomical_window=sources.anatomical_window,
        colormap=sources.colormap,
        gamut=sources.gamut,
    )


def _read_back_sample(planes: _Planes, sources: _Sources) -> ReadBack | None:
    """Every n-th covered voxel with uptake: its value, its 8-bit colour."""
    if sources.colormap is None:
        return None
    v = planes.values
    step = max(1, v["a"].numel() // SAMPLES)
    values = _windowed(v["functional"].reshape(-1)[::step], sources.window)
    wanted = values > 0.02
    if "coverage" in v:
        wanted &= v["coverage"].reshape(-1)[::step]
    rgb = v["rgb"].transpose(0, 1).reshape(3, -1)[:, ::step][:, wanted]
    return ReadBack(values[wanted], (rgb * 255).round_().div_(255), sources.colormap)


def _finish(volume: Tensor, sources: _Sources) -> Tensor:
    """Give an output the dimension and the geometry of the anatomical image."""
    if sources.flat:
        return volume[..., 0]
    image = sources.anatomical
    if isinstance(image, MetaTensor):
        meta = {key: image.meta[key] for key in ("spacing",) if key in image.meta}
        return MetaTensor(volume, affine=image.affine.clone(), meta=meta)
    return volume


def _channel_first(image: Any, role: str) -> Tensor:
    """(C, X, Y, Z) float32; a 2-D image gets a last axis of length 1."""
    if not isinstance(image, Tensor):
        image = torch.from_numpy(np.ascontiguousarray(image))
    if image.ndim not in (3, 4) or image.shape[0] not in (1, 3):
        raise ValueError(
            f"the {role} image must be (C, H, W) or (C, H, W, D) with C = 1 or 3, "
            f"got shape {tuple(image.shape)}"
        )
    if role == "anatomical" and image.shape[0] != 1:
        raise ValueError("the anatomical image must have one channel, got 3")
    return image.float() if image.ndim == 4 else _plain(image).float().unsqueeze(-1)


def _given_weights(weights: Any, anat: Tensor) -> Tensor:
    given = _plain(_channel_first(weights, "weight"))
    if given.shape != (1, *anat.shape[1:]):
        raise ValueError(
            f"weights must be {(1, *anat.shape[1:])} like the anatomical image, "
            f"got {tuple(given.shape)}"
        )
    low, high = torch.aminmax(given)
    if not (low >= 0 and high <= 1):
        raise ValueError(f"weights must lie in [0, 1], got {low:g} to {high:g}")
    return given


def _plain(x: Tensor) -> Tensor:
    return x.as_tensor() if isinstance(x, MetaTensor) else x


def _check_pair(func: Tensor, anat: Tensor) -> None:
    if func.shape[1:] != anat.shape[1:]:
        raise ValueError(
            f"both images must be on one grid, got {tuple(func.shape[1:])} functional and "
            f"{tuple(anat.shape[1:])} anatomical; use registration.resample(functional)"
        )
    if not (isinstance(func, MetaTensor) and isinstance(anat, MetaTensor)):
        return
    if not Grid.from_volume(func).same_as(Grid.from_volume(anat)):
        raise GeometryError(
            "E_GRID_MISMATCH",
            what="Cannot fuse",
            cause="functional and anatomical image have the same shape but another affine",
            remedy="Pass registration.resample(functional), which puts it on the anatomical grid",
        )


def _window(image: Tensor, given: tuple[float, float] | None, role: str) -> Window | None:
    unit = image.meta.get("unit") if isinstance(image, MetaTensor) else None
    if given is not None:
        low, high = given
        if not low < high:
            raise ValueError(f"the {role} window must rise, got {low:g} to {high:g}")
        return Window(float(low), float(high), unit or "a.u.", "given")
    if unit is not None and image.shape[0] == 1:
        return default_window(image)
    low, high = (float(x) for x in torch.aminmax(_plain(image)))
    if not (low >= 0 and high <= 1):  # also catches NaN
        raise ValueError(
            f"values of the {role} image without a unit must lie in [0, 1], got {low:g} to "
            f"{high:g}; give {'window' if role == 'functional' else 'anatomical_window'}"
            "=(low, high), or load the image with medfuse.load"
        )
    return None


def _windowed(x: Tensor, window: Window | None) -> Tensor:
    if window is None:
        return x.clone()
    return torch.sub(x, window.low).div_(window.high - window.low).clamp_(0, 1)


def _colormap(func: Tensor, name: str | None) -> str | None:
    if func.shape[0] == 3:
        if name is not None:
            raise ValueError("the functional image is RGB already; leave colormap out")
        return None
    modality = func.meta.get("modality", "") if isinstance(func, MetaTensor) else ""
    return name or DEFAULT_COLORMAP.get(modality, "ember")


def _coverage(func: Tensor, anat: Tensor) -> Tensor | None:
    """(X, Y, Z) bool from the geometry that ``Registration.resample`` recorded, else None."""
    view = func.meta.get("field_of_view") if isinstance(func, MetaTensor) else None
    if not view:
        return None
    source = Grid(tuple(view["shape"]), np.asarray(view["affine"], dtype=float))
    inside = coverage(Grid.from_volume(anat), source, np.asarray(view["moving_from_fixed"]))
    return torch.from_numpy(inside)
