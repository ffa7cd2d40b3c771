"""The bound of the error: from the spread of the witnesses, point by point."""

from __future__ import annotations

import json

import numpy as np
import pytest

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


def test_a_half_speaks_for_its_half_alone() -> None:
    half = Witness("upper", rigid((0, 0, 0), (0, 5.0, 0)), half=(0.0, 0.0, 1.0, -10.0))
    whole = Witness("whole", np.eye(4))
    np.testing.assert_allclose(
        error(whole, half).spread_mm(POINTS), [np.sqrt(12.5), np.sqrt(12.5), 0.0]
    )


def test_nothing_asked_is_no_bound() -> None:
    assert np.isinf(error().within_mm(POINTS)).all()


def test_exchanged_witnesses_judge_the_same_points() -> None:
    here = rigid((10.0, -5.0, 20.0), (3.0, -40.0, 12.0))
    there = rigid((12.0, -4.0, 17.0), (5.0, -38.0, 10.0))
    witness = Witness("w", there, half=(0.0, 0.6, 0.8, 5.0))
    off = witness.off_mm(here, POINTS)
    back = witness.exchanged(here)
    np.testing.assert_array_equal(
        np.isnan(back.off_mm(np.linalg.inv(here), transform_points(here, POINTS))), np.isnan(off)
    )
    # The point that the witness took for p lies as far from p, up to the turn between both maps.
    swapped = back.off_mm(np.linalg.inv(here), transform_points(here, POINTS))
    assert swapped[~np.isnan(off)] == pytest.approx(off[~np.isnan(off)], rel=0.2)


def test_json_and_back_is_the_same_bound() -> None:
    made = error(Witness("a", rigid((1, 2, 3), (4, 5, 6)), half=(1.0, 0.0, 0.0, -1.0)))
    read = ExpectedError.from_dict(json.loads(json.dumps(made.to_dict())), np.eye(4))
    np.testing.assert_array_equal(read.within_mm(POINTS), made.within_mm(POINTS))
