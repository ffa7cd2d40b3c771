from __future__ import annotations

import pytest
import torch
from torch.nn.functional import pad

from medfuse.errors import UsageError
from medfuse.kernel.threads import one_thread
from medfuse.methods import zoo
from medfuse.methods.base import MethodInfo, Painter
from medfuse.methods.gifnet import Block, GifNet, GifnetPainter, WindowAttention
from medfuse.methods.network import build_seeded, count_parameters, has_bfloat16
from medfuse.methods.registry import get_method, list_methods


def _trained_like(*, seed: int = 1, **options) -> GifNet:
    """A network whose last layer listens to all features; untrained it begins with two."""
    net = build_seeded(lambda: GifNet(**options), seed)
    generator = torch.Generator().manual_seed(seed)
    net.decoder.paint[-2].weight.data.normal_(0, 0.3, generator=generator)
    return net


@pytest.fixture(scope="module")
def painter() -> GifnetPainter:
    return GifnetPainter(_trained_like())


def _images(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(shape, generator=generator), torch.rand(shape, generator=generator)


def test_parameters_are_those_of_the_published_checkpoint_part_by_part():
    net = GifNet()
    assert count_parameters(net) == 822_780
    gating = net.gating
    found = {
        "encoder": count_parameters(net.encoder),
        "embeds": count_parameters(gating.embed),
        "blocks": [
            count_parameters(b) + count_parameters(t)
            for b, t in zip(gating.blocks, gating.bias, strict=True)
        ],
        "leave": count_parameters(gating.leave),
        "decoder": (count_parameters(net.decoder.join), count_parameters(net.decoder.paint)),
        "reconstruction": count_parameters(net.reconstruction),
    }
    assert found == {
        "encoder": 29_472,
        "embeds": 2 * 86_534,
        "blocks": [162_590, 162_590],
        "leave": 86_534,
        "decoder": (31_752, 97_025),
        "reconstruction": 79_745,
    }
    assert gating.gate.numel() == 4
    assert count_parameters(Block()) == 80_654


@pytest.mark.parametrize("size", [(37, 50), (64, 64), (1, 1), (7, 21)])
def test_any_size_is_painted_in_unit_range(painter, size):
    a, b = _images(2, 1, *size)
    painted = painter.luminance(a, b)
    assert painted.shape == a.shape
    assert painted.dtype == torch.float32
    assert painted.min() >= 0
    assert painted.max() <= 1


def test_it_is_a_painter_of_kind_synthesis_with_its_gates_as_diagnostics(painter):
    assert isinstance(painter, Painter)
    assert painter.info.kind == "synthesis"
    assert painter.info.levels == 0
    told = painter.diagnostics()
    assert told["route"] == "focus"
    assert told["gate_modal"] == pytest.approx(painter.net.gating.gate[0, 0].item())


def test_an_untrained_network_paints_about_the_mean_of_both_sources():
    a, b = _images(1, 1, 64, 64)
    painted = GifnetPainter(seed=0).luminance(a, b)
    together = torch.stack([painted.flatten(), ((a + b) / 2).flatten()])
    assert torch.corrcoef(together)[0, 1] > 0.9


def test_the_order_of_the_inputs_matters_unless_both_are_averaged(painter):
    a, b = _images(1, 1, 40, 48)
    assert (painter.luminance(a, b) - painter.luminance(b, a)).abs().max() > 1e-3
    symmetric = painter.variant("symmetric")
    assert symmetric.info.name == "gifnet-symmetric"
    assert torch.equal(symmetric.luminance(a, b), symmetric.luminance(b, a))
    mean = (painter.luminance(a, b) + painter.luminance(b, a)) / 2
    assert torch.equal(symmetric.luminance(a, b), mean)


def test_the_routes_are_two_streams_and_a_variant_names_the_published_one():
    net = _trained_like(route="modal")
    painter = GifnetPainter(net, MethodInfo("gifnet", "", "synthesis"))
    a, b = _images(1, 1, 32, 32)
    focus = painter.variant("focus")
    assert focus.info.name == "gifnet-focus"
    assert focus.diagnostics()["route"] == "focus"
    assert not torch.equal(painter.luminance(a, b), focus.luminance(a, b))
    assert torch.equal(painter.enhance(a), focus.luminance(a, a))


def test_a_slice_does_not_depend_on_its_neighbours_nor_on_threads(painter):
    a, b = _images(3, 1, 40, 56)
    with one_thread():
        together = painter.luminance(a, b)
        alone = torch.cat([painter.luminance(x[None], y[None]) for x, y in zip(a, b, strict=True)])
    assert torch.equal(together, alone)
    from medfuse.fusion import fuse

    pictures = []
    for threads in (1, 2):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            result = fuse(
                functional=a[:, 0].permute(1, 2, 0)[None],
                anatomical=b[:, 0].permute(1, 2, 0)[None],
                method=painter,
                audit=False,
            )
        finally:
            torch.set_num_threads(before)
        pictures.append(result.luminance)
    assert torch.equal(*pictures)


def test_attention_agrees_with_a_plain_softmax_over_windows():
    attention = build_seeded(WindowAttention, 0)
    x = torch.randn((1, 98, 12, 20), generator=torch.Generator().manual_seed(0))
    bias = torch.randn((1, 2, 64, 64), generator=torch.Generator().manual_seed(1))
    found, queries, values = attention(x, bias, shift=4)
    _, keys = attention.query_key(x).chunk(2, dim=1)
    q, k, v = (pad(t, (4, 0, 4, 0), mode="reflect") for t in (queries, keys, values))
    near = attention.local(values)
    for top, left in ((0, 0), (8, 16)):
        for head in range(2):
            part = (0, slice(49 * head, 49 * head + 49), slice(top, top + 8), slice(left, left + 8))
            tq, tk, tv = (t[part].reshape(49, 64).T for t in (q, k, v))
            answer = torch.softmax(tq @ tk.T / 7 + bias[0, head], dim=1) @ tv
            q[part] = answer.T.reshape(49, 8, 8)  # the queries are not needed any more
    expected = attention.out(q[:, :, 4:, 4:] + near)
    assert torch.allclose(found[..., :4, :4], expected[..., :4, :4], atol=1e-5)
    assert torch.allclose(found[..., 4:, 12:], expected[..., 4:, 12:], atol=1e-5)


def test_the_auxiliary_stream_is_asked_by_the_main_one_and_gets_no_gradient():
    net = _trained_like()
    shared = torch.rand((1, 98, 16, 16), generator=torch.Generator().manual_seed(0))
    other = torch.rand((1, 98, 16, 16), generator=torch.Generator().manual_seed(1))
    net.paint(shared, other, "modal").sum().backward()
    block = net.gating.blocks[0]
    assert block[0].attention.value.weight.grad.abs().sum() > 0
    assert block[1].mlp[0].weight.grad is None
    assert net.gating.gate.grad[0, 0] != 0
    assert net.gating.gate.grad[1, 0] == 0


def test_parity_repeats_the_slips_of_the_published_training_and_keeps_inference():
    fixed, published = (_trained_like(parity=p) for p in (False, True))
    shared = torch.rand((1, 98, 16, 16), generator=torch.Generator().manual_seed(0))
    other = torch.rand((1, 98, 16, 16), generator=torch.Generator().manual_seed(1))
    published.paint(shared, other, "modal").sum().backward()
    assert published.gating.blocks[0][1].mlp[0].weight.grad.abs().sum() > 0
    with torch.no_grad():
        by_route = {
            route: torch.equal(*(net.paint(shared, other, route) for net in (fixed, published)))
            for route in ("modal", "focus")
        }
    assert by_route == {"modal": False, "focus": True}


def test_bfloat16_keeps_its_name_and_stays_close(painter):
    rough = painter.in_bfloat16()
    a, b = _images(1, 1, 48, 48)
    assert rough.info.name == "gifnet+bf16"
    if not has_bfloat16():
        with pytest.raises(UsageError, match="E_PRECISION"):
            rough.luminance(a, b)
        return
    gap = (rough.luminance(a, b) - painter.luminance(a, b)).abs()
    assert 0 < gap.max() < 0.05


def test_images_of_two_shapes_are_refused(painter):
    with pytest.raises(ValueError, match=r"must both be \(N, 1, H, W\)"):
        painter.luminance(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 9))


def test_an_image_that_would_not_fit_into_memory_is_refused_with_its_need(painter):
    image = torch.zeros((1, 1, 1, 1)).expand(1, 1, 2000, 1000)
    with pytest.raises(
        UsageError, match=r"1000 x 2000 pixels at once would need 22 GB.*E_TOO_LARGE"
    ):
        painter.enhance(image)


def test_the_shipped_painter_and_its_variants_work_by_name():
    names = [name for name, _ in list_methods()]
    a, b = _images(1, 1, 32, 40)
    for name in ("gifnet", "gifnet-focus", "gifnet-symmetric"):
        assert name in names
        painter = get_method(name)
        assert painter.info.name == name
        assert (
            painter.info.weights_sha256 == zoo.read_card(zoo.WEIGHTS / "gifnet.safetensors").sha256
        )
        assert painter.luminance(a, b).shape == a.shape
