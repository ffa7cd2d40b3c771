"""Verdicts: each rule alone, images that do not belong together."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from monai.data.meta_tensor import MetaTensor

from medfuse.errors import RegistrationError
from medfuse.imaging.grid import Grid, coverage, transform_points
from medfuse.imaging.reader import load
from medfuse.registration.fields import gap_mm
from medfuse.registration.outcome import Outcome
from medfuse.registration.quality import judge
from medfuse.registration.result import register
from tests._helpers.motions import OBLIQUE, moved, rigid, shifts, vectors


def test_headers_of_one_frame_of_reference_are_not_doubted_for_dull_images() -> None:
    kept = dataclasses.replace(FINE, method="identity", shares_frame=True, sharpness=1.0)
    found = judge(dataclasses.replace(kept, change_mm=1.0, change_deg=1.0), 3.0)
    assert found.verdict == "good"
    assert "nothing in the images confirms the position" in found.reasons[-1]


def test_head_on_thigh_is_noticed(brain: tuple[MetaTensor, MetaTensor], sample_data: Path) -> None:
    thigh = load(
        sample_data / "study" / "sts001-aligned" / "ct.nii.gz", modality="CT", values_in="HU"
    )
    found = register(fixed=thigh, moving=brain[1])
    assert found.verdict == "suspect"
    assert "different things" in found.reasons[0]


FINE = Outcome(
    matrix=np.eye(4),
    method="rigid",
    metric_before=0.1,
    metric_after=0.5,
    overlap=0.9,
    iterations=10,
    stop_reason="converged",
    shares_frame=False,
    given=False,
    change_mm=700.0,
    change_deg=30.0,
    rival=0.5,
    gain=4.0,
    sharpness=1.3,
)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"overlap": 0.2}, "20 % of the anatomical foreground"),
        ({"metric_after": 0.01}, "almost no information"),
        ({"sharpness": 1.03}, "only 1.03 times better here than 8 mm or 8 degrees away"),
        ({"method": "identity", "gain": 0.6, "change_mm": 12.0}, "1.6 times better 12 mm"),
        ({"rival": 0.99}, "nearly as well (score 0.99 times that of the position kept)"),
        ({"rival": 1.03}, "images better (score 1.03 times"),
        ({"matrix": np.diag([1.0, 0.8, 1.0, 1.0])}, "by +0.0 % to +25.0 %"),
        ({"matrix": np.diag([1.12, 1.12, 1.12, 1.0])}, "its volume by -28.8 %"),
        ({"given": True}, "700.0 mm and 30.0 degrees away"),
        ({"given": True, "change_mm": 3.0, "change_deg": 50.0}, "50.0 degrees"),
    ],
)
def test_each_rule_alone_makes_a_result_suspect_and_says_why(change: dict, words: str) -> None:
    fine = judge(FINE, 3.0)
    assert (fine.verdict, fine.reasons) == ("good", ())
    found = judge(dataclasses.replace(FINE, **change), 3.0)
    assert found.verdict == "suspect"
    assert len(found.reasons) == 1
    assert words in found.reasons[0]
    assert [sign.reason for sign in found.signs if sign.verdict == "suspect"] == [found.reasons[0]]


@pytest.mark.parametrize(
    ("change", "within", "words"),
    [
        ({"shares_frame": True, "change_mm": 6.0, "change_deg": 0.0}, 3.0, "one frame"),
        ({"mirrored": 1.2}, 3.0, "1.20 times as well when the functional image is mirrored"),
        ({"turned": "half a turn about the head-feet axis"}, 3.0, "after half a turn about"),
        ({}, 13.0, "only to within 13 mm"),
        ({"method": "identity", "gain": 0.0}, 74.0, "only to within 74 mm"),
        ({"method": "identity", "undecided": True}, 43.0, "do not fix that position"),
        ({"chosen": "2", "sharpness": 1.0}, 3.0, "only 1.00 times better"),
    ],
)
def test_what_a_person_has_to_see_is_fused_and_marked(
    change: dict, within: float, words: str
) -> None:
    found = judge(dataclasses.replace(FINE, **change), within)
    assert found.verdict == "look"
    assert words in found.reasons[0]


def test_fields_of_view_that_do_not_meet_are_refused_with_their_distance(
    brain: tuple[MetaTensor, MetaTensor],
) -> None:
    fixed, moving = brain
    far = moved(moving, rigid((0, 0, 0), (0.0, 0.0, 182.0 + 300.0)))
    with pytest.raises(RegistrationError, match=r"300 mm apart.*E_NO_OVERLAP"):
        register(fixed=fixed, moving=far, method="identity")


@given(vectors, shifts)
@settings(max_examples=40)
def test_distance_of_two_boxes_is_never_more_than_that_of_their_corners(
    turn: tuple, shift: tuple
) -> None:
    one, two = Grid((5, 6, 7), OBLIQUE), Grid((9, 4, 3), np.diag([5.0, 6.0, 7.0, 1.0]))
    matrix = rigid(turn, shift)
    mapped = transform_points(matrix, one.corners())
    between = np.linalg.norm(mapped[:, None] - two.corners()[None], axis=-1).min()
    centres = np.linalg.norm(transform_points(matrix, one.centre) - two.centre)
    gap = gap_mm(one, two, matrix)
    assert gap <= between + 1e-6
    radii = [np.ptp(g.corners(), axis=0) @ np.ptp(g.corners(), axis=0) for g in (one, two)]
    assert gap >= centres - sum(0.5 * np.sqrt(r) for r in radii) - 1e-6
    if coverage(one, two, matrix).any():
        assert gap == 0.0
