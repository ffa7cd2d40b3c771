"""Small copies of the volumes for the viewer in the report: 8 bit, cropped, down-sampled.

They lie as NIfTI files beside the other figures, so that they are hashed, replayed and compared
like these. The page takes them in as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medfuse.imaging.grid import Grid, transform_points
from medfuse.kernel.colormaps import COLORMAPS
from medfuse.report.positions import ErrorAt
from medfuse.results.export import LUMA, Bytes, plane_orders, to_bytes, write_nifti
from medfuse.results.outlines import region_colour

if TYPE_CHECKING:
    from medfuse.report.figures import ReportVolumes

#: A page stays under 8 MB: this much of it, before base64 makes four bytes of three.
VIEWER_BUDGET = 2_100_000
MOST_VOXELS = 2_000_000
TRIES = 3
#: Small, and not in every record of the same case: the size of voxels does not depend on them.
SOMETIMES = ("functional_before", "regions")
#: Sampling of what has the resolution of a PET, mm; not finer than twice the voxel of the rest.
SOFT_MM = 2.5
ERROR_MM = 8.0
ERROR_STEP_MM = 0.1
COLORS = 256
#: JFIF: scale of Cb and Cr around 128.
CHROMA = (0.564, 0.713)
NAMES = (
    *("anatomical", "functional", "functional_before", "luminance", "cb", "cr", "share"),
    *("expected_error", "regions"),
)

CONTOURS = "viewer_regions.nii.gz"

Floats = NDArray[np.floating[Any]]
Source = Callable[[tuple[slice, ...]], NDArray[Any]]


@dataclass(frozen=True)
class Lattice:
    """Where the voxels of a small copy lie in the volume.

    Attributes
    ----------
    parts : three slices
        The part that is taken, with a step where many voxels become one.
    shape : (X, Y, Z) int
        Of the copy.
    affine : (4, 4) float64
        Index of the copy -> RAS mm.
    """

    parts: tuple[slice, slice, slice]
    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    @classmethod
    def of(cls, grid: Grid, crop: list[tuple[int, int]], most: int) -> Lattice:
        """The finest near-isotropic lattice over a part of a grid with at most so many voxels."""
        sizes = [stop - start for start, stop in crop]
        mm = min(grid.spacing)
        while np.prod(shape := _shape(sizes, grid.spacing, mm), dtype=np.int64) > most:
            mm *= 1.03
        parts, at, ratio = [], np.eye(4), np.ones(3)
        for axis, ((start, _), size, small) in enumerate(zip(crop, sizes, shape, strict=True)):
            step = max(1, size // (2 * small))
            count = size // step
            parts.append(slice(start, start + count * step, step))
            ratio[axis] = count / small * step
            at[axis, axis] = ratio[axis]
            at[axis, 3] = start + step * (count / small - 1) / 2
        return cls((parts[0], parts[1], parts[2]), shape, grid.affine @ at)

    def coarser(self, mm: float) -> Lattice:
        """A lattice over the same part with voxels of about `mm`; never a finer one."""
        spacing = Grid(self.shape, self.affine).spacing
        shape = _shape(list(self.shape), spacing, mm)
        ratio = np.array(self.shape) / np.array(shape)
        at = np.diag([*ratio, 1.0])
        at[:3, 3] = (ratio - 1) / 2
        return Lattice(self.parts, shape, self.affine @ at)

    def shrink(self, source: Source) -> Bytes:
        """Means over the volume that `source` gives part by part, in [0, 1], as bytes."""
        first, *others = self.parts
        planes = []
        for x in range(first.start, first.stop, first.step):
            plane = to_bytes(source((slice(x, x + 1), *others)))[0]
            planes.append(_resized(plane, self.shape[1:]))
        return _along_first(np.stack(planes), self.shape[0])

    def soften(self, fine: Bytes) -> Bytes:
        """A copy on a finer lattice over the same part, brought to this one."""
        planes = np.stack([_resized(plane, self.shape[1:]) for plane in fine])
        return _along_first(planes, self.shape[0])

    def nearest(self, labels: NDArray[Any]) -> Bytes:
        """Labels of a volume at the voxels of the copy, not mixed."""
        cut = labels[tuple(slice(part.start, part.stop) for part in self.parts)]
        index = [
            ((np.arange(small) + 0.5) * size / small).astype(np.int64)
            for small, size in zip(self.shape, cut.shape, strict=True)
        ]
        return np.asarray(cut[np.ix_(*index)], dtype=np.uint8)


def write_viewer(
    folder: Path,
    volumes: ReportVolumes,
    grid: Grid,
    foreground: NDArray[np.bool_],
    *,
    hottest: float | None,
) -> dict[str, Any]:
    """Write ``viewer_*.nii.gz``; what `figures.json` says of them.

    Parameters
    ----------
    folder : Path
        That of the figures.
    volumes : ReportVolumes
    grid : Grid
        Of the volumes.
    foreground : (X, Y, Z) bool
        What shall be seen.
    hottest : float, optional
        Value at the hottest spot, in the functional unit; up to here values can be read.

    Raises
    ------
    OutputError
        ``E_WRITE``.
    """
    crop = [_span(foreground, axis) for axis in range(3)]
    most = MOST_VOXELS
    for _ in range(TRIES):
        lattice = Lattice.of(grid, crop, most)
        files = _write(folder, volumes, lattice, hottest)
        size = sum((folder / files[n]).stat().st_size for n in files if n not in SOMETIMES)
        if size <= VIEWER_BUDGET:
            break
        most = int(0.9 * np.prod(lattice.shape) * VIEWER_BUDGET / size)
    small = Grid(lattice.shape, lattice.affine)
    coronal = plane_orders(small)["coronal"]
    return {
        "files": files,
        "shape": list(lattice.shape),
        "affine": lattice.affine.round(6).tolist(),
        "inverse": np.linalg.inv(lattice.affine).round(9).tolist(),
        "spacing_mm": [round(s, 2) for s in small.spacing],
        "of_spacing_mm": [round(s, 2) for s in grid.spacing],
        "windows": _windows(volumes, hottest),
        "colors": _colors(volumes.colormap),
        "overlay_colors": _colors(volumes.overlay) if volumes.overlay else "",
        "error_step_mm": ERROR_STEP_MM,
        "projection": {"axes": list(coronal.axes), "flips": list(coronal.flips)},
        "regions": list(volumes.regions.names) if volumes.regions else [],
        "region_colors": [region_colour(n + 1) for n in range(len(volumes.regions.names))]
        if volumes.regions
        else [],
    }


def _windows(volumes: ReportVolumes, hottest: float | None) -> dict[str, dict[str, Any]]:
    """What the bytes of a scalar image stand for."""
    windows = {"anatomical": volumes.anatomical_window, "functional": volumes.window}
    told: dict[str, dict[str, Any]] = {
        name: {"low": float(w.low), "high": float(w.high), "unit": w.unit}
        for name, w in windows.items()
        if w is not None
    }
    if "functional" in told:
        top = told["functional"]["high"]
        told["functional"]["top"] = round(max(top, hottest or top), 4)
    return told


def _write(
    folder: Path, volumes: ReportVolumes, fine: Lattice, hottest: float | None
) -> dict[str, str]:
    """Write all copies; their file names by what they show."""
    spacing = min(Grid(fine.shape, fine.affine).spacing)
    is_sharp = volumes.window is not None and volumes.window.unit == "HU"
    soft = fine if is_sharp else fine.coarser(min(SOFT_MM, 2 * spacing))
    chroma = fine.coarser(min(SOFT_MM, 2 * spacing))
    files = {}

    def put(name: str, lattice: Lattice, values: NDArray[Any]) -> None:
        path = folder / f"viewer_{name}.nii.gz"
        files[name] = write_nifti(path, values, lattice.affine).name

    put("anatomical", fine, fine.shrink(volumes.anatomical.__getitem__))
    covered = fine.shrink(lambda part: volumes.coverage[part].astype(np.float32))
    scale = _windows(volumes, hottest).get("functional")
    for name, shown, values in (
        ("functional", volumes.functional, volumes.functional_values),
        ("functional_before", volumes.functional_before, None),
    ):
        if shown is not None and shown.ndim == 4:
            put(
                name, soft, np.stack([soft.soften(fine.shrink(c.__getitem__)) for c in shown]) / 255
            )
        elif shown is not None:
            coded = soft.soften(fine.shrink(_rooted(shown, values, scale)))
            inside = soft.soften(covered) >= 128 if name == "functional" else True
            # 0 is outside the field of view.
            put(name, soft, np.where(inside, 1 + (coded * 254.0 + 127) // 255, 0).astype(np.uint8))
    luminance, cb, cr = (fine.shrink(source) for source in _picture(volumes.fused))
    put("luminance", fine, luminance)
    put("cb", chroma, chroma.soften(cb))
    put("cr", chroma, chroma.soften(cr))
    put("share", chroma, chroma.soften(fine.shrink(volumes.share.__getitem__)))
    if volumes.error_at is not None:
        coarse = fine.coarser(ERROR_MM)
        put("expected_error", coarse, _errors(coarse, volumes.error_at))
    if volumes.regions is not None:
        put("regions", fine, fine.nearest(volumes.regions.labels()))
    return files


def _rooted(shown: Floats, values: Floats | None, scale: dict[str, Any] | None) -> Source:
    """Square root of the part of the range from `low` to `top`: low values get the finer steps."""
    low, high, top = (scale[n] for n in ("low", "high", "top")) if scale else (0.0, 1.0, 1.0)
    if values is None or scale is None:
        return lambda part: np.sqrt(shown[part].clip(0, 1) * ((high - low) / (top - low)))
    return lambda part: np.sqrt(((values[part] - low) / (top - low)).clip(0, 1))


def _picture(fused: Floats) -> tuple[Source, Source, Source]:
    """Luminance and chroma (JFIF) of an RGB picture, part by part."""

    def luminance(part: tuple[slice, ...]) -> NDArray[Any]:
        return np.tensordot(LUMA, fused[(slice(None), *part)], 1)

    def chroma(channel: int, scale: float) -> Source:
        return lambda part: 128 / 255 + scale * (fused[channel][part] - luminance(part))

    return luminance, chroma(2, CHROMA[0]), chroma(0, CHROMA[1])


def _colors(name: str) -> str:
    """A color map as hexadecimal digits, six a color."""
    table = COLORMAPS[name].numpy()
    at = np.linspace(0, len(table) - 1, COLORS)
    ramp = np.stack([np.interp(at, np.arange(len(table)), c) for c in table.T], axis=-1)
    return to_bytes(ramp).tobytes().hex()


def _errors(lattice: Lattice, error_at: ErrorAt) -> Bytes:
    """Bound of the error of the registration in steps; the last one stands for more."""
    index = np.argwhere(np.ones(lattice.shape, dtype=bool))
    within = error_at(transform_points(lattice.affine, index)) / ERROR_STEP_MM
    steps = np.ceil(np.nan_to_num(within, nan=255, posinf=255)).clip(0, 255)
    return np.asarray(steps.reshape(lattice.shape), dtype=np.uint8)


def _shape(sizes: list[int], spacing: tuple[float, ...], mm: float) -> tuple[int, int, int]:
    x, y, z = (min(n, max(1, round(n * step / mm))) for n, step in zip(sizes, spacing, strict=True))
    return x, y, z


def _span(foreground: NDArray[np.bool_], axis: int) -> tuple[int, int]:
    """From the first to the last plane with something to see, and 3 % more on both sides."""
    seen = np.flatnonzero(foreground.any(axis=tuple(a for a in range(3) if a != axis)))
    size = foreground.shape[axis]
    if not seen.size:
        return 0, size
    margin = round(0.03 * size) + 1
    return max(0, int(seen[0]) - margin), min(size, int(seen[-1]) + 1 + margin)


def _resized(plane: Bytes, shape: tuple[int, ...]) -> Bytes:
    if plane.shape == shape:
        return plane
    picture = Image.fromarray(np.ascontiguousarray(plane))
    return np.asarray(picture.resize((shape[1], shape[0]), Image.Resampling.BOX))


def _along_first(planes: Bytes, count: int) -> Bytes:
    """Bring the first axis to `count`: all other voxels of a plane are one row of a picture."""
    flat = _resized(planes.reshape(len(planes), -1), (count, planes[0].size))
    return flat.reshape(count, *planes.shape[1:])
