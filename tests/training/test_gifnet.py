from __future__ import annotations

import math
import os
import signal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medfuse.evaluation.metrics import compute
from medfuse.methods.registry import get_method
from medfuse.training.gifnet import activity_weight, ms_ssim, soften
from medfuse.training.recipes import GifnetRecipe, LossWeights
from medfuse.training.train import run_training

torch.set_num_threads(1)
NONE = LossWeights(maximum=0, consistency=0, gradient=0, ssim_a=0, ssim_b=0)
TINY = GifnetRecipe(
    name="tiny", steps=3, batch=2, crop=32, learning_rate=1e-3, warmup=0, validation=0.0,
    loss=NONE.model_copy(update={"gradient": 20.0}), precision="fp32",
)  # fmt: skip


def _train(folders, out, recipe=TINY, **more):
    return run_training(a=folders[0], b=folders[1], out=out, recipe=recipe, **more)


def test_alternating_steps_lower_the_loss_on_a_few_images(pair_folders, tmp_path):
    seen = []
    _train(
        pair_folders,
        tmp_path / "x.safetensors",
        TINY.override(steps=10),
        on_progress=lambda p: seen.append(p.parts),
    )
    steps = {"modal", "detail", "focus", "rebuilt_modal", "rebuilt_focus"}
    assert seen[0].keys() == steps | {"gate_modal", "gate_focus"}
    first, last = (sum(sum(p[t] for t in steps) for p in part) for part in (seen[:3], seen[-3:]))
    assert last < 0.9 * first


def test_the_same_seed_gives_the_same_bytes_also_after_an_interruption(pair_folders, tmp_path):
    def stop(progress):
        if progress.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    _train(pair_folders, whole)
    assert _train(pair_folders, parts, on_progress=stop).stopped == "interrupted"
    assert _train(pair_folders, parts).resumed_at == 2
    assert parts.read_bytes() == whole.read_bytes()
    assert get_method(whole).info.kind == "synthesis"


def test_the_published_loss_alone_has_no_detail_term(pair_folders, tmp_path):
    seen = []
    recipe = TINY.override(steps=1, detail=0.0, local=False, options={"parity": True})
    _train(pair_folders, tmp_path / "x.safetensors", recipe, on_progress=seen.append)
    assert "detail" not in seen[0].parts
    assert math.isfinite(seen[0].loss)


def test_the_livelier_image_weighs_more_and_temperature_levels_it():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand((1, 1, 32, 32), generator=generator), torch.full((1, 1, 32, 32), 0.5)
    assert activity_weight(a, b, temperature=1, local=True).min() > 0.99
    assert activity_weight(b, a, temperature=1, local=False).item() < 0.01
    assert activity_weight(a, b, temperature=1e6, local=False).item() == pytest.approx(
        0.5, abs=1e-3
    )
    assert activity_weight(a, a, temperature=0.1, local=True).sub(0.5).abs().max() < 1e-6


def test_ms_ssim_of_large_images_follows_the_definition_of_the_metric():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand((1, 1, 192, 192), generator=generator)
    y = (0.8 * x + 0.1 + 0.02 * torch.randn(x.shape, generator=generator)).clamp(0, 1)
    reference = float(compute(x, x, y, profile="reference", only=("MS-SSIM",))["MS-SSIM_A"])
    # The loss maps each factor from [-1, 1] to [0, 1], which lies above.
    assert reference < float(ms_ssim(x, y)) < 1
    assert float(ms_ssim(x, x)) == pytest.approx(1, abs=1e-5)
    assert float(ms_ssim(x, y, published=True)) < float(ms_ssim(x, y))


@settings(max_examples=20)
@given(st.integers(0, 2**31), st.integers(16, 80), st.integers(16, 80))
def test_ms_ssim_lies_in_unit_range_for_any_size(seed, height, width):
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.rand((2, 1, height, width), generator=generator) for _ in range(2))
    assert 0 <= float(ms_ssim(x, y)) <= 1
    assert float(ms_ssim(x, y)) == pytest.approx(float(ms_ssim(y, x)), abs=1e-6)


def test_softened_images_keep_their_mean_and_lose_detail():
    image = torch.rand((2, 1, 64, 64), generator=torch.Generator().manual_seed(0))
    soft = soften(image, torch.Generator().manual_seed(1))
    assert soft.shape == image.shape
    assert soft.mean() == pytest.approx(float(image.mean()), abs=0.01)
    assert soft.var() < 0.9 * image.var()
