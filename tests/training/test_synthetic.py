"""Synthetic pairs have a known answer, and depend on their generator alone."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from medfuse.training.synthetic import _blur, exposure_pair, focus_pair

PAIRS = pytest.mark.parametrize("make", [focus_pair, exposure_pair])


@pytest.fixture(scope="module")
def heads(sample_data) -> Tensor:
    """Three slices of an MRI, (3, 1, 120, 96) in [0, 1]."""
    volume = nibabel.load(sample_data / "study/simulated-brain/t1.nii.gz").get_fdata()
    middle = volume.shape[2] // 2
    slices = np.stack([volume[:96, :120, middle + 3 * k].T for k in range(3)])
    return torch.from_numpy(slices / slices.max()).unsqueeze(1).float()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@PAIRS
def test_a_pair_lies_in_the_unit_range_and_keeps_size_and_type(make, heads):
    for image in make(heads[..., :37, :41], seeded()):
        assert image.shape == (3, 1, 37, 41)
        assert image.dtype == torch.float32
        assert image.min() >= 0
        assert image.max() <= 1


@PAIRS
def test_the_same_seed_gives_the_same_pair_and_another_seed_another(make, heads):
    first, again, other = (make(heads, seeded(k)) for k in (0, 0, 1))
    assert all(torch.equal(p, q) for p, q in zip(first, again, strict=True))
    assert not any(torch.equal(p, q) for p, q in zip(first, other, strict=True))


@PAIRS
def test_images_of_a_batch_are_degraded_differently(make, heads):
    one, two = (x[:2] for x in make(heads[:1].expand(2, -1, -1, -1), seeded()))
    assert not torch.equal(one[0], one[1])
    assert not torch.equal(two[0], two[1])


def test_what_is_blurred_in_one_image_is_sharp_in_the_other(heads):
    near, far = focus_pair(heads, seeded())
    lost_near, lost_far = (near - heads).abs(), (far - heads).abs()
    better = torch.minimum(lost_near, lost_far)
    assert lost_near.mean() > 0.005
    assert lost_far.mean() > 0.005
    assert better.mean() < 0.25 * min(lost_near.mean(), lost_far.mean())


def test_blur_agrees_with_scipy_for_every_image(heads):
    sigma = torch.tensor([1.0, 2.5, 4.0]).view(3, 1, 1, 1)
    found = _blur(heads, sigma)
    for image, s, got in zip(heads, sigma.flatten().tolist(), found, strict=True):
        wanted = gaussian_filter(image[0].numpy(), s, mode="nearest", radius=12)
        np.testing.assert_allclose(got[0].numpy(), wanted, atol=1e-5)


def test_exposures_are_brighter_and_darker_and_keep_the_order_of_tones(heads):
    over, under = exposure_pair(heads, seeded())
    assert (over >= heads - 1e-6).all()
    assert (under <= heads + 1e-6).all()
    order = heads.flatten(1).argsort(1)
    for image in (over, under):
        steps = image.flatten(1).gather(1, order).diff(dim=1)
        assert (steps >= -1e-6).all()


def test_exposures_clip(heads):
    over, under = exposure_pair(heads, seeded())
    assert ((over == 1) & (heads < 0.999)).any()
    assert ((under == 0) & (heads > 0.001)).any()
