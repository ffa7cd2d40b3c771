"""The coarse search: how densely rotations are tried, and what it finds."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings

from medfuse.registration.geometry import rotation_angle
from medfuse.registration.inputs import prepare
from medfuse.registration.progress import Meter
from medfuse.registration.search import rotation_ball, search
from tests._helpers.motions import moved, rigid, two_balls, vectors, volume


@given(vectors.filter(lambda v: np.linalg.norm(v) <= 45))
@settings(max_examples=60)
def test_every_rotation_within_the_limit_is_near_one_that_is_tried(vector: tuple) -> None:
    near = min(
        rotation_angle(rigid(vector, (0, 0, 0))[:3, :3].T @ tried)
        for tried in rotation_ball(step_deg=24.0, limit_deg=60.0)
    )
    assert near <= 0.56 * 24.0


def test_search_finds_a_far_turned_object_within_its_voxel() -> None:
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = (-75, -75, -75)
    still = volume(two_balls(affine, (50, 50, 50)), affine)
    turned = rigid((0.0, 24.0, 0.0), (300.0, -200.0, 700.0))
    found = search(
        prepare(still, base_mm=2.0),
        prepare(moved(still, turned), base_mm=2.0),
        rotations=rotation_ball(step_deg=24.0, limit_deg=30.0),
        step_mm=10.0,
        meter=Meter(None),
    )
    assert np.linalg.norm(found[0].matrix[:3, 3] - turned[:3, 3]) < 10.0
    assert rotation_angle(found[0].matrix @ np.linalg.inv(turned)) < 1.0
    assert found[0].score > 1.1 * found[-1].score
