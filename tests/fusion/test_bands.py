"""Weights for every band through a fusion: asked, covered, stored at their places, replayed."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

import medfuse
from medfuse.imaging.grid import transform_points
from medfuse.kernel.blend import fuse_luminance
from medfuse.kernel.pyramid import expand, gaussian_pyramid
from medfuse.methods.base import MethodInfo
from medfuse.methods.registry import get_method

LEVELS = 4
TURNS = list(product((1, -1), repeat=3))


class Sampled:
    """A guide whose weights are the anatomical image at the samples of every level."""

    @property
    def info(self) -> MethodInfo:
        return MethodInfo("sampled", "for tests", "rule", levels=LEVELS, maps=LEVELS + 1)

    def weights(self, a: torch.Tensor, b: torch.Tensor) -> list[torch.Tensor]:
        return [b[..., :: 2**k, :: 2**k] for k in range(LEVELS + 1)]


def pair(*shape: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand((2, 1, *shape), generator=torch.Generator().manual_seed(seed)).unbind(0)


def placed(image: torch.Tensor, affine: np.ndarray) -> MetaTensor:
    return MetaTensor(image, affine=torch.from_numpy(affine))


def oblique(turn: tuple[int, int, int]) -> np.ndarray:
    """Spacing, axes that run backward, a tilt of 10 degrees and an origin."""
    cos, sin = np.cos(np.pi / 18), np.sin(np.pi / 18)
    tilt = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    affine = np.eye(4)
    affine[:3, :3] = tilt @ np.diag(np.array(turn) * [1.0, 1.25, 0.9])
    affine[:3, 3] = [-20.0, 31.0, 7.5]
    return affine


def seen_partly(turn: tuple[int, int, int] = (1, 1, 1)) -> tuple[MetaTensor, MetaTensor]:
    """PET that covers a corner of an MRI of odd size."""
    affine = np.diag([*turn, 1.0]).astype(float)
    a, b = (placed(x, affine) for x in pair(41, 37, 35))
    a.meta["field_of_view"] = {
        "shape": [23, 37, 20],
        "affine": affine.tolist(),
        "moving_from_fixed": np.eye(4).tolist(),
    }
    return a, b


@pytest.mark.parametrize("method", ["local-energy", "both-ct"])
@pytest.mark.parametrize("shape", [(33, 50), (48, 37, 3)])
def test_slices_are_blended_with_the_maps_of_the_guide(method, shape):
    a, b = pair(*shape)
    found = medfuse.fuse(functional=a, anatomical=b, method=method, mode="slices", audit=False)
    as_slices = lambda x: x.reshape(*shape[:2], -1).movedim(-1, 0).unsqueeze(1)  # noqa: E731
    source = as_slices(found.functional_luminance), as_slices(b)
    maps = get_method(method).weights(*source)
    expected = fuse_luminance(*source, maps, levels=LEVELS)
    for name, wanted in (
        ("luminance", expected.luminance),
        ("from_functional", expected.from_a),
        ("from_anatomical", expected.from_b),
    ):
        assert torch.allclose(as_slices(getattr(found, name)), wanted, atol=1e-6), name
    assert len(found.band_weights) == LEVELS + 1
    for level, wanted in zip(found.band_weights, maps, strict=True):
        assert level.shape == (1, *wanted.shape[-2:], *shape[2:])
        assert torch.allclose(level.reshape(*wanted.shape[-2:], -1), wanted[:, 0].movedim(0, -1))


def test_one_map_for_all_bands_leaves_no_maps_of_bands():
    a, b = pair(40, 40)
    assert medfuse.fuse(functional=a, anatomical=b, method="mean").band_weights == ()


@pytest.mark.parametrize("mode", ["slices", "volume"])
def test_the_map_that_people_see_is_the_mean_over_the_bands(mode):
    a, b = pair(34, 33, 35)
    found = medfuse.fuse(functional=a, anatomical=b, method="local-energy", mode=mode, audit=False)
    flat = mode == "slices"  # then a slice is an image of its own
    turn = (lambda x: x.movedim(-1, 1)[0].unsqueeze(1)) if flat else (lambda x: x[None])
    total = torch.zeros_like(turn(found.weights))
    for k, level in enumerate(found.band_weights):
        wide = turn(level)
        for finer in reversed(range(k)):
            wide = expand(wide, turn(found.band_weights[finer]).shape[2:])
        total += wide
    assert torch.allclose(turn(found.weights), total / (LEVELS + 1), atol=1e-5)


@pytest.mark.parametrize("turn", TURNS)
def test_a_voxel_of_a_level_lies_where_its_affine_says(turn):
    affine = oblique(turn)
    a, b = (placed(x, affine) for x in pair(33, 38, 9))
    found = medfuse.fuse(functional=a, anatomical=b, method=Sampled(), mode="slices", audit=False)
    for k, level in enumerate(found.band_weights):
        assert level.shape == (1, -(-33 // 2**k), -(-38 // 2**k), 9)
        voxels = np.stack(np.indices(level.shape[1:]), axis=-1).reshape(-1, 3)
        world = transform_points(level.affine.numpy(), voxels)
        there = transform_points(np.linalg.inv(affine), world)
        index = torch.from_numpy(there.round().astype(int))
        assert np.abs(there - index.numpy()).max() < 1e-9
        values = b.as_tensor()[0][index.unbind(1)]
        assert torch.equal(level.as_tensor().reshape(-1), values)


@pytest.mark.parametrize("turn", TURNS[::2])
def test_a_voxel_of_a_level_of_a_volume_lies_where_its_affine_says(turn):
    """On a ramp, which the low-pass along the slices leaves as it is but for the border."""
    affine, shape = oblique(turn), (97, 103, 100)
    x, y, z = (torch.linspace(0, 1, n) for n in shape)
    ramp = 0.1 + 0.5 * x[:, None, None] + 0.3 * y[:, None] + 0.1 * z
    a, b = pair(*shape)[0], ramp[None]
    found = medfuse.fuse(
        functional=placed(a, affine), anatomical=placed(b, affine), method=Sampled(),
        mode="volume", audit=False,
    )  # fmt: skip
    for k, level in enumerate(found.band_weights):
        assert level.shape == (1, *(-(-n // 2**k) for n in shape))
        voxels = np.stack(np.indices(level.shape[1:]), axis=-1)
        world = transform_points(level.affine.numpy(), voxels)
        there = transform_points(np.linalg.inv(affine), world)
        part = torch.from_numpy(there / (np.array(shape) - 1)).float()
        wanted = 0.1 + part @ torch.tensor([0.5, 0.3, 0.1])
        reach = 2 * (2**k - 1)  # of the low-pass
        inner = (there >= reach).all(-1) & (there <= np.array(shape) - 1 - reach).all(-1)
        assert inner.any()
        error = (level.as_tensor()[0] - wanted).abs()
        assert error[torch.from_numpy(inner)].max() < 1e-5


@pytest.mark.parametrize("mode", ["slices", "volume"])
@pytest.mark.parametrize("flipped", [(1,), (3,), (1, 2, 3)])
def test_storage_that_runs_backward_changes_no_bit(mode, flipped):
    a, b = pair(33, 37, 34)
    other = np.eye(4)
    for axis in flipped:
        other[axis - 1, axis - 1], other[axis - 1, 3] = -1, a.shape[axis] - 1
    first, second = (
        medfuse.fuse(
            functional=placed(x, affine), anatomical=placed(y, affine), method="local-energy",
            mode=mode, audit=False,
        )
        for x, y, affine in ((a, b, np.eye(4)), (a.flip(flipped), b.flip(flipped), other))
    )  # fmt: skip
    for name in ("luminance", "rgb", "weights", "share"):
        assert torch.equal(getattr(first, name), getattr(second, name).as_tensor().flip(flipped))
    for one, two in zip(first.band_weights, second.band_weights, strict=True):
        assert torch.equal(one, two.as_tensor().flip(flipped))
        corner = np.array([0 if axis + 1 not in flipped else two.shape[axis + 1] - 1
                           for axis in range(3)])  # fmt: skip
        np.testing.assert_allclose(
            transform_points(two.affine.numpy(), corner), one.affine.numpy()[:3, 3], atol=1e-9
        )


@pytest.mark.parametrize("bias", [0.4, -0.4, 1.0, -1.0])
def test_bias_shifts_the_weights_of_all_bands(bias):
    a, b = pair(40, 37)
    plain, biased = (
        medfuse.fuse(
            functional=a, anatomical=b, method="local-energy", colormap="ember", bias=x, audit=False
        )
        for x in (0.0, bias)
    )
    for before, after in zip(plain.band_weights, biased.band_weights, strict=True):
        wanted = before + bias * (1 - before) if bias > 0 else before * (1 + bias)
        assert torch.allclose(after, wanted, atol=1e-6)
    if bias == 1:
        assert torch.allclose(biased.luminance, b, atol=1e-5)
    if bias == -1:
        assert torch.allclose(biased.luminance, biased.functional_luminance, atol=1e-5)


@pytest.mark.parametrize("mode", ["slices", "volume"])
@pytest.mark.parametrize("colormap", ["ember", "glow"])
def test_outside_the_field_of_view_there_is_the_anatomical_image_alone(mode, colormap):
    pet, mri = seen_partly()
    found = medfuse.fuse(
        functional=pet, anatomical=mri, method="local-energy", mode=mode, colormap=colormap
    )
    outside = ~found.coverage
    assert 0.5 < outside.float().mean() < 0.8
    assert torch.equal(found.luminance[outside], mri[outside])
    assert torch.all(found.share[outside] == 1)
    assert torch.all(found.from_functional[outside] == 0)
    assert found.audit["linearity"].verdict == "pass"
    inside = found.coverage.as_tensor().float()
    covered = (
        gaussian_pyramid(inside[None], LEVELS)
        if mode == "volume"
        else [x.movedim(0, -1)[None] for x in gaussian_pyramid(inside.movedim(-1, 0), LEVELS)]
    )
    for k, level in enumerate(found.band_weights):
        part = covered[k].reshape(level.shape)
        assert torch.all(level[part == 0] == 1)
        assert (level.as_tensor() - (1 - part)).min() > -1e-5
        if k < 3:  # the field of view is too small for coarser samples to lie well inside
            assert level[part == 1].min() < 0.5


@pytest.mark.parametrize("method", ["local-energy", "both-pet"])
@pytest.mark.parametrize("mode", ["slices", "volume"])
@pytest.mark.parametrize("options", [{"colormap": "ember"}, {}])
@pytest.mark.parametrize("turn", [(1, 1, 1), (-1, -1, 1)])
def test_stored_maps_replay_the_fusion_to_the_bit(method, mode, options, turn):
    pet, mri = seen_partly(turn)
    case = {"functional": pet, "anatomical": mri, "method": method, "mode": mode, **options}
    first = medfuse.fuse(**case)
    again = medfuse.fuse(**case, weights=first.band_weights)
    for name in ("luminance", "rgb", "share", "weights", "from_functional"):
        assert torch.equal(getattr(first, name), getattr(again, name)), name
    assert all(map(torch.equal, first.band_weights, again.band_weights))
    assert first.audit == again.audit


@pytest.mark.parametrize("bias", [0.3, -0.3])
def test_stored_maps_hold_the_bias(bias):
    a, b = pair(40, 33)
    case = {"functional": a, "anatomical": b, "method": "local-energy", "colormap": "ember"}
    first = medfuse.fuse(**case, bias=bias)
    again = medfuse.fuse(**case, weights=list(first.band_weights))
    assert torch.equal(first.luminance, again.luminance)
    assert torch.equal(first.rgb, again.rgb)


@pytest.mark.parametrize("mode", ["slices", "volume"])
def test_given_maps_are_left_untouched_and_take_nothing_that_was_not_measured(mode):
    pet, mri = seen_partly()
    first = medfuse.fuse(functional=pet, anatomical=mri, method="local-energy", mode=mode)
    given = [torch.zeros(level.shape) for level in first.band_weights]
    found = medfuse.fuse(
        functional=pet, anatomical=mri, method="local-energy", mode=mode, weights=given
    )
    assert all(bool((level == 0).all()) for level in given)
    assert torch.equal(found.luminance[~found.coverage], mri[~found.coverage])
    assert torch.all(found.band_weights[0][~found.coverage] == 1)


def test_maps_of_another_size_or_number_are_refused():
    a, b = pair(40, 33)
    case = {"functional": a, "anatomical": b, "method": "local-energy"}
    maps = list(medfuse.fuse(**case).band_weights)
    with pytest.raises(ValueError, match="weight map 2 must be"):
        medfuse.fuse(**case, weights=[*maps[:2], maps[1], *maps[3:]])
    with pytest.raises(ValueError, match="5"):
        medfuse.fuse(**case, weights=maps[:3])
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        medfuse.fuse(**case, weights=[*maps[:4], maps[4] + 1])


@pytest.mark.parametrize("mode", ["slices", "volume"])
def test_the_number_of_threads_changes_no_bit_beside_a_field_of_view(mode):
    pet, mri = seen_partly()
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(medfuse.fuse(functional=pet, anatomical=mri, method="both-pet", mode=mode))
    finally:
        torch.set_num_threads(before)
    assert all(map(torch.equal, found[0].band_weights, found[1].band_weights))
    for name in ("weights", "luminance", "share", "rgb"):
        assert torch.equal(getattr(found[0], name), getattr(found[1], name)), name


@pytest.mark.parametrize("n", [1, 2, 5, 17, 33, 63, 100, 255, 256])
def test_a_whole_field_of_view_takes_nothing_away(n):
    """Low-passes of ones are ones to the bit, else a weight of 0 would leave [0, 1]."""
    for level in gaussian_pyramid(torch.ones((1, 1, n, 40)), LEVELS):
        assert torch.all(level <= 1)
        assert (1 - level).max() < 1e-6
