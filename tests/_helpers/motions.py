"""Volumes at known places, and motions between them."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import strategies as st
from monai.data.meta_tensor import MetaTensor

from medfuse.imaging.grid import Grid, transform_points
from medfuse.registration.result import Registration
from medfuse.registration.search import rotation_matrix


def rigid(vector_deg: tuple[float, ...], shift: tuple[float, ...], about=(0, 0, 0)) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation_matrix(np.array(vector_deg, dtype=float))
    matrix[:3, 3] = np.array(about) - matrix[:3, :3] @ np.array(about) + np.array(shift)
    return matrix


def volume(values: np.ndarray, affine: np.ndarray, **meta: object) -> MetaTensor:
    facts = {
        "modality": "unknown",
        "unit": "a.u.",
        "spacing": np.linalg.norm(affine[:3, :3], axis=0).tolist(),
        "source": {"frame_of_reference": None},
        "suv": None,
        "notes": [],
        **meta,
    }
    tensor = torch.from_numpy(np.ascontiguousarray(values[None], dtype=np.float32))
    return MetaTensor(tensor, affine=torch.from_numpy(np.array(affine)), meta=facts)


def moved(moving: MetaTensor, motion: np.ndarray) -> MetaTensor:
    """The same voxels, said to lie elsewhere: the truth fixed -> moving becomes `motion`."""
    meta = {k: v for k, v in moving.meta.items() if k != "affine"}
    return volume(np.asarray(moving)[0], motion @ np.asarray(moving.affine), **meta)


def error_mm(found: np.ndarray, truth: np.ndarray, points: np.ndarray) -> np.ndarray:
    gap = transform_points(found, points) - transform_points(truth, points)
    return np.linalg.norm(gap, axis=1)


HEAD = np.array([[x, y, z] for x in (-60, 60) for y in (-90, 60) for z in (-40, 70)], dtype=float)
MOTION = rigid((9.0, -12.0, 6.0), (14.0, -22.0, 18.0), about=(0, -15, 15))
OBLIQUE = rigid((11.0, -7.0, 23.0), (3.0, -2.0, 4.0)) @ np.diag([1.5, -2.0, 3.0, 1.0])


def registration(matrix: np.ndarray, grid: Grid) -> Registration:
    return Registration(
        matrix=matrix,
        fixed_grid=grid,
        method="rigid",
        verdict="good",
        reasons=("a remark",),
        metric_before=0.1,
        metric_after=1.0 / 3.0,
        iterations=12,
        stop_reason="converged",
        overlap=0.9,
        shift_mm=1.0,
        rotation_deg=2.0,
        seed=0,
    )


vectors = st.tuples(*[st.floats(-170, 170)] * 3).filter(lambda v: np.linalg.norm(v) < 175)
shifts = st.tuples(*[st.floats(-800, 800)] * 3)


def two_balls(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A large and a small bright ball, asymmetric, smooth; world coordinates."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    world = transform_points(affine, index)

    def ball(centre: tuple[float, ...], radius: float) -> np.ndarray:
        return 1.0 / (1.0 + np.exp(np.linalg.norm(world - centre, axis=-1) - radius))

    return 100.0 * ball((0, 0, 0), 40.0) + 80.0 * ball((12, 18, -9), 12.0)


def bad(kind: str) -> MetaTensor:
    values = np.random.default_rng([ord(c) for c in kind]).uniform(size=(8, 9, 10))
    if kind == "constant":
        values[:] = 3.0
    elif kind == "nan":
        values[:2] = np.nan
    elif kind == "thin":
        values = values[..., :3]
    return volume(values, np.diag([2.0, 2.0, 2.0, 1.0]))
