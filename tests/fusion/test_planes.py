"""Planes between the stages of a fusion: named, on their way back to the image, let go."""

from __future__ import annotations

import weakref

import pytest
import torch

from medfuse.fusion.planes import Blended, Picture, Planes, Weights, Windowed, in_slices
from medfuse.imaging.grid import DisplayOrder

ORDER = DisplayOrder("coronal", (1, 2, 0), (True, False, True), (1.0, 1.0, 1.0))


def planes() -> Planes:
    names = iter(torch.rand((12, 3, 1, 4, 5)))
    return Planes(
        ORDER,
        Windowed(next(names), next(names), None),
        Weights([next(names), next(names)], next(names)),
        Blended(next(names), next(names), next(names), next(names)),
        Picture(torch.rand((3, 3, 4, 5)), next(names), next(names), 0.0),
    )


def test_a_plane_that_is_released_takes_its_memory_with_it_and_nothing_else():
    held = planes()
    seen = weakref.ref(held.blended.share)
    held.release(held.blended.share)
    assert seen() is None
    assert not hasattr(held.blended, "share")
    assert held.blended.from_a.shape == (3, 1, 4, 5)


def test_a_weight_map_is_released_from_the_list_and_the_others_stay():
    held = planes()
    first, second = held.weights.maps
    assert held.release(first) is first
    assert len(held.weights.maps) == 1
    assert held.weights.maps[0] is second
    assert held.weights.shown.shape == (3, 1, 4, 5)


def test_the_only_weight_map_is_released_under_both_its_names():
    held = planes()
    only = held.weights.maps[0]
    held.weights = Weights([only], only)
    assert held.release(only) is only
    assert held.weights.maps == []
    assert not hasattr(held.weights, "shown")


def test_the_map_that_is_shown_is_released_and_those_of_the_bands_stay():
    held = planes()
    held.release(held.weights.shown)
    assert not hasattr(held.weights, "shown")
    assert len(held.weights.maps) == 2


def test_what_is_no_plane_is_not_released():
    held = planes()
    with pytest.raises(ValueError, match="only a plane that is held"):
        held.release(held.blended.share.clone())


def test_a_plane_turns_back_into_the_volume_it_was_cut_from():
    volume = torch.rand((1, 5, 3, 4))
    assert torch.equal(planes().volume(in_slices(volume, ORDER)), volume)
