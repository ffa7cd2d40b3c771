"""Learned steps along the slope of the objective: shapes, promises, and that they go downhill."""

from __future__ import annotations

import pytest
import torch

from medfuse.errors import WeightsError
from medfuse.kernel.blend import blend
from medfuse.methods import zoo
from medfuse.methods.bands import BandGuide
from medfuse.methods.base import MethodInfo
from medfuse.methods.descent import DescentNet
from medfuse.methods.energy import energy_logits
from medfuse.methods.fitted import KEEP_BONE, KEEP_BOTH
from medfuse.methods.network import network_input
from medfuse.methods.objective import SourcePair, source_loss
from medfuse.methods.registry import get_method

SHIPPED = [name for name in zoo.shipped() if name.startswith(("descent-", "volume-"))]


def images(*shape: int, seed: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator), torch.rand(shape, generator=generator)


def blobs(side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two smooth images that show other things."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand((2, 1, 7, 7), generator=generator)
    fine = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic")
    return fine[:1].clamp(0, 1), fine[1:].clamp(0, 1)


def fresh(**options: object) -> BandGuide:
    net = zoo.build_network("descent", {"wanted": KEEP_BOTH.model_dump(), **options})
    return BandGuide(net, MethodInfo("fresh", "", "guide"))


@pytest.mark.parametrize("size", [(37, 70), (64, 64), (16, 16)])
@pytest.mark.parametrize("start", ["local-energy", "ct-mri"])
def test_there_is_a_map_for_every_band_at_its_size(size, start):
    a, b = images(2, 1, *size)
    maps = fresh(start=start).weights(a, b)
    assert len(maps) == 5
    for k, level in enumerate(maps):
        assert level.shape == (2, 1, *(-(-n // 2**k) for n in size))
        assert level.min() >= 0
        assert level.max() <= 1


def test_every_round_goes_downhill_before_anything_is_learned():
    a, b = blobs(96)
    formula = [logit.clamp(-4.6, 4.6).sigmoid() for logit in energy_logits(a, b, 4)]
    found = [formula, *(fresh(rounds=count).weights(a, b) for count in (1, 3))]
    losses = [
        float(source_loss(SourcePair(a, b, KEEP_BOTH), blend(a, b, maps)).total) for maps in found
    ]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.98 * losses[0]


def test_a_slice_is_solved_alone_whatever_comes_beside_it():
    a, b = images(3, 1, 48, 48)
    together = fresh().weights(a, b)
    alone = fresh().weights(a[1:2], b[1:2])
    for of_all, of_one in zip(together, alone, strict=True):
        torch.testing.assert_close(of_all[1:2], of_one, atol=1e-5, rtol=0)


def test_training_reaches_every_step():
    a, b = blobs(48)
    net = zoo.build_network("descent", {"wanted": KEEP_BONE.model_dump(), "rounds": 2})
    maps = net(network_input(a, b))
    source_loss(SourcePair(a, b, KEEP_BONE), blend(a, b, maps)).total.backward()
    assert isinstance(net, DescentNet)
    for name, parameter in net.named_parameters():
        # Behind a silent layer there is no slope yet.
        if "look.0" not in name:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all()


def test_options_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="local-energy"):
        zoo.build_network("descent", {"wanted": {}, "start": "nothing"})
    with pytest.raises(ValueError, match="brightness"):
        zoo.build_network("descent", {"wanted": {"brightness": 2.0}})
    with pytest.raises(WeightsError, match="are missing"):
        zoo.load_network(
            {"architecture": "descent", "options": {"wanted": {}}}, {}, zoo.WEIGHTS / "none"
        )


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_guides_say_what_they_ask_for_and_keep_twins(name):
    guide = get_method(name)
    assert guide.info.card["options"]["wanted"] == guide.info.card["recipe"]["sources"]
    a, _ = blobs(64)
    torch.testing.assert_close(blend(a, a, guide.weights(a, a.clone())), a, atol=1e-6, rtol=0)
