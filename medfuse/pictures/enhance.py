"""Enhance one image by a network that was trained to fuse two, and measure what it did.

Every pixel is painted. The measures say how far the result is from its input and how much of its
structure the input does not explain; nothing can say that what was added is true.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from medfuse.audit import Check, Evidence
from medfuse.audit.structure import invented
from medfuse.errors import UsageError
from medfuse.imaging.grid import DisplayOrder, Grid
from medfuse.imaging.located import is_located, like
from medfuse.imaging.windows import Window, apply_window, default_window
from medfuse.kernel.color import desaturate, rgb_to_ycbcr
from medfuse.kernel.threads import share_out
from medfuse.methods.base import Method, MethodInfo, Painter
from medfuse.methods.gifnet import GifnetPainter
from medfuse.methods.registry import get_method
from medfuse.settings import Progress

if TYPE_CHECKING:
    from monai.data import MetaTensor

WARNING: Final = (
    "Every enhanced pixel was painted by a network that learned from street scenes. The picture "
    "may look sharper, but it holds no information that its input does not hold, and structure may "
    "be invented. Not for diagnosis, not for measurement; keep the original beside it."
)
UNIT: Final = "windowed, 0 to 1"


@dataclass(frozen=True)
class Enhancement:
    """An enhanced image and what was measured.

    Attributes
    ----------
    image : (1, X, Y, Z) or (C, H, W) float32 in [0, 1]
        MetaTensor with the affine of the input where it had one; no longer in its unit.
    before, after : (S, 1, R, K) float32 in [0, 1]
        Luminance of the input in its window and of the result, in slice order.
    psnr_db : float
        Of ``after`` to ``before``; infinite if nothing changed.
    gradient_gain : float
        Mean gradient magnitude of the luminance after, relative to before, minus 1.
    invented : Check
        Structure of the result that the input does not explain.
    method : MethodInfo
    spacing : (row, column) float
        Of the slices, mm; 1 for pictures.
    window : Window or None
        None where the values came in [0, 1] already.
    """

    image: Tensor
    before: Tensor
    after: Tensor
    psnr_db: float
    gradient_gain: float
    invented: Check
    method: MethodInfo
    spacing: tuple[float, float] = (1.0, 1.0)
    window: Window | None = None


def enhance(
    image: Tensor,
    *,
    method: str | Path | Method | Painter = "gifnet",
    window: tuple[float, float] | None = None,
    progress: Progress | None = None,
) -> Enhancement:
    """Paint an image again, sharper where the network can: luminance alone, chroma is kept.

    Parameters
    ----------
    image : (1, X, Y, Z) MetaTensor, or (1 or 3, H, W) tensor in [0, 1]
        A volume from ``medfuse.load`` or a picture.
    method : str, Path, Method or Painter
        GIFNet weights.
    window : (low, high), optional
        Of a volume, in its unit; default by unit and modality.
    progress : callable (fraction, text), optional
        Raise from it to cancel.

    Raises
    ------
    UsageError
        ``E_CANNOT_ENHANCE`` if the method is no GIFNet; ``E_UNKNOWN_METHOD``, ``E_PRECISION``.
    ValueError
        If the shape is another, or a picture leaves [0, 1].
    """
    painter = find_painter(method)
    if is_located(image) and image.ndim == 4:
        return _enhance_volume(image, painter, window, progress)
    if image.ndim != 3 or image.shape[0] not in (1, 3) or window is not None:
        raise ValueError(
            f"expected a (1, X, Y, Z) MetaTensor or (1 or 3, H, W) in [0, 1], got {image.shape}"
        )
    low, high = (float(x) for x in torch.aminmax(image))
    if not (low >= 0 and high <= 1):  # also catches NaN
        raise ValueError(f"a picture must lie in [0, 1], got {low:g} to {high:g}")
    found = enhance_planes(image[None], painter, progress)
    return replace(found, image=found.image[0])


def enhance_planes(
    planes: Tensor, painter: GifnetPainter, progress: Progress | None = None
) -> Enhancement:
    """Enhance a stack of slices, each by itself.

    Parameters
    ----------
    planes : (S, 1 or 3, R, K) float32 in [0, 1]
        Grey or RGB.
    painter : GifnetPainter
    progress : callable (fraction, text), optional

    Returns
    -------
    Enhancement
        ``image`` has the shape of ``planes``.
    """
    ycbcr = rgb_to_ycbcr(planes) if planes.shape[1] == 3 else planes
    before = ycbcr[:, :1].clamp(0, 1)
    after = torch.empty_like(before)
    notify = progress or (lambda fraction, text: None)

    def paint(k: int) -> None:
        after[k : k + 1] = painter.enhance(before[k : k + 1])

    share_out(paint, range(len(before)), lambda done: notify(done / len(before), "painting"))
    image = after if planes.shape[1] == 1 else desaturate(after, ycbcr[:, 1:])[0]
    error = (after - before).double().square().mean()
    return Enhancement(
        image=image,
        before=before,
        after=after,
        psnr_db=-10 * error.log10().item(),
        gradient_gain=_gradient(after) / max(_gradient(before), 1e-12) - 1,
        invented=_invented(before, after),
        method=painter.info,
    )


def _enhance_volume(
    image: MetaTensor,
    painter: GifnetPainter,
    given: tuple[float, float] | None,
    progress: Progress | None,
) -> Enhancement:
    grid = Grid.from_volume(image)
    order = DisplayOrder.from_grid(grid)
    window = default_window(image) if given is None else _given(image, given)
    values = apply_window(image.as_tensor(), window)
    planes = order.apply(values).transpose(0, 1).contiguous()
    found = enhance_planes(planes, painter, progress)
    painted = order.invert(found.image.transpose(0, 1)).contiguous()
    return replace(
        found,
        image=like(image, painted, image.affine),
        window=window,
        spacing=order.spacing[1:],
    )


def _given(image: MetaTensor, window: tuple[float, float]) -> Window:
    low, high = window
    if not low < high:
        raise ValueError(f"the window must rise, got {low:g} to {high:g}")
    return Window(low, high, str(image.meta.get("unit", "a.u.")), "given")


def find_painter(method: str | Path | Method | Painter) -> GifnetPainter:
    """The method, if it can enhance.

    Raises
    ------
    UsageError
        ``E_CANNOT_ENHANCE`` if not; ``E_UNKNOWN_METHOD``.
    WeightsError
    """
    found = get_method(method)
    if not isinstance(found, GifnetPainter):
        raise UsageError(
            "E_CANNOT_ENHANCE",
            what="Cannot enhance",
            cause=f"{found.info.name} fuses two images, it cannot enhance one",
            remedy="Choose gifnet, or weights of that network",
        )
    return found


def _invented(before: Tensor, after: Tensor) -> Check:
    """The audit's measure of structure that no source explains; both sources are the input."""
    found = invented(Evidence(a=before, b=before, luminance=after, rgb=after))
    worst = 100 * found.details["worst_slice"]
    text = (
        f"{100 * found.value:.2f} % of the fine structure, and {worst:.1f} % in the worst slice, "
        "is not explained by the input in windows of 8 x 8 voxels, even if each window may change "
        "its brightness and contrast."
    )
    return replace(found, text=text)


def _gradient(x: Tensor) -> float:
    """Mean gradient magnitude within slices, forward differences."""
    down = x[..., 1:, :-1] - x[..., :-1, :-1]
    across = x[..., :-1, 1:] - x[..., :-1, :-1]
    return float(down.hypot(across).double().mean())


def remarks(found: Enhancement) -> list[str]:
    """What a user must be told beside the numbers."""
    if found.gradient_gain > 0:
        return []
    return ["Gradients did not grow: this image came out smoother, not sharper."]


def measures(found: Enhancement) -> dict[str, Any]:
    """The three numbers of an enhancement, for records."""
    return {
        "psnr_db": round(found.psnr_db, 3),
        "gradient_gain": round(found.gradient_gain, 4),
        "invented": round(found.invented.value, 5),
        "invented_worst_slice": round(found.invented.details["worst_slice"], 5),
        "invented_verdict": found.invented.verdict,
    }
