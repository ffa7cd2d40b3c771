"""Separability compares a picture with the better of its two sources."""

from __future__ import annotations

import pytest
import torch

from medfuse.evaluation.separability import measure_separability, tell_apart


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_one_channel_is_the_area_under_the_curve_counted_by_hand():
    x, y = torch.tensor([[0.1], [0.4], [0.4]]), torch.tensor([[0.4], [0.9]])
    pairs = [(a > b) + 0.5 * (a == b) for a in x[:, 0].tolist() for b in y[:, 0].tolist()]
    assert tell_apart(x, y) == pytest.approx(abs(2 * sum(pairs) / len(pairs) - 1))


def test_the_order_of_the_classes_does_not_matter():
    x, y = normal(300, 3), normal(200, 3, seed=1) + 0.5
    assert tell_apart(x, y) == pytest.approx(tell_apart(y, x), abs=1e-9)


def test_a_mixture_tells_apart_what_no_channel_does_alone():
    shared = normal(4000, 1, seed=2)
    noise = 0.1 * normal(4000, 2, seed=3)
    x = torch.cat([shared, shared], 1) + noise + torch.tensor([0.2, -0.2])
    y = torch.cat([shared, shared], 1) - noise - torch.tensor([0.2, -0.2])
    assert max(tell_apart(x[:, k : k + 1], y[:, k : k + 1]) for k in (0, 1)) < 0.3
    assert tell_apart(x, y) > 0.95


def test_many_channels_of_noise_are_no_merit():
    assert tell_apart(normal(60, 30), normal(60, 30, seed=1)) < 0.35


def test_a_constant_channel_does_no_harm():
    x, y = normal(500, 2), normal(500, 2, seed=1) + 2
    x[:, 1] = y[:, 1] = 0.5
    assert tell_apart(x, y) == pytest.approx(tell_apart(x[:, :1], y[:, :1]), abs=0.02)


@pytest.fixture
def tissues():
    """Three tissues: A tells the first from the others, B the last from the others."""
    label = torch.arange(3).repeat_interleave(400).view(1, 1, 30, 40)
    noise = 0.05 * normal(2, 1, 1, 30, 40)
    a = (label == 0).float() + noise[0]
    b = (label == 2).float() + noise[1]
    return a, b, {name: label == k for k, name in enumerate(("first", "second", "third"))}


def test_a_picture_of_both_sources_keeps_all_and_their_mean_does_not(tissues):
    a, b, classes = tissues
    both = measure_separability(torch.cat([a, b], 1), a, b, classes)
    assert both.worst > 0.99
    mean = measure_separability((a + b) / 2, a, b, classes)
    assert mean.worst < 0.2
    pair = next(p for p in mean.pairs if {p.first, p.second} == {"first", "third"})
    assert pair.kept == mean.worst


def test_a_class_without_voxels_is_left_out(tissues):
    a, b, classes = tissues
    found = measure_separability(
        a, a, b, {**classes, "none": torch.zeros_like(a, dtype=torch.bool)}
    )
    assert len(found.pairs) == 3
