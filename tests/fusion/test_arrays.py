"""Arrays as readers of pictures give them are fused as what they show, or refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

import medfuse

N = 40
Y, X = np.mgrid[:N, : N + 8]
GRAY = ((np.hypot(X - 22, Y - 19) < 17) * (0.5 + 0.3 * np.sin(X / 3))).astype("f4")
HOT = np.exp(-((X - 28) ** 2 + (Y - 15) ** 2) / 60).astype("f4")
COLOR = np.stack([HOT, HOT * 0.5, HOT * 0.1], axis=-1)


def fused(functional: Any, anatomical: Any, **more: Any) -> np.ndarray:
    result = medfuse.fuse(functional=functional, anatomical=anatomical, method="mean", **more)
    return np.asarray(result.rgb)


PLAIN = fused(HOT[None], GRAY[None])
COLORED = fused(np.moveaxis(COLOR, -1, 0), GRAY[None])


def to_bytes(values: np.ndarray) -> np.ndarray:
    return np.rint(values * 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("functional", "anatomical"),
    [
        (HOT, GRAY),
        (HOT[..., None], GRAY[..., None]),
        (HOT[None], GRAY),
        (torch.from_numpy(HOT), GRAY),
        (HOT.astype("f8"), GRAY.astype(">f4")),
        (HOT[::-1][::-1], np.asfortranarray(GRAY)),
        (HOT, np.dstack([GRAY] * 3)),
        (to_bytes(HOT), to_bytes(GRAY)),
        (to_bytes(HOT), np.dstack([to_bytes(GRAY)] * 3)),
        (MetaTensor(HOT), GRAY),
        (HOT.tolist(), GRAY.tolist()),
    ],
    ids=range(11),
)
def test_gray_on_gray(functional: Any, anatomical: Any) -> None:
    found = fused(functional, anatomical)
    assert found.shape == (3, N, N + 8)
    assert np.abs(found - PLAIN).max() < 0.01


@pytest.mark.parametrize(
    "functional",
    [
        COLOR,
        to_bytes(COLOR),
        np.moveaxis(COLOR, -1, 0),
        to_bytes(np.moveaxis(COLOR, -1, 0)),
        np.dstack([COLOR, np.ones_like(HOT)]),
        np.dstack([to_bytes(COLOR), 255 + 0 * to_bytes(HOT)]),
        np.dstack([np.where(HOT[..., None] > 0, COLOR, 1), HOT > 0]),
    ],
    ids=range(7),
)
def test_color_on_gray(functional: Any) -> None:
    assert np.abs(fused(functional, GRAY) - COLORED).max() < 0.01


def test_a_mask_is_a_picture_where_it_says_so() -> None:
    mask = GRAY > 0.4
    assert np.array_equal(fused(HOT, mask), fused(HOT, mask.astype("f4")))
    with pytest.raises(ValueError, match="0 and 1 alone"):
        fused(HOT, mask.astype("u1"))


def test_a_window_is_in_the_numbers_of_the_array() -> None:
    window = {"window": (0, 255), "anatomical_window": (0, 4095)}
    found = fused(to_bytes(HOT), (GRAY * 4095).astype("u2"), **window)
    assert np.abs(found - PLAIN).max() < 0.01


def test_a_volume_with_a_unit_keeps_its_numbers() -> None:
    def volume(values: np.ndarray, modality: str) -> MetaTensor:
        whole = torch.from_numpy(np.stack([values] * 8, axis=-1)[None])
        return MetaTensor(whole, affine=torch.eye(4), meta={"unit": "a.u.", "modality": modality})

    mri, hot = volume(to_bytes(GRAY), "MRI"), to_bytes(HOT)
    found = fused(volume(hot, "PET"), mri)
    assert np.array_equal(found, fused(volume(hot.astype("f4"), "PET"), mri))


@pytest.mark.parametrize(
    ("functional", "anatomical", "words"),
    [
        (np.zeros((3, 40, 3)), np.zeros((3, 40)), "first or last"),
        (np.zeros((1, 40, 3)), np.zeros((1, 40)), "first or last"),
        (np.zeros((20, 21, 22)), np.zeros((20, 21, 22)), "got shape"),
        (np.zeros((2, 40, 40)), GRAY[:40, :40], "got shape"),
        (np.zeros((5, 5, 5, 5, 5)), GRAY, "got shape"),
        (HOT, COLOR, "3 that differ"),
        (HOT, (GRAY * 4095).astype("u2"), r"must lie in \[0, 1\].*anatomical_window"),
        (HOT * 2, GRAY, r"must lie in \[0, 1\]"),
        (HOT[:-1], GRAY, "on one grid"),
    ],
)
def test_what_can_be_meant_in_two_ways_is_refused(
    functional: np.ndarray, anatomical: np.ndarray, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        fused(functional, anatomical)
