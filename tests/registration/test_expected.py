"""The bound of the error: from the spread of the witnesses, point by point."""

from __future__ import annotations

import json

import numpy as np

from medfuse.imaging.grid import transform_points
from medfuse.registration.expected import ExpectedError, Witness
from tests._helpers.motions import rigid

POINTS = np.array([[0.0, 0, 0], [100.0, 0, 0], [0, 0, -80.0]])


def error(*witnesses: Witness) -> ExpectedError:
    return ExpectedError(np.eye(4), witnesses, least_mm=3.0, factor=2.0)


def test_witnesses_that_agree_leave_the_least_bound() -> None:
    bound = error(Witness("a", np.eye(4)), Witness("b", np.eye(4))).within_mm(POINTS)
    np.testing.assert_allclose(bound, 3.0)


def test_a_turned_witness_leaves_the_middle_and_moves_the_rim() -> None:
    bound = error(Witness("turned", rigid((0, 0, 10.0), (0, 0, 0)))).within_mm(POINTS)
    chord = 2 * 100 * np.sin(np.radians(5.0))
    np.testing.assert_allclose(bound, [3.0, np.hypot(3.0, 2.0 * chord), 3.0], rtol=1e-9)


def test_nothing_asked_is_no_bound() -> None:
    assert np.isinf(error().within_mm(POINTS)).all()


def test_exchanged_pair_has_the_same_bound() -> None:
    here, there = rigid((10.0, -5.0, 20.0), (3.0, -40.0, 12.0)), rigid((0, 0, 0), (2.0, 0, 0))
    made = ExpectedError(here, (Witness("w", there @ here),), least_mm=3.0, factor=2.0)
    back = ExpectedError(
        np.linalg.inv(here), tuple(w.exchanged() for w in made.witnesses), least_mm=3.0, factor=2.0
    )
    np.testing.assert_allclose(
        back.within_mm(transform_points(here, POINTS)), made.within_mm(POINTS), rtol=1e-9
    )


def test_json_and_back_is_the_same_bound() -> None:
    made = error(Witness("a", rigid((1, 2, 3), (4, 5, 6))))
    read = ExpectedError.from_dict(json.loads(json.dumps(made.to_dict())), np.eye(4))
    np.testing.assert_array_equal(read.within_mm(POINTS), made.within_mm(POINTS))
