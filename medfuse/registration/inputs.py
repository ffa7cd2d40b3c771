"""What registration sees of a volume: checked, robustly scaled to [0, 1], with its foreground.

Scaling keeps one hot organ (a bladder at SUV 66) or one metal clip from eating the histogram.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from medfuse.errors import RegistrationError
from medfuse.imaging.grid import Grid, to_sitk

if TYPE_CHECKING:
    from monai.data.meta_tensor import MetaTensor

MIN_SLICES = 4
NON_FINITE_ALLOWED = 1e-3
# HU -> [0, 1]: half of the range goes to soft tissue, where organs differ by some ten HU.
HU_KNOTS = (-1000.0, -200.0, 250.0, 2000.0)
HU_VALUES = (0.0, 0.2, 0.7, 1.0)
HU_BODY = -300.0
TOP_PERCENTILE = 99.5
TOP_OF_UPTAKE = 99.9


@dataclass(frozen=True)
class Prepared:
    """A volume made ready for comparison.

    Parameters
    ----------
    image : sitk.Image
        float32 in [0, 1], voxels averaged to about `base_mm` where they were finer.
    mask : sitk.Image
        uint8 on the grid of `image`: 1 in the body or brain (largest connected part).
    depth : sitk.Image
        Signed distance to the edge of `mask`, mm: negative inside.
    grid : Grid
        Of the volume as it came.
    """

    image: sitk.Image
    mask: sitk.Image
    depth: sitk.Image
    grid: Grid


def check_volume(volume: MetaTensor, *, role: str, thin_allowed: bool = False) -> None:
    """Refuse a volume on which registration cannot work, before ITK says something misleading.

    Parameters
    ----------
    volume : (1, X, Y, Z) MetaTensor
    role : str
        Named in the text: fixed or moving.
    thin_allowed : bool
        Where nothing is optimised, a few slices will do.

    Raises
    ------
    RegistrationError
        ``E_TOO_FEW_SLICES``, ``E_NONFINITE``, ``E_CONSTANT``.
    """
    what = f"Cannot register the {role} volume"
    if volume.ndim != 4 or volume.shape[0] != 1:
        raise RegistrationError(
            "E_NOT_A_VOLUME",
            what=what,
            cause=f"expected one channel (1, X, Y, Z), got shape {tuple(volume.shape)}",
            remedy="Give one three-dimensional volume",
        )
    if min(volume.shape[1:]) < MIN_SLICES and not thin_allowed:
        raise RegistrationError(
            "E_TOO_FEW_SLICES",
            what=what,
            cause=f"it has {min(volume.shape[1:])} voxels along one axis, at least {MIN_SLICES} "
            "are needed",
            remedy="Use identity registration if both series share a frame of reference",
        )
    values = volume.detach().cpu().numpy()[0]
    bad = 1.0 - float(np.isfinite(values).mean())
    if bad > NON_FINITE_ALLOWED:
        raise RegistrationError(
            "E_NONFINITE",
            what=what,
            cause=f"{100 * bad:.2f} % of its voxels are NaN or infinite",
            remedy="Replace them, or export the volume again",
        )
    finite = values[np.isfinite(values)]
    low, high = float(finite.min()), float(finite.max())
    if low == high:
        raise RegistrationError(
            "E_CONSTANT",
            what=what,
            cause=f"every voxel has the value {low:g}",
            remedy="Check that the right series was chosen",
        )


def prepare(volume: MetaTensor, *, base_mm: float) -> Prepared:
    """Scale a checked volume to [0, 1] and find its foreground.

    CT in HU follows fixed knots. PET and SPECT become log(1 + uptake / median uptake): a bladder
    ninety times as hot as muscle takes half the range, not all. All else is clipped at percentiles.

    Parameters
    ----------
    volume : (1, X, Y, Z) MetaTensor
    base_mm : float
        Voxels finer than this are averaged in blocks first.
    """
    grid = Grid.from_volume(volume)
    values = np.nan_to_num(volume.detach().cpu().numpy()[0], nan=0.0, posinf=0.0, neginf=0.0)
    raw = to_sitk(values.astype(np.float32, copy=False), grid.affine)
    blocks = [
        max(1, min(int(base_mm / step), size // MIN_SLICES))
        for step, size in zip(grid.spacing, grid.shape, strict=True)
    ]
    if max(blocks) > 1:
        raw = sitk.BinShrink(raw, blocks)
    array = sitk.GetArrayFromImage(raw)
    if volume.meta.get("unit") == "HU":
        scaled = np.interp(array, HU_KNOTS, HU_VALUES)
        mask = foreground(raw, threshold=HU_BODY)
    else:
        mask = foreground(raw)
        inside = sitk.GetArrayViewFromImage(mask) > 0
        scaled = _scaled(array, inside, str(volume.meta.get("modality")))
    image = sitk.GetImageFromArray(scaled.astype(np.float32))
    image.CopyInformation(raw)
    depth = sitk.SignedMaurerDistanceMap(mask, squaredDistance=False, useImageSpacing=True)
    return Prepared(image=image, mask=mask, depth=depth, grid=grid)


def _scaled(
    array: NDArray[np.float32], inside: NDArray[np.bool_], modality: str
) -> NDArray[np.float32]:
    """Compress bright parts: by a logarithm for uptake, by a square root for all else."""
    sample = array[inside] if inside.any() else array.ravel()
    if modality in ("PET", "SPECT") and (typical := float(np.median(sample))) > 0:
        top = float(np.percentile(sample, TOP_OF_UPTAKE))
        uptake = np.log1p(np.clip(array, 0.0, top) / typical)
        return np.asarray(uptake / np.log1p(top / typical))
    top = float(np.percentile(sample, TOP_PERCENTILE))
    bottom = float(np.percentile(array, 100.0 - TOP_PERCENTILE))
    if top <= bottom:
        bottom, top = float(array.min()), float(array.max())
    return np.asarray(np.sqrt(np.clip((array - bottom) / (top - bottom), 0.0, 1.0)))


def foreground(image: sitk.Image, *, threshold: float | None = None) -> sitk.Image:
    """Find the body or brain: the largest connected part above air, holes filled.

    Without a given threshold, the lower of two Otsu thresholds of the square root is used: three
    classes keep muscle in when a bright tumour would take the upper class for itself.

    Returns
    -------
    mask : sitk.Image
        uint8; all 1 where no plausible foreground was found.
    """
    coarse = at_resolution(image, step_mm=4.0, sigma_mm=4.0)
    array = sitk.GetArrayFromImage(coarse)
    if threshold is None:
        array = np.sqrt(np.clip(array - max(0.0, float(array.min())), 0.0, None))
        array = np.minimum(array, np.percentile(array, TOP_PERCENTILE))
        compressed = sitk.GetImageFromArray(array)
        above = sitk.OtsuMultipleThresholds(compressed, 2) > 0
    else:
        above = sitk.GetImageFromArray((array > threshold).astype(np.uint8))
    parts = sitk.RelabelComponent(sitk.ConnectedComponent(above), sortByObjectSize=True)
    largest = sitk.BinaryFillhole(parts == 1)
    if float(sitk.GetArrayViewFromImage(largest).mean()) < 0.01:
        largest = largest * 0 + 1
    largest.CopyInformation(coarse)
    return on_grid_of(image, largest)


def on_grid_of(image: sitk.Image, mask: sitk.Image) -> sitk.Image:
    """Bring a mask to another grid; all 1 where nothing of it is left there."""
    moved = sitk.Resample(mask, image, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    return moved if sitk.GetArrayViewFromImage(moved).any() else moved * 0 + 1


def smoothed(image: sitk.Image, sigma_mm: float) -> sitk.Image:
    """Blur by a Gaussian of `sigma_mm`, less along axes that are coarse already."""
    blurred = image
    for axis, step in enumerate(image.GetSpacing()):
        # A voxel of width w has itself the blur of a Gaussian of about w / sqrt(12).
        sigma = np.sqrt(max(sigma_mm**2 - step**2 / 12.0, 0.0))
        if sigma > 0.3 * step and image.GetSize()[axis] >= MIN_SLICES:
            gaussian = sitk.RecursiveGaussianImageFilter()
            gaussian.SetSigma(float(sigma))
            gaussian.SetDirection(axis)
            blurred = gaussian.Execute(blurred)
    return blurred


def at_resolution(image: sitk.Image, *, step_mm: float, sigma_mm: float) -> sitk.Image:
    """Blur and then take every n-th voxel so that steps come near `step_mm`; coarse axes stay."""
    factors = [max(1, round(step_mm / step)) for step in image.GetSpacing()]
    most = [max(1, size // MIN_SLICES) for size in image.GetSize()]
    factors = [min(f, m) for f, m in zip(factors, most, strict=True)]
    # Not sitk.Shrink: by even factors it shifts the picture half a voxel against its own origin.
    i, j, k = (slice((f - 1) // 2, None, f) for f in factors)
    coarse: sitk.Image = smoothed(image, sigma_mm)[i, j, k]
    return coarse
