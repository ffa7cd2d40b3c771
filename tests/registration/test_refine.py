"""Maps of ITK and matrices in RAS are the same maps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from medfuse.registration.geometry import rotation_angle
from medfuse.registration.refine import euler_transform, ras_matrix
from tests._helpers.motions import rigid, shifts, vectors


@given(vectors, shifts)
@settings(max_examples=40)
def test_rigid_map_survives_itk_and_its_angle_is_the_vectors_length(
    vector: tuple, shift: tuple
) -> None:
    matrix = rigid(vector, shift)
    np.testing.assert_allclose(ras_matrix(euler_transform(matrix, (4, 5, 6))), matrix, atol=1e-8)
    assert rotation_angle(matrix) == pytest.approx(np.linalg.norm(vector), abs=1e-6)
