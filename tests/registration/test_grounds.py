"""When a deformation is used, and what is said where it is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from medfuse.case.deformation import deformation_checks
from medfuse.imaging.grid import Grid, transform_points
from medfuse.registration.deformation import Deformation
from medfuse.registration.deformed import deformation_signs
from medfuse.registration.expected import Witness
from medfuse.registration.grounds import Grounds
from medfuse.registration.halves import apart_mm, halves_of

LIMB = Grounds(8.0, 3.8, 5.7, 5.5, True, 0.117, 0.018, 11.1, 12.1)
FITS = replace(LIMB, skin_mm=2.7)
HEAD = replace(FITS, skin_after_mm=1.9, parts_mm=4.4, runs_through=False, disagreement_mm=3.0)


@pytest.mark.parametrize(
    ("grounds", "used"),
    [
        (LIMB, True),
        (replace(LIMB, energy_nats=0.2), False),
        (replace(LIMB, skin_after_mm=7.0, disagreement_mm=12.0), False),
        (FITS, False),
        (replace(FITS, disagreement_mm=4.0), True),
        (replace(FITS, disagreement_mm=4.0, parts_mm=2.0), False),
        (replace(FITS, disagreement_mm=4.0, parts_mm=None), False),
        (HEAD, False),
        (replace(HEAD, runs_through=True), True),
    ],
)
def test_it_is_used_where_something_else_than_information_speaks_for_it(
    grounds: Grounds, used: bool
) -> None:
    assert grounds.used is used
    assert bool(grounds.why_not) is not used


def test_the_reason_names_what_was_found() -> None:
    assert "nothing that a rigid motion leaves open" in HEAD.why_not
    assert "ends in the image, as a head does" in HEAD.why_not
    assert "how much it bends" in replace(LIMB, energy_nats=0.2).why_not
    closed = replace(LIMB, skin_after_mm=7.4)
    assert "does not explain" in closed.why_not
    assert "7.4 mm" in closed.why_not


def test_an_unused_deformation_leaves_the_verdict_and_one_row_in_the_audit() -> None:
    grid = Grid((4, 5, 6), np.diag([4.0, 4.0, 4.0, 1.0]))
    still = Deformation(grid, np.zeros((4, 5, 6, 3), np.float32), 0.0, grounds=HEAD)
    facts = still.to_dict()
    assert facts["used"] is False
    assert Deformation.from_dict(facts, still.displacement).grounds == HEAD
    (sign,) = deformation_signs(facts)
    assert sign.verdict == "good"
    assert "not used" in sign.reason
    (check,) = deformation_checks(facts)
    assert check.verdict == "pass"
    assert "not used" in check.text
    moved = replace(still, displacement=still.displacement + 1)
    assert len(deformation_checks(moved.to_dict())) > 1, "what moves is judged, whatever is said"


def test_two_halves_become_one_bend() -> None:
    points = np.random.default_rng(4).uniform(-100, 100, (500, 3))
    up, down = np.eye(4), np.eye(4)
    up[0, 3], down[0, 3] = 6.0, -6.0
    seen = Witness("upper half", up), Witness("lower half", down), Witness("more blur", np.eye(4))
    halves = halves_of(seen, np.eye(4), points)
    assert halves is not None
    shifts = (halves.there(points) - points)[:, 0]
    assert shifts[points[:, 2] > 80] == pytest.approx(6.0, abs=0.8)
    assert shifts[points[:, 2] < -80] == pytest.approx(-6.0, abs=0.8)
    returned = halves.back(halves.there(points), np.eye(4))
    assert returned == pytest.approx(points, abs=1e-6)
    assert apart_mm(seen, np.eye(4), points) == pytest.approx(6.0)
    assert halves_of(seen[1:], np.eye(4), points) is None
    turned = transform_points(np.diag([-1.0, 1.0, -1.0, 1.0]), np.eye(3))
    whole = np.eye(4)
    whole[:3, :3] = turned
    assert halves_of(seen, whole, points) is None
