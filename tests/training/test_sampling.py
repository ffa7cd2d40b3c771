from __future__ import annotations

import pytest
import torch

from medfuse.training.data import load_pairs
from medfuse.training.recipes import Recipe
from medfuse.training.sampling import Sampler, _recolour, augment

EVERYTHING = Recipe(
    crop=48, batch=3, role_swap=0.5, tone=0.5, emission=0.5, cysts=0.5, rims=0.5, palette=0.5
)


@pytest.fixture
def pairs(pair_folders):
    return load_pairs(*pair_folders)


def test_a_step_is_decided_by_seed_and_number_alone(pairs):
    first, second = Sampler(pairs, EVERYTHING), Sampler(pairs, EVERYTHING)
    first.draw(0)
    for x, y in zip(first.draw(7), second.draw(7), strict=True):
        assert torch.equal(x, y)
    other = Sampler(pairs, EVERYTHING.override(seed=1)).draw(7)
    assert not torch.equal(first.draw(7)[0], other[0])


def test_batches_hold_one_size_and_stay_in_range(pairs):
    sampler = Sampler(pairs, EVERYTHING)
    for step in range(12):
        a, b = sampler.draw(step)
        assert a.shape == b.shape == (3, 1, 48, 48)
        assert min(a.min(), b.min()) >= 0
        assert max(a.max(), b.max()) <= 1


def test_full_images_come_in_their_own_sizes(pairs):
    sampler = Sampler(pairs, Recipe(crop=None, flips=False, batch=2))
    shapes = {tuple(sampler.draw(step)[0].shape) for step in range(12)}
    assert shapes == {(2, 1, 64, 96), (2, 1, 80, 64)}


def test_without_augmentation_crops_are_the_images_themselves(pairs):
    sampler = Sampler(pairs, Recipe(crop=64, flips=False, batch=4))
    a, b = sampler.draw(3)
    whole = {tuple(x.shape) for x in pairs.a}
    found = 0
    for image_a, image_b in zip(a, b, strict=True):
        for source_a, source_b in zip(pairs.a, pairs.b, strict=True):
            for view_a, view_b in zip(_windows(source_a), _windows(source_b), strict=True):
                if torch.equal((image_a[0] * 255).round().byte(), view_a):
                    assert torch.equal((image_b[0] * 255).round().byte(), view_b)
                    found += 1
    assert len(whole) == 2
    assert found >= 4


def _windows(image):
    return image.unfold(0, 64, 1).unfold(1, 64, 1).flatten(0, 1)


def test_role_swap_exchanges_the_two_images(pairs):
    recipe = Recipe(crop=64, flips=False, role_swap=1.0)
    a, b = Sampler(pairs, recipe).draw(5)
    plain_a, plain_b = Sampler(pairs, recipe.override(role_swap=0.0)).draw(5)
    assert torch.equal(a, plain_b)
    assert torch.equal(b, plain_a)


def test_emission_makes_a_smooth_and_both_black_outside(pairs):
    recipe = Recipe(crop=64, flips=False, emission=1.0)
    plain = Sampler(pairs, recipe.override(emission=0.0)).draw(2)
    a, b = augment(*plain, recipe, torch.Generator().manual_seed(0))

    def roughness(x):
        return float((x[..., 1:] - x[..., :-1]).abs().median())

    assert roughness(a) < roughness(plain[0])
    assert (a == 0).any()
    assert (b == 0).any()


def test_a_gain_above_one_makes_pet_like_pairs_that_are_clipped(pairs):
    recipe = Recipe(crop=64, batch=16, flips=False, emission=1.0)
    plain = Sampler(pairs, recipe).draw(2)
    bright = Sampler(pairs, recipe.override(emission_gain=1.6)).draw(2)
    for before, after in zip(plain, bright, strict=True):
        assert (after >= before).all()
        assert before.max() < 1
        assert after.max() == 1


def test_a_cyst_is_flat_in_both_images_and_leaves_the_rest_alone():
    generator = torch.Generator().manual_seed(4)
    a, b = torch.rand((2, 8, 1, 96, 96), generator=generator)
    recipe = Recipe(flips=False, cysts=1.0)
    new_a, new_b = augment(a, b, recipe, torch.Generator().manual_seed(0))
    changed = new_a != a
    assert torch.equal(changed, new_b != b)
    part = changed.float().mean((1, 2, 3))
    assert part.max() < 0.35
    assert part.max() > 0.01
    for before, after, where in zip(a, new_a, changed, strict=True):
        if where.sum() > 400:
            assert after[where].std() < 0.6 * before[where].std()


def test_a_rim_is_bright_in_a_and_dark_in_b_on_black():
    a, b = torch.full((8, 1, 96, 96), 0.5), torch.full((8, 1, 96, 96), 0.5)
    recipe = Recipe(flips=False, rims=1.0)
    new_a, new_b = augment(a, b, recipe, torch.Generator().manual_seed(0))
    outside = new_a == 0
    assert torch.equal(outside, new_b == 0) or (new_b[outside] == 0).all()
    rim = (new_a >= 0.8) & ~outside
    assert rim.any()
    assert (new_b[rim] <= 0.2).all()
    inside = ~outside & ~rim
    assert (new_a[inside] == 0.5).all()


def test_random_colours_keep_black_and_change_brightness_along_a_broken_line():
    ramp = torch.linspace(0, 1, 81).expand(3, 1, 2, 81)
    seen = _recolour(ramp, torch.Generator().manual_seed(0))
    assert (seen[..., 0] == 0).all()
    assert seen.min() >= 0
    assert seen.max() <= 1
    assert not torch.equal(seen[0], seen[1])
    bends = seen.diff(n=2, dim=-1).abs() > 1e-4
    assert bends[0, 0, 0].sum() <= 4  # at three knots, and where 1 ends
