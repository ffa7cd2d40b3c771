"""Colour on the way to fusion: scalar to RGB, RGB to YCbCr and back."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor, get_track_meta
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor
from torch import Tensor

from medfuse.fusion.choice import default_colormap
from medfuse.fusion.slices import plain
from medfuse.imaging.fingerprint import as_read
from medfuse.imaging.windows import Window, apply_window, default_window
from medfuse.kernel.color import rgb_to_ycbcr, ycbcr_to_rgb
from medfuse.kernel.colormaps import COLORMAPS, apply_colormap


class ColorizeFunctional(Transform):
    """Window a scalar image and colour it.

    Parameters
    ----------
    colormap : str, optional
        Default ``gray`` for CT, else ``glow``.
    window : (low, high), optional
        In the unit of the image. Default: by unit and modality where the image carries a unit;
        without one its values must lie in [0, 1].

    Raises
    ------
    ValueError
        If the colour map is unknown, the window does not rise, or values without a unit leave
        [0, 1].
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 - MONAI's convention

    def __init__(
        self, colormap: str | None = None, window: tuple[float, float] | None = None
    ) -> None:
        if colormap is not None and colormap not in COLORMAPS:
            raise ValueError(
                f"unknown color map {colormap!r}; choose one of {', '.join(COLORMAPS)}"
            )
        if window is not None and not window[0] < window[1]:
            raise ValueError(f"the window must rise, got {window[0]:g} to {window[1]:g}")
        self.colormap = colormap
        self.window = window

    def __call__(self, img: Any) -> Tensor:
        """(1, ...) values -> (3, ...) RGB in [0, 1], with the geometry and facts of the image."""
        image = as_read(convert_to_tensor(img, track_meta=get_track_meta()))
        if image.shape[0] != 1:
            raise ValueError(f"expected one channel, got shape {tuple(image.shape)}")
        meta = getattr(image, "meta", {})
        name = self.colormap or default_colormap(meta.get("modality", ""))
        values = torch.as_tensor(apply_window(plain(image), self._window(image)))
        return _like(apply_colormap(values[None].float(), name)[0], image)

    def _window(self, image: Tensor) -> Window:
        unit = image.meta.get("unit") if isinstance(image, MetaTensor) else None
        if self.window is not None:
            return Window(float(self.window[0]), float(self.window[1]), unit or "a.u.", "given")
        if isinstance(image, MetaTensor) and unit is not None:
            return default_window(image)
        low, high = (float(x) for x in torch.aminmax(plain(image)))
        if not (low >= 0 and high <= 1):  # also catches NaN
            raise ValueError(
                f"values without a unit must lie in [0, 1], got {low:g} to {high:g}; give "
                "window=(low, high), or load the image with ClinicalReader"
            )
        return Window(0.0, 1.0, "a.u.", "given")


class RGBToYCbCr(Transform):
    """(3, ...) RGB in [0, 1] -> (3, ...) Y, Cb, Cr (BT.601, full range; neutral chroma is 0.5)."""

    backend = [TransformBackends.TORCH]  # noqa: RUF012

    def __call__(self, img: Any) -> Tensor:
        image = convert_to_tensor(img, track_meta=get_track_meta())
        return _like(rgb_to_ycbcr(plain(image)[None].float())[0], image)


class YCbCrToRGB(Transform):
    """(3, ...) Y, Cb, Cr -> (3, ...) RGB.

    Parameters
    ----------
    clip : bool
        Clip to [0, 1]. Off, colours that no screen can show stay outside and can be counted.
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012

    def __init__(self, clip: bool = True) -> None:
        self.clip = clip

    def __call__(self, img: Any) -> Tensor:
        image = convert_to_tensor(img, track_meta=get_track_meta())
        rgb = ycbcr_to_rgb(plain(image)[None].float())[0]
        return _like(rgb.clamp(0, 1) if self.clip else rgb, image)


class _EachKey(MapTransform):
    """Apply one array transform to every key."""

    def __init__(
        self, keys: KeysCollection, transform: Transform, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = transform

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.transform(d[key])
        return d


class ColorizeFunctionald(_EachKey):
    """Dictionary form of :class:`ColorizeFunctional`."""

    backend = ColorizeFunctional.backend

    def __init__(
        self,
        keys: KeysCollection,
        colormap: str | None = None,
        window: tuple[float, float] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, ColorizeFunctional(colormap, window), allow_missing_keys)


class RGBToYCbCrd(_EachKey):
    """Dictionary form of :class:`RGBToYCbCr`."""

    backend = RGBToYCbCr.backend

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, RGBToYCbCr(), allow_missing_keys)


class YCbCrToRGBd(_EachKey):
    """Dictionary form of :class:`YCbCrToRGB`."""

    backend = YCbCrToRGB.backend

    def __init__(
        self, keys: KeysCollection, clip: bool = True, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, YCbCrToRGB(clip), allow_missing_keys)


def _like(result: Tensor, image: Tensor) -> Tensor:
    """Give a result the meta data and the applied operations of the image it came from."""
    converted: Tensor = convert_to_dst_type(result, dst=image, dtype=result.dtype)[0]
    return converted


ColorizeFunctionalD = ColorizeFunctionalDict = ColorizeFunctionald
RGBToYCbCrD = RGBToYCbCrDict = RGBToYCbCrd
YCbCrToRGBD = YCbCrToRGBDict = YCbCrToRGBd
