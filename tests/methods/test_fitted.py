"""Weights fitted to the pair: bounded, the same every time, better than their start."""

from __future__ import annotations

import pytest
import torch

from medfuse.kernel.sources import contradiction, detail_kept
from medfuse.methods.base import Method
from medfuse.methods.fitted import KEEP_BONE, KEEP_BOTH
from medfuse.methods.objective import SourcePair, source_loss
from medfuse.methods.registry import fuse_by, get_method

NAMES = ("fitted", "fitted-ct")
names = pytest.mark.parametrize("name", NAMES)


def images(count: int = 2, *, height: int = 61, width: int = 80) -> tuple[torch.Tensor, ...]:
    """Two smooth textures in [0.2, 1]."""
    generator = torch.Generator().manual_seed(5)
    noise = torch.rand(2 * count, 1, height, width, generator=generator)
    smooth = torch.nn.functional.avg_pool2d(noise, 3, 1, 1)
    return tuple((0.2 + 0.8 * smooth).split(count))


@names
def test_there_is_a_map_for_every_band(name: str) -> None:
    method = get_method(name)
    assert isinstance(method, Method)
    maps = method.weights(*images())
    assert [tuple(m.shape[2:]) for m in maps] == [(61, 80), (31, 40), (16, 20), (8, 10), (4, 5)]
    assert all(m.dtype == torch.float32 and not m.requires_grad for m in maps)
    assert min(float(m.min()) for m in maps) >= 0
    assert max(float(m.max()) for m in maps) <= 1


@names
def test_a_slice_is_fitted_alone_and_the_same_in_inference_mode(name: str) -> None:
    a, b = images(3)
    together = get_method(name).weights(a, b)
    with torch.inference_mode():
        alone = get_method(name).weights(a[1:2], b[1:2])
    for level, of_one in zip(together, alone, strict=True):
        torch.testing.assert_close(level[1:2], of_one, atol=1e-4, rtol=0)


def test_inputs_are_left_as_they_were() -> None:
    a, b = images()
    before = a.clone(), b.clone()
    get_method("fitted").weights(a, b)
    assert torch.equal(a, before[0])
    assert torch.equal(b, before[1])


@pytest.mark.parametrize(("name", "wanted"), [("fitted", KEEP_BOTH), ("fitted-ct", KEEP_BONE)])
def test_the_picture_is_nearer_to_what_was_asked_than_the_start(name, wanted) -> None:
    a, b = images(1)
    pair = SourcePair(a, b, wanted)
    losses = [
        float(source_loss(pair, fuse_by(get_method(m), a, b)).total) for m in ("local-energy", name)
    ]
    assert losses[1] < 0.9 * losses[0]


def test_the_weaker_source_gains() -> None:
    a, b = images(1, height=96, width=96)
    weaker = []
    for name in ("local-energy", "fitted"):
        picture = fuse_by(get_method(name), a, b)
        kept = detail_kept(*(255 * x[:, 0] for x in (a, b, picture)))
        weaker.append(min(float(k) for k in kept))
    assert weaker[1] > weaker[0]


def test_a_cyst_in_which_the_sources_disagree_gets_no_structure() -> None:
    a, b = images(1, height=128, width=128)
    across = torch.linspace(-1, 1, 128)
    inside = across[:, None].square() + across[None].square() < 0.15
    a[..., inside], b[..., inside] = 0.25, 0.8
    picture = fuse_by(get_method("fitted"), a, b)
    assert int(contradiction(*(255 * x[:, 0] for x in (a, b, picture))).sum()) < 20


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_constant_images_are_no_trouble(value: float) -> None:
    x = torch.full((1, 1, 48, 48), value)
    picture = fuse_by(get_method("fitted"), x, x)
    torch.testing.assert_close(picture, x, atol=1e-5, rtol=0)


def test_bone_at_the_top_of_the_window_stays() -> None:
    a, b = images(1, height=96, width=96)
    a = 0.6 * a
    a[..., 30:50, 30:50] = 1.0
    b = 0.6 * b
    inside = (slice(None), slice(None), slice(32, 48), slice(32, 48))
    levels = {m: float(fuse_by(get_method(m), a, b)[inside].mean()) for m in NAMES}
    assert levels["fitted-ct"] > 0.9
    assert levels["fitted-ct"] > levels["fitted"]
