"""A region that must fit: whose it is, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from monai.data import MetaTensor

from medfuse.errors import InputError, UsageError
from medfuse.imaging.grid import Grid, transform_points
from medfuse.measurement.region import Region as Structure
from medfuse.registration.region import MOST_VOXELS, region_of
from medfuse.registration.result import register
from tests._helpers.motions import volume

FIXED = np.diag([2.0, 2.0, 3.0, 1.0])
MOVING = np.diag([4.0, 4.0, 4.0, 1.0])
SHAPE, OTHER = (30, 32, 20), (20, 20, 18)


def mask(shape: tuple[int, ...], affine: np.ndarray, *, filled=slice(5, 9)) -> MetaTensor:
    values = np.zeros(shape)
    values[filled, filled, filled] = 3
    return volume(values, affine)


@pytest.fixture(scope="module")
def pair() -> tuple[MetaTensor, MetaTensor]:
    rng = np.random.default_rng(0)
    return volume(rng.random(SHAPE), FIXED), volume(rng.random(OTHER), MOVING)


def test_a_mask_lies_in_the_world_of_the_image_whose_lattice_it_has(pair):
    shift = np.eye(4)
    shift[:3, 3] = (10.0, -4.0, 6.0)
    for of, drawn in {"fixed": mask(SHAPE, FIXED), "moving": mask(OTHER, MOVING)}.items():
        region = region_of(drawn, *pair)
        assert region.of == of
        assert region.inside.sum() == 64
        centre = region.points(shift).mean(axis=0)
        world = transform_points(drawn.affine.numpy(), np.full(3, 6.5))
        expected = world if of == "fixed" else world - shift[:3, 3]
        np.testing.assert_allclose(centre, expected, atol=1e-5)
        np.testing.assert_allclose(
            region.exchanged().points(np.linalg.inv(shift)).mean(axis=0),
            transform_points(shift, centre),
            atol=1e-5,
        )


def test_a_mask_that_is_cut_out_lies_where_it_was_cut_out(pair):
    affine = FIXED.copy()
    affine[:3, 3] = (8.0, 8.0, 9.0)
    assert region_of(mask((12, 12, 12), affine), *pair).of == "fixed"
    affine = MOVING.copy()
    affine[:3, 3] = (4.0, 8.0, 12.0)
    assert region_of(mask((10, 10, 10), affine), *pair).of == "moving"


def test_a_region_that_was_read_says_itself_where_it_lies(pair):
    weights = np.full((6, 6, 6), 0.4, np.float32)
    weights[1:4, 2:4, 3:4] = 0.6
    drawn = Structure("tumor", weights, Grid((6, 6, 6), np.eye(4)), "functional")
    region = region_of(drawn, *pair)
    assert (region.of, region.inside.sum()) == ("moving", 6)


def test_a_region_of_very_many_voxels_is_made_coarser_in_its_place(pair, monkeypatch):
    monkeypatch.setattr("medfuse.registration.region.MOST_VOXELS", 10_000)
    weights = np.zeros((40, 44, 38), np.uint8)
    weights[6:30, 8:28, 10:26] = 1
    grid = Grid(weights.shape, np.eye(4))
    region = region_of(Structure("brain", weights, grid, "anatomical"), *pair)
    assert region.inside.size < 10_000 < MOST_VOXELS
    assert region.to_dict()["volume_ml"] == 24 * 20 * 16 / 1000
    centre = region.points(np.eye(4)).mean(axis=0)
    np.testing.assert_allclose(centre, [17.5, 17.5, 17.5], atol=1.0)


@pytest.mark.parametrize(
    ("away", "filled", "words"),
    [
        (0.0, slice(0, 0), "none of its 19200 voxels is 0.5 or more"),
        (500.0, slice(5, 9), "0 % of it lie in the field of view of the anatomical image"),
    ],
)
def test_what_is_no_region_of_this_pair_is_refused(pair, away, filled, words):
    affine = FIXED.copy()
    affine[0, 3] = away
    with pytest.raises(InputError, match=r"\[E_REGION\]") as raised:
        register(fixed=pair[0], moving=pair[1], region=mask(SHAPE, affine, filled=filled))
    assert words in raised.value.cause
    with pytest.raises(UsageError, match=r"got str.*read_region.*\[E_SETTINGS\]"):
        register(fixed=pair[0], moving=pair[1], region="GTV=rtstruct.dcm")
