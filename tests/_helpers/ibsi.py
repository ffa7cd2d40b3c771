"""The digital phantom of the Image Biomarker Standardisation Initiative, and its intensity peaks.

Zwanenburg et al., IBSI reference manual (arXiv:1612.07003), section 5.1 (figure of the phantom) and
3.2 (intensity peaks). The rows below have its published center of mass shift (0.672 mm), Moran's I
(0.0397) and Geary's C (0.974), which depend on the place of every voxel.
"""

from __future__ import annotations

import numpy as np

OUT = np.nan
#: Slices along z, rows along y; OUT is not in the region.
PHANTOM = np.array(
    [
        [[1, 4, 4, 1, 1], [1, 4, 6, 1, 1], [4, 1, 6, 4, 1], [4, 4, 6, 4, 1]],
        [[1, 4, 4, 1, 1], [1, 1, 6, 1, 1], [OUT, 1, 3, 1, 1], [4, 4, 6, 1, 1]],
        [[1, 4, 4, OUT, OUT], [1, 1, 1, 1, 1], [1, 1, OUT, 1, 1], [1, 1, 6, 1, 1]],
        [[1, 4, 4, OUT, OUT], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 6, 1, 1]],
    ]
)
STEP_MM = 2.0
#: The intensity of voxels outside of the region, of which the text of the manual says nothing but
#: that grey level 5 is in none of the region; with it both published peaks are met.
OUTSIDE = 5.0
RADIUS_MM = (3000 / (4 * np.pi)) ** (1 / 3)


def ibsi_phantom() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values (X, Y, Z), region (X, Y, Z) bool, and affine."""
    mask = np.isfinite(PHANTOM)
    values = np.where(mask, PHANTOM, OUTSIDE)
    affine = np.diag([STEP_MM, STEP_MM, STEP_MM, 1.0])
    return values.transpose(2, 1, 0), mask.transpose(2, 1, 0), affine


def ibsi_means(values: np.ndarray, mask: np.ndarray, step_mm: float) -> np.ndarray:
    """Mean about each voxel of a region, over all voxels with centers within the sphere of 1 ml."""
    index = np.argwhere(np.ones(values.shape, bool))
    found = [
        values[tuple(index[np.linalg.norm((index - at) * step_mm, axis=1) <= RADIUS_MM].T)].mean()
        for at in np.argwhere(mask)
    ]
    return np.array(found)
