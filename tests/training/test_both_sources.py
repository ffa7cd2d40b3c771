"""The objective of band guides: 0 at best, the measures themselves, and a run from end to end."""

from __future__ import annotations

import pytest
import torch

from medfuse.kernel.sources import contradiction, detail_kept
from medfuse.methods import zoo
from medfuse.methods.objective import (
    SourcePair,
    SourceWeights,
    base_loss,
    beyond_loss,
    detail_coefficients,
    lost_detail,
    lost_edges,
    order_loss,
    own_structure_loss,
    source_loss,
    stronger_gradient_loss,
)
from medfuse.methods.registry import get_method
from medfuse.training.losses import edge_loss
from medfuse.training.recipes import BandRecipe
from medfuse.training.train import run_training

torch.set_num_threads(1)
SMALL = BandRecipe(
    name="small-bands",
    options={"widths": [8, 8, 8, 8, 8]},
    steps=8,
    batch=2,
    crop=48,
    validation=0.3,
    validations=2,
    precision="fp32",
)


def images(count: int = 2, size: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    a, b = (0.25 + 0.7 * torch.rand(count, 1, size, size, generator=generator) for _ in range(2))
    return a, b


def fluid_level() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    a, b = torch.full((1, 1, 64, 64), 0.2), torch.full((1, 1, 64, 64), 0.8)
    picture = a.clone()
    picture[..., 32:] = 0.8
    return a, b, picture


def test_the_coefficients_are_those_of_the_measure():
    a, b = images()
    picture = 0.3 * a + 0.6 * b
    found = detail_coefficients(SourcePair(a, b, SourceWeights()), picture, fewest=800)
    expected = detail_kept(*(255 * x[:, 0] for x in (a, b, picture)))
    for mine, theirs in zip(found, expected, strict=False):
        torch.testing.assert_close(mine.double(), theirs, atol=1e-3, rtol=0)
    assert found[2].all()


def test_detail_asks_for_no_more_than_it_says():
    a, b = images()
    lost_a, lost_b = lost_detail(
        SourcePair(a, b, SourceWeights(keep_a=0.5, keep_b=0.5)), 0.3 * a + 0.6 * b
    )
    torch.testing.assert_close(lost_a, torch.full((2,), 0.2), atol=1e-3, rtol=0)
    assert (lost_b == 0).all()


def test_images_without_signal_of_both_are_not_judged():
    a, b = images()
    assert all((x == 0).all() for x in lost_detail(SourcePair(0 * a, b, SourceWeights()), b))


def test_edges_are_lost_as_by_the_published_measure():
    """The cheaper form orders pictures as the other one does."""
    a, b = images()
    pictures = [0.5 * a + 0.5 * b, b, 0.5 * b, torch.full_like(b, 0.5)]
    cheap = [float(lost_edges(SourcePair(a, b, SourceWeights()), picture)) for picture in pictures]
    exact = [float(edge_loss(2 * a - 1, 2 * b - 1, 2 * picture - 1)) for picture in pictures]
    assert sorted(range(4), key=cheap.__getitem__) == sorted(range(4), key=exact.__getitem__)
    assert float(lost_edges(SourcePair(a, a, SourceWeights()), a)) < 0.12


def test_the_stronger_difference_is_wanted_with_its_sign():
    a, _ = images()
    assert (
        float(stronger_gradient_loss(SourcePair(a, torch.zeros_like(a), SourceWeights()), a)) == 0
    )
    assert (
        float(stronger_gradient_loss(SourcePair(a, torch.zeros_like(a), SourceWeights()), 1 - a))
        > 0.1
    )


def test_base_is_the_brighter_source_where_they_are_far_apart():
    a, b, _ = fluid_level()
    brighter, of_a = SourceWeights(base_step=60.0), SourceWeights(base_step=60.0, base_bias=0.7)
    assert float(base_loss(SourcePair(a, b, brighter), b)) == pytest.approx(0, abs=1e-6)
    assert float(base_loss(SourcePair(a, b, of_a), a)) == pytest.approx(0, abs=2e-3)


def test_order_is_kept_by_the_source_and_lost_by_its_negative():
    a, _ = images()
    assert float(order_loss(a, a, 0.8)) == 0
    assert float(order_loss(a, 1 - a, 0.8)) == pytest.approx(1.8, abs=1e-3)


def test_nothing_is_beyond_a_blend_of_pixels():
    a, b = images()
    assert float(beyond_loss(SourcePair(a, b, SourceWeights()), torch.lerp(a, b, 0.3))) == 0
    assert float(beyond_loss(SourcePair(a, b, SourceWeights()), torch.full_like(a, 1.2))) > 0.1


def test_a_drawn_edge_costs_where_it_would_be_flagged():
    a, b, picture = fluid_level()
    assert contradiction(*(255 * x[:, 0] for x in (a, b, picture))).any()
    assert float(own_structure_loss(SourcePair(a, b, SourceWeights()), picture)) > 0.01
    assert float(own_structure_loss(SourcePair(a, b, SourceWeights()), torch.lerp(a, b, 0.5))) == 0
    assert float(own_structure_loss(SourcePair(a, a, SourceWeights()), picture)) == 0


@pytest.mark.parametrize("term", ["gradient", "edges", "detail", "base", "order", "beyond", "own"])
def test_every_term_has_a_finite_gradient(term: str):
    zero = dict.fromkeys(
        SourceWeights().model_dump(
            exclude={"keep_a", "keep_b", "fewest", "thick_pixels", "signal_to"}
        ),
        0.0,
    )
    a, b, picture = fluid_level()
    a[..., :20] = torch.rand(64, 20, generator=torch.Generator().manual_seed(0))
    b[..., 10:30, :] = torch.rand(20, 64, generator=torch.Generator().manual_seed(1))
    picture = (picture * 1.1 + 0.02).requires_grad_()
    weights = SourceWeights(**{**zero, term: 1.0, "keep_order": 0.9})
    source_loss(SourcePair(a, b, weights), picture).total.backward()
    assert picture.grad is not None
    assert picture.grad.isfinite().all()
    assert picture.grad.abs().sum() > 0


def test_a_run_from_folders_to_a_guide(pair_folders, tmp_path):
    result = run_training(
        a=pair_folders[0], b=pair_folders[1], out=tmp_path / "mine.safetensors", recipe=SMALL
    )
    assert result.stopped == "finished"
    guide = get_method(result.weights)
    assert guide.info.levels == 4
    card = zoo.read_card(result.weights)
    assert card is not None
    assert card.architecture == "bands"
    a = torch.rand(1, 1, 40, 40, generator=torch.Generator().manual_seed(0))
    assert len(guide.weights(a, a)) == 5


def test_the_same_seed_gives_the_same_bytes(pair_folders, tmp_path):
    outs = [tmp_path / f"{name}.safetensors" for name in "xy"]
    for out in outs:
        run_training(a=pair_folders[0], b=pair_folders[1], out=out, recipe=SMALL.override(steps=3))
    assert outs[0].read_bytes() == outs[1].read_bytes()
