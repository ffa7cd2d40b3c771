"""Whether the voxels of two grids lie on one lattice, cut out or turned as they may be."""

from __future__ import annotations

import numpy as np

from medfuse.imaging.grid import Grid, Matrix

#: Two lattices are one if no voxel of theirs is farther apart, voxels.
ON_LATTICE = 0.02


def on_lattice(to_index: Matrix) -> bool:
    """Whether a map between voxel indices brings voxels onto voxels, turned or cut out perhaps."""
    linear, shift = to_index[:3, :3], to_index[:3, 3]
    whole = np.rint(linear)
    turns = (np.abs(whole).sum(axis=0) == 1).all() and (np.abs(whole).sum(axis=1) == 1).all()
    return bool(
        turns
        and np.abs(linear - whole).max() * 512 < 1
        and np.abs(shift - np.rint(shift)).max() < ON_LATTICE
    )


def same_lattice(one: Grid, other: Grid) -> bool:
    """Whether the voxels of two grids lie on one lattice, cut out or turned as they may be."""
    return on_lattice(np.linalg.inv(one.affine) @ other.affine)
