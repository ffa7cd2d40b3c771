from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import correlate

from medfuse.evaluation.metrics import compute
from medfuse.training.data import load_pairs
from medfuse.training.losses import (
    LossWeights,
    consistency_loss,
    edge_loss,
    fidelity_losses,
    fusion_loss,
    gaussian_filter,
    gradient_loss,
    maximum_loss,
    ssim_losses,
    uptake_loss,
)

torch.set_num_threads(1)


def _images(seed: int = 0, shape: tuple[int, ...] = (2, 1, 75, 62)) -> list[torch.Tensor]:
    """Smooth images with detail, float64 in [-1, 1]."""
    generator = np.random.default_rng(seed)
    out = []
    for _ in range(3):
        noise = generator.normal(size=shape)
        smooth = gaussian_filter(torch.from_numpy(np.pad(noise, [(0, 0), (0, 0), (5, 5), (5, 5)])))
        out.append((smooth * 4 + torch.from_numpy(noise) * 0.1).clamp(-1, 1))
    return out


def _gaussian(window: int, sigma: float = 1.5) -> np.ndarray:
    taps = np.exp(-0.5 * ((np.arange(window) - window // 2) / sigma) ** 2)
    return np.outer(taps, taps) / taps.sum() ** 2


def _naive_filter(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Valid correlation by explicit windows."""
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape, axis=(-2, -1))
    return (windows * kernel).sum((-2, -1))


def _naive_ssim(x: np.ndarray, y: np.ndarray, window: int) -> float:
    kernel = _gaussian(window)
    mx, my = _naive_filter(x, kernel), _naive_filter(y, kernel)
    vx = _naive_filter(x * x, kernel) - mx * mx
    vy = _naive_filter(y * y, kernel) - my * my
    cov = _naive_filter(x * y, kernel) - mx * my
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    numerator = (2 * mx * my + c1) * (2 * cov + c2)
    return float((numerator / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean())


def _naive_sobel(x: np.ndarray) -> list[np.ndarray]:
    across = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], dtype=float)
    return [
        np.stack([correlate(image, kernel, mode="nearest") for image in x[:, 0]])
        for kernel in (across, across.T)
    ]


@pytest.mark.parametrize(("window", "sigma"), [(11, 1.5), (48, 1.5), (17, 3.4), (3, 0.6)])
def test_gaussian_filter_and_its_gradient_equal_plain_convolution(window, sigma):
    x = _images()[0].requires_grad_()
    kernel = torch.from_numpy(_gaussian(window, sigma))[None, None]
    plain = torch.nn.functional.conv2d(x, kernel)
    fast = gaussian_filter(x, window=window, sigma=sigma)
    torch.testing.assert_close(fast, plain, atol=1e-12, rtol=0)
    upstream = torch.rand_like(plain)
    (expected,) = torch.autograd.grad(plain, x, upstream)
    (found,) = torch.autograd.grad(fast, x, upstream)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_image_smaller_than_the_window_is_refused():
    with pytest.raises(ValueError, match="at least 11 pixels"):
        gaussian_filter(torch.zeros(1, 1, 20, 10))


@pytest.mark.parametrize("window", [11, 48])
def test_ssim_terms_equal_the_naive_formula(window):
    a, b, fused = _images(1)
    found = ssim_losses(a, b, fused, window=window)
    for source, loss in zip((a, b), found, strict=True):
        assert float(loss) == pytest.approx(
            1 - _naive_ssim(source.numpy(), fused.numpy(), window), abs=1e-10
        )


def test_gradient_term_equals_the_naive_formula():
    a, b, fused = _images(2)
    expected = sum(
        np.abs(np.abs(f) - np.maximum(np.abs(x), np.abs(y))).mean()
        for x, y, f in zip(*(_naive_sobel(i.numpy()) for i in (a, b, fused)), strict=True)
    )
    assert float(gradient_loss(a, b, fused)) == pytest.approx(expected, abs=1e-12)


def test_intensity_terms_equal_the_naive_formulas():
    a, b, fused = (x.numpy() for x in _images(3))
    tensors = [torch.from_numpy(x) for x in (a, b, fused)]
    assert float(maximum_loss(*tensors)) == pytest.approx(np.abs(fused - np.maximum(a, b)).mean())
    assert float(consistency_loss(*tensors)) == pytest.approx(
        (np.abs(a - fused).mean() + 2 * np.abs(b - fused).mean()) / 2
    )


def test_fidelity_terms_equal_the_metric():
    a, b, fused = _images(4, (2, 1, 96, 110))
    lost = fidelity_losses(a, b, fused)
    gray = [(x + 1) / 2 for x in (a, b, fused)]
    metrics = compute(*gray, profile="reference", only=["VIF"])
    # The term is not rounded to 8 bits as the metric is, and guards flat images.
    for name, loss in zip(("VIF_A", "VIF_B"), lost, strict=True):
        torch.testing.assert_close(1 - loss.double(), metrics[name], atol=0.01, rtol=0)


def test_hold_asks_for_a_part_of_a_and_no_more():
    a, b, fused = _images(4, (2, 1, 96, 110))
    kept = 1 - fidelity_losses(a, b, fused)[0]
    nothing = {"maximum": 0, "consistency": 0, "gradient": 0, "ssim_a": 0, "ssim_b": 0}

    def loss(hold: float) -> float:
        weights = LossWeights(**nothing, hold_a=1, hold=hold)
        return float(fusion_loss(a, b, fused, weights).total)

    assert loss(float(kept.min()) - 0.01) == 0
    assert loss(0.9) == pytest.approx(0.1 * float((0.9 - kept).mean()), abs=1e-6)


def test_edge_term_follows_the_metric(shared_data):
    folder = shared_data / "harvard" / "PET-MRI" / "test"
    pairs = load_pairs(folder / "PET", folder / "MRI").select(range(4))
    a, b = (torch.stack(x).unsqueeze(1).double() / 255 for x in (pairs.a, pairs.b))
    for fused in (b, (a + b) / 2, torch.maximum(a, b)):
        lost = edge_loss(a * 2 - 1, b * 2 - 1, fused * 2 - 1)
        metric = compute(a, b, fused, profile="reference", only=["Qabf"])["Qabf"].mean()
        assert 1 - float(lost) == pytest.approx(float(metric), abs=0.02)


def test_uptake_term_is_zero_for_any_rising_line_of_a_and_two_for_the_negative():
    a = _images(5)[0]
    assert float(uptake_loss(a, 0.3 * a + 0.2)) == pytest.approx(0, abs=1e-6)
    assert float(uptake_loss(a, -a)) == pytest.approx(2, abs=1e-6)
    assert float(uptake_loss(torch.zeros_like(a), a)) == 0


@settings(max_examples=15)
@given(st.integers(0, 2**31), st.sampled_from([(1, 1, 48, 48), (2, 1, 51, 67)]))
def test_perfect_agreement_costs_nothing_and_nothing_is_negative(seed, shape):
    a, b, fused = _images(seed, shape)
    weights = LossWeights(uptake=1, fidelity_a=1, fidelity_b=1)
    same = fusion_loss(a, a, a, weights)
    assert all(abs(float(part)) < 2e-2 for part in same.parts.values())
    assert all(float(part) >= -1e-9 for part in fusion_loss(a, b, fused, weights).parts.values())


def test_total_is_a_tenth_of_the_weighted_sum_and_terms_of_weight_zero_are_absent():
    a, b, fused = _images(6)
    losses = fusion_loss(a, b, fused, LossWeights())
    assert set(losses.parts) == {"maximum", "consistency", "gradient", "ssim_a", "ssim_b"}
    p = losses.parts
    expected = 10 * p["maximum"] + 2 * p["consistency"] + 40 * p["gradient"]
    expected = 0.1 * (expected + p["ssim_a"] + p["ssim_b"])
    assert float(losses.total) == pytest.approx(float(expected))


def test_gradient_of_the_total_agrees_with_finite_differences():
    a, b, fused = _images(7, (1, 1, 44, 44))
    weights = LossWeights(uptake=1, fidelity_a=1, fidelity_b=1, edges=1)
    fused.requires_grad_()
    (gradient,) = torch.autograd.grad(fusion_loss(a, b, fused, weights).total, fused)
    direction = torch.randn(fused.shape, dtype=fused.dtype, generator=torch.Generator())
    step = 1e-6 * direction
    with torch.no_grad():
        up = fusion_loss(a, b, fused + step, weights).total
        down = fusion_loss(a, b, fused - step, weights).total
    assert float((up - down) / 2e-6) == pytest.approx(float((gradient * direction).sum()), rel=1e-3)
