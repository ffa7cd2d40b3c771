"""Salience is measured as docs/colour.md defines it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.stats import spearmanr
from skimage.color import rgb2lab

from medfuse.evaluation.salience import hot_and_ring, measure_salience, rgb_to_lab
from medfuse.kernel.colormaps import apply_colormap


@pytest.fixture
def slices():
    """Two slices with a warm ball on an uneven body."""
    generator = torch.Generator().manual_seed(3)
    y, x = torch.meshgrid(torch.arange(60.0), torch.arange(72.0), indexing="ij")
    ball = torch.exp(-((y - 25) ** 2 + (x - 40) ** 2) / 90)
    uptake = (0.1 + 0.85 * ball).expand(2, 1, -1, -1) * torch.tensor([1.0, 0.9]).view(2, 1, 1, 1)
    anatomy = 0.3 + 0.4 * torch.rand((2, 1, 60, 72), generator=generator)
    body = torch.ones_like(anatomy, dtype=torch.bool)
    body[..., :6] = False
    return uptake, anatomy, body


def test_lab_agrees_with_scikit_image():
    rgb = torch.rand((1, 3, 400), generator=torch.Generator().manual_seed(0))
    expected = rgb2lab(rgb[0].T.numpy()).T
    assert np.abs(rgb_to_lab(rgb)[0].numpy() - expected).max() < 0.02


def test_grey_has_no_colour_and_white_is_100():
    lab = rgb_to_lab(torch.linspace(0, 1, 5).expand(1, 3, 5))
    assert lab[0, 0, 0] == pytest.approx(0, abs=1e-4)
    assert lab[0, 0, -1] == pytest.approx(100, abs=1e-3)
    assert lab[0, 1:].abs().max() < 0.01


def test_the_hot_twentieth_and_its_ring_are_those_of_a_distance_map(slices):
    uptake, _, body = slices
    hot, ring = hot_and_ring(uptake[:1], body[:1])
    assert float(hot.sum() / body[:1].sum()) == pytest.approx(0.05, abs=0.01)
    away = distance_transform_edt(~hot[0, 0].numpy())
    cool = (uptake[0, 0] < 0.6 * uptake[:1][hot].mean()).numpy() & body[0, 0].numpy()
    assert np.array_equal(ring[0, 0].numpy(), (away > 2) & (away <= 10) & cool)


def test_all_five_measures_agree_with_scipy(slices):
    uptake, anatomy, body = slices
    rgb = 0.5 * apply_colormap(uptake, "hot") + 0.5 * anatomy
    found = measure_salience(rgb, uptake, anatomy, body)
    lab = np.moveaxis(rgb2lab(rgb.movedim(1, -1).numpy()), -1, 1)
    hot, ring = (x[:, 0].numpy() for x in hot_and_ring(uptake, body))
    step = [lab[:, c][hot].mean() - lab[:, c][ring].mean() for c in range(3)]
    assert found.difference == pytest.approx(np.linalg.norm(step), abs=0.05)
    assert found.brighter == pytest.approx(step[0], abs=0.05)
    inside = body[:, 0].numpy()
    order = spearmanr(uptake[:, 0].numpy()[inside], lab[:, 0][inside]).statistic
    assert found.order == pytest.approx(order, abs=1e-3)
    where = inside & (uptake[:, 0].numpy() > 0.25)
    grey = rgb2lab(anatomy[:, 0, :, :, None].expand(-1, -1, -1, 3).numpy())[..., 0]
    fine = [
        np.stack([x - gaussian_filter(x, 3, mode="mirror") for x in image])[where]
        for image in (lab[:, 0], grey)
    ]
    assert found.detail == pytest.approx(np.corrcoef(*fine)[0, 1], abs=2e-3)
    assert found.gain == pytest.approx(fine[0].std() / fine[1].std(), abs=5e-3)


def test_the_anatomy_alone_keeps_all_of_itself(slices):
    uptake, anatomy, body = slices
    found = measure_salience(anatomy.expand(-1, 3, -1, -1), uptake, anatomy, body)
    assert found.detail == pytest.approx(1, abs=1e-5)
    assert found.gain == pytest.approx(1, abs=1e-5)


def test_nothing_to_measure_is_no_number():
    empty = torch.zeros((1, 1, 40, 40))
    found = measure_salience(empty.expand(-1, 3, -1, -1), empty, empty, empty > 0)
    assert np.isnan([found.difference, found.order, found.detail]).all()
